"""What a record keeps, in which order, and what it refuses; on real files."""

import asyncio
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store.record_file import RecordFile
from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.schema import VERSION, StoreError, StoreFull
from gateway.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


def event(number: int, *, critical: bool = True) -> OutboxMessage:
    return OutboxMessage(f"t/{number % 7}", b"%d" % number, "evt" if critical else "tel", "e/s/a/l/u", number)


async def test_a_new_record_takes_the_epoch_offered_and_keeps_it_for_ever(path: Path) -> None:
    async with Store(path, new_epoch="first") as store:
        assert (store.epoch, store.is_new) == ("first", True)
    async with Store(path, new_epoch="second") as store:
        assert (store.epoch, store.is_new) == ("first", False)


async def test_messages_come_back_in_the_order_of_their_commits_a_window_at_a_time(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        for start in (0, 40, 80):
            await store.commit(Transaction(messages=[event(n) for n in range(start, start + 40)]))
        taken, last = [], 0
        while rows := await store.unpublished(last, 25):
            taken += [int(row.payload) for row in rows]
            last = rows[-1].id
    assert taken == list(range(120))


async def test_an_acknowledged_event_is_kept_for_replay_and_acknowledged_telemetry_is_gone(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(messages=[event(1), event(2, critical=False), event(3), event(4)]))
        assert (store.statistics.queued_critical, store.statistics.queued_telemetry) == (3, 1)
        await store.mark_published([1, 2, 3], at=1_000)
        await store.mark_published([1, 2], at=2_000)  # the broker's word twice: nothing changes
        assert [row.id for row in await store.unpublished(0, 10)] == [4]
        assert (store.statistics.queued, store.statistics.published) == (1, 2)
    assert rows_of(path, "SELECT id, condition, settled_at FROM outbox") == [(1, 1, 1000), (3, 1, 1000), (4, 0, 0)]


async def test_published_events_are_forgotten_when_their_time_is_over_and_others_stay(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(messages=[event(n) for n in range(5)]))
        await store.mark_published([1, 2], at=1_000)
        await store.mark_published([3], at=2_000)
        assert await store.forget_published(before=2_000) == 2
        assert (store.statistics.queued, store.statistics.published) == (2, 1)


async def test_a_quarantined_message_no_longer_stands_in_the_way(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(messages=[event(1), event(2, critical=False), event(3)]))
        await store.quarantine(1, "too large", at=7)
        await store.quarantine(1, "a second word changes nothing", at=7)
        await store.quarantine(2, "not authorised", at=7)
        assert [row.id for row in await store.unpublished(0, 10)] == [3]
        statistics = store.statistics
        assert (statistics.queued_critical, statistics.queued_telemetry, statistics.quarantined) == (1, 0, 2)
    assert rows_of(path, "SELECT reason FROM outbox WHERE condition = 2") == [("too large",), ("not authorised",)]


@pytest.mark.case("D5")
async def test_ids_are_never_given_again_even_when_every_row_is_gone(path: Path) -> None:
    """Trap D5: without AUTOINCREMENT the next row would be 1, behind every cursor that stands at 3."""
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(messages=[event(n, critical=False) for n in range(3)]))
        await store.mark_published([1, 2, 3], at=0)
        await store.commit(Transaction(messages=[event(9)]))
        assert [row.id for row in await store.unpublished(3, 10)] == [4]


async def test_only_the_newest_retained_payload_is_sent_and_a_late_acknowledgement_does_not_hide_a_newer_one(
    path: Path,
) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(retained={"now/state": b"RUN", "now/order": b"A"}))
        sent = {row.topic: row for row in await store.unsent_retained(10)}
        await store.commit(Transaction(retained={"now/state": b"DOWN"}))
        await store.mark_retained_sent([(row.topic, row.version) for row in sent.values()])
        (left,) = await store.unsent_retained(10)
        assert (left.topic, left.payload) == ("now/state", b"DOWN")
        await store.mark_retained_sent([(left.topic, left.version)])
        assert await store.unsent_retained(10) == []


async def test_checkpoints_are_replaced_and_deleted_and_outlive_the_process(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(checkpoints={"counter": b"1", "order": b"A"}))
        await store.commit(Transaction(checkpoints={"counter": b"2", "order": None}))
    async with Store(path, new_epoch="e") as store:
        assert await store.checkpoints() == {"counter": b"2"}


