"""The ledger says what truly happened, in figures that were worked out by hand."""

from typing import Any

from stages import DEMO

from simulators.models.line import Line
from simulators.scenario import load, parse


def test_the_small_order_is_told_to_the_bottle(line: Line) -> None:
    line.step(600)

    assert line.ledger()["orders"] == {
        "81": {
            "FIL01": {"produced": 200, "scrap": 10, "good": 190, "times_s": {"RUN": 200, "DOWN": 10}},
            # In the batch from 90 to 290: 190 s of labelling, 10 s without bottles; 9.0 kWh metered at 90, 29.0 at 290.
            "LBL01": {"produced": 190, "scrap": 10, "good": 180, "kwh": 2.0, "times_s": {"RUN": 190, "STARVED": 10}},
            "PAL01": {"good": 180, "cases": 18, "pallets": 4, "times_s": {"RUN": 190, "STARVED": 10, "IDLE": 40}},
        }
    }


def test_an_order_under_way_is_told_up_to_now(line: Line) -> None:
    line.step(120)
    ledger = line.ledger()

    assert ledger["orders"]["81"]["FIL01"] == {"produced": 60, "scrap": 10, "good": 50, "times_s": {"RUN": 60}}
    assert ledger["orders"]["81"]["LBL01"]["good"] == 20
    assert ledger["windows"]["81"]["FIL01"] == {"from": "2026-03-02T23:56:00.000Z", "to": None, "completed": False}
    assert ledger["containers"] == []


def test_a_machine_that_has_not_begun_the_order_is_left_out(line: Line) -> None:
    line.step(70)

    assert [*line.ledger()["orders"]["81"]] == ["FIL01"]


def test_nobody_knows_the_state_behind_a_link_that_was_cut_for_too_long(small: dict[str, Any]) -> None:
    small["faults"] = [
        {"kind": "link_cut", "device": "FIL01", "from": "23:56:20", "to": "23:57:00", "equipment": ["FIL01"]},
        {"kind": "link_cut", "device": "FIL01", "from": "23:58:20", "to": "23:58:40", "equipment": ["FIL01"]},
    ]
    line = Line(parse(small))
    line.step(600)

    assert line.ledger()["orders"]["81"]["FIL01"]["times_s"] == {"RUN": 160, "UNKNOWN": 40, "DOWN": 10}


def test_what_clients_wrote_is_kept_with_its_time(line: Line) -> None:
    line.step(12.5)
    line.note("LBL01", "HR100", [1], accepted=True)

    assert line.ledger()["writes"] == [
        {"t": "2026-03-02T23:55:12.500Z", "machine": "LBL01", "tag": "HR100", "value": [1], "accepted": True}
    ]


def test_the_demo_tells_what_its_comments_promise() -> None:
    line = Line(load(DEMO))
    line.step(1200)
    ledger = line.ledger()

    assert {eq: figures["good"] for eq, figures in ledger["orders"]["4711"].items()} == {
        "FIL01": 1350,
        "LBL01": 1340,
        "PAL01": 1340,
    }
    assert [(pallet["qty"], pallet["full"]) for pallet in ledger["containers"]] == [(960, True), (380, False)]
    assert ledger["counters"]["FIL01.produced"] == 2147483000 + 1380 - 2**31
    assert ledger["counters"]["LBL01.total_in"] == 65000 + 1350 - 2**16
    assert all(window["completed"] for window in ledger["windows"]["4711"].values())
