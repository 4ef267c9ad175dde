"""Lots on hold: their machines are asked to stop, also those that begin with them later, and get no parameters."""

from pathlib import Path

import pytest

from gateway.domain.contract.objections import Objection
from gateway.domain.operations import OperationResult
from gateway.domain.writing.locks import Lock, WriteLocks
from tests.domain.press import DEVICE, codes, download, item, play, press, show
from tests.stage import Stage, writes_of


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Two orders of two lots are known."""
    stage = press(tmp_path)
    for order, lot in (("1", "L1"), ("2", "L2")):
        ops = [{"op": "0010", "eq": "M1"}]
        stage.command("dispatch.order", cmd=f"D-{order}", order=order, qty=10, lot=lot, ops=ops)
    return stage


def quality(stage: Stage, kind: str, lot: str = "L1") -> tuple[str, ...]:
    return codes(stage.command(f"quality.{kind}", cmd=f"Q-{len(stage.answers)}", scope={"lot": lot})[0])


def run(stage: Stage, order: str, clock: str) -> None:
    download(stage, "A", item("oven", 150), order=order)
    play(stage, dict(DEVICE))
    show(stage, clock, mode="RUN")


def end(stage: Stage, clock: str) -> None:
    show(stage, clock, mode="IDLE")
    stage.command("order.end", cmd=f"E-{clock}", eq="M1")


def bits(stage: Stage) -> list[bool]:
    """What was written to the hold bit since the last look; the device takes it."""
    found = []
    while stage.operations:
        found += [value for name, value in writes_of(stage.operations[0]).items() if name == "hold"]
        stage.answer_operation()
    return found


def fail(stage: Stage, **how: object) -> None:
    """The operation in hand came to nothing."""
    operation = stage.operations.pop(0)
    stage.core.handle_operation(OperationResult(operation.token, **how), stage.now)  # type: ignore[arg-type]
    stage.commit()


def test_the_machine_that_runs_the_lot_is_told_once_and_told_back_once(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    assert quality(stage, "hold") == ()
    assert bits(stage) == [True]
    stage.hear("M1", "06:01:01", "06:01:02")
    assert bits(stage) == []
    assert quality(stage, "release") == ()
    stage.hear("M1", "06:01:03")
    assert bits(stage) == [False]


def test_a_machine_that_begins_with_the_lot_later_is_told_then_also_after_a_restart(stage: Stage) -> None:
    download(stage, "A", item("oven", 150), order="1")
    play(stage, dict(DEVICE))
    quality(stage, "hold")
    assert bits(stage) == []
    stage.kill_and_restart("06:00:30")
    stage.connect("M1", "06:00:30")
    show(stage, "06:00:31", mode="IDLE", **DEVICE)
    show(stage, "06:01:00", mode="RUN")
    operation = stage.operations[0]
    assert (operation.purpose.order, operation.purpose.action) == ("1", "hold"), "the audit says why"
    assert bits(stage) == [True]
    stage.kill_and_restart("06:02:00")
    stage.connect("M1", "06:02:00")
    show(stage, "06:02:01", mode="RUN", **DEVICE)
    assert bits(stage) == [], "it was told"


def test_the_bit_goes_with_the_lot_and_is_gone_with_the_next_order(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    quality(stage, "hold")
    assert bits(stage) == [True]
    end(stage, "06:10:00")
    stage.hear("M1", "06:10:30")
    assert bits(stage) == [], "between orders it stays"
    run(stage, "2", "06:11:00")
    assert bits(stage) == [False]


def test_a_release_after_the_order_has_ended_takes_the_bit_back(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    quality(stage, "hold")
    bits(stage)
    end(stage, "06:10:00")
    quality(stage, "release")
    assert bits(stage) == [False]


@pytest.mark.parametrize(
    "how", [{"lost": True}, {"refused": Objection("locked", "M1 is locked")}], ids=["lost", "refused"]
)
def test_a_bit_that_did_not_reach_the_machine_is_written_again(stage: Stage, how: dict[str, object]) -> None:
    run(stage, "1", "06:01:00")
    for kind, want in (("hold", True), ("release", False)):
        quality(stage, kind)
        fail(stage, **how)
        stage.hear("M1", "06:02:00")
        assert bits(stage) == [want]
        stage.hear("M1", "06:02:01")
        assert bits(stage) == []


def test_a_gateway_that_is_killed_while_it_tells_the_machine_tells_it_again(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    for clock, kind, want in (("06:02:00", "hold", True), ("06:03:00", "release", False)):
        quality(stage, kind)
        stage.operations.clear()
        stage.kill_and_restart(clock)
        stage.connect("M1", clock)
        show(stage, f"{clock[:-2]}01", mode="RUN", **DEVICE)
        stage.hear("M1", f"{clock[:-2]}02")
        assert bits(stage) == [want]


def test_a_release_is_told_to_the_machine_though_nobody_knows_whether_the_hold_arrived(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    quality(stage, "hold")
    fail(stage, lost=True)
    quality(stage, "release")
    assert bits(stage) == [False]


def test_a_release_that_follows_at_once_is_the_last_word(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    quality(stage, "hold")
    end(stage, "06:01:00.5")
    quality(stage, "release")
    assert bits(stage) == [True, False]
    stage.hear("M1", "06:01:01")
    assert bits(stage) == []


def test_a_machine_that_is_locked_is_told_when_it_no_longer_is(stage: Stage) -> None:
    download(stage, "A", item("oven", 150), order="1")
    play(stage, dict(DEVICE))
    quality(stage, "hold")
    stage.core.handle_locks(WriteLocks(devices={"M1": Lock("repair", "maint3", stage.now)}), stage.now)
    show(stage, "06:01:00", mode="RUN")
    assert bits(stage) == []
    assert quality(stage, "hold") == ("locked",)
    assert quality(stage, "release") == ("locked",)
    stage.core.handle_locks(WriteLocks(), stage.now)
    stage.hear("M1", "06:02:00")
    assert bits(stage) == [True]


def test_a_lot_on_hold_gets_no_parameters_until_it_is_released(stage: Stage) -> None:
    quality(stage, "hold")
    refused = download(stage, "A", item("oven", 150), order="1")
    assert refused.codes == ("quality_hold",)
    assert refused.detail == ("the lot L1 is on hold until a quality.release",)
    assert codes(download(stage, "A", item("oven", 150), order="2")) == ()
    play(stage, dict(DEVICE))
    quality(stage, "release")
    assert codes(download(stage, "A", item("oven", 150), order="1")) == ()


def test_a_running_lot_on_hold_gets_none_either_though_nobody_names_the_order(stage: Stage) -> None:
    run(stage, "1", "06:01:00")
    quality(stage, "hold")
    bits(stage)
    assert codes(download(stage, "A", item("oven", 155))) == ("quality_hold",)
    assert codes(download(stage, "A", item("oven", 155), order="9")) == (), "that is for another one"
