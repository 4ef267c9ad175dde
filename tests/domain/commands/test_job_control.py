"""Job Control at the core: what is asked of the machine, what its list must show, and what is told of it."""

from pathlib import Path

import pytest

from gateway.domain.contract.job_states import EFFECTS, Action, JobState, ReturnCode, job_state, return_codes
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import JobControl
from gateway.domain.dispatching.forgetting import forget
from gateway.domain.operations import OperationResult
from gateway.domain.production.job_list import order_of, read_job_list
from gateway.domain.writing.locks import Lock, WriteLocks
from simulators.models.job_control import _TRANSITIONS, Entry, Fault, State
from tests.domain.job_machine import PATH, JobMachine

DAY = 86_400_000


def names(machine: JobMachine) -> list[str]:
    return [method for method, _ in machine.receiver.called]


# --- commands -------------------------------------------------------------------------------------------------------

_STATES = {state: JobState(state.text) for state in State}


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.UPDATE])
@pytest.mark.parametrize("state", State)
def test_each_method_is_called_from_its_states_and_refused_by_name_from_all_others(
    tmp_path: Path, action: Action, state: State
) -> None:
    machine = JobMachine(tmp_path)
    machine.receiver.entries["4711"] = Entry("4711", {}, None, state=state)
    machine.show("06:00:02")
    method = EFFECTS[action].method
    before, after = _TRANSITIONS[method]
    if state not in before:
        assert machine.control(action) == ("rejected", ("job_state",))
        assert f"4711 is {state.text}" in machine.detail("J-1")
        assert names(machine) == []
        return
    assert machine.control(action) == ("done", ())
    assert machine.receiver.called == [(method, "4711")]
    shown = machine.receiver.entries.get("4711")
    assert (shown.state if shown else None) == after


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.UPDATE])
def test_a_method_that_says_yes_and_does_nothing_has_failed(tmp_path: Path, action: Action) -> None:
    machine = JobMachine(tmp_path, faults={Fault.IGNORE})
    before, _ = _TRANSITIONS[EFFECTS[action].method]
    machine.receiver.entries["4711"] = Entry("4711", {}, None, state=before[0])
    machine.show("06:00:02")
    assert machine.control(action) == ("failed", ("not_confirmed",))
    assert len(names(machine)) == 1


