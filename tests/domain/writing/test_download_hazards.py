"""What can go wrong around a download besides the machine: old answers, words of bits, locks, new configurations."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.domain.operations import OperationResult
from gateway.domain.tags.conversion import Conversion, to_raw
from gateway.domain.values import DataType, TagChange
from tests.domain.profile_cell import Cell
from tests.domain.profile_machines import NEW, OLD, ProfileMachine, yaml_of
from tests.domain.writing.test_download import ready

UNECHOED = tuple((f"readback: {name}_now, ", "") for name in OLD)


def test_a_machine_whose_server_cannot_tell_yet_after_a_cut_is_asked_again(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "sequence_number", edits=UNECHOED)
    cell.download()
    cell.play(until=3)
    assert cell.machine.active == NEW
    cell.break_link()
    look = cell.stage.operations.pop(0)
    reads = tuple(TagChange(tag, None, 0x80320000) for tag in look.reads)
    cell.stage.core.handle_operation(OperationResult(look.token, reads), cell.stage.now)
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())


def test_a_request_that_is_lost_on_a_link_that_stays_up_is_followed_by_another_look(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "sequence_number")
    cell.download()
    cell.play(until=2)
    operation = cell.stage.operations.pop(0)
    cell.machine.answer(operation)
    cell.stage.core.handle_operation(OperationResult(operation.token, lost=True), cell.stage.now)
    began = cell.stage.now
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())
    assert cell.stage.now - began < 3_000


def test_a_link_that_breaks_at_every_try_ends_in_doubt_and_not_never(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "sequence_number", extra="      contact_timeout: 60s\n")
    cell.download()
    cell.play(until=2)
    began = cell.stage.now
    while not cell.outcomes and cell.stage.now < began + 200_000:
        cell.break_link(10)
        cell.stage.core.handle_deadline(cell.stage.now)
        cell.stage.commit()
    assert cell.check_truth() == ("FAILED", ("in_doubt",))
    assert cell.stage.now - began <= 80_000


@pytest.mark.parametrize(
    ("changed", "moment", "ends"),
    [
        (lambda text: "\n".join(x for x in text.split("\n") if "oven_now, min" not in x), 2, ("reconfigured", "in_doubt")),
        (lambda text: yaml_of("none"), 2, ("reconfigured", "in_doubt")),
        (lambda text: text[: text.index("    order:")], 2, ("reconfigured", "in_doubt")),
        (lambda text: yaml_of("none"), 0, ("reconfigured",)),
    ],
    ids=["parameter gone", "other handshake", "section gone", "before the first value"],
)  # fmt: skip
def test_a_configuration_that_was_changed_under_a_download_ends_it_by_name(
    tmp_path: Path, changed: Any, moment: int, ends: tuple[str, ...]
) -> None:
    cell = Cell(tmp_path, "sequence_number")
    cell.download()
    cell.play(until=moment)
    cell.stage.operations.clear()
    file = tmp_path / "plant.yaml"
    file.write_text(changed(file.read_text(encoding="utf-8")), encoding="utf-8")
    cell.stage.plant = load_plant(tmp_path)
    cell.stage.kill_and_restart("06:01:00")
    cell.stage.pass_time("06:01:01")
    assert cell.check_truth() == ("FAILED" if moment else "REJECTED", ends)
    assert "the configuration of this machine was changed" in cell.stage.answers[-1].detail[0]


BITS = tuple(
    (f"{name}: {{node: s={name}, type: bool}}", f"{name}: {{node: s=word, type: uint16, bit: {bit}}}")
    for name, bit in (("acknowledged", 2), ("done", 3))
)


@pytest.mark.parametrize(
    ("word", "ends"),
    [(0b1100, ("ACTIVE", ())), (0b0001, ("FAILED", ("ack_timeout",)))],
    ids=["its bits", "another bit"],
)
def test_an_answer_may_be_a_bit_of_a_word_and_only_that_bit_counts(tmp_path: Path, word: int, ends: Any) -> None:
    def scan(machine: ProfileMachine) -> None:
        up = machine.memory["request"]
        machine.memory |= dict.fromkeys(("acknowledged", "done"), word if up else 0)
        if up and word == 0b1100:
            machine.take()

    cell = Cell(tmp_path, "request_bits", edits=BITS, behaves=scan, acknowledged=0, done=0)
    cell.download()
    cell.play()
    assert cell.check_truth() == ends


def test_what_is_read_back_may_have_another_scale_and_type(tmp_path: Path) -> None:
    def scan(machine: ProfileMachine) -> None:
        machine.memory |= {"speed_now": machine.memory["speed_set"], "oven_now": machine.memory["oven_set"] / 10}

    edits = (
        ("oven_set: {node: s=oven_set, type: int32}", "oven_set: {node: s=oven_set, type: int32, scale: 0.1}"),
        ("oven_now: {node: s=oven_now, type: int32}", "oven_now: {node: s=oven_now, type: float32}"),
    )
    cell = Cell(tmp_path, "none", edits=edits, behaves=scan)
    cell.download(values={"oven": 175})
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]
    ((_, told),) = cell.stage.told("param.result")
    assert (cell.machine.memory["oven_set"], told["items"][0]["rb"]) == (1750, 175.0)


@pytest.mark.parametrize("held", [12.5, 2**40, None, float("nan")])
def test_a_buffer_that_holds_what_it_cannot_is_left_alone(tmp_path: Path, held: Any) -> None:
    cell = Cell(tmp_path, "recipe_buffer", behaves=lambda machine: None, oven_set=held)
    cell.download(values={"speed": 120})
    cell.play()
    assert cell.outcomes == [("REJECTED", ("unreadable",))]
    assert cell.machine.written == []


def test_a_number_of_hundreds_of_digits_is_refused_and_the_gateway_lives(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "none")
    cell.download(values={"speed": 10**400})
    assert (cell.stage.answers[-1].codes, cell.machine.written) == (("malformed",), [])


def test_whole_numbers_of_64_bits_are_written_as_they_are() -> None:
    for data_type, value in ((DataType.INT64, 2**53 + 1), (DataType.UINT64, 2**64 - 1), (DataType.INT64, -(2**63))):
        assert to_raw(value, Conversion(data_type)) == value
    with pytest.raises(ValueError, match="digits"):
        to_raw(10**400, Conversion(DataType.FLOAT64))


REMOTE = {
    "extra": '      conditions: {remote_mode: "remote"}\n      permit: "permit"\n',
    "edits": (("    tags:\n", "    tags:\n" + "".join(f"      {n}: {{node: s={n}, type: bool}}\n" for n in ("remote", "permit"))),),
}  # fmt: skip


def test_what_must_hold_is_looked_at_again_when_the_permit_comes(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "none", **REMOTE, remote=True, permit=False)
    cell.download()
    cell.machine.memory |= {"remote": False, "permit": True}
    cell.show()
    assert (cell.stage.operations, cell.outcomes) == ([], [])
    cell.machine.memory["remote"] = True
    cell.show()
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())


def test_a_permit_that_was_taken_back_during_a_cut_is_waited_for_again(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "none", **REMOTE, remote=True, permit=True)
    cell.download()
    cell.machine.memory["permit"] = False
    cell.break_link()
    cell.play(seconds=20)
    assert (cell.machine.written, cell.outcomes) == ([], [])
    cell.machine.memory["permit"] = True
    cell.show()
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())


def test_a_request_that_the_machine_has_dropped_meanwhile_is_not_answered(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "machine_pull")
    cell.download()
    cell.machine.memory["request"] = False
    cell.play()
    assert cell.check_truth() == ("REJECTED", ("not_asked",))
    assert {name for name, _ in cell.machine.written} == {"refused"}, "told before that nothing was there for it"


@pytest.mark.parametrize("profile", ["sequence_number", "request_bits"])
def test_a_machine_that_shows_nothing_and_confirms_nothing_is_not_said_to_be_as_before(
    tmp_path: Path, profile: str
) -> None:
    cell = Cell(tmp_path, profile, "deaf", edits=UNECHOED)
    cell.download()
    cell.play()
    assert cell.check_truth() == ("FAILED", ("ack_timeout", "rollback_failed"))
    assert "the machine did not say that it took the old values back" in cell.stage.answers[-1].detail


def test_a_number_that_the_machine_has_not_answered_is_waited_for_and_then_taken_back(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "sequence_number", "deaf", command=8, acknowledged=7)
    cell.download()
    cell.play(until=3)
    assert cell.machine.writes_of("speed_set") == [], "the machine has a second to answer the 8 before it"
    cell.machine.faults = frozenset()
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())
    assert cell.machine.writes_of("command")[-1] == cell.machine.memory["acknowledged"]


def test_a_dispatched_set_that_the_machine_can_never_take_is_told_once() -> None:
    stage = ready()
    items = [{"name": "oven_sp", "value": 999.0, "unit": "Cel"}]
    stage.command("params.release", cmd="R-1", sets=[{"set": "PS-L", "rev": "A", "items": items}])
    ops = [{"op": "0020", "eq": "LBL01", "set": "PS-L", "rev": "released"}]
    stage.command("dispatch.order", cmd="D-1", order="4711", qty=10, ops=ops, auto_download={"when": ["IDLE", "SETUP"]})
    for second in range(40, 45):
        stage.show("LBL01", f"06:06:{second}", word=0b10100000)
    ((_, result),) = stage.told("param.result")
    assert (result["cmd"], result["result"], result["codes"]) == ("auto:4711:0020:1", "REJECTED", ("limit",))


def test_a_machine_that_asks_while_it_may_not_be_given_gets_its_set_once_it_may(tmp_path: Path) -> None:
    extra, edits = (
        '      conditions: {remote_mode: "remote"}\n',
        (("    tags:\n", "    tags:\n      remote: {node: s=remote, type: bool}\n"),),
    )
    cell = Cell(tmp_path, "machine_pull", extra=extra, edits=edits, remote=True)
    cell.download(order="4711")
    cell.play()
    cell.stage.events.clear()
    for remote in (False, True):
        cell.machine.memory |= {"request": True, "remote": remote}
        cell.stage.now += 1_000
        cell.show()
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("oven: {tag: oven_set", "oven: {tag: speed_set"), "speed_set is used twice: for parameters > oven and for parameters > speed"),
        (("speed: {tag: speed_set", "speed: {tag: command"), "command is used twice"),
        (('"acknowledged":"acknowledged"', '"acknowledged":"command"'), "command is used twice: for handshake > command and for handshake > acknowledged"),
    ],
)  # fmt: skip
def test_a_tag_that_is_written_has_one_meaning(tmp_path: Path, edit: tuple[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match="used twice") as caught:
        Cell(tmp_path, "sequence_number", edits=(edit,))
    assert any(says in str(problem) for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("profile", ["packml", "scada_trigger"])
def test_a_handshake_that_proves_nothing_needs_tags_that_do(tmp_path: Path, profile: str) -> None:
    with pytest.raises(ConfigError, match="alone does not tell that a value was taken"):
        Cell(tmp_path, profile, edits=UNECHOED)
