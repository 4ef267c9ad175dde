"""Run parameters with a pace: what moved, not too often, at least every now and then, and never a wrong value."""

from bisect import bisect_right
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.tags.pacing import Pace, PacedTag
from gateway.domain.values import Value
from tests.domain.one_machine import machine, rows, tags

SPEED = "      speed: {register: 0, type: uint16, unit: /min, publish: %s}\n"


def test_a_value_within_the_deadband_is_not_told(tmp_path: Path) -> None:
    stage = machine(tmp_path, "    tags:\n" + SPEED % "{deadband: 2}")
    for second, speed in enumerate((120, 121, 122, 123, 121, 120)):
        stage.show("M1", f"06:00:0{second}", speed=speed)
    assert rows(stage) == [("06:00:00", "speed", 120, 0), ("06:00:03", "speed", 123, 0), ("06:00:05", "speed", 120, 0)]


def test_what_comes_too_soon_is_told_when_its_time_has_come_if_it_still_holds(tmp_path: Path) -> None:
    stage = machine(tmp_path, "    tags:\n" + SPEED % "{min_interval: 10s}")
    stage.show("M1", "06:00:00", speed=100)
    stage.show("M1", "06:00:04", speed=110)
    stage.show("M1", "06:00:06", speed=120)
    stage.hear("M1", "06:00:09", "06:00:12")
    assert rows(stage) == [("06:00:00", "speed", 100, 0), ("06:00:10", "speed", 120, 0)]
    stage.show("M1", "06:00:15", speed=130)
    stage.show("M1", "06:00:18", speed=120)
    stage.hear("M1", "06:00:30")
    assert len(rows(stage)) == 2


def test_a_value_that_does_not_change_is_told_again_while_the_device_is_heard(tmp_path: Path) -> None:
    stage = machine(tmp_path, "    tags:\n" + SPEED % "{max_interval: 60s}")
    stage.show("M1", "06:00:00", speed=100)
    stage.hear("M1", "06:00:59", "06:01:01", "06:04:10")
    assert [row[0] for row in rows(stage)] == ["06:00:00", "06:01:00", "06:04:00"]
    stage.disconnect("M1", "06:04:20")
    stage.pass_time("06:20:00")
    assert len(rows(stage)) == 3
    stage.connect("M1", "06:30:00")
    stage.show("M1", "06:30:00", speed=100)
    assert rows(stage)[-1] == ("06:30:00", "speed", 100, 0)


def test_the_first_value_after_a_reconnect_is_told_whatever_it_is(tmp_path: Path) -> None:
    stage = machine(tmp_path, "    tags:\n" + SPEED % "{deadband: 5}")
    stage.show("M1", "06:00:00", speed=100)
    stage.disconnect("M1", "06:01:00")
    stage.connect("M1", "06:02:00")
    stage.show("M1", "06:02:00", speed=100)
    assert [row[0] for row in rows(stage)] == ["06:00:00", "06:02:00"]


def test_a_change_of_quality_is_told_at_once() -> None:
    told: list[tuple[Value, int, int]] = []
    tag = PacedTag(Pace(deadband=5, min_interval=10_000), lambda *row: told.append(row))
    tag.take(100, 0, 1_000)
    tag.take(None, 0x80340000, 2_000)
    tag.take(101, 0, 3_000)
    assert told == [(100, 0, 1_000), (None, 0x80340000, 2_000), (101, 0, 3_000)]


def test_a_paced_tag_is_an_input_like_any_other(tmp_path: Path) -> None:
    body = "    tags:\n" + SPEED % "{deadband: 50}" + '    state: {rules: [{to: RUN, when: "speed > 10"}]}\n'
    stage = machine(tmp_path, body)
    stage.show("M1", "06:00:00", speed=5)
    stage.show("M1", "06:00:10", speed=20)
    stage.hear("M1", "06:00:20")
    assert [state for _, state in stage.states("M1")] == ["UNKNOWN", "RUN"]
    assert rows(stage) == [("06:00:00", "speed", 5, 0)]


