"""The machine with a job order receiver: one order runs at a time, each fault does what it says, and it runs alone."""

import pytest
from asyncua import Client, ua
from stages import ready, simulator

from simulators.models.job_control import Answer, Entry, Fault, JobReceiver, State
from simulators.servers.job_control import NAMESPACE, URI


def test_of_several_allowed_orders_the_most_urgent_runs_and_the_others_wait() -> None:
    machine = JobReceiver()
    for name, priority in (("1", 0), ("2", 5), ("3", 5)):
        assert machine.store(Entry(name, {}, None, priority), start=True) is Answer.GOOD
    states = []
    for _ in range(3):
        assert machine.step()
        assert not machine.step()
        states.append([entry.state.number for entry in machine.entries.values()])
        machine.finish(next(name for name, entry in machine.entries.items() if entry.state is State.RUNNING))
    assert states == [[2, 3, 2], [2, 5, 3], [3, 5, 5]]


def test_its_list_has_so_many_places_and_an_order_that_is_over_takes_none() -> None:
    machine = JobReceiver(capacity=1)
    assert machine.store(Entry("1", {}, None), start=False) is Answer.GOOD
    assert machine.store(Entry("2", {}, None), start=False) is Answer.NOT_ACCEPTED
    assert machine.change("Abort", "1") is Answer.GOOD
    assert machine.store(Entry("2", {}, None), start=False) is Answer.GOOD
    assert machine.change("Clear", "9") is Answer.UNKNOWN
    assert machine.change("Clear", "2") is Answer.INVALID_STATE


def test_its_faults_say_yes_and_do_something_else() -> None:
    machine = JobReceiver(faults={Fault.CLAMP})
    machine.store(Entry("1", {"n": 5, "x": 100.0}, None), start=False)
    assert machine.entries["1"].parameters == {"n": 5, "x": 90.0}
    machine.faults = {Fault.STAY}
    assert (machine.change("Cancel", "1"), [*machine.entries]) == (Answer.GOOD, ["1"])
    machine.faults = {Fault.IGNORE}
    assert (machine.change("Start", "1"), machine.entries["1"].state) == (Answer.GOOD, State.NOT_ALLOWED)
    assert (machine.store(Entry("2", {}, None), start=True), [*machine.entries]) == (Answer.GOOD, ["1"])
    assert machine.update(Entry("1", {"n": 6}, None)) is Answer.GOOD
    assert machine.entries["1"].parameters["n"] == 5
    machine.faults = {Fault.REFUSE}
    assert machine.change("Start", "1") is Answer.NOT_ACCEPTED
    machine.faults = {Fault.STRANGE_STATE}
    assert machine.shown(machine.entries["1"]) == (41, "S1")


@pytest.mark.parametrize("answer", Answer)
def test_both_conventions_of_its_return_codes(answer: Answer) -> None:
    codes = {Answer.GOOD: (1, 0), Answer.UNKNOWN: (2, 1), Answer.INVALID_STATE: (8, 3), Answer.NOT_ACCEPTED: (16, 4)}
    assert (answer.code(zero_is_success=False), answer.code(zero_is_success=True)) == codes[answer]


async def test_it_runs_alone_and_answers_with_a_return_code() -> None:
    with simulator("job-control", "--capacity", "2", "--zero") as process:
        async with Client(ready(process)["ready"]["JOBS"]) as client:
            own, types = await client.get_namespace_index(URI), await client.get_namespace_index(NAMESPACE)
            receiver = client.get_node(ua.NodeId("JobControl", own))
            capacity = await receiver.get_child(f"{types}:MaxDownloadableJobOrders")
            comment = ua.Variant([ua.LocalizedText("why")], ua.VariantType.LocalizedText)
            code = await receiver.call_method(f"{types}:Start", "4711", comment)
            assert (await capacity.read_value(), code) == (2, 1)
