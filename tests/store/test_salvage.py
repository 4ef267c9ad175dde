"""Damaged records: what can be read goes on, what cannot is named exactly, and the damaged file is kept (R20, D7)."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.uplink import SalvagedRecord
from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.salvaging.integrity import mark, marked
from gateway.store.schema import StoreDamaged, StoreError
from gateway.store.store import Store
from tests.stopwatch import Stopwatch

EVENTS = 4_000
MEMORY = msgspec.json.encode({"sequence": {"events": 800}, "lanes": {"A": {"sequence": {"events": 7}}}, "state": "RUN"})


def message(number: int) -> OutboxMessage:
    """Numbers count over five machines; every tenth is a run parameter's."""
    machine, seq = f"S/A/L/M{number % 5}", number // (10 if number % 5 == 4 else 5) + 1
    kind, topic = ("tel", "tel") if number % 10 == 9 else ("evt", "evt/state")
    text = {"epoch": "first", "eq": machine, "seq": seq, "data": f"{number:06}" + "x" * 400}
    return OutboxMessage(f"mfg/v1/{machine}/{topic}", msgspec.json.encode(text), kind, machine, seq)  # type: ignore[arg-type]


class Committed(NamedTuple):
    """What the checker knows of the record that it made."""

    payloads: dict[int, bytes]
    queued: set[int]


