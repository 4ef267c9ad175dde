"""A set brought down as a job order: what is called, what the list must show, what is taken back."""

from pathlib import Path
from typing import Any

import pytest

from gateway.domain.contract.objections import Objection
from gateway.domain.operations import OperationResult
from gateway.domain.times import parse_timestamp
from simulators.models.job_control import Entry, Fault, JobReceiver, State
from tests.domain.job_machine import JobMachine

UNDONE = {"fill": None, "speed": None, "rinse": None}


def names(machine: JobMachine) -> list[str]:
    return [method for method, _ in machine.receiver.called]


@pytest.mark.parametrize(
    ("start", "called", "state"),
    [
        ("on_command", ["Store"], State.NOT_ALLOWED),
        ("on_download", ["StoreAndStart"], State.ALLOWED),
        ("automatic", ["Store", "Start"], State.ALLOWED),
    ],
)
def test_a_set_becomes_an_order_that_starts_when_the_yaml_says(
    tmp_path: Path, start: str, called: list[str], state: State
) -> None:
    machine = JobMachine(tmp_path, f"start: {start}")
    machine.download()
    machine.settle()
    assert (names(machine), machine.results()) == (called, [("ACTIVE", (), None)])
    entry = machine.receiver.entries["4711"]
    assert (entry.state, entry.parameters) == (state, {"FillVolume": pytest.approx(330.3), "Speed": 120, "rinse": True})
    (told,) = [data for _, data in machine.stage.told("param.result")]
    assert [(item["n"], item["req"], item["rb"]) for item in told["items"]] == [
        ("fill", 330.3, pytest.approx(330.3)), ("speed", 120, 120), ("rinse", True, True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "code", "called"),
    [(Fault.IGNORE, "not_listed", ["Store"]), (Fault.CLAMP, "readback", ["Store", "Cancel"])],
)
def test_an_order_that_is_not_as_asked_leaves_the_list_again(
    tmp_path: Path, fault: Fault, code: str, called: list[str]
) -> None:
    machine = JobMachine(tmp_path, faults={fault})
    machine.download()
    machine.settle()
    assert machine.results() == [("FAILED", (code,), UNDONE)]
    assert (names(machine), machine.receiver.entries) == (called, {})
    assert machine.final("P-1") == ("failed", (code,))


def test_a_machine_that_counts_what_is_over_as_well_says_that_it_is_full(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, capacity=1, faults={Fault.REFUSE})
    machine.receiver.entries["4710"] = Entry("4710", {}, None, state=State.ENDED)
    machine.download()
    machine.settle()
    assert (machine.results(), names(machine)) == ([("REJECTED", ("queue_full",), None)], ["Store"])


