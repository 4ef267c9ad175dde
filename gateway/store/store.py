"""The store: what the gateway promised to publish, what it must remember, and what it answered.

One connection on one thread (trap D1). A commit holds messages, checkpoints and answers of the same facts, so after
a crash there is never one without the other (trap D8).

The conditions of a message stand as literals in the statements (0 queued, 1 published, 2 quarantined, as `schema`
names them), because only a literal lets SQLite use the partial indexes.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from gateway.store.records import OutboxRow, RetainedRow, Statistics, StoredAnswer, Transaction
from gateway.store.schema import PUBLISHED, QUARANTINED, StoreError, prepare

_Result = TypeVar("_Result")


class Store:
    """Opened with `async with`. Every method runs on the store's own thread, in the order of the calls."""

    def __init__(self, path: Path, new_epoch: str) -> None:
        self.path = path
        self.epoch = new_epoch
        self.is_new = True
        self.statistics = Statistics()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._run(self._connection.close)
        self._thread.shutdown()

    # --- writing ------------------------------------------------------------------------------------------------

    async def commit(self, transaction: Transaction) -> None:
        """Commit everything or nothing; when this returns it survives a power cut."""
        await self._run(lambda: self._commit(transaction))
        critical = sum(message.critical for message in transaction.messages)
        self.statistics.queued_critical += critical
        self.statistics.queued_telemetry += len(transaction.messages) - critical

    async def mark_published(self, ids: Sequence[int], at: int) -> None:
        """The broker has these rows: keep critical ones for replay, delete the others."""
        if not ids:
            return
        kept, deleted = await self._run(lambda: self._mark_published(ids, at))
        self.statistics.queued_critical -= kept
        self.statistics.published += kept
        self.statistics.queued_telemetry -= deleted

    async def mark_retained_sent(self, rows: Iterable[tuple[str, int]]) -> None:
        """The broker has these versions of retained topics; a newer one stays unsent."""
        marks = [(version, topic, version) for topic, version in rows]
        await self._run(
            lambda: self._write(
                "UPDATE retained SET sent_version = ? WHERE topic = ? AND version = ?",
                marks,
            )
        )

    async def quarantine(self, row_id: int, reason: str) -> None:
        """Put a message aside that the broker will not take, so that those behind it can pass."""
        critical = await self._run(lambda: self._quarantine(row_id, reason))
        if critical is None:
            return
        self.statistics.quarantined += 1
        if critical:
            self.statistics.queued_critical -= 1
        else:
            self.statistics.queued_telemetry -= 1

    async def forget_published(self, before: int) -> int:
        """Delete messages that the broker acknowledged before that time; returns how many."""
        statement = "DELETE FROM outbox WHERE condition = 1 AND settled_at < ?"
        count = await self._run(lambda: self._write(statement, [(before,)]))
        self.statistics.published -= count
        return count

    # --- reading ------------------------------------------------------------------------------------------------

    async def checkpoints(self) -> dict[str, bytes]:
        """Everything that was to be remembered, by key."""
        return dict(await self._rows("SELECT key, value FROM checkpoint"))

    async def answers(self, since: int) -> list[StoredAnswer]:
        """The answers given at or after that time; older ones are forgotten for good."""
        await self._run(lambda: self._write("DELETE FROM answer WHERE at < ?", [(since,)]))
        return [StoredAnswer(*row) for row in await self._rows("SELECT cmd, at, payload FROM answer ORDER BY at")]

    async def unpublished(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The oldest messages behind `after_id` that no broker acknowledged."""
        statement = "SELECT id, topic, payload FROM outbox WHERE condition = 0 AND id > ? ORDER BY id LIMIT ?"
        return [OutboxRow(*row) for row in await self._rows(statement, (after_id, limit))]

    async def unsent_retained(self, limit: int) -> list[RetainedRow]:
        """Retained topics whose newest payload no broker acknowledged."""
        statement = "SELECT topic, payload, version FROM retained WHERE sent_version <> version LIMIT ?"
        return [RetainedRow(*row) for row in await self._rows(statement, (limit,))]

    # --- on the store's thread ----------------------------------------------------------------------------------

    def _open(self) -> None:
        self.path.touch(mode=0o600, exist_ok=True)
        self._connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            self.epoch, self.is_new = prepare(self._connection, str(self.path), self.epoch)
            self.statistics = self._count()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.DatabaseError):
                text = (
                    f"{self.path} is not a record of this gateway or is damaged ({error}); move it aside to begin anew"
                )
                raise StoreError(text) from error
            raise

    def _count(self) -> Statistics:
        counts = Statistics()
        rows = self._connection.execute("SELECT condition, critical, COUNT(*) FROM outbox GROUP BY condition, critical")
        for condition, critical, count in rows:
            if condition == PUBLISHED:
                counts.published += count
            elif condition == QUARANTINED:
                counts.quarantined += count
            elif critical:
                counts.queued_critical += count
            else:
                counts.queued_telemetry += count
        return counts

    def _commit(self, transaction: Transaction) -> None:
        with _Atomic(self._connection) as connection:
            connection.executemany(
                "INSERT INTO outbox (topic, payload, critical, equipment, seq) VALUES (?, ?, ?, ?, ?)",
                [(m.topic, m.payload, m.critical, m.equipment, m.seq) for m in transaction.messages],
            )
            connection.executemany(
                "INSERT INTO retained (topic, payload, version) VALUES (?, ?, 1) "
                "ON CONFLICT (topic) DO UPDATE SET payload = excluded.payload, version = version + 1",
                list(transaction.retained.items()),
            )
            kept = [(key, value) for key, value in transaction.checkpoints.items() if value is not None]
            gone = [(key,) for key, value in transaction.checkpoints.items() if value is None]
            connection.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", kept)
            connection.executemany("DELETE FROM checkpoint WHERE key = ?", gone)
            answers = [(answer.cmd, answer.at, answer.payload) for answer in transaction.answers]
            connection.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", answers)

    def _mark_published(self, ids: Sequence[int], at: int) -> tuple[int, int]:
        keep = "UPDATE outbox SET condition = 1, settled_at = ? WHERE id = ? AND critical AND condition = 0"
        with _Atomic(self._connection) as connection:
            kept = connection.executemany(keep, [(at, row_id) for row_id in ids]).rowcount
            drop = "DELETE FROM outbox WHERE id = ? AND NOT critical AND condition = 0"
            return kept, connection.executemany(drop, [(row_id,) for row_id in ids]).rowcount

    def _quarantine(self, row_id: int, reason: str) -> bool | None:
        statement = "UPDATE outbox SET condition = 2, reason = ? WHERE id = ? AND condition = 0 RETURNING critical"
        with _Atomic(self._connection) as connection:
            row = connection.execute(statement, (reason, row_id)).fetchone()
        return None if row is None else bool(row[0])

    def _write(self, statement: str, parameters: Sequence[Sequence[object]]) -> int:
        with _Atomic(self._connection) as connection:
            return connection.executemany(statement, parameters).rowcount

    async def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._connection.execute(statement, parameters).fetchall())

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _Atomic:
    """One transaction, rolled back if anything in it fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.execute("ROLLBACK" if error else "COMMIT")