def test_an_update_sends_the_order_again_as_it_is_dispatched_now(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.stage.command("dispatch.order", cmd="D-1", order="4711", qty=500, material="FG-100")
    machine.download()
    machine.settle()
    machine.show("06:00:05")
    machine.stage.command("dispatch.order", cmd="D-2", order="4711", qty=800, material="FG-100")
    assert machine.control("update") == ("done", ())
    content = machine.receiver.entries["4711"].content
    assert content["MaterialRequirements"][0]["Quantity"] == "800"
    assert content["Description"] == ("FG-100 800",)
    machine.receiver.faults = {Fault.REFUSE}
    assert machine.control("update", cmd="J-2") == ("failed", ("not_accepted",))
    machine.receiver.entries["4712"] = Entry("4712", {}, None)
    machine.show("06:00:20")
    assert machine.control("update", "4712", cmd="J-3") == ("rejected", ("not_loaded",))
    machine.receiver.entries.clear()
    machine.show("06:00:30")
    machine.receiver.entries["4711"] = Entry("4711", {}, None)
    machine.show("06:00:31")
    assert machine.control("update", cmd="J-4") == ("rejected", ("not_loaded",)), "another one of the same name"


def test_unknown_orders_machines_out_of_reach_and_actions_that_are_not_allowed_are_named(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    assert machine.control("start", "4799") == ("rejected", ("unknown_job",))
    machine.receiver.entries["4711"] = Entry("4711", {}, None)
    machine.show("06:00:02")
    machine.stage.command("job.control", cmd="J-2", eq="M1", order="4711", action="start")
    machine.stage.command("job.control", cmd="J-3", eq="M1", order="4711", action="cancel")
    assert machine.final("J-3") == ("rejected", ("under_way",))
    machine.settle()
    machine.stage.disconnect("M1", "06:01:00")
    assert machine.control("cancel", cmd="J-4") == ("rejected", ("no_contact",))
    machine.stage.command("job.control", cmd="J-5", eq="X9", order="4711", action="start")
    assert machine.final("J-5") == ("rejected", ("unknown_equipment",))
    (answer,) = machine.stage.command("job.control", cmd="J-6", eq="M1", order="4711", action="jump")
    assert (answer.answer, answer.codes) == ("rejected", ("malformed",))


def test_an_order_that_is_cancelled_in_the_mes_is_cancelled_in_the_list_where_it_has_not_started(
    tmp_path: Path,
) -> None:
    machine = JobMachine(tmp_path)
    for order in ("4711", "4712"):
        machine.stage.command("dispatch.order", cmd=f"D-{order}", order=order, qty=500)
        machine.download(order, f"P-{order}")
        machine.settle()
    machine.receiver.entries["4712"].state = State.RUNNING
    machine.show("06:00:05")
    machine.stage.command("dispatch.change", cmd="C-1", order="4711", action="hold")
    machine.stage.command("dispatch.change", cmd="C-2", order="4711", action="cancel")
    machine.stage.command("dispatch.change", cmd="C-3", order="4712", action="cancel")
    machine.settle()
    assert (machine.final("C-2"), machine.final("C-2:M1")) == (("done", ()), ("done", ()))
    assert machine.final("C-3")[0] == "rejected"
    assert machine.receiver.called[2:] == [("Cancel", "4711")]
    machine.stage.command("dispatch.order", cmd="D-4713", order="4713", qty=500)
    machine.receiver.entries["4713"] = Entry("4713", {}, None, state=State.ABORTED)
    machine.show("06:00:30")
    machine.stage.command("dispatch.change", cmd="C-4", order="4713", action="cancel")
    assert machine.final("C-4") == ("done", ()), "it never ran, and it will not"
    assert not any(answer.cmd == "C-4:M1" for answer in machine.stage.answers)


def test_order_start_is_the_start_of_a_machine_with_job_control(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    machine.settle()
    machine.show("06:00:05")
    machine.stage.command("order.start", cmd="OS", eq="M1", order="4711")
    machine.settle()
    assert (machine.final("OS"), names(machine)) == (("done", ()), ["Store", "Start"])


# --- what is told ---------------------------------------------------------------------------------------------------


def test_the_list_tells_the_life_of_an_order_and_a_restart_tells_nothing_twice(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    machine.settle()
    entry = machine.receiver.entries["4711"]
    states = (State.NOT_ALLOWED, State.ALLOWED, State.RUNNING, State.INTERRUPTED, State.RUNNING, State.ENDED)
    for second, state in enumerate(states, 10):
        entry.state = state
        machine.show(f"06:00:{second}")
        machine.restart()
    machine.receiver.entries.clear()
    machine.show("06:01:00")
    machine.show("06:01:01")
    told = [(clock, data["from"], data["to"]) for clock, data in machine.stage.told("job.state")]
    names = [state.text for state in states]
    assert [(before, after) for _, before, after in told] == [
        *zip([None, *names[:-1]], names, strict=True), ("Ended", "Removed")
    ]  # fmt: skip
    assert told[2][0] == "06:00:12"
    events = [(clock, kind) for kind in ("order.started", "order.interrupted", "order.resumed", "order.completed")
              for clock, _ in machine.stage.told(kind)]  # fmt: skip
    assert events == [("06:00:12", "order.started"), ("06:00:13", "order.interrupted"), ("06:00:14", "order.resumed"),
                      ("06:00:15", "order.completed")]  # fmt: skip
    assert machine.stage.told("order.interrupted")[0][1]["cause"] == "JOB/INTERRUPTED"


def test_of_several_begun_orders_the_one_that_runs_is_the_machines_and_a_substate_is_no_second_interruption(
    tmp_path: Path,
) -> None:
    text = (
        '[{"JobOrder":{"JobOrderID":"1"},"State":[{"StateNumber":4},{"StateNumber":SUB}]},'
        '{"JobOrder":{"JobOrderID":"2"},"State":[{"StateNumber":STATE}]}]'
    )
    machine = JobMachine(tmp_path)
    for second, (state, substate) in enumerate(((3, 1), (5, 1), (5, 2), (5, 1))):
        machine.strange = text.replace("STATE", str(state)).replace("SUB", str(substate))
        machine.show(f"06:00:1{second}")
    started = [event.order.id for event in machine.stage.events if event.type == "order.started" and event.order]
    assert started == ["2", "1"]
    assert len(machine.stage.told("order.interrupted")) == 1
    substates = [data["substate"] for _, data in machine.stage.told("job.state") if data["order"] == "1"]
    assert substates == ["Held", "Suspended", "Held"]


def test_the_running_order_stays_the_machines_while_others_come_and_go(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    entries = machine.receiver.entries
    entries["1"], entries["2"] = Entry("1", {}, None, state=State.RUNNING), Entry("2", {}, None)
    machine.show("06:00:10")
    entries["2"].state = State.RUNNING
    machine.show("06:00:20")
    entries["1"].state = State.ABORTED
    machine.show("06:00:30")
    del entries["1"]
    machine.show("06:00:40")
    entries["0"] = Entry("0", {}, None, state=State.RUNNING)
    machine.receiver.entries = {name: entries[name] for name in ("0", "2")}
    machine.show("06:00:50")
    started = [event.order.id for event in machine.stage.events if event.type == "order.started" and event.order]
    assert started == ["1", "2"]
    assert [clock for clock, _ in machine.stage.told("order.completed")] == ["06:00:30"]


def test_an_order_starts_with_the_set_that_it_was_loaded_with_whatever_was_loaded_since(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    for order, revision in (("4711", "C"), ("4712", "D")):
        items = [{"name": "speed", "value": 100}]
        machine.stage.command("params.download", cmd=order, eq="M1", set="PS-1", rev=revision, order=order, items=items)
        machine.settle()
    for second, order in enumerate(("4711", "4712")):
        machine.receiver.entries[order].state = State.RUNNING
        machine.show(f"06:00:1{2 * second}")
        machine.receiver.entries[order].state = State.ENDED
        machine.show(f"06:00:1{2 * second + 1}")
    told = [data["params"] for _, data in machine.stage.told("order.started")]
    assert told == [{"set": "PS-1", "rev": "C"}, {"set": "PS-1", "rev": "D"}]
    machine.stage.command("dispatch.order", cmd="D", order="4713", qty=5)
    machine.download("4713", "4713")
    machine.settle()
    machine.show("06:01:00")
    core = machine.stage.core
    forget(core.memory.record, core.equipment.values(), machine.stage.now + 400 * DAY)
    assert "4713" in core.memory.record.orders, "the machine has it in its list yet"
    equipment = machine.stage.core.equipment[PATH]
    prepared = equipment.memory.production.order.prepared
    assert list(prepared) == ["4713"]
    machine.receiver.entries.clear()
    machine.show("06:01:01")
    assert prepared == {}, "what was cancelled there will never run"
    for days in (400, 800):
        forget(core.memory.record, core.equipment.values(), machine.stage.now + days * DAY)
    assert "4713" not in core.memory.record.orders


# --- names and numbers ----------------------------------------------------------------------------------------------


def test_states_go_by_name_and_by_number_where_the_name_says_nothing() -> None:
    assert [job_state(None, number) for number in range(8)] == [
        JobState.UNKNOWN, *list(JobState)[:6], JobState.UNKNOWN
    ]  # fmt: skip
    assert job_state("Läuft", 3) is JobState.RUNNING
    assert job_state("Running", 4) is JobState.RUNNING, "another enumeration: the name is believed"
    assert [job_state(name, 9) for name in ("Waiting", "Loaded", "Suspended", "Completed", "aborted", "Allowed To Start")] == [
        JobState.NOT_ALLOWED, JobState.NOT_ALLOWED, JobState.INTERRUPTED, JobState.ENDED, JobState.ABORTED, JobState.ALLOWED
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "bitmap", "zero"),
    [
        (0, ("no_return_status",), ()), (1, (), ("unknown_job",)), (2, ("unknown_job",), ("device_error_2",)),
        (8, ("job_state",), ("device_error_8",)), (16, ("not_accepted",), ("device_error_16",)),
        (4, ("invalid_command",), ("device_error_4",)), (1 << 32, ("invalid_request",), (f"device_error_{1 << 32}",)),
        (1 << 40 | 2, ("unknown_job", "vendor_40"), (f"device_error_{1 << 40 | 2}",)),
        (None, ("no_return_status",), ("no_return_status",)), (True, ("no_return_status",), ("no_return_status",)),
    ],
)  # fmt: skip
def test_a_return_status_is_read_by_the_convention_of_the_machine(
    value: object, bitmap: tuple[str, ...], zero: tuple[str, ...]
) -> None:
    assert return_codes(value, ReturnCode.BITMAP) == bitmap
    assert return_codes(value, ReturnCode.ZERO) == zero


def test_a_list_may_be_null_and_its_second_state_is_the_substate() -> None:
    assert read_job_list("null") == {}
    assert read_job_list("[]") == {}
    assert read_job_list(None) is None
    text = (
        '[null, {"JobOrder": {"JobOrderID": "4711"}, "State": [{"StateText": "Interrupted", "StateNumber": 4}, '
        '{"StateText": "Angehalten", "StateNumber": 1}]}]'
    )
    jobs = read_job_list(text)
    assert jobs is not None
    assert (jobs["4711"].state, jobs["4711"].substate) == (JobState.INTERRUPTED, "Held")


def test_an_order_is_found_again_in_the_id_that_was_made_of_it() -> None:
    assert order_of("{order}", "4711") == "4711"
    assert order_of("WO-{order}/{op}", "WO-4711/0010") == "4711"
    assert order_of("WO-{order}/{op}", "typed in at the machine") == "typed in at the machine"


# --- what stands in the way -----------------------------------------------------------------------------------------


def stored(tmp_path: Path) -> JobMachine:
    machine = JobMachine(tmp_path)
    machine.receiver.entries["4711"] = Entry("4711", {}, None)
    machine.show("06:00:02")
    return machine


def test_an_action_that_the_yaml_does_not_have_is_not_allowed(tmp_path: Path) -> None:
    machine = stored(tmp_path)
    machine.configure(tmp_path, "[start, stop, pause,", "[stop, pause,")
    assert machine.control("start") == ("rejected", ("not_allowed",))
    assert "start is not among the actions of M1: abort, cancel" in machine.detail("J-1")


def test_a_write_lock_and_a_download_that_is_under_way_come_first(tmp_path: Path) -> None:
    machine = stored(tmp_path)
    machine.stage.core.memory.record.locks = WriteLocks(everything=Lock("knife", "maint3", 0))
    assert machine.control("start") == ("rejected", ("locked",))
    machine.stage.core.memory.record.locks = WriteLocks()
    machine.download("4712")
    assert machine.control("start", cmd="J-2") == ("rejected", ("active_download",))
    assert machine.receiver.called == [("Store", "4712")]


def test_nothing_starts_while_nobody_knows_what_the_machine_holds(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, faults={Fault.CLAMP, Fault.STAY})
    machine.download()
    machine.settle()
    machine.receiver.faults = set()
    machine.show("06:00:30")
    assert machine.final("P-1")[1] == ("readback", "rollback_failed")
    assert machine.control("start") == ("rejected", ("unknown_parameters",))
    machine.download(cmd="P-2")
    machine.settle()
    assert machine.control("start", cmd="J-2") == ("done", ())


def test_what_the_gateway_itself_stops_has_failed_by_that_name(tmp_path: Path) -> None:
    machine = stored(tmp_path)
    machine.stage.command("job.control", cmd="J-1", eq="M1", order="4711", action="start")
    operation = machine.stage.operations.pop(0)
    stopped = OperationResult(operation.token, refused=Objection("locked", "M1 is locked"))
    machine.stage.core.handle_operation(stopped, machine.stage.now)
    machine.stage.commit()
    assert machine.final("J-1") == ("failed", ("locked",))


def test_an_order_that_ran_before_and_is_there_once_more_is_the_one_that_is_not_over(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.configure(tmp_path, "job_order:\n", 'job_order:\n        id: "{order}/{op}"\n')
    machine.receiver.entries["4711/10"] = Entry("4711/10", {}, None, state=State.ENDED)
    machine.receiver.entries["4711/20"] = Entry("4711/20", {}, None)
    machine.show("06:00:02")
    assert machine.control("start") == ("done", ())
    assert machine.control("clear", "4711/10", cmd="J-2") == ("done", ())
    assert machine.receiver.called == [("Start", "4711/20"), ("Clear", "4711/10")]


def test_what_was_asked_for_and_what_came_of_it_is_for_the_audit(tmp_path: Path) -> None:
    machine = stored(tmp_path)
    ends = machine.stage.core.effects.ends
    machine.stage.core.handle_command(JobControl(cmd="J-0", eq="M1", order="4799", action=Action.STOP), 0)
    (end,) = ends
    assert (end.purpose.cmd, end.purpose.action, end.result, end.codes) == ("J-0", "stop", "rejected", ["unknown_job"])
    machine.stage.commit()
    machine.stage.command("job.control", cmd="J-1", eq="M1", order="4711", action="start")
    (operation,) = machine.stage.operations
    assert (operation.purpose.cmd, operation.purpose.order, operation.purpose.action) == ("J-1", "4711", "start")
    machine.stage.core.handle_operation(machine.act(operation), machine.stage.now)
    (end,) = machine.stage.core.effects.ends
    assert (end.device, end.purpose.cmd, end.result, end.codes) == ("M1", "J-1", "done", [])
