"""What the gate writes into the audit of each kind of operation."""

from pathlib import Path

from gateway.audit.folder import Head
from gateway.config.load import load_plant
from gateway.domain.commands.allow_list import AllowList
from gateway.domain.operations import CommandEnd, Operation, OperationResult, Purpose
from gateway.domain.values import Argument, CallResult, DataType, MethodCall, StructureArgument, TagWrite, WriteResult
from gateway.runtime.clock import SystemClock
from gateway.runtime.write_gate import AUDIT_KEY, Passage
from tests.gates import Remembered, open_gate
from tests.runtime.pressed import write_plant

FOR_C1 = Purpose(cmd="C1", type="params.download", order="4711", by="op17", action="write")


async def test_what_became_of_a_write_is_lost_with_the_link(tmp_path: Path) -> None:
    press, told = load_plant(write_plant(tmp_path, 1, 1)).devices["PRESS"], Remembered()
    gate = open_gate(SystemClock(), told)
    operation = Operation("PRESS", "1", writes=(TagWrite("PRESS.force", 1), TagWrite("PRESS.speed", 2)), purpose=FOR_C1)
    for result in (
        OperationResult("1", lost=True),
        OperationResult("1", writes=(WriteResult("PRESS.force"), WriteResult("PRESS.speed", 0x803C0000))),
    ):
        passage = await gate.admit(press, operation)
        assert isinstance(passage, Passage)
        await gate.tell_outcome(passage, result)
    _, lost, _, answered = told.entries
    assert (lost.of, lost.result, lost.changes) == (1, "lost", ())
    assert (answered.of, answered.result) == (3, "answered")
    assert [(change.tag, change.status) for change in answered.changes] == [
        ("PRESS.force", "Good"), ("PRESS.speed", "BadOutOfRange"),
    ]  # fmt: skip
    assert {(entry.cmd, entry.order, entry.by, entry.device) for entry in told.entries} == {
        ("C1", "4711", "op17", "PRESS")
    }


async def test_a_method_is_told_with_its_arguments_a_structure_as_json(tmp_path: Path) -> None:
    press, told = load_plant(write_plant(tmp_path, 1, 1)).devices["PRESS"], Remembered()
    allowed = AllowList(frozenset(), frozenset({"i=7"}))
    order = StructureArgument("i=3008", {"JobOrderID": "4711", "Priority": 3})
    call = MethodCall("i=5", "i=7", (Argument(DataType.BYTES, b"\x01\xff"), Argument(DataType.INT32, (1, 2))), order)
    gate = open_gate(SystemClock(), told)
    passage = await gate.admit(
        type(press)(press.name, press.driver, press.settings, press.tags, allowed),
        Operation("PRESS", "1", calls=(call,)),
    )
    assert isinstance(passage, Passage)
    await gate.tell_outcome(passage, OperationResult("1", calls=(CallResult(0x80AF0000),)))
    (change,) = told.entries[0].changes
    assert (change.method, change.address) == ("i=7", "i=5")
    assert change.arguments == (
        '{"type":"i=3008","fields":{"JobOrderID":"4711","Priority":3}}', "01ff", "[1, 2]",
    )  # fmt: skip
    assert [told.method for told in told.entries[1].changes] == ["i=7"]
    assert told.entries[1].changes[0].status == "BadInvalidState"


async def test_the_record_is_told_of_the_audits_end_once(tmp_path: Path) -> None:
    told = Remembered()
    gate = open_gate(SystemClock(), told)
    assert gate.checkpoint() == {}
    await gate.tell_ends([])
    assert told.entries == []
    await gate.tell_ends([CommandEnd(purpose=FOR_C1, device="PRESS", result="ACTIVE")])
    told.head = Head(1, "ab" * 32, "2026-03.jsonl", 400)
    assert list(gate.checkpoint()) == [AUDIT_KEY]
    assert gate.checkpoint() == {}
