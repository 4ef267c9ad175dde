"""A parameter that somebody changes at the machine is told, once for each value, and nothing is written back."""

from tests.domain.writing.test_download import HELD, answer_until, download, ready
from tests.stage import LBL01, LINE, Stage

LBL01_PATH = f"{LINE}/LBL01"


def active() -> Stage:
    """PS-P500-LBL rev C is active: the oven at 175.0 °C, raw 1750."""
    stage = ready()
    download(stage)
    device = {**HELD, "cmd_status": 2, "ack_seq": 8}
    device["ack_seq"] = 7
    stage.answer_operation(reads=device)
    stage.answer_operation()
    stage.answer_operation()
    stage.pass_time("06:06:30.3")
    stage.show("LBL01", "06:06:30.4", oven_sp=1750)
    answer_until(stage, {**device, "oven_sp": 1750, "ack_seq": 8, "cmd_seq": 8})
    assert [data["result"] for _, data in stage.told("param.result")] == ["ACTIVE"]
    return stage


def deviations(stage: Stage) -> list[tuple[str, float, float]]:
    return [(clock, data["expected"], data["actual"]) for clock, data in stage.told("param.deviation")]


def test_a_setpoint_changed_at_the_machine_is_told_once_for_each_value() -> None:
    stage = active()
    for clock, raw in [
        ("06:10:00", 1750),
        ("06:11:00", 1790),
        ("06:11:30", 1790),
        ("06:12:00", 1800),
        ("06:13:00", 1750),
    ]:
        stage.show("LBL01", clock, oven_sp=raw)
    assert deviations(stage) == [("06:11:00", 175.0, 179.0), ("06:12:00", 175.0, 180.0)]
    stage.show("LBL01", "06:14:00", oven_sp=1800)
    assert deviations(stage)[2:] == [("06:14:00", 175.0, 180.0)], "it was right again in between"
    assert stage.operations == [], "nothing is written back"


def test_what_the_gateway_writes_is_no_deviation_nor_what_was_never_brought_down() -> None:
    stage = active()
    stage.show("LBL01", "06:10:00", oven_sp=1750, belt_speed=300)
    assert deviations(stage) == []


def test_what_a_download_writes_before_it_is_active_is_no_deviation() -> None:
    stage = active()
    download(stage, "C4", items=[{"name": "oven_sp", "value": 180.0}])
    stage.show("LBL01", "06:10:00", oven_sp=1800)
    assert stage.core.equipment[LBL01_PATH].memory.download is not None
    assert deviations(stage) == []


def test_a_change_during_an_outage_of_the_gateway_is_told_after_it_and_once() -> None:
    stage = active()
    stage.kill_and_restart("06:20:00")
    for clock in ("06:20:01", "06:21:01"):
        stage.connect("LBL01", clock)
        stage.show("LBL01", clock, **{**LBL01, "oven_sp": 1820})
    assert deviations(stage) == [("06:20:01", 175.0, 182.0)]


def test_no_value_is_no_deviation() -> None:
    stage = active()
    stage.show("LBL01", "06:10:00", oven_sp=None)
    assert deviations(stage) == []
