"""Job Control at the core: what is asked of the machine, what its list must show, and what is told of it."""

from pathlib import Path

import pytest

from gateway.domain.forgetting import _active, _revisions_in_use
from gateway.domain.job_list import order_of, read_job_list
from gateway.domain.job_states import EFFECTS, Action, JobState, ReturnCode, job_state, return_codes
from simulators.models.job_control import _TRANSITIONS, Entry, Fault, State
from tests.domain.job_machine import PATH, JobMachine


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
    machine.download("4713", "4713")
    machine.settle()
    machine.show("06:01:00")
    equipment = machine.stage.core.equipment[PATH]
    prepared = equipment.memory.production.order.prepared
    assert list(prepared) == ["4713"]
    assert ("4713" in _active(equipment), ("PS-1", "C") in _revisions_in_use(equipment)) == (True, True)
    machine.receiver.entries.clear()
    machine.show("06:01:01")
    assert prepared == {}, "what was cancelled there will never run"


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
