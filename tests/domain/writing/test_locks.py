"""A write lock in the middle of things: nothing more is written, and what is told of it is true."""

from pathlib import Path
from typing import Any

from gateway.domain.contract.objections import Objection
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.times import format_timestamp
from gateway.domain.values import StatusCode, TagChange, WriteResult
from gateway.domain.writing.locks import Lock, WriteLocks
from tests.domain.press import DEVICE, download, item, play, press, show
from tests.stage import LBL01, Stage, at, writes_of

REPAIR = Lock("the knife is being changed", "maint3", at("06:00:30"))
LBL01_LOCKED = WriteLocks(devices={"LBL01": REPAIR})
ALL_LOCKED = WriteLocks(REPAIR)
DOWNLOAD = {
    "cmd": "C1", "eq": "LBL01", "order": "4711", "set": "S", "rev": "A",
    "items": [{"name": "oven_sp", "value": 175.0}, {"name": "belt_speed", "value": 250}],
}  # fmt: skip
LOCKED = Objection("locked", "LBL01 is locked by maint3 since 2026-03-02T06:00:30.000Z: the knife is being changed")


def running_line() -> Stage:
    stage = Stage()
    stage.start_line()
    stage.dispatch()
    stage.show("LBL01", "06:00:20", word=0b10100000)
    return stage


def lock(stage: Stage, locks: WriteLocks) -> None:
    stage.core.handle_locks(locks, stage.now)
    stage.commit()


def refuse(stage: Stage, why: Objection = LOCKED) -> Operation:
    """The gate does not let the oldest operation pass."""
    operation = stage.operations.pop(0)
    writes = tuple(WriteResult(write.tag_id, StatusCode.BAD_USER_ACCESS_DENIED) for write in operation.writes)
    assert writes, "only what writes is refused"
    stage.core.handle_operation(OperationResult(operation.token, (), writes, refused=why), stage.now)
    stage.commit()
    return operation


def answer_reads(stage: Stage, **values: Any) -> Operation:
    """The device answers the oldest operation, which only reads, with what it holds."""
    operation = stage.operations.pop(0)
    assert not operation.changes
    held = {"oven_sp": 1700, "belt_speed": 240, "cmd_seq": 7, "ack_seq": 7, "cmd_status": 0, "cmd_error": 0} | values
    reads = tuple(TagChange(tag, held.get(tag.split(".")[1], 0), 0, stage.now) for tag in operation.reads)
    stage.core.handle_operation(OperationResult(operation.token, reads), stage.now)
    stage.commit()
    return operation


def pass_a_second(stage: Stage) -> None:
    if not stage.operations:
        stage.pass_time(format_timestamp(stage.now + 1_000)[11:23])


def result(stage: Stage) -> tuple[str, list[str], Any]:
    ((_, data),) = stage.told("param.result")
    return data["result"], [*data["codes"]], data["rolled_back"]


def test_a_download_to_a_locked_device_is_rejected_with_the_reason() -> None:
    stage = running_line()
    lock(stage, LBL01_LOCKED)
    (answer,) = stage.command("params.download", **DOWNLOAD)
    assert (answer.answer, answer.codes, answer.detail) == ("rejected", ("locked",), (LOCKED.detail,))
    assert stage.operations == []
    assert result(stage) == ("REJECTED", ["locked"], None)


def test_a_lock_on_one_device_leaves_the_others_free_and_one_on_everything_none() -> None:
    stage = running_line()
    lock(stage, LBL01_LOCKED)
    items = [{"name": "speed", "value": 110.0}]
    other = {**DOWNLOAD, "cmd": "C2", "eq": "FIL01", "items": items}
    assert stage.command("params.download", **other)[0].codes != ("locked",)
    lock(stage, ALL_LOCKED)
    assert "locked" in stage.command("params.download", **{**other, "cmd": "C3"})[0].codes
    assert stage.command("params.download", **DOWNLOAD)[0].detail[0].startswith("every device is locked by maint3")


