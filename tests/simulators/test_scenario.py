"""A scenario file is read with every time in seconds, and every mistake in it is named."""

from typing import Any

import pytest
from stages import DEMO

from simulators.scenario import ScenarioError, load, parse


def test_a_shift_over_midnight_counts_on(small: dict[str, Any]) -> None:
    scenario = parse(small)

    assert scenario.length == 600
    assert scenario.palletiser.order_end == {"81": 330}
    assert scenario.iso(330) == "2026-03-03T00:00:30.000Z"


def test_a_row_keeps_what_it_does_not_say(small: dict[str, Any]) -> None:
    rows = list(parse(small).filler.rows(600))

    assert [(row.start, row.end, row.state, row.reason, row.order) for row in rows] == [
        (0, 60, 4, 0, None),
        (60, 160, 6, 0, "81"),
        (160, 170, 11, 2107, "81"),
        (170, 270, 6, 0, "81"),
        (270, 600, 4, 0, None),
    ]


def test_the_demo_can_be_read() -> None:
    assert load(DEMO).orders["4711"].qty == 1350


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda y: y.pop("start"), "no start"),
        (lambda y: y.update(start="2026-03-02T06:00:00"), "no time zone"),
        (
            lambda y: y["labeller"].update(warm_up=[21600, "06:08:00"]),
            "labeller.warm_up.0: Value error, 21600 is not a time",
        ),
        (
            lambda y: y["labeller"].update(warm_up=["06:08:00", "06:00:00"]),
            "labeller.warm_up: Value error, the window ends",
        ),
        (lambda y: y["labeller"].update(warmup=1), "labeller.warmup: Extra inputs are not permitted"),
        (lambda y: y["filler"]["timeline"][0].pop("mode"), "first row of the timeline"),
        (lambda y: y["filler"]["timeline"].reverse(), "first row of the timeline"),
        (lambda y: y["palletiser"].update(order_end={}), "no time for the order '81'"),
        (lambda y: y["commands"][1].update(rev="Z"), "C1 names FS revision Z"),
        (lambda y: y.update(line="ACME/L1"), "line: String should match"),
    ],
)
def test_a_mistake_is_named_with_its_place(small: dict[str, Any], change: Any, complaint: str) -> None:
    change(small)

    with pytest.raises(ScenarioError) as caught:
        parse(small, "day.yaml")

    assert str(caught.value).startswith("day.yaml: ")
    assert complaint in str(caught.value)


def test_several_mistakes_are_named_at_once(small: dict[str, Any]) -> None:
    small["filler"]["bottles_per_s"] = 0
    small["labeller"]["transit_s"] = -1

    with pytest.raises(ScenarioError) as caught:
        parse(small)

    assert len(str(caught.value).splitlines()) == 2