async def fill(path: Path, events: int = EVENTS) -> Committed:
    """Half of it published; the run parameters among those are gone, as they should be."""
    async with Store(path, new_epoch="first") as store:
        for start in range(0, events, 500):
            await store.commit(
                Transaction(
                    messages=[message(number) for number in range(start, start + 500)], at=1_700_000_000_000 + start,
                    checkpoints={"S/A/L/M0": MEMORY, "telemetry": b'{"S/A/L/M4":80}'},
                    retained={"now/state": b"RUN"}, answers=[StoredAnswer(f"C{start}", start, b"{}")],
                )
            )  # fmt: skip
        await store.mark_published(range(1, events // 2 + 1), at=1_700_000_100_000)
    everything = {number + 1: message(number).payload for number in range(events)}
    gone = {number for number in range(1, events // 2 + 1) if number % 10 == 0}
    kept = {number: payload for number, payload in everything.items() if number not in gone}
    return Committed(kept, {number for number in kept if number > events // 2})


class Found(NamedTuple):
    """What is in the record after it was opened."""

    payloads: dict[int, bytes]
    queued: list[int]
    told: SalvagedRecord | None
    epoch: str
    unaccounted: int
    memory: dict[str, bytes]
    seconds: float


async def opened(path: Path) -> Found:
    with Stopwatch() as watch:
        store = await Store(path, new_epoch="second").__aenter__()
    try:
        rows = await store._run(
            lambda: store._file._connection.execute("SELECT id, payload FROM outbox ORDER BY id").fetchall()
        )
        queued = [row.id for row in await store.unpublished(0, 1_000_000)]
        found = Found(
            dict(rows), queued, store.salvaged, store.epoch, store.statistics.unaccounted, await store.checkpoints(),
            watch.seconds,
        )  # fmt: skip
    finally:
        await store.__aexit__(None, None, None)
    return found


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def rows_of(ranges: tuple[tuple[int, int | None], ...]) -> set[int]:
    return {number for first, last in ranges if last is not None for number in range(first, last + 1)}


def judge(committed: Committed, found: Found) -> set[int]:
    """Whatever was committed is there, byte for byte, or told as lost; returns what is lost."""
    lost = committed.payloads.keys() - found.payloads.keys()
    assert found.payloads == {number: committed.payloads[number] for number in committed.payloads.keys() - lost}
    assert found.queued == sorted(committed.queued - lost), "in order"
    assert found.unaccounted == 0
    return lost


# --- R20 ----------------------------------------------------------------------------------------------------------


@pytest.mark.case("D7")
async def test_r20_forty_kilobytes_overwritten_in_the_middle_cost_exactly_what_is_told(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "record.db"
    committed = await fill(path)
    damaged = bytearray(path.read_bytes())
    middle = damaged.index(b'"003000') // 8192 * 8192
    damaged[middle : middle + 40_960] = random.Random(1).randbytes(40_960)
    path.write_bytes(damaged)
    mark(path, "a message is not as it was written")
    found = await opened(path)
    lost = judge(committed, found)
    assert found.told is not None
    assert rows_of(found.told.lost_rows) == lost, "the ranges told are those that the checker knows"
    numbers = {
        (one.equipment, one.stream, seq)
        for one in found.told.lost
        for seq in range(one.from_seq, (one.to_seq or 0) + 1)
    }
    events = [message(row - 1) for row in lost if message(row - 1).kind == "evt"]
    assert numbers == {(event.equipment, event.kind, event.seq) for event in events}
    assert 0 < len(lost) < 150
    assert (found.epoch, found.memory["S/A/L/M0"], found.told.new_epoch) == ("first", MEMORY, False)
    assert found.seconds < 10
    (aside,) = tmp_path.glob("record.db.damaged-*Z")
    assert aside.read_bytes() == damaged, "the evidence is kept"
    assert marked(path) is None
    record_property(
        "figure",
        f"{len(lost)} of {EVENTS} lost in {len(found.told.lost_rows)} ranges, all named, {found.seconds:.1f} s",
    )


async def test_r20_a_file_whose_first_40_kb_are_gone_keeps_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    committed = await fill(path)
    overwrite(path, 0, bytes(40_960))
    found = await opened(path)
    assert judge(committed, found) == set(), "what was there are the schema and the roots of the trees"
    assert found.told is not None
    assert (found.told.lost_rows, found.told.lost) == ((), ())
    assert (found.epoch, found.told.new_epoch, found.memory["S/A/L/M0"]) == ("first", False, MEMORY)
    assert list(tmp_path.glob("record.db.damaged-*Z"))


@pytest.mark.parametrize("keep", [0.3, 0.7])
async def test_r20_a_file_that_ends_too_early_keeps_what_is_before_its_end(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "record.db"
    committed = await fill(path)
    os.truncate(path, int(path.stat().st_size * keep) // 8192 * 8192)
    found = await opened(path)
    lost = judge(committed, found)
    assert found.told is not None
    assert lost <= rows_of(found.told.lost_rows)
    assert 0.2 < len(lost) / len(committed.payloads) < 0.9
    assert found.told.new_epoch or found.memory


@pytest.mark.case("D6")
async def test_r20_without_its_log_the_newest_commits_are_told_as_lost_and_no_number_comes_twice(
    tmp_path: Path,
) -> None:
    """The process is killed, and its log deleted: SQLite alone would say nothing, and give the numbers again."""
    path = tmp_path / "record.db"
    child = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as out:
        assert out.readline() == b"committed\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    path.with_name("record.db-wal").unlink()
    found = await opened(path)
    assert found.told is not None
    ((first, last),) = found.told.lost_rows
    assert (first, last) == (max(found.payloads, default=0) + 1, None)
    assert first <= EVENTS + 500
    assert (found.epoch, found.told.new_epoch, found.unaccounted) == ("second", True, 0)
    if found.memory:
        assert msgspec.json.decode(found.memory["S/A/L/M0"]) == {
            "sequence": {}, "lanes": {"A": {"sequence": {}}}, "state": "RUN",
        }  # fmt: skip
        assert found.memory["telemetry"] == b"{}"
    again = await opened(path)
    assert (again.told, again.epoch) == (None, "second"), "said once"


async def test_r20_an_empty_file_where_a_record_was_is_told(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    path.touch()
    found = await opened(path)
    assert found.told is not None
    assert (found.told.reason, found.told.lost_rows, found.epoch) == ("its file was empty", ((1, None),), "second")


async def test_a_record_that_was_closed_needs_no_log_and_one_that_was_killed_has_it(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await fill(path, 500)
    assert not path.with_name("record.db-wal").exists()
    assert (await opened(path)).told is None


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 60_000)), min_size=1, max_size=4), st.randoms())
def test_r20_whatever_is_overwritten_nothing_comes_out_that_was_not_committed_and_every_loss_is_told(
    wounds: list[tuple[float, int]], dice: random.Random
) -> None:
    async def play(path: Path) -> None:
        committed = COMMITTED[0]
        size = path.stat().st_size
        for place, length in wounds:
            at = int(place * (size - 1))
            overwrite(path, at, dice.randbytes(min(length, size - at)))
        mark(path, "for the test")
        found = await opened(path)
        assert found.told is not None
        lost = judge(committed, found)
        told = found.told.lost_rows
        assert lost <= rows_of(told) | {row for first, last in told if last is None for row in lost if row >= first}

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(whole(), Path(folder) / "record.db")
        asyncio.run(play(Path(folder) / "record.db"))


COMMITTED: list[Committed] = []


def whole() -> Path:
    """One record for all examples, made once."""
    path = Path(tempfile.gettempdir()) / f"salvage-{os.getpid()}.db"
    if not COMMITTED:
        COMMITTED.append(asyncio.run(fill(path, 2_000)))
    return path


# --- how damage is noticed ----------------------------------------------------------------------------------------


async def test_a_message_whose_bytes_changed_is_not_published_and_the_next_start_salvages(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    committed = await fill(path)
    text = path.read_bytes()
    overwrite(path, text.index(b'"002500'), b'"002599')
    async with Store(path, new_epoch="second") as store:
        assert store.salvaged is None, "a start does not read everything"
        with pytest.raises(StoreDamaged, match=r"message 2501 for .* is not as it was written; what can be read"):
            await store.unpublished(0, 10_000)
    found = await opened(path)
    assert judge(committed, found) == {2501}
    assert found.told is not None
    assert "message 2501" in found.told.reason


async def test_a_page_that_makes_no_sense_ends_the_store_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await fill(path)
    overwrite(path, path.read_bytes().index(b'"003000') // 8192 * 8192, bytes(8192))
    async with Store(path, new_epoch="second") as store:
        with pytest.raises(StoreDamaged, match=r"record\.db is damaged: database disk image is malformed; what can be"):
            await store.unpublished(0, 10_000)
    assert marked(path) is not None


async def test_a_file_of_somebody_else_is_not_moved_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    path.write_text("devices: {}\n" * 1_000)
    with pytest.raises(StoreError, match="is not a record of this gateway"):
        await opened(path)
    assert [file.name for file in tmp_path.iterdir()] == ["record.db"]


@pytest.mark.parametrize("torn", [0, 100, 8192])
async def test_a_database_of_somebody_else_is_left_alone_torn_or_not(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "record.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, topic TEXT, payload BLOB)")
        connection.executemany("INSERT INTO events VALUES (?, 'a/b', ?)", [(n, b'{"seq":1}' * 50) for n in range(500)])
        connection.commit()
    overwrite(path, 0, bytes(torn))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is not a record of this gateway"):
        await opened(path)
    assert ([file.name for file in tmp_path.iterdir()], path.read_bytes()) == (["record.db"], before)


@pytest.mark.parametrize("crash", ["marked", "moved", "half written"])
async def test_a_salvage_that_was_interrupted_begins_anew(tmp_path: Path, crash: str) -> None:
    path = tmp_path / "record.db"
    committed = await fill(path)
    overwrite(path, path.read_bytes().index(b'"003000') // 8192 * 8192, bytes(8192))
    mark(path, "torn is in record.db.damaged-20260302T060000Z")
    if crash != "marked":
        path.rename(tmp_path / "record.db.damaged-20260302T060000Z")
    if crash == "half written":
        (tmp_path / "record.db.salvage").write_bytes(b"half")
    found = await opened(path)
    lost = judge(committed, found)
    assert found.told is not None
    assert (found.told.reason, rows_of(found.told.lost_rows)) == ("torn", lost)
    assert len(lost) < 30


async def test_what_was_salvaged_is_a_notice_until_an_event_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await fill(path, 500)
    mark(path, "for the test")
    async with Store(path, new_epoch="second") as store:
        assert store.has_notices
        (notice,) = await store.take_notices()
        assert isinstance(notice.notice, SalvagedRecord)
        await store.commit(Transaction(notices_told=[notice.number]))
    async with Store(path, new_epoch="second") as store:
        assert not store.has_notices


async def commit_and_wait(path: Path) -> None:
    """The child: everything is committed, the newest of it only in the log."""
    await fill(path)
    async with Store(path, new_epoch="first") as store:
        await store.commit(Transaction(messages=[message(number) for number in range(EVENTS, EVENTS + 500)]))
        os.write(1, b"committed\n")
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(commit_and_wait(Path(sys.argv[1])))
