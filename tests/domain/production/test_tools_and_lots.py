"""SSCC check digits, wear of tools, and what went into what: each by arithmetic."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.consumption.genealogy import OpenLink, ScanMemory, ScanSpec, consume, end_link, newest_scan
from gateway.domain.consumption.tools import ToolMemory, ToolSpec, follow_tool, wear
from gateway.domain.production.sscc import check_digit, is_sscc, make_sscc
from gateway.domain.tags.expressions import Inputs
from tests.stage import LBL01, Stage, demo_plant

# --- SSCC ------------------------------------------------------------------------------------------------------------


def test_the_check_digit_is_reckoned_by_hand() -> None:
    """From the right the weights are 3, 1, 3, 1: 3·(0+8+6+4+2+4+4+6+1) + 1·(9+7+5+3+1+1+1+0) = 132, 8 short of 140."""
    assert check_digit("10614141234567890") == 8
    assert is_sscc("106141412345678908")


@pytest.mark.parametrize(
    "text", ["", "340123450000000018", "34012345000000017", "3401234500000000170", "34O123450000000017"]
)
def test_what_is_no_sscc_is_known(text: str) -> None:
    assert not is_sscc(text)


@given(st.from_regex(r"[0-9]{8,16}", fullmatch=True), st.integers(0, 10**12))
def test_a_code_that_is_made_is_one_and_no_single_wrong_digit_passes(prefix: str, serial: int) -> None:
    code = make_sscc(prefix, serial)
    assert is_sscc(code)
    assert code.startswith(prefix)
    for place in range(18):
        wrong = code[:place] + str((int(code[place]) + 1) % 10) + code[place + 1 :]
        assert not is_sscc(wrong)


def test_serial_numbers_begin_again_when_the_code_is_full() -> None:
    assert [make_sscc("1234567890123456", serial)[16] for serial in (9, 10, 11)] == ["9", "0", "1"]


def pallets(stage: Stage) -> list[tuple[str, tuple[str, ...]]]:
    return [(data["sscc"], tuple(data["flags"])) for _, data in stage.told("container.completed")]


def test_a_pallet_whose_code_was_misread_is_told_with_a_flag() -> None:
    stage = Stage()
    stage.start_line()
    for number, code in ((4, "340123450000000017"), (5, "340123450000000018"), (6, "")):
        stage.show("SCADA", f"06:{number:02}:00", pallet_seq=number, pallet_sscc=code, pallet_qty=960)
    assert pallets(stage) == [
        ("340123450000000017", ()), ("340123450000000018", ("bad_sscc",)), ("", ("bad_sscc",)),
    ]  # fmt: skip


def test_a_palletiser_without_codes_gets_them_from_its_sequence_number() -> None:
    plant = demo_plant()
    specs = []
    for spec in plant.equipment:
        container = spec.production.container
        if container is not None:
            container = msgspec.structs.replace(container, sscc=None, prefix="34012345")
        production = msgspec.structs.replace(spec.production, container=container)
        specs.append(msgspec.structs.replace(spec, production=production))
    stage = Stage(replace(plant, equipment=specs))
    stage.start_line()
    stage.show("SCADA", "06:04:00", pallet_seq=4, pallet_qty=960)
    assert pallets(stage) == [(make_sscc("34012345", 4), ())]


# --- tools -----------------------------------------------------------------------------------------------------------

KNIFE = ToolSpec("KNIFE-3", "strokes", 0, 50_000, "strokes", (90.0, 98.0, 100.0), "SP-7781")


def mounted(serial: str) -> Inputs:
    inputs = Inputs(["serial"])
    inputs.values, inputs.statuses = [serial], [0]
    return inputs


def test_a_tool_is_told_once_at_each_threshold() -> None:
    memory = ToolMemory()
    follow_tool(KNIFE, memory, mounted("K-1"))
    told = [wear(KNIFE, memory, 1_000) for _ in range(52)]
    assert [(t.used, t.threshold, t.remaining_pct) for t in told if t is not None] == [
        (45_000, 90.0, 10.0), (49_000, 98.0, 2.0), (50_000, 100.0, 0.0),
    ]  # fmt: skip
    assert (told[44].serial, told[44].spare, told[44].limit) == ("K-1", "SP-7781", 50_000)
    assert memory.used == 52_000


def test_many_strokes_at_once_are_told_at_the_highest_threshold_only() -> None:
    memory = ToolMemory()
    late = wear(KNIFE, memory, 50_500)
    assert (late.threshold, late.remaining_pct) == (100.0, -1.0)
    assert wear(KNIFE, memory, 1) is None


def test_a_new_tool_begins_at_nothing_and_the_first_one_seen_is_no_new_one() -> None:
    memory = ToolMemory(used=49_500, told=98.0)
    follow_tool(KNIFE, memory, mounted("K-1"))
    assert memory.used == 49_500
    follow_tool(KNIFE, memory, mounted("K-2"))
    assert (memory.used, memory.told) == (0, 0.0)
    assert wear(KNIFE, memory, 45_000).serial == "K-2"


# --- genealogy -------------------------------------------------------------------------------------------------------


def test_lots_that_meet_are_told_when_they_part_with_what_went_over() -> None:
    link = OpenLink()
    assert consume(link, "4711-L1", "R1", 100) is None
    assert consume(link, "4711-L1", "R1", 20) is None
    told = consume(link, "4711-L1", "R2", 7)
    assert (told.parent, told.child, told.qty, told.rel) == ("4711-L1", "R1", 120, "consumed")
    assert (end_link(link).qty, end_link(link)) == (7, None)


def test_what_has_no_lot_is_linked_to_nothing() -> None:
    link = OpenLink()
    consume(link, None, "R1", 100)
    assert consume(link, "4711-L1", None, 50) is None
    assert consume(link, "4711-L1", "R1", 1) is None


def test_labels_of_two_reels_are_linked_to_the_lots_of_two_orders() -> None:
    stage = Stage()
    stage.start_line()
    for order in ("4711", "4712"):
        stage.dispatch(order, lot=f"{order}-L1")
    delivered = stage.core.memory.record.delivered
    delivered["LBL-330"] = "R1"
    stage.show("LBL01", "06:10:00", batch_id="4711", word=0b100001, reel=1, total_in=0)
    stage.show("LBL01", "06:11:00", total_in=100, reel=2)
    delivered["LBL-330"] = "R2"
    stage.show("LBL01", "06:12:00", total_in=220)
    stage.show("LBL01", "06:13:00", total_in=250, reel=3)
    stage.show("LBL01", "06:14:00", total_in=300)
    stage.show("LBL01", "06:14:30", total_in=310, batch_id="4712")
    stage.show("LBL01", "06:15:00", total_in=350)
    stage.show("LBL01", "06:15:30", total_in=360, batch_id="")
    links = [(clock, data["parent"], data["child"], data["qty"]) for clock, data in stage.told("genealogy.link")]
    assert links == [
        ("06:13:00", "4711-L1", "R1", 150), ("06:14:30", "4711-L1", "R2", 60), ("06:15:30", "4712-L1", "R2", 50),
    ]  # fmt: skip


SCANNER = ScanSpec("neck", 0, 1, 2)


def read(memory: ScanMemory, at: int, trigger: int, child: Any, parent: Any = "B-1", spec: ScanSpec = SCANNER) -> Any:
    inputs = Inputs(["trigger", "child", "parent"])
    inputs.values, inputs.statuses = [trigger, child, parent], [0, 0, 0]
    told = newest_scan(spec, memory, inputs, "4711-L1", at)
    return told and (told.parent, told.child, told.rel, told.qty, told.position)


def test_a_scanner_links_what_it_reads_and_its_first_reading_is_old() -> None:
    memory = ScanMemory()
    assert read(memory, 0, 7, "CAP-1") is None
    assert read(memory, 5_000, 7, "CAP-1") is None, "nothing new was read"
    assert read(memory, 9_000, 8, "CAP-2") == ("B-1", "CAP-2", "assembled", 1, "neck")


def test_the_same_part_before_the_scanner_is_read_once_and_later_is_rework() -> None:
    memory = ScanMemory(trigger=1)
    told = [read(memory, at, at, "CAP-2") for at in (10_000, 11_999, 15_000)]
    assert [row is not None for row in told] == [True, False, True]


def test_a_part_that_could_not_be_read_is_told_as_such_every_time() -> None:
    memory = ScanMemory(trigger=1)
    assert [read(memory, at, at, "NOREAD")[1] for at in (10_000, 10_500)] == ["NOREAD", "NOREAD"]
    assert read(memory, 11_000, 11_000, "  ") is None


def test_a_part_goes_into_the_orders_lot_where_there_is_no_serial_number() -> None:
    memory = ScanMemory(trigger=1)
    assert read(memory, 0, 2, "CAP-9", spec=ScanSpec("neck", 0, 1))[0] == "4711-L1"


def test_tools_and_scanners_are_told_by_an_equipment_and_survive_a_kill() -> None:
    plant = demo_plant()
    specs = []
    for spec in plant.equipment:
        slots = {tag.name: tag.slot for tag in spec.tags}
        if spec.unit == "LBL01":
            tool = ToolSpec("DIE", "produced", slots["reel"], 100, thresholds=(50.0,))
            scan = ScanSpec("label", slots["ack_seq"], slots["cmd_error"])
            usage = msgspec.structs.replace(spec.production.usage, tools=(tool,), scans=(scan,))
            production = msgspec.structs.replace(spec.production, usage=usage)
            tags = tuple(msgspec.structs.replace(tag, is_input=True) for tag in spec.tags)
            spec = msgspec.structs.replace(spec, production=production, tags=tags)  # noqa: PLW2901
        specs.append(spec)
    stage = Stage(replace(plant, equipment=specs))
    stage.start_line()
    stage.dispatch("4711")
    stage.show("LBL01", "06:10:00", batch_id="4711", reel=1, total_in=0)
    stage.show("LBL01", "06:11:00", total_in=40)
    stage.kill_and_restart("06:11:10")
    stage.connect("LBL01", "06:11:11")
    stage.show("LBL01", "06:11:11", **{**LBL01, "batch_id": "4711", "reel": 1, "total_in": 43})
    stage.show("LBL01", "06:11:20", total_in=44, ack_seq=8, cmd_error=815)
    assert [(clock, d["used"], d["serial"]) for clock, d in stage.told("tool.wear")] == [("06:11:20", 50, "1")]
    assert [(d["parent"], d["child"]) for _, d in stage.told("genealogy.link")] == [("4711-L1", "815")]


# --- energy ----------------------------------------------------------------------------------------------------------


def test_energy_that_nobody_ran_for_is_unassigned_and_the_shares_add_up_to_the_meter() -> None:
    stage = Stage()
    stage.start_line()
    stage.dispatch("4711")
    stage.show("LBL01", "06:00:10", energy=1_000)
    stage.show("LBL01", "06:04:59", energy=1_030)
    stage.show("LBL01", "06:05:00", batch_id="4711")
    stage.show("LBL01", "06:20:00", energy=1_130)
    stage.show("LBL01", "06:25:00", energy=1_180, batch_id="")
    stage.show("LBL01", "06:29:00", energy=1_200)
    stage.hear("LBL01", "06:31:00")
    told = [
        (e.order.id if e.order else None, e.data.kwh)
        for e in stage.events
        if e.type == "energy.interval" and e.data.kwh
    ]
    shares = {order: round(sum(kwh for whose, kwh in told if whose == order), 6) for order in ("4711", None)}
    assert shares == {"4711": 15.0, None: 5.0}, "of 20.0 kWh, tenths of a kWh a count"
    assert [data["kwh"] for _, data in stage.told("order.completed", "LBL01")] == [15.0]
