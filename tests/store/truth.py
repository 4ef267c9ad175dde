"""A record that has lived, and what is known of it: the truth that a salvage is held against."""

import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.domain.uplink import SalvagedRecord
from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.salvaging.integrity import log_of
from gateway.store.store import Store

Copies = dict[int, tuple[bytes, int]]
"""By row id: payload and condition."""


class Content(NamedTuple):
    """What is in a record. `numbers`: of each event, by row id, equipment and number."""

    rows: Copies
    numbers: dict[int, tuple[str, int]]
    memory: dict[str, bytes]
    answers: set[str]
    tallies: dict[str, int]
    last_id: int


class Truth(NamedTuple):
    """What was in a record when it was left; `ever`: the payload of every message that ever was in it."""

    left: Content
    ever: dict[int, bytes]


class Opened(NamedTuple):
    """What a start made of it."""

    told: SalvagedRecord | None
    epoch: str
    unaccounted: int
    content: Content


def message(number: int, dice: random.Random) -> OutboxMessage:
    """Four machines; every fifth message is a run parameter's, some are answers, a few are of several pages."""
    machine = f"S/A/L/M{number % 4}"
    kind, topic = ("tel", "tel") if number % 5 == 0 else ("res", "res/order") if number % 50 == 7 else ("evt", "evt/s")
    length = 12_000 if dice.random() < 0.02 else dice.randint(20, 250)
    text = {"epoch": "first", "eq": machine, "seq": number, "data": dice.randbytes(length).hex()}
    equipment, seq = (None, 0) if kind == "res" else (machine, number)
    return OutboxMessage(f"mfg/v1/{machine}/{topic}", msgspec.json.encode(text), kind, equipment, seq)  # type: ignore[arg-type]


async def make(path: Path, *, rounds: int, seed: int = 1, merged: bool = True) -> Truth:
    """A record with a life behind it: published, forgotten, put aside, queued again; 100 messages a round.

    Not `merged`: what it committed last is in its log alone, as after a crash.
    """
    dice, ever, alive = random.Random(seed), dict[int, bytes](), path.with_name("alive.db")
    async with Store(alive, new_epoch="first") as store:
        connection = store._file._connection
        for at in range(1, rounds + 1):
            messages = [message(100 * at + place, dice) for place in range(100)]
            memory = {f"S/A/L/M{at % 7}": msgspec.json.encode({"at": at, "x": dice.randbytes(400).hex()})}
            answers = [StoredAnswer(f"C{at}", at, b'{"ok":true}', b'{"corr":"m"}' if at % 2 else None)]
            await store.commit(
                Transaction(messages=messages, at=at, checkpoints={**memory}, answers=answers, retained=memory)
            )
            ever |= await store._run(lambda: dict(connection.execute("SELECT id, payload FROM outbox")))
            if at % 2 == 0:
                waiting = [row.id for row in await store.unpublished(0, 10_000)]
                await store.mark_published(waiting[: len(waiting) * 3 // 4], at)
                await store.quarantine(waiting[-1], "Not authorized", at)
            if at % 7 == 0:
                await store.requeue(None)
                ever |= await store._run(lambda: dict(connection.execute("SELECT id, payload FROM outbox")))
            if at % 5 == 0:
                await store.forget_published(at // 3)
        if not merged:
            copy(alive, path)
    if merged:
        copy(alive, path)
    for left in path.parent.glob("alive.db*"):
        left.unlink()
    return Truth(read(path), ever)


def copy(path: Path, to: Path) -> None:
    """The file, and its log if there is one."""
    shutil.copy(path, to)
    if log_of(path).exists():
        shutil.copy(log_of(path), log_of(to))


def read(path: Path) -> Content:
    """What SQLite reads of a whole record; of a copy, for reading merges the log."""
    with tempfile.TemporaryDirectory() as folder:
        copy(path, Path(folder) / "copy.db")
        with closing(sqlite3.connect(Path(folder) / "copy.db")) as connection:
            return content(connection)


def content(connection: sqlite3.Connection) -> Content:
    """What the tables hold."""
    numbers = (
        "SELECT o.id, s.equipment, o.seq FROM outbox o JOIN stream s ON s.id = o.stream WHERE o.critical AND o.seq > 0"
    )
    (last_id,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    return Content(
        {row: (payload, as_it) for row, payload, as_it in connection.execute("SELECT id, payload, condition FROM outbox")},
        {row: (equipment, seq) for row, equipment, seq in connection.execute(numbers)},
        dict(connection.execute("SELECT key, value FROM checkpoint")),
        {cmd for (cmd,) in connection.execute("SELECT cmd FROM answer")},
        dict(connection.execute("SELECT key, value FROM tally WHERE value <> 0")),
        last_id,
    )  # fmt: skip


async def start(path: Path) -> Opened:
    """Open it as the daemon does, twice if the first time only finds out that it is damaged."""
    async with Store(path, new_epoch="second") as store:
        found = await store._run(lambda: content(store._file._connection))
        return Opened(store.salvaged, store.epoch, store.statistics.unaccounted, found)


def rows_of(ranges: tuple[tuple[int, int | None], ...]) -> set[int]:
    """The row ids of the ranges that have an end."""
    return {row for first, last in ranges if last is not None for row in range(first, last + 1)}


def judge(truth: Truth, found: Opened) -> set[int]:
    """What must hold whatever was damaged: all is there as it was, or told. Returns the rows that are lost."""
    left, now = truth.left, found.content
    lost = left.rows.keys() - now.rows.keys()
    wrong = {row for row, (payload, _) in now.rows.items() if truth.ever.get(row) != payload}
    assert not wrong, "nothing that was never committed"
    assert found.unaccounted == 0
    if found.told is None:
        assert not lost
        return lost
    told = rows_of(found.told.lost_rows)
    ends = [first for first, last in found.told.lost_rows if last is None]
    assert {row for row in lost if not any(row >= end for end in ends)} <= told, "every loss is told"
    forgotten = [row for row, (_, condition) in left.rows.items() if condition == 0 and now.rows.get(row, (b"", 0))[1]]
    assert not forgotten, "what no broker has is not taken for sent"
    if not found.told.new_epoch:
        assert (found.epoch, now.memory) == ("first", left.memory)
    _judge_numbers(left, lost, found)
    return lost


def _judge_numbers(left: Content, lost: set[int], found: Opened) -> None:
    """Lost events are told by number; behind the newest only where the epoch is a new one, or the hole shows itself."""
    assert found.told is not None
    there = [found.content.numbers[row] for row in found.content.numbers]
    newest = {equipment: max(seq for other, seq in there if other == equipment) for equipment, _ in there}
    for row in lost & left.numbers.keys():
        equipment, seq = left.numbers[row]
        is_told = any(
            one.equipment == equipment and one.from_seq <= seq <= (seq if one.to_seq is None else one.to_seq)
            for one in found.told.lost
        )
        assert is_told or (seq > newest.get(equipment, 0) and not found.told.new_epoch) or equipment not in newest
