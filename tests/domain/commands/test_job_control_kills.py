"""The gateway dies, or the link breaks, before and after each operation: the answer is true, and nothing is done twice."""

from collections import Counter
from pathlib import Path

import pytest

from gateway.domain.contract.job_states import EFFECTS, Action
from gateway.domain.operations import OperationResult
from simulators.models.job_control import Entry, Fault, State
from tests.domain.job_machine import JobMachine

DEATHS = ("killed before it is done", "killed before its answer", "link lost under it")


def interrupt(machine: JobMachine, death: str) -> None:
    """The operation that is next is done or not, and its answer never comes."""
    if death == DEATHS[0]:
        machine.restart()
    elif death == DEATHS[1]:
        machine.act(machine.stage.operations.pop(0))
        machine.restart()
    else:
        machine.perform(lost=True)
        machine.stage.disconnect("M1", "06:00:30")
        machine.stage.connect("M1", "06:00:31")


def play(machine: JobMachine, step: int, death: str) -> bool:
    """Interrupt the operation of that number; False where there is none."""
    stage = machine.stage
    for _ in range(step):
        while not stage.operations:
            timer = stage.core._commands.next_timer()
            if timer is None:
                return False
            stage.now = max(stage.now + 1, timer)
            stage.core.handle_deadline(stage.now)
            stage.commit()
        machine.perform()
    if not stage.operations:
        return False
    interrupt(machine, death)
    machine.settle()
    return True


def is_asked(machine: JobMachine) -> bool:
    """Whether the machine holds the order as it was asked for."""
    entry = machine.receiver.entries.get("4711")
    return entry is not None and entry.parameters == {
        "FillVolume": pytest.approx(330.3), "Speed": 120, "rinse": True
    }  # fmt: skip


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("fault", [None, Fault.CLAMP, Fault.IGNORE, Fault.REFUSE, Fault.STAY])
@pytest.mark.parametrize("start", ["on_command", "on_download", "automatic"])
def test_a_download_ends_in_what_the_list_holds_whenever_the_gateway_dies(
    tmp_path: Path, start: str, fault: Fault | None, death: str
) -> None:
    interrupted = 0
    for step in range(12):
        faults = {fault} if fault is not None else set()
        faults |= {Fault.CLAMP} if fault is Fault.STAY else set()
        machine = JobMachine(tmp_path, f"start: {start}", faults=faults)
        machine.download()
        if not play(machine, step, death):
            break
        interrupted += 1
        (result,) = machine.results()
        assert [answer.final for answer in machine.stage.answers if answer.cmd == "P-1"].count(True) == 1
        assert (result[0] == "ACTIVE") is is_asked(machine), (step, result, machine.receiver)
        assert (result[2] is not None) <= ("4711" not in machine.receiver.entries), "rolled back is gone"
        if "rollback_failed" not in result[1]:
            assert result[0] == "ACTIVE" or machine.receiver.entries == {}
        assert set(Counter(machine.receiver.called).values()) <= {1}, "no method is called twice"
    assert interrupted >= 2


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("fault", [None, Fault.IGNORE, Fault.REFUSE])
@pytest.mark.parametrize("action", [action for action in Action if action is not Action.UPDATE])
def test_a_command_ends_in_what_the_list_shows_whenever_the_gateway_dies(
    tmp_path: Path, action: Action, fault: Fault | None, death: str
) -> None:
    before = {Action.PAUSE: State.RUNNING, Action.RESUME: State.INTERRUPTED, Action.STOP: State.RUNNING,
              Action.REVOKE_START: State.ALLOWED, Action.CLEAR: State.ENDED}.get(action, State.NOT_ALLOWED)  # fmt: skip
    machine = JobMachine(tmp_path, faults={fault} if fault is not None else set())
    machine.receiver.entries["4711"] = Entry("4711", {}, None, state=before)
    machine.show("06:00:02")
    machine.stage.command("job.control", cmd="J-1", eq="M1", order="4711", action=action)
    assert play(machine, 0, death)
    shown = machine.receiver.entries.get("4711")
    is_done = shown is None or shown.state is not before
    assert machine.final("J-1") == (("done", ()) if is_done else ("failed", ("interrupted",)))
    assert is_done is (death != DEATHS[0] and fault is None)
    assert machine.receiver.called.count((EFFECTS[action].method, "4711")) == (0 if death == DEATHS[0] else 1)


def test_once_the_machine_answers_the_time_for_its_coming_back_is_over(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, "contact_timeout: 1s")
    machine.receiver.entries["4711"] = Entry("4711", {}, None)
    machine.show("06:00:02")
    machine.stage.command("job.control", cmd="J-1", eq="M1", order="4711", action="start")
    machine.stage.core.handle_operation(
        OperationResult(machine.stage.operations.pop(0).token, lost=True), machine.stage.now
    )
    machine.stage.connect("M1", "06:00:02")
    machine.perform()
    machine.stage.pass_time("06:00:04")
    assert not any(answer.final for answer in machine.stage.answers)
    machine.settle()
    assert machine.final("J-1") == ("failed", ("interrupted",))


def test_a_request_that_was_lost_on_a_link_that_stayed_up_is_looked_after(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.receiver.entries["4711"] = Entry("4711", {}, None)
    machine.show("06:00:02")
    machine.stage.command("job.control", cmd="J-1", eq="M1", order="4711", action="start")
    machine.perform(lost=True)
    machine.stage.pass_time("06:00:08")
    machine.settle()
    assert (machine.final("J-1"), machine.receiver.called) == (("done", ()), [("Start", "4711")])


@pytest.mark.parametrize("kind", ["download", "command"])
def test_nobody_waits_for_a_machine_for_ever(tmp_path: Path, kind: str) -> None:
    machine = JobMachine(tmp_path, "contact_timeout: 60s")
    if kind == "download":
        machine.download()
        machine.perform()
    else:
        machine.receiver.entries["4711"] = Entry("4711", {}, None)
        machine.show("06:00:02")
        machine.stage.command("job.control", cmd="P-1", eq="M1", order="4711", action="start")
    machine.perform(lost=True)
    machine.stage.disconnect("M1", "06:00:30")
    machine.stage.pass_time("06:01:00")
    assert not any(answer.final for answer in machine.stage.answers)
    machine.stage.pass_time("06:02:30")
    assert machine.final("P-1") == ("failed", ("in_doubt",))
