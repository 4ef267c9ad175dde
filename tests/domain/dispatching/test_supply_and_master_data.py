"""Material on its way, deliveries, and master data: what the gateway makes of them, figure by figure."""

from pathlib import Path
from typing import Any

import pytest

from tests.domain.one_machine import machine, tags
from tests.stage import Stage

BODY = """\
    counters: {good: {tag: good, max: 65535, max_rate: 100/s}}
    order: {from: tag, tag: job}
    materials: {LBL: {counter: good, capacity: 1000, low: 100, container: reel, dock: D1}}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = machine(tmp_path, tags(good="uint16", reel="uint16", job="string") + BODY)
    stage.show("M1", "06:00:00", good=0, reel=1, job="4711")
    return stage


def send(stage: Stage, command: str, /, **body: Any) -> tuple[str, ...]:
    (answer,) = stage.command(command, cmd=f"S-{len(stage.answers)}", **body)
    return answer.codes


def arrive(stage: Stage, clock: str, material: str = "LBL") -> tuple[str, ...]:
    return send(stage, "material.arrival", material=material, eta=f"2026-03-02T{clock}Z")


def use_up(stage: Stage) -> None:
    """900 labels at 10 a second: the reel of 1,000 is low at 06:01:30 and lasts until 06:01:40."""
    for second in range(1, 10):
        stage.show("M1", f"06:0{second // 6}:{second % 6}0", good=100 * second)


def risks(stage: Stage) -> list[tuple[str, str, str]]:
    return [
        (data["runs_out"][11:19], data["eta"][11:19], clock) for clock, data in stage.told("material.shortage_risk")
    ]


# --- supply --------------------------------------------------------------------------------------------------------


def test_what_arrives_after_the_reel_has_run_out_is_a_risk_told_once(stage: Stage) -> None:
    use_up(stage)
    assert stage.told("material.low")[0][1]["runout_in_s"] == 10
    arrive(stage, "06:01:40")
    assert risks(stage) == [], "just in time"
    arrive(stage, "06:01:41")
    arrive(stage, "06:05:00")
    assert risks(stage) == [("06:01:40", "06:01:41", "06:01:30")]


def test_a_reel_that_becomes_low_after_the_announcement_is_judged_then_and_every_reel_anew(stage: Stage) -> None:
    arrive(stage, "06:30:00", material="OTHER")
    arrive(stage, "06:30:00")
    use_up(stage)
    assert risks(stage) == [("06:01:40", "06:30:00", "06:01:30")]
    stage.show("M1", "06:02:00", good=900, reel=2)
    stage.show("M1", "06:02:10", good=1000)
    arrive(stage, "07:00:00")
    assert len(risks(stage)) == 1, "the new one is not called off yet"
    for second in range(2, 10):
        stage.show("M1", f"06:0{2 + second // 6}:{second % 6}0", good=900 + 100 * second)
    assert [data["container"] for _, data in stage.told("material.shortage_risk")] == [1, 2]


def test_an_arrival_without_a_time_is_refused(stage: Stage) -> None:
    assert send(stage, "material.arrival", material="LBL", eta="soon") == ("malformed",)


def test_a_delivery_is_the_lot_of_the_next_reel_and_wrong_material_is_refused_by_name(stage: Stage) -> None:
    task = {"task": "T-1", "material": "LBL", "lot": "R2", "status": "delivered"}
    for more, want in (
        ({"kind": "collect"}, ()),
        ({"kind": "deliver", "status": "picked"}, ()),
        ({"kind": "carry"}, ("kind",)),
        ({"kind": "deliver", "material": "CAP"}, ("wrong_material",)),
    ):
        assert send(stage, "stock.task", **{**task, **more}) == want
        assert stage.core.memory.record.delivered == {}
    assert "they use LBL" in stage.answers[-1].detail[0]
    assert send(stage, "stock.task", **task, kind="deliver") == ()
    assert stage.core.memory.record.delivered == {"LBL": "R2"}


# --- master data ---------------------------------------------------------------------------------------------------


def sync(stage: Stage, kind: str, version: int, *items: Any, full: bool = False) -> tuple[str, ...]:
    return send(stage, "masterdata.sync", kind=kind, version=version, items=list(items), full=full)


def dispatch(stage: Stage, **body: Any) -> tuple[str, ...]:
    return send(stage, "dispatch.order", order="4712", ops=[{"op": "0010", "eq": "M1"}], **body)


def test_a_material_is_unknown_only_once_a_full_list_says_so(stage: Stage) -> None:
    assert dispatch(stage, qty=1, material="P-9") == ()
    sync(stage, "material", 40, {"material": "P-330"})
    assert dispatch(stage, qty=1, material="P-9") == ()
    sync(stage, "material", 41, {"material": "P-500"}, full=True)
    assert dispatch(stage, qty=1, material="P-9") == ("unknown_material",)
    assert stage.answers[-1].detail == ("P-9 is not among the materials of master data version 41",)
    assert dispatch(stage, qty=1, material="P-330") == ("unknown_material",), "a full list replaces"
    sync(stage, "material", 41, {"material": "P-9"})
    stage.kill_and_restart("06:01:00")
    assert (dispatch(stage, qty=1, material="P-9"), dispatch(stage, qty=1, material="P-500")) == ((), ())


def test_a_version_never_goes_back(stage: Stage) -> None:
    assert sync(stage, "material", 41, {"material": "A"}, full=True) == ()
    stage.kill_and_restart("06:01:00")
    assert sync(stage, "material", 40, {"material": "B"}, full=True) == ("version",)
    assert stage.core.memory.record.master.materials == ["A"]
    assert sync(stage, "unit", 1, {"unit": "CS", "factor": 20}) == (), "each kind has its own"


def test_a_unit_becomes_pieces_once(stage: Stage) -> None:
    assert dispatch(stage, qty=3, unit="CS", material="P-330") == ("unit",)
    sync(stage, "unit", 1, {"unit": "CS", "factor": 20}, {"unit": "CS", "factor": 24, "material": "P-500"})
    for material, pieces in (("P-330", 60), ("P-500", 72), (None, 60), ("P-330", 60)):
        assert dispatch(stage, qty=3, unit="CS", material=material) == ()
        assert stage.core.memory.record.orders["4712"].planned == pieces
    assert dispatch(stage, qty=7) == ()
    assert stage.core.memory.record.orders["4712"].planned == 7


def test_units_are_added_to_what_is_known_unless_the_sync_is_full(stage: Stage) -> None:
    sync(stage, "unit", 1, {"unit": "CS", "factor": 20})
    sync(stage, "unit", 2, {"unit": "PAL", "factor": 960})
    assert (dispatch(stage, qty=1, unit="CS"), stage.core.memory.record.orders["4712"].planned) == ((), 20)
    sync(stage, "unit", 2, {"unit": "CS", "factor": 24})
    assert (dispatch(stage, qty=1, unit="CS"), stage.core.memory.record.orders["4712"].planned) == ((), 24)
    sync(stage, "unit", 3, {"unit": "PAL", "factor": 960}, full=True)
    assert (dispatch(stage, qty=1, unit="CS"), dispatch(stage, qty=1, unit="PAL")) == (("unit",), ())


def test_what_the_machine_counts_in_needs_no_factor(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(good="uint16", reel="uint16", job="string") + "    count_unit: m\n" + BODY)
    assert dispatch(stage, qty=500, unit="m") == ()
    assert dispatch(stage, qty=500, unit="pcs") == ("unit",), "nobody said how many metres a piece is"


def test_a_factor_that_leaves_half_a_piece_is_refused(stage: Stage) -> None:
    sync(stage, "unit", 1, {"unit": "M", "factor": 2.5})
    assert dispatch(stage, qty=3, unit="M") == ("unit",)
    assert dispatch(stage, qty=4, unit="M") == ()
    assert stage.core.memory.record.orders["4712"].planned == 10


@pytest.mark.parametrize("kind", ["equipment", "reason", "calendar", "colour"])
def test_a_kind_that_the_gateway_has_no_use_for_is_refused_by_name(stage: Stage, kind: str) -> None:
    assert sync(stage, kind, 1) == ("kind",)
    assert stage.core.memory.record.master.versions == {}


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("material", {}),
        ("material", {"material": " "}),
        ("material", {"material": 7}),
        ("unit", {"unit": "CS"}),
        ("unit", {"unit": "CS", "factor": 0}),
        ("unit", {"unit": "CS", "factor": True}),
        ("unit", {"unit": "CS", "factor": 1e300}),
        ("unit", {"unit": "CS", "factor": 2, "material": 7}),
        ("unit", {"factor": 2}),
    ],
)
def test_one_broken_item_keeps_the_whole_sync_out_and_is_named_by_its_place(
    stage: Stage, kind: str, broken: dict[str, Any]
) -> None:
    assert sync(stage, kind, 1, {"material": "A", "unit": "PAL", "factor": 960}, broken) == ("malformed",)
    assert stage.answers[-1].detail[0].startswith("items[1] is not {")
    assert stage.core.memory.record.master.versions == {}