def test_what_nobody_has_said_of_an_order_is_left_out(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    machine.settle()
    content = machine.receiver.entries["4711"].content
    assert content.keys() == {
        "JobOrderID", "WorkMasterID", "Priority", "JobOrderParameters", "EquipmentRequirements"
    }  # fmt: skip
    assert (content["WorkMasterID"], content["Priority"]) == (({"ID": "PS-1:C"},), 7)
    units = [parameter["EngineeringUnits"] for parameter in content["JobOrderParameters"]]
    assert [unit and unit["UnitId"] for unit in units] == [
        int.from_bytes(b"MLT", "big"), int.from_bytes(b"C94", "big"), None
    ]  # fmt: skip


def test_priority_and_start_time_may_be_those_of_the_dispatch(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.configure(tmp_path, "priority: 7", "priority: dispatch\n        start_time: dispatch")
    start = "2026-03-02T08:00:00Z"
    machine.stage.command("dispatch.order", cmd="D", order="4711", qty=500, prio=40_000, start=start)
    machine.stage.command("dispatch.order", cmd="E", order="4712", qty=500)
    for order in ("4711", "4712"):
        machine.download(order, f"P-{order}")
        machine.settle()
    content = machine.receiver.entries["4711"].content
    assert (content["Priority"], content["StartTime"]) == (32_767, parse_timestamp(start)), "an Int16 holds no more"
    assert not {"Priority", "StartTime"} & machine.receiver.entries["4712"].content.keys()


def test_killed_before_the_call_nobody_stores_it_later(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    machine.perform()
    machine.restart()
    machine.settle()
    assert (machine.results(), names(machine)) == ([("FAILED", ("interrupted",), UNDONE)], [])


def test_a_running_order_with_wrong_values_is_aborted_and_cleared(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, "start: on_download", faults={Fault.CLAMP})
    machine.whim = JobReceiver.step
    machine.download()
    machine.settle()
    assert machine.results() == [("FAILED", ("readback",), UNDONE)]
    assert (names(machine), machine.receiver.entries) == (["StoreAndStart", "Abort", "Clear"], {})


def test_an_order_that_cannot_be_taken_out_again_is_told_as_such(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, faults={Fault.CLAMP, Fault.STAY})
    machine.download()
    machine.settle()
    assert machine.results() == [("FAILED", ("readback", "rollback_failed"), None)]
    assert "4711 is still in the list, NotAllowedToStart" in machine.detail("P-1")
    assert names(machine) == ["Store", "Cancel"]


@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize(("convention", "code"), [("bitmap", "not_accepted"), ("zero", "device_error_4")])
def test_what_the_machine_refuses_by_its_return_code_is_rejected(
    tmp_path: Path, convention: str, code: str, uncertain: bool
) -> None:
    machine = JobMachine(
        tmp_path, f"return_code: {convention}", faults={Fault.REFUSE}, zero_is_success=convention == "zero"
    )
    machine.uncertain = uncertain
    machine.download()
    machine.settle()
    assert machine.results() == [("REJECTED", (code,), None)]
    assert "Store returned" in machine.detail("P-1")


@pytest.mark.parametrize(
    ("faults", "result"), [(set(), ("ACTIVE", ())), ({Fault.IGNORE}, ("REJECTED", ("store_refused",)))]
)
def test_a_bad_status_is_not_believed_before_the_list(tmp_path: Path, faults: set[Fault], result: tuple) -> None:
    machine = JobMachine(tmp_path, faults=faults)
    machine.bad = 0x800A0000
    machine.download()
    machine.settle()
    assert (machine.results()[0][:2], names(machine)) == (result, ["Store"])
    assert "Store: status 0x800A0000" in machine.detail("P-1")


@pytest.mark.parametrize("configured", ["bitmap", "zero"])
def test_a_wrong_convention_in_the_yaml_makes_no_order_fail_that_is_there(tmp_path: Path, configured: str) -> None:
    machine = JobMachine(tmp_path, f"return_code: {configured}", zero_is_success=configured == "bitmap")
    machine.download()
    machine.settle()
    assert machine.results() == [("ACTIVE", (), None)]
    assert "Store returned" in machine.detail("P-1")


def test_an_order_that_has_not_started_is_updated_and_one_that_runs_is_left_alone(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, "start: on_download")
    machine.download()
    machine.settle()
    machine.download(cmd="P-2", speed=200)
    machine.settle()
    assert machine.receiver.entries["4711"].parameters["Speed"] == 200
    machine.receiver.step()
    machine.download(cmd="P-3", speed=300)
    machine.settle()
    assert (names(machine), machine.receiver.entries["4711"].parameters["Speed"]) == (["StoreAndStart", "Update"], 200)
    assert machine.results()[1:] == [("ACTIVE", (), None), ("REJECTED", ("job_state",), None)]


def test_a_full_machine_is_not_asked(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, capacity=1)
    for number in (1, 2):
        machine.download(f"471{number}", f"P-{number}")
        machine.settle()
    assert machine.results() == [("ACTIVE", (), None), ("REJECTED", ("queue_full",), None)]
    assert "holds 1 orders of at most 1" in machine.detail("P-2")
    machine.receiver.entries["4711"].state = State.ENDED
    machine.download("4713", "P-3")
    machine.settle()
    assert machine.results()[2][0] == "ACTIVE", "an order that is over takes no place"


@pytest.mark.parametrize(
    ("items", "order", "code"),
    [
        ({"fill": 299.9}, "4711", "limit"), ({"speed": 901}, "4711", "limit"), ({"rinse": 1}, "4711", "type"),
        ({"fill": float("nan")}, "4711", "type"), ({}, None, "no_order"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_allow_list_or_outside_its_limits_is_rejected_before_any_call(
    tmp_path: Path, items: dict[str, float], order: str | None, code: str
) -> None:
    machine = JobMachine(tmp_path)
    machine.download(order, **items)  # type: ignore[arg-type]
    assert (machine.final("P-1"), machine.stage.operations) == (("rejected", (code,)), [])


def test_a_parameter_that_nobody_listed_and_a_wrong_unit_are_rejected(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    items = [{"name": "torque", "value": 1}, {"name": "fill", "value": 330, "unit": "L"}]
    machine.stage.command("params.download", cmd="P-1", eq="M1", set="S", rev="A", order="1", items=items)
    assert machine.final("P-1") == ("rejected", ("not_allowed", "unit"))


@pytest.mark.parametrize("strange", ["no list", '[{"Name": 1}]', "7"])
def test_without_a_readable_list_nothing_is_stored(tmp_path: Path, strange: str) -> None:
    machine = JobMachine(tmp_path)
    machine.strange = strange
    machine.download()
    machine.settle()
    assert (machine.results(), names(machine)) == ([("REJECTED", ("unreadable",), None)], [])


def test_a_machine_with_states_of_its_own_is_refused_aloud(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, faults={Fault.STRANGE_STATE})
    machine.receiver.entries["4710"] = Entry("4710", {}, None)
    machine.show("06:00:02")
    machine.download()
    machine.settle()
    assert machine.results() == [("REJECTED", ("unknown_state",), None)]
    assert "4710: S1 (41)" in machine.detail("P-1")
    assert machine.control("start", "4710") == ("rejected", ("unknown_state",))
    assert names(machine) == []


@pytest.mark.parametrize(
    ("state", "called", "says"),
    [
        (State.NOT_ALLOWED, ["StoreAndStart", "Cancel"], "4711 is NotAllowedToStart"),
        (State.ABORTED, ["StoreAndStart", "Clear"], "4711 is Aborted"),
    ],
)
def test_an_order_that_was_to_start_and_may_not_is_taken_out(
    tmp_path: Path, state: State, called: list[str], says: str
) -> None:
    def spoil(receiver: JobReceiver) -> None:
        for entry in receiver.entries.values():
            entry.state = state

    machine = JobMachine(tmp_path, "start: on_download")
    machine.whim = spoil
    machine.download()
    machine.settle()
    assert machine.results() == [("FAILED", ("readback",), UNDONE)]
    assert (names(machine), machine.receiver.entries) == (called, {})
    assert says in machine.detail("P-1")


def test_an_update_that_is_refused_leaves_the_order_as_it_was(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    machine.settle()
    machine.receiver.faults = {Fault.REFUSE}
    machine.download(cmd="P-2", speed=200)
    machine.settle()
    assert machine.results()[1] == ("REJECTED", ("not_accepted",), None)
    assert (names(machine), machine.receiver.entries["4711"].parameters["Speed"]) == (["Store", "Update"], 120)


def test_an_order_whose_start_is_refused_is_taken_out_at_once(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, "start: automatic")
    machine.download()
    machine.perform()
    machine.perform()
    machine.receiver.faults = {Fault.REFUSE}
    machine.perform()
    machine.receiver.faults = set()
    before = machine.stage.now
    machine.settle()
    assert machine.results() == [("FAILED", ("not_accepted",), UNDONE)]
    assert (names(machine), machine.stage.now) == (["Store", "Start", "Cancel"], before)


def test_an_order_that_changes_while_it_is_started_is_not_active(tmp_path: Path) -> None:
    def spoil(receiver: JobReceiver) -> None:
        for entry in receiver.entries.values():
            entry.parameters["Speed"] = 120 if entry.state is State.NOT_ALLOWED else 121

    machine = JobMachine(tmp_path, "start: automatic")
    machine.whim = spoil
    machine.download()
    machine.settle()
    assert machine.results() == [("FAILED", ("not_started",), UNDONE)]


@pytest.mark.parametrize(
    ("start", "after", "result"),
    [
        ("on_command", 1, ("REJECTED", ("locked",), None)),
        ("automatic", 2, ("FAILED", ("locked", "rollback_failed"), None)),
    ],
)
def test_what_the_gateway_itself_stops_was_not_called(
    tmp_path: Path, start: str, after: int, result: tuple[Any, ...]
) -> None:
    machine = JobMachine(tmp_path, f"start: {start}")
    machine.download()
    for _ in range(after):
        machine.perform()
    operation = machine.stage.operations.pop(0)
    stopped = OperationResult(operation.token, refused=Objection("locked", "M1 is locked"))
    machine.stage.core.handle_operation(stopped, machine.stage.now)
    machine.stage.commit()
    machine.settle()
    assert machine.results() == [result]


def test_a_list_that_cannot_be_read_after_the_call_leaves_it_in_doubt(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    machine.perform()
    machine.strange = "no list"
    machine.settle()
    assert machine.results() == [("FAILED", ("in_doubt",), None)]


def test_a_late_answer_of_an_earlier_question_is_ignored(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path)
    machine.download()
    late = machine.act(machine.stage.operations[0])
    machine.perform()
    machine.stage.core.handle_operation(late, machine.stage.now)
    machine.stage.commit()
    assert machine.stage.core._commands.next_timer() is None, "nothing is waited for but the call"
    machine.settle()
    assert (machine.results(), names(machine)) == ([("ACTIVE", (), None)], ["Store"])


def test_the_operators_permit_is_waited_for(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, "permit: state == 1\n      permit_timeout: 60s")
    machine.download()
    assert machine.stage.operations == []
    machine.stage.show("M1", "06:00:30", state=1)
    machine.settle()
    assert machine.results() == [("ACTIVE", (), None)]
    machine.stage.show("M1", "06:00:31", state=0)
    machine.download("4712", "P-2")
    machine.stage.pass_time("06:01:32")
    assert machine.results()[1] == ("REJECTED", ("permit_timeout",), None)
