"""ISO 22400 by arithmetic: times, quantities, ratios that multiply, and reasons where there is nothing to divide by."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.domain.contract.event_data import OrderRef
from gateway.domain.contract.kpi_events import Indicators
from gateway.domain.production.kpi import IsoTime, Kpi, KpiMemory, KpiSpec
from gateway.domain.production.orders import Run
from gateway.domain.state.shifts import Shift, ShiftRecord
from gateway.domain.state.states import State
from tests.domain.state.test_shifts import THREE
from tests.stage import FIL01, Stage, demo_plant, writes_of

COUNTERS = ("produced", "scrap", "good")
FILLER = {"RUN": 22_530, "IDLE": 2_580, "SETUP": 900, "STARVED": 40, "DOWN": 720, "HELD": 1_910, "UNKNOWN": 120}


def milliseconds(seconds: dict[str, int]) -> dict[str, int]:
    return {state: spent * 1000 for state, spent in seconds.items()}


def shift(
    times: dict[str, int], plans: dict[str, dict[str, int]], spec: KpiSpec, counters: Any = COUNTERS
) -> Indicators:
    counts: dict[str, int] = {}
    for made in plans.values():
        for name, pieces in made.items():
            counts[name] = counts.get(name, 0) + pieces
    record = ShiftRecord(Shift("early", "2026-03-02", 0, 28_800_000), counts, plans, milliseconds(times))
    return Kpi(spec, KpiMemory(), counters).of_shift(record)


def order(times: dict[str, int], totals: dict[str, int], spec: KpiSpec) -> Indicators:
    run = Run(OrderRef("4711", "0010"), 1, 0, "download", totals=totals, times=milliseconds(times), end=1)
    return Kpi(spec, KpiMemory(), totals).of_order(run)


def test_a_shift_of_two_bottles_a_second_has_the_ratios_that_one_reckons_by_hand() -> None:
    told = shift(FILLER, {"500.0": {"produced": 45_296, "scrap": 796, "good": 44_500}}, KpiSpec())
    busy = 22_530 + 900 + (40 + 1_910) + (720 + 2_580)
    assert (told.apt_s, told.aust_s, told.adet_s, told.adot_s, told.pbt_s) == (22_530, 900, 1_950, 3_300, busy)
    assert (told.not_planned_s, told.unknown_s, busy + told.unknown_s) == (0, 120, 28_800)
    assert told.planned_s == 22_648
    assert told.availability == pytest.approx(22_530 / 28_680, abs=1e-6)
    assert told.effectiveness == pytest.approx(22_648 / 22_530, abs=1e-6)
    assert told.quality == pytest.approx(44_500 / 45_296, abs=1e-6)
    assert told.oee == pytest.approx(0.5 * 44_500 / 28_680, abs=1e-6)
    assert told.oee == pytest.approx(told.availability * told.effectiveness * told.quality, abs=1e-5)
    assert told.why_null == {}


def test_idle_is_delay_while_there_is_an_order_and_down_time_while_there_is_none() -> None:
    in_order = order({"RUN": 60, "IDLE": 30, "DOWN": 10}, {"produced": 100, "good": 100}, KpiSpec(600.0))
    assert (in_order.adet_s, in_order.adot_s, in_order.pbt_s) == (30, 10, 100)
    in_shift = shift({"RUN": 60, "IDLE": 30, "DOWN": 10}, {"600.0": {"produced": 100, "good": 100}}, KpiSpec())
    assert (in_shift.adet_s, in_shift.adot_s, in_shift.pbt_s) == (0, 40, 100)
    assert in_order.availability == in_shift.availability == 0.6


def test_a_plant_may_say_which_time_a_state_counts_as() -> None:
    spec = KpiSpec(600.0, times={State.DOWN: IsoTime.ADET, State.IDLE: IsoTime.NOT_PLANNED})
    told = order({"RUN": 60, "IDLE": 30, "DOWN": 10}, {"produced": 100, "good": 100}, spec)
    assert (told.adet_s, told.adot_s, told.not_planned_s, told.pbt_s) == (10, 0, 30, 70)


def test_maintenance_and_power_off_were_not_planned_to_be_busy() -> None:
    told = order({"RUN": 60, "MAINT": 600, "OFF": 300}, {"produced": 60, "good": 60}, KpiSpec(1000.0))
    assert (told.not_planned_s, told.pbt_s, told.availability, told.oee) == (900, 60, 1.0, 1.0)


def test_orders_of_different_pace_add_up_in_their_shift() -> None:
    plans = {"500.0": {"produced": 1_000, "good": 900, "scrap": 100}, "2000.0": {"produced": 100, "good": 100}}
    told = shift({"RUN": 1_000}, plans, KpiSpec())
    assert (told.planned_s, told.effectiveness) == (700, 0.7)
    assert told.oee == 0.65, "900 pieces of half a second and 100 of two, in 1,000 s"


@pytest.mark.parametrize(
    ("counts", "quantities"),
    [
        ({"produced": 10, "scrap": 3}, (10, 7, 3, None)),
        ({"good": 7, "scrap": 3}, (10, 7, 3, None)),
        ({"good": 7, "scrap": 3, "rework": 2}, (12, 7, 3, 2)),
        ({"good": 7}, (None, 7, None, None)),
    ],
)
def test_a_quantity_that_nobody_counts_follows_from_the_others(counts: dict[str, int], quantities: Any) -> None:
    told = order({"RUN": 10}, counts, KpiSpec(1000.0))
    assert (told.produced, told.good, told.scrap, told.rework) == quantities


NOTHING = {
    "no time": ({}, {"produced": 0, "good": 0}, KpiSpec(500.0), {
        "availability": "the planned busy time is 0", "effectiveness": "the production time is 0",
        "quality": "nothing was produced", "oee": "the planned busy time is 0"}),
    "no run": ({"DOWN": 60}, {"produced": 0, "good": 0}, KpiSpec(500.0), {
        "effectiveness": "the production time is 0", "quality": "nothing was produced"}),
    "no plan": ({"RUN": 60}, {"produced": 10, "good": 10}, KpiSpec(), {
        "effectiveness": "pieces were made without a planned cycle time",
        "oee": "pieces were made without a planned cycle time"}),
    "no scrap counter": ({"RUN": 60}, {"good": 10}, KpiSpec(500.0), {
        "effectiveness": "the produced or the good quantity is not counted",
        "quality": "the produced or the good quantity is not counted"}),
}  # fmt: skip


@pytest.mark.parametrize(("times", "counts", "spec", "reasons"), NOTHING.values(), ids=NOTHING)
def test_where_nothing_can_be_divided_the_ratio_is_null_with_its_reason(
    times: dict[str, int], counts: dict[str, int], spec: KpiSpec, reasons: dict[str, str]
) -> None:
    told = order(times, counts, spec)
    assert told.why_null == reasons
    assert {name for name in ("availability", "effectiveness", "quality", "oee") if getattr(told, name) is None} == set(
        reasons
    )


def test_pieces_of_a_shift_without_a_plan_leave_its_oee_open() -> None:
    told = shift({"RUN": 60}, {"500.0": {"produced": 10, "good": 10}, "": {"produced": 1, "good": 1}}, KpiSpec())
    assert (told.quality, told.oee, told.planned_s) == (1.0, None, None)
    idle = shift({"RUN": 60}, {"500.0": {"produced": 10, "good": 10}, "": {"produced": 0, "good": 0}}, KpiSpec())
    assert idle.oee == round(5 / 60, 6), "what nobody planned does not matter where nothing was made"


@pytest.mark.parametrize(
    ("spec", "value", "cycle"),
    [
        (KpiSpec(parameter="speed", per=60_000, is_rate=True), 120.0, 500.0),
        (KpiSpec(parameter="speed", per=1_000), 0.25, 250.0),
        (KpiSpec(900.0, parameter="speed", per=1_000), None, 900.0),
        (KpiSpec(900.0, parameter="speed", per=1_000), 0, 900.0),
        (KpiSpec(parameter="speed", per=1_000), None, None),
    ],
)
def test_the_planned_cycle_is_the_orders_parameter_and_else_the_configured_one(
    spec: KpiSpec, value: float | None, cycle: float | None
) -> None:
    kpi = Kpi(spec, KpiMemory(), COUNTERS)
    kpi.learn("PS-P500-FIL", "C", {"fill_volume": 500.0, "speed": value})
    run = Run(OrderRef("4711"), 1, 0, "download", parameters={"set": "PS-P500-FIL", "rev": "C"})
    assert kpi.cycle(run) == cycle


def test_an_order_and_its_shift_tell_their_indicators_by_what_was_downloaded() -> None:
    plant = demo_plant()
    kpi = KpiSpec(parameter="speed", per=60_000, is_rate=True)
    specs = [msgspec.structs.replace(spec, calendar=THREE, kpi=kpi) for spec in plant.equipment]
    stage = Stage(replace(plant, equipment=specs))
    stage.start_line()
    stage.dispatch("4711", qty=120)
    items = [{"name": "speed", "value": 120}]
    stage.command("params.download", cmd="C1", eq="FIL01", order="4711", set="PS", rev="C", items=items)
    device = {**FIL01, "speed_active": 120.0, "cmd_status": 2}
    while stage.operations:
        device["ack_seq"] = writes_of(stage.operations[0]).get("cmd_seq", device["ack_seq"])
        stage.answer_operation(reads=device)
        stage.pass_time(f"06:00:{stage.now // 1000 % 60 + 1:02}")
    assert [data["result"] for _, data in stage.told("param.result")] == ["ACTIVE"]
    stage.show("FIL01", "06:10:00", state=6)
    stage.show("FIL01", "06:11:00", processed=220, defective=10)
    stage.show("FIL01", "06:11:20", state=2)
    stage.hear("FIL01", "06:11:30", "14:00:00")
    ((_, by_order),) = stage.told("kpi.order", "FIL01")
    assert (by_order["apt_s"], by_order["produced"], by_order["planned_s"]) == (60, 120, 60)
    assert (by_order["availability"], by_order["effectiveness"], by_order["oee"]) == (1.0, 1.0, 1.0)
    ((_, by_shift),) = stage.told("kpi.shift", "FIL01")
    assert (by_shift["apt_s"], by_shift["pbt_s"], by_shift["good"]) == (80, 28_800, 120)
    assert by_shift["oee"] == round(60 / 28_800, 6)