def test_a_derived_tag_has_a_pace_too(tmp_path: Path) -> None:
    body = tags(a="int32", b="int32") + (
        '      total: {expression: "a + b", publish: {deadband: 10, max_interval: 30s}}\n'
    )
    stage = machine(tmp_path, body)
    stage.show("M1", "06:00:00", a=1, b=1)
    stage.show("M1", "06:00:10", a=9)
    stage.show("M1", "06:00:20", b=9)
    stage.hear("M1", "06:01:00")
    assert rows(stage) == [
        ("06:00:00", "total", 2.0, 0),
        ("06:00:20", "total", 18.0, 0),
        ("06:00:50", "total", 18.0, 0),
    ]


def test_the_units_are_told_once_and_retained(tmp_path: Path) -> None:
    body = (
        "    tags:\n"
        + SPEED % "true"
        + (
            '      load: {expression: "speed / 4", unit: "%", publish: {min_interval: 1s}}\n'
            "      oven: {register: 5, type: uint16, unit: Cel}\n"
            "      total: {register: 6, type: uint16, publish: true}\n"
        )
    )
    stage = machine(tmp_path, body)
    assert stage.retained["ACME/HZ/PACK/L1/M1", "units"] == {
        "tags": {"speed": {"unit": "/min", "code": "C94"}, "load": {"unit": "%", "code": "P1"}}
    }


STEPS = st.lists(
    st.tuples(st.integers(0, 40_000), st.integers(-20, 20) | st.none(), st.sampled_from([0, 0, 0, 0x80340000])),
    min_size=1, max_size=40,
)  # fmt: skip
PACES = st.builds(
    lambda deadband, short, more: Pace(deadband, short, None if more is None else short + 1 + more),
    st.integers(0, 8).map(float), st.integers(0, 30_000), st.none() | st.integers(0, 60_000),
)  # fmt: skip


@given(PACES, STEPS)
def test_whatever_the_machine_does_the_pace_holds(pace: Pace, steps: list[tuple[int, int | None, int]]) -> None:
    """Each step is a pause, then a value with its status, or the device saying that nothing changed."""
    told: list[tuple[int, Value, int]] = []
    tag = PacedTag(pace, lambda value, status, at: told.append((at, value, status)))
    history: list[tuple[int, Value, int]] = []
    now = 0
    for pause, value, status in steps:
        now += pause
        if value is not None:
            shown = None if status else value
            tag.take(shown, status, now)
            history.append((now, shown, status))
        tag.settle(now)
        _check_freshness(pace, history, told, now)
    times = [at for at, _, _ in history]
    for at, value, status in told:
        latest = max(index for index in range(bisect_right(times, at)) if history[index][0] <= at)
        same_moment = [entry[1:] for entry in history if entry[0] == history[latest][0]]
        assert (value, status) in same_moment, "a row says what the device showed at its time"
    assert [at for at, _, _ in told] == sorted(at for at, _, _ in told)
    for (before, _, was), (after, _, status) in pairwise(told):
        assert after - before >= pace.min_interval or was != status, "not too often"


def _check_freshness(
    pace: Pace, history: list[tuple[int, Value, int]], told: list[tuple[int, Value, int]], now: int
) -> None:
    """What was told last is what holds now, or the time to tell has not come."""
    if not history:
        assert not told
        return
    at, value, status = told[-1]
    _, newest, newest_status = history[-1]
    if pace.max_interval is not None:
        assert now - at < pace.max_interval, "at least every now and then"
    assert status == newest_status
    if isinstance(newest, int) and isinstance(value, int) and abs(newest - value) > pace.deadband:
        assert now - at < pace.min_interval, "what moved is told as soon as it may be"


@given(STEPS)
def test_without_limits_every_change_is_told_and_nothing_else(steps: list[tuple[int, int | None, int]]) -> None:
    told: list[Value] = []
    tag = PacedTag(Pace(), lambda value, _status, _at: told.append(value))
    shown = [None if status else value for _, value, status in steps if value is not None]
    for at, value in enumerate(shown):
        tag.take(value, 0 if value is not None else 0x80340000, at)
    assert told == [value for index, value in enumerate(shown) if index == 0 or shown[index - 1] != value]