async def test_the_newest_answer_to_a_command_is_known_until_its_time_is_over(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(answers=[StoredAnswer("c1", 10, b"accepted"), StoredAnswer("c2", 20, b"done")]))
        await store.commit(Transaction(answers=[StoredAnswer("c1", 30, b"done")]))
        assert await store.answers(since=10) == [StoredAnswer("c2", 20, b"done"), StoredAnswer("c1", 30, b"done")]
        assert await store.answers(since=25) == [StoredAnswer("c1", 30, b"done")]
        assert len(await store.answers(since=0)) == 1
        await store.forget_answers(before=31)
        assert await store.answers(since=0) == []


async def test_a_transaction_that_fails_in_the_middle_leaves_no_trace(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        answers = [StoredAnswer("C1", 0, object())]  # type: ignore[arg-type]
        broken = Transaction(messages=[event(1)], checkpoints={"counter": b"1"}, answers=answers)
        with pytest.raises(sqlite3.Error, match="binding parameter"):
            await store.commit(broken)
        assert (await store.unpublished(0, 10), await store.checkpoints(), store.statistics.queued) == ([], {}, 0)
        await store.commit(Transaction(messages=[event(2)]))
        assert store.statistics.queued == 1


@pytest.mark.case("D4")
async def test_a_full_disk_is_said_and_survived(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction(messages=[event(1)]))
        await store._run(lambda: store._file._connection.execute("PRAGMA max_page_count = 1").fetchone())
        with pytest.raises(StoreFull, match=r"record\.db is full, and nothing in it may be dropped"):
            await store.commit(Transaction(messages=[OutboxMessage("t", bytes(1_000_000), "evt", None, 2)]))
        await store._run(lambda: store._file._connection.execute("PRAGMA max_page_count = 100000").fetchone())
        await store.commit(Transaction(messages=[event(3)]))
        assert [int(row.payload) for row in await store.unpublished(0, 10)] == [1, 3]


async def test_the_file_and_its_log_are_the_owners_alone_whatever_the_umask(path: Path) -> None:
    path.touch(mode=0o644)
    before = os.umask(0)
    try:
        async with Store(path, new_epoch="e") as store:
            await store.commit(Transaction(messages=[event(1)]))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"record.db": 0o600, "record.db-wal": 0o600}


async def test_a_record_of_a_newer_gateway_is_refused_and_left_as_it_is(path: Path) -> None:
    async with Store(path, new_epoch="e"):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"newer gateway .record version {VERSION + 1}, this one knows {VERSION}"):
        await Store(path, new_epoch="e").__aenter__()
    assert path.read_bytes() == before


async def test_somebody_elses_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a record of this gateway"):
        await Store(path, new_epoch="e").__aenter__()
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_and_a_folder_that_is_not_there_are_said_by_name(path: Path) -> None:
    path.write_bytes(b"these are not the bytes you are looking for" * 40)
    with pytest.raises(StoreError, match=r"record\.db is not a record of this gateway or is damaged"):
        await Store(path, new_epoch="e").__aenter__()
    with pytest.raises(StoreError, match=r"nowhere/record\.db cannot be opened or made: .*No such file"):
        await Store(path.parent / "nowhere" / "record.db", new_epoch="e").__aenter__()


@pytest.mark.case("D1")
async def test_a_second_gateway_on_the_same_record_is_refused(path: Path) -> None:
    """It would publish everything twice, and two connections can corrupt the file (trap D1)."""
    async with Store(path, new_epoch="e") as store:
        with pytest.raises(StoreError, match="in use by another gateway"):
            await Store(path, new_epoch="e").__aenter__()
        await store.commit(Transaction(messages=[event(1)]))


