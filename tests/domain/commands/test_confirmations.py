"""A machine of which nobody knows what it holds, after a person has looked at it: params.confirm."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_plant
from gateway.domain.contract.envelope import Answer
from gateway.domain.operations import OperationResult
from gateway.domain.values import TagChange
from simulators.models.job_control import Fault
from tests.domain.job_machine import JobMachine
from tests.domain.profile_cell import Cell
from tests.domain.profile_machines import NEW

M1 = "ACME/HZ/A/L1/M1"
BAD = 0x80000000


def lost(folder: Path, **more: Any) -> Cell:
    """A download that could not be taken back: the machine clamps one value and refuses the old one of the other."""
    cell = Cell(folder, "none", "clamp speed", "refuse oven_set 1700", **more)
    cell.download()
    cell.play()
    assert cell.outcomes == [("FAILED", ("readback", "write_refused", "rollback_failed"))]
    cell.machine.faults = frozenset()
    cell.stage.events.clear()
    cell.machine.written.clear()
    return cell


def confirm(cell: Cell, cmd: str = "K-1", **more: Any) -> Answer:
    """The first answer."""
    return cell.stage.command("params.confirm", **{"cmd": cmd, "eq": "M1", "by": "op17", **more})[0]


def test_what_the_machine_holds_is_read_and_told_and_the_alarm_is_over(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    cell.machine.memory |= {"oven_set": 1_733, "oven_now": 1_733}  # somebody has turned it at the machine
    assert confirm(cell, corr="shift-2").answer == "accepted"
    assert cell.stage.told("alarm.cleared") == [], "nothing is over before it is read"
    cell.perform()
    done = cell.stage.answers[-1]
    assert (done.cmd, done.answer, done.final, done.codes) == ("K-1", "done", True, ())
    assert done.detail == ("speed is 100", "oven is 1733")
    ((_, cleared),) = cell.stage.told("alarm.cleared")
    assert cleared["code"] == "ROLLBACK_FAILED"
    assert [event.corr for event in cell.stage.events if event.type == "alarm.cleared"] == ["shift-2"]
    assert cell.stage.retained[M1, "params"] == {"set": None, "rev": None, "items": {"speed": 100, "oven": 1733}}
    assert cell.machine.written == []
    (end,) = [end for end in cell.stage.ends if end.purpose.cmd == "K-1"]
    assert (end.purpose.by, end.purpose.action, end.result) == ("op17", "confirm", "done")
    assert [(item.n, item.rb) for item in end.items] == [("speed", 100), ("oven", 1733)]


def test_after_that_a_dispatched_order_brings_its_set_down_by_itself_again(tmp_path: Path) -> None:
    state = '    state: {rules: [{to: IDLE, when: "speed_now < 500"}], debounce: 0s}\n    order:'
    cell = lost(tmp_path, edits=(("    order:", state),))
    items = [{"name": name, "value": value} for name, value in NEW.items()]
    cell.stage.command("params.release", cmd="R-1", sets=[{"set": "S", "rev": "B", "items": items}])
    ops = [{"op": "10", "eq": "M1", "set": "S", "rev": "released"}]
    automatic = {"when": ["IDLE"]}
    cell.stage.command("dispatch.order", cmd="D-1", order="4712", qty=1, ops=ops, auto_download=automatic)
    cell.stage.now += 10_000
    cell.show()
    assert cell.stage.operations == []
    confirm(cell, by=" op17 ")
    cell.perform()
    assert cell.stage.ends[-1].purpose.by == "op17"
    cell.stage.now += 10_000
    cell.show()
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]
    assert confirm(cell, "K-2").codes == ("nothing_unknown",)


def test_a_machine_that_nobody_doubts_has_nothing_to_confirm(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "none")
    refused = confirm(cell)
    assert (refused.answer, refused.codes, cell.stage.operations) == ("rejected", ("nothing_unknown",), [])
    assert [end.result for end in cell.stage.ends] == ["rejected"]


def test_a_person_is_named_and_the_machine_is_known_and_in_reach(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    assert confirm(cell, by=" ").codes == ("malformed",)
    assert confirm(cell, eq="M9").codes == ("unknown_equipment",)
    cell.stage.disconnect("M1", "06:05:00")
    assert confirm(cell, "K-2").codes == ("no_contact",)
    assert cell.stage.told("alarm.cleared") == []


def test_while_the_machine_is_read_no_download_and_no_second_confirmation_begins(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    confirm(cell)
    assert confirm(cell, "K-2").codes == ("under_way",)
    cell.download("C2")
    assert cell.stage.answers[-1].codes == ("active_download",)
    cell.perform()
    assert [answer.answer for answer in cell.stage.answers if answer.cmd == "K-1"] == ["accepted", "done"]


def test_while_a_download_is_under_way_nothing_is_confirmed(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    cell.download("C2")
    assert confirm(cell).codes == ("active_download",)


@pytest.mark.parametrize(
    ("reads", "is_lost", "code"), [((110, 0, None, BAD), False, "unreadable"), ((110, 0, 1733, 0), True, "link_lost")]
)
def test_a_machine_that_cannot_be_read_stays_in_doubt(tmp_path: Path, reads: Any, is_lost: bool, code: str) -> None:
    cell = lost(tmp_path)
    confirm(cell)
    operation = cell.stage.operations.pop()
    assert operation.reads == ("M1.speed_now", "M1.oven_now")
    shown = [TagChange(tag, reads[2 * n], reads[2 * n + 1]) for n, tag in enumerate(operation.reads)]
    result = OperationResult(operation.token, () if is_lost else tuple(shown), lost=is_lost)
    cell.stage.core.handle_operation(result, cell.stage.now)
    cell.stage.commit()
    assert (cell.stage.answers[-1].answer, cell.stage.answers[-1].codes) == ("failed", (code,))
    assert (cell.stage.ends[-1].result, cell.stage.ends[-1].codes) == ("failed", [code])
    assert cell.stage.told("alarm.cleared") == []
    told = len(cell.stage.answers)
    cell.stage.kill_and_restart("06:10:00")
    cell.stage.connect("M1")
    cell.show()
    assert len(cell.stage.answers) == told, "it was answered for good"
    assert confirm(cell, "K-2").answer == "accepted"


def test_a_gateway_that_dies_while_it_reads_answers_once_and_the_machine_stays_in_doubt(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    confirm(cell)
    token = cell.stage.operations[0].token
    cell.stage.operations.clear()
    cell.stage.kill_and_restart("06:10:00")
    deadline = cell.stage.core.next_deadline()
    assert deadline is not None
    assert deadline <= cell.stage.now
    cell.stage.pass_time("06:10:01")
    cell.stage.connect("M1")
    assert [(a.answer, a.codes) for a in cell.stage.answers if a.cmd == "K-1" and a.final] == [
        ("failed", ("interrupted",))
    ]
    confirm(cell, "K-2")
    answered = len(cell.stage.answers)
    cell.stage.core.handle_operation(OperationResult(token), cell.stage.now)  # of the life before
    cell.stage.commit()
    assert (len(cell.stage.answers), cell.stage.told("alarm.cleared")) == (answered, [])
    cell.perform()
    assert cell.stage.answers[-1].answer == "done"
    assert len(cell.stage.told("alarm.cleared")) == 1


def test_a_machine_that_lost_its_download_section_can_be_confirmed_too(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    plant = tmp_path / "plant.yaml"
    text = plant.read_text(encoding="utf-8")
    plant.write_text(text[: text.index("    order:")], encoding="utf-8")
    cell.stage.plant = load_plant(tmp_path)
    cell.stage.kill_and_restart("06:10:00")
    assert confirm(cell).answer == "accepted"
    assert cell.stage.answers[-1].detail == ("op17 has looked at it; it has no parameters that can be read",)
    assert len(cell.stage.told("alarm.cleared")) == 1


def test_values_are_read_where_the_machine_shows_them_and_told_in_the_unit_that_people_know(tmp_path: Path) -> None:
    edits = (
        ("equipment:", "  PLC: {driver: opcua, url: 'opc.tcp://127.0.0.1:4841', namespace: urn:p, security: none}\nequipment:"),
        ("speed_now: {node: s=speed_now, type: int32}", "speed_now: {device: PLC, node: s=speed_now, type: int32, scale: 0.1}"),
        ("oven_now: {node: s=oven_now, type: int32}", "oven_now: {device: PLC, node: s=oven_now, type: int32}"),
    )  # fmt: skip
    cell = Cell(tmp_path, "none", edits=edits)
    cell.stage.connect("PLC")
    cell.download()
    cell.play()
    assert "rollback_failed" in cell.outcomes[0][1]
    assert confirm(cell).answer == "accepted"
    assert [operation.device for operation in cell.stage.operations] == ["PLC"]
    cell.perform()
    assert cell.stage.answers[-1].detail == ("speed is 10.0", "oven is 1700")


def test_a_machine_that_takes_job_orders_has_nothing_to_read_and_is_confirmed_at_once(tmp_path: Path) -> None:
    machine = JobMachine(tmp_path, faults={Fault.CLAMP, Fault.STAY})
    machine.download()
    machine.settle()
    assert machine.results() == [("FAILED", ("readback", "rollback_failed"), None)]
    answers = machine.stage.command("params.confirm", cmd="K-1", eq="M1", by="op17")
    assert [answer.answer for answer in answers] == ["accepted", "done"]
    assert machine.stage.operations == []