def test_an_unlocked_device_takes_downloads_again_and_both_are_told_once() -> None:
    stage = running_line()
    lock(stage, LBL01_LOCKED)
    lock(stage, LBL01_LOCKED)
    stage.kill_and_restart("06:01:00")
    lock(stage, LBL01_LOCKED)
    stage.connect("LBL01")
    lock(stage, WriteLocks())
    stage.show("LBL01", "06:01:10", **(LBL01 | {"word": 0b10100000}))
    told = [(data["device"], data["locked"], data["reason"], data["by"]) for _, data in stage.told("gateway.lock")]
    assert told == [("LBL01", is_locked, REPAIR.reason, "maint3") for is_locked in (True, False)]
    assert stage.command("params.download", **DOWNLOAD)[0].answer == "accepted"


def test_a_lock_set_after_the_command_was_accepted_stops_it_before_the_first_value() -> None:
    stage = running_line()
    assert stage.command("params.download", **DOWNLOAD)[0].answer == "accepted"
    answer_reads(stage)
    assert writes_of(refuse(stage)) == {"oven_sp": 1750, "belt_speed": 250}
    assert result(stage) == ("REJECTED", ["locked"], None)
    assert (stage.answers[-1].answer, stage.answers[-1].detail) == ("rejected", (LOCKED.detail,))
    assert stage.operations == []


def written(stage: Stage) -> None:
    """The values are in the machine; now it is to be told to take them."""
    assert stage.command("params.download", **DOWNLOAD)[0].answer == "accepted"
    answer_reads(stage)
    stage.answer_operation()


def test_a_lock_between_the_values_and_their_commit_stops_the_rollback_too_and_that_is_what_is_told() -> None:
    stage = running_line()
    written(stage)
    while stage.operations:
        if stage.operations[0].changes:
            refuse(stage)
        else:
            answer_reads(stage, oven_sp=1750, belt_speed=250)
        pass_a_second(stage)
    assert result(stage) == ("FAILED", ["locked", "rollback_failed"], None)
    final = stage.answers[-1]
    assert (final.answer, final.final) == ("failed", True)
    assert final.detail[0] == LOCKED.detail
    assert "oven_sp is not back at its old value" in final.detail


def test_a_machine_that_restored_itself_behind_the_lock_is_told_as_it_is() -> None:
    stage = running_line()
    written(stage)
    while stage.operations:
        if stage.operations[0].changes:
            refuse(stage)
        else:
            answer_reads(stage)
        pass_a_second(stage)
    kind, codes, rolled_back = result(stage)
    assert (kind, codes) == ("FAILED", ["locked"])
    assert rolled_back == {"oven_sp": 170.0, "belt_speed": 240}


def test_a_hold_that_a_lock_keeps_from_its_machine_is_rejected_and_audited(tmp_path: Path) -> None:
    stage = press(tmp_path)
    stage.command("dispatch.order", cmd="D1", order="1", qty=10, lot="L1", ops=[{"op": "0010", "eq": "M1"}])
    download(stage, "A", item("oven", 150), order="1")
    play(stage, dict(DEVICE))
    show(stage, "06:01:00", mode="RUN")
    stage.ends.clear()
    lock(stage, ALL_LOCKED)
    (answer,) = stage.command("quality.hold", cmd="Q1", scope={"lot": "L1"}, corr="K-1")
    assert (answer.answer, answer.codes) == ("rejected", ("locked",))
    assert stage.operations == []
    (end,) = stage.ends
    assert (end.purpose.cmd, end.purpose.corr, end.purpose.action, end.result) == ("Q1", "K-1", "hold", "rejected")
    assert end.codes == ["locked"]


def test_every_operation_that_writes_says_for_whom_and_what_was_there_before() -> None:
    stage = running_line()
    stage.command("params.download", **DOWNLOAD, corr="K-1")
    answer_reads(stage)
    purpose = stage.operations[0].purpose
    assert (purpose.cmd, purpose.type, purpose.order, purpose.corr, purpose.action) == (
        "C1", "params.download", "4711", "K-1", "write",
    )  # fmt: skip
    assert purpose.old == {"LBL01.oven_sp": 1700, "LBL01.belt_speed": 240}
    stage.answer_operation(refuse=("belt_speed",))
    rollback = stage.operations[0]
    assert rollback.changes
    assert rollback.purpose.action is not None
    assert rollback.purpose.action.startswith("rollback: ")
    assert rollback.purpose.old == {}, "what is there after a refused write nobody has read"