@pytest.mark.case("D2")
async def test_writes_are_synchronised_with_the_disk_before_they_count(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        pragma = {
            name: await store._run(lambda n=name: store._file._connection.execute(f"PRAGMA {n}").fetchone()[0])
            for name in ("synchronous", "journal_mode", "locking_mode")
        }
    assert pragma == {"synchronous": 2, "journal_mode": "wal", "locking_mode": "exclusive"}


def test_the_next_message_and_the_counts_at_the_start_are_found_without_reading_old_payloads(path: Path) -> None:
    """With 72 h of published events in the file, a scan of the table would take seconds."""
    file = RecordFile(path, "e")
    file.open()
    file.commit(Transaction(messages=[event(1), event(2, critical=False)]))
    statements: list[str] = []
    file._connection.set_trace_callback(statements.append)
    file.outbox.load()
    file.outbox.unpublished_of(1, 0, 9, 10)
    file.outbox.events("e/s/a/l/u", 1, 9, 10)
    file.outbox.requeue("t/1", 5)
    file.outbox.forget_published(5, 10)
    file.outbox.drop_telemetry(10, 0)
    file.unsent_retained(10)
    file._connection.set_trace_callback(None)
    read = {line for line in statements if "FROM outbox" in line or "FROM retained" in line}
    plans = [(line, row[3]) for line in read for row in file._connection.execute(f"EXPLAIN QUERY PLAN {line}")]
    file.close()
    assert len(read) >= 9
    assert not [(line, plan) for line, plan in plans if plan in ("SCAN outbox", "SCAN retained")]
    counts = [plan for line, plan in plans if "COUNT(*)" in line]
    assert len(counts) == 3
    assert all("COVERING INDEX" in plan for plan in counts)


async def test_a_cancelled_call_is_done_or_not_done_and_the_counts_stay_true(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        for number in range(50):
            task = asyncio.create_task(store.commit(Transaction(messages=[event(number)])))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        rows = await store.unpublished(0, 100)
        assert store.statistics.queued == len(rows)


async def test_closing_waits_for_what_was_asked_before(path: Path) -> None:
    async with Store(path, new_epoch="e") as store:
        commits = [asyncio.create_task(store.commit(Transaction(messages=[event(n)] * 500))) for n in range(10)]
        await asyncio.sleep(0)
    assert rows_of(path, "SELECT COUNT(*) FROM outbox") == [(5_000,)]
    await asyncio.gather(*commits)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(st.booleans(), min_size=1, max_size=4)),
        st.tuples(st.just("publish"), st.lists(st.integers(1, 12), max_size=5, unique=True)),
        st.tuples(st.just("quarantine"), st.integers(1, 12)),
        st.tuples(st.just("forget"), st.integers(0, 20)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions)
def test_the_counts_in_memory_are_those_of_the_file_whatever_happened(tmp_path: Path, actions: list) -> None:
    path = tmp_path / f"{time.monotonic_ns()}.db"
    file = RecordFile(path, "e")
    file.open()
    for at, (action, detail) in enumerate(actions):
        match action:
            case "commit":
                file.commit(Transaction(messages=[event(n, critical=c) for n, c in enumerate(detail)]))
            case "publish":
                file.mark_published(detail, at)
            case "quarantine":
                file.quarantine(detail, "no reason", 7)
            case "forget":
                file.forget_published(detail)
            case "reopen":
                file.close()
                file = RecordFile(path, "another")
                file.open()
    counted, in_memory = (
        dict(file._connection.execute("SELECT condition * 2 + critical, COUNT(*) FROM outbox GROUP BY 1")),
        file.statistics,
    )
    (pages,), (size,) = (file._connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    file.close()
    assert in_memory.queued_telemetry == counted.get(0, 0)
    assert in_memory.queued_critical == counted.get(1, 0)
    assert in_memory.published == counted.get(3, 0)
    assert counted.get(2, 0) == 0  # no telemetry is kept once it is published
    assert in_memory.quarantined == counted.get(4, 0) + counted.get(5, 0)
    assert in_memory.file_bytes == pages * size


@pytest.mark.case("D3")
async def test_ten_thousand_rows_a_second_are_no_strain(path: Path) -> None:
    """Half a second's worth, committed and acknowledged a hundred at a time; a tenth of the time must do."""
    async with Store(path, new_epoch="e") as store:
        began = time.process_time()
        for start in range(0, 5_000, 100):
            await store.commit(Transaction(messages=[event(n) for n in range(start, start + 100)]))
            await store.mark_published(range(start + 1, start + 101), at=start)
        spent = time.process_time() - began
        assert store.statistics.published == 5_000
    assert spent < 0.5, f"{5_000 / spent:,.0f} rows per CPU second"


def rows_of(path: Path, statement: str) -> list[tuple]:
    connection = sqlite3.connect(path, timeout=0)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def test_after_the_clock_was_set_forward_everything_is_kept_as_long_as_before(tmp_path: Path) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        messages = [OutboxMessage("evt", b"1", "evt", "M", number) for number in (1, 2)]
        await store.commit(Transaction(messages=messages, answers=[StoredAnswer("C-1", 1_000, b"{}")], at=1_000))
        await store.mark_published([1], at=1_000)
        await store.move_times(500)
        assert [answer.at for answer in await store.answers(1_500)] == [1_500]
        assert await store.forget_published(1_500) == 0, "it was published a moment ago"
        assert await store.forget_published(1_501) == 1
        assert store.statistics.queued == 1
