"""A flood of commands that are rejected fills no disk: the first of a minute have their lines, the others a sum."""

from pathlib import Path

from gateway.audit.folder import AuditFolder
from gateway.audit.lines import Entry
from gateway.audit.rejections import BURST, MOST_REASONS, shortened
from gateway.audit.story import rows
from gateway.audit.trail import AuditTrail
from gateway.audit.verify import lines, verify
from gateway.domain.contract.param_events import ParamItem
from gateway.domain.operations import CommandEnd, Purpose
from gateway.runtime.write_gate import WriteGate
from tests.gates import Remembered, open_gate

MINUTE = 60_000
START = 1_000_000_000_000


class Hands:
    """A clock that the test moves."""

    rate = 1.0
    jumped = 0

    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += round(seconds * 1000)


def rejected(number: int, *codes: str, kind: str = "params.download", device: str | None = "PRESS") -> CommandEnd:
    codes = codes or ("limit",)
    return CommandEnd(
        purpose=Purpose(cmd=f"C-{number}", type=kind),
        device=device,
        result="REJECTED",
        codes=codes,
        detail=["too much"],
    )


async def flood(gate: WriteGate, hands: Hands, commands: int, per_second: int = 50) -> None:
    for number in range(commands):
        if number % per_second == 0:
            hands.at += 1_000
        await gate.tell_ends([rejected(number)])


async def test_of_a_minutes_rejections_the_first_have_lines_and_the_others_a_sum_when_it_is_over() -> None:
    hands, told = Hands(), Remembered()
    gate = open_gate(hands, told)
    await flood(gate, hands, 2_000)
    assert [entry.cmd for entry in told.entries] == [f"C-{number}" for number in range(BURST)]
    hands.at = START + 1_000 + MINUTE
    await gate.tell_ends([])
    (gathered,) = told.entries[BURST:]
    assert (gathered.kind, gathered.count, gathered.type, gathered.device, gathered.codes, gathered.result) == (
        "gathered", 1_940, "params.download", "PRESS", ("limit",), "rejected",
    )  # fmt: skip
    assert (gathered.since, gathered.t) == (START + 2_000, START + 40_000)
    assert gathered.detail[0].startswith("1940 rejected commands")
    await gate.tell_ends([rejected(3_000)])
    assert told.entries[-1].cmd == "C-3000", "the next minute has lines again"
    await gate.tell_gathered()
    assert len(told.entries) == BURST + 2, "it was told once"


async def test_an_hour_of_flood_at_the_rate_that_is_taken_is_a_few_thousand_lines() -> None:
    hands, told = Hands(), Remembered()
    gate = open_gate(hands, told)
    await flood(gate, hands, 3_600 * 50)
    await gate.tell_gathered()
    assert len(told.entries) <= 62 * (BURST + 1)
    alone = sum(entry.kind == "verdict" for entry in told.entries)
    assert alone + sum(entry.count or 0 for entry in told.entries) == 180_000, "each is told or counted"


async def test_what_is_gathered_is_parted_by_kind_device_and_first_code() -> None:
    hands, told = Hands(), Remembered()
    gate = open_gate(hands, told)
    await gate.tell_ends([rejected(number) for number in range(BURST)])
    more = [rejected(1), rejected(2, "unit"), rejected(3, "limit", "unit"), rejected(4, kind="alarm.ack")]
    await gate.tell_ends([*more, rejected(5, device=None)])
    await gate.tell_gathered()
    assert [(e.type, e.device, e.codes, e.count) for e in told.entries[BURST:]] == [
        ("params.download", "PRESS", ("limit",), 2), ("params.download", "PRESS", ("unit",), 1),
        ("alarm.ack", "PRESS", ("limit",), 1), ("params.download", None, ("limit",), 1),
    ]  # fmt: skip


async def test_what_touched_a_device_or_ended_otherwise_has_its_line_in_any_flood() -> None:
    hands, told = Hands(), Remembered()
    gate = open_gate(hands, told)
    await gate.tell_ends([rejected(number) for number in range(BURST)])
    read = CommandEnd(purpose=Purpose(cmd="R"), device="PRESS", result="REJECTED", items=[ParamItem("force", 1, None)])
    failed, done = (CommandEnd(purpose=Purpose(cmd=end), device="PRESS", result=end) for end in ("FAILED", "done"))
    await gate.tell_ends([failed, rejected(99), read, done])
    assert [entry.cmd for entry in told.entries[BURST:]] == ["FAILED", "R", "done"]


async def test_a_line_tells_twenty_reasons_at_most() -> None:
    few = Entry(kind="verdict", t=1, detail=tuple("r" * 500 for _ in range(MOST_REASONS)))
    assert shortened(few) == few
    told = Remembered()
    end = CommandEnd(purpose=Purpose(cmd="C"), device=None, result="REJECTED", detail=("x" * 9_000,) * 1_000)
    await open_gate(Hands(), told).tell_ends([end])
    (many,) = told.entries
    assert len(many.detail) == MOST_REASONS + 1
    assert many.detail[0] == "x" * 500
    assert many.detail[-1] == "980 more reasons are in the answer"


async def test_the_chain_with_sums_in_it_verifies_and_reads_as_a_story(tmp_path: Path) -> None:
    hands, folder = Hands(), AuditFolder(tmp_path / "gateway.db.audit")
    async with AuditTrail(folder, folder.end, hands.now) as trail:
        gate = WriteGate(Remembered(), trail, hands)
        await gate.tell_ends([rejected(number) for number in range(BURST + 5)])
        await gate.tell_gathered()
    verified = verify(folder, [folder.end])
    assert (verified.lines, verified.flaw, verified.notes) == (BURST + 1, None, ())
    *_, last = rows(lines(folder))
    assert (last.kind, last.result, last.device, last.is_bad) == ("gathered", "rejected", "PRESS", True)
    assert last.detail.startswith("5 rejected commands")
