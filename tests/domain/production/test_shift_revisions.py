"""A shift that was told is told again when its last minutes turn out to have been others than they seemed."""

from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from gateway.domain.production.kpi import KpiSpec
from gateway.domain.state.shifts import ShiftCalendar, ShiftPattern
from gateway.domain.values import Batch, TagChange
from tests.domain.one_machine import plant_of
from tests.domain.production import test_late_data
from tests.domain.state.test_shifts import THREE, begin, plant_with
from tests.domain.tags import test_backfill
from tests.stage import Stage, at

SHORT = ShiftCalendar(
    ZoneInfo("UTC"),
    (ShiftPattern("first", 360, 375), ShiftPattern("second", 375, 378), ShiftPattern("third", 378, 480)),
)
"""06:00 to 06:15, to 06:18, to 08:00."""


def told(stage: Stage) -> list[tuple[str, int, dict[str, float], dict[str, int]]]:
    return [
        (e.data.shift, e.rev, e.data.times_s, e.data.counts)
        for e in stage.events
        if e.type == "shift.summary" and e.equipment.endswith("PAL01")
    ]


def test_pieces_that_come_after_their_shift_was_told_are_told_as_a_revision_of_it() -> None:
    """A buffered server delivers a reading of 13:59:30 at 14:02."""
    stage = begin()
    stage.show("SCADA", "13:00:00", state=1, good_total=10)
    stage.show("SCADA", "14:00:30", good_total=30)
    stage.hear("SCADA", "14:02:00")
    late = TagChange("PAL01.good_total", 25, 0, at("13:59:30"))
    stage.core.handle_changes("SCADA", Batch([late], stage.now), stage.now)
    stage.commit()
    stage.hear("SCADA", "14:02:30", "22:00:10")
    assert [(shift, rev, counts) for shift, rev, _, counts in told(stage)] == [
        ("early", 1, {"good": 10}), ("early", 2, {"good": 25}), ("late", 1, {"good": 5}),
    ]  # fmt: skip
    assert len({e.id for e in stage.events if e.type == "shift.summary"}) == 2


def test_an_outage_over_the_end_of_a_shift_is_told_anew_by_the_devices_history() -> None:
    """Out of reach from 06:10:20 to 06:16; the history says: RUN, DOWN from 06:13 to 06:14, RUN, and 50 pieces."""
    stage = Stage(plant_with(SHORT))
    test_backfill.outage(stage)
    assert told(stage) == [("first", 1, {"IDLE": 510, "RUN": 110, "UNKNOWN": 280}, {"good": 10})]
    test_backfill.begin(stage, test_backfill.ALL)
    for batch in test_backfill.PAST:
        test_backfill.tell(stage, test_backfill.ALL, *batch)
    test_backfill.end(stage, test_backfill.ALL, 8)
    stage.hear("SCADA", "06:16:01", "06:17:00", "06:18:00", "06:18:10")
    first = [row for row in told(stage) if row[0] == "first"][-1]
    assert first[2] == {"IDLE": 510, "RUN": 330, "DOWN": 60}, "900 s, of which 60 were the stop"
    assert sum(first[2].values()) == 900
    second = [row for row in told(stage) if row[0] == "second"]
    assert [(rev, times) for _, rev, times, _ in second] == [(1, {"RUN": 180})]
    good = sum(
        rows[-1][3].get("good", 0)
        for rows in ([row for row in told(stage) if row[0] == n] for n in ("first", "second"))
    )
    assert good == 60


def test_a_state_that_goes_on_over_the_end_of_its_shift_is_counted_once() -> None:
    stage = begin(SHORT)
    stage.show("SCADA", "06:05:00", state=1)
    stage.hear("SCADA", "06:15:10", "06:18:10")
    stage.show("SCADA", "06:20:00", state=3)
    stage.hear("SCADA", "06:21:00")
    assert [(shift, rev, times) for shift, rev, times, _ in told(stage)] == [
        ("first", 1, {"IDLE": 300, "RUN": 600}), ("second", 1, {"RUN": 180}),
    ]  # fmt: skip


def test_pieces_that_go_to_another_order_are_planned_in_their_shift_by_what_that_one_plans(tmp_path: Path) -> None:
    """Two pieces a second. Nobody knew of A until 06:10, nor that B took over at 06:11:30.

    A plans 400 ms for a piece, B 250 ms: 1,380 of A's and 60 of B's are 567 s.
    """
    plant = plant_of(tmp_path, test_late_data.PRESS + "    order: {from: command}\n")
    planned = msgspec.structs.replace(plant.equipment[0], calendar=THREE, kpi=KpiSpec(parameter="cycle", per=1000))
    stage = Stage(replace(plant, equipment=(planned,)))
    stage.beating = False
    stage.connect("M1", "06:00:00")
    stage.show("M1", "06:00:00", **test_late_data.FIRST)
    active(stage, "1", 0.4)
    test_late_data.run(stage, "06:00:00", "06:10:00")
    stage.command("order.start", cmd="S1", eq="M1", order="A", t="2026-03-02T06:00:00Z")
    test_late_data.run(stage, "06:10:00", "06:12:00")
    active(stage, "2", 0.25)
    stage.command("order.start", cmd="S2", eq="M1", order="B", t="2026-03-02T06:11:30Z")
    stage.hear("M1", "14:00:10")
    (shift,) = [e.data for e in stage.events if e.type == "kpi.shift"]
    assert (shift.produced, shift.planned_s, shift.why_null) == (1440, 567, {})
    assert shift.effectiveness == round(567 / 28_800, 6)


def active(stage: Stage, rev: str, cycle: float) -> None:
    """What a download leaves behind."""
    (equipment,) = stage.core.equipment.values()
    assert equipment.kpi is not None
    equipment.kpi.learn("PS", rev, {"cycle": cycle})
    equipment.attribution.orders.memory.parameters = {"set": "PS", "rev": rev}
