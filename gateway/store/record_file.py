"""The file itself: every statement there is. All of it runs on the store's one thread.

The conditions of a message stand as literals in the statements (0 queued, 1 published, 2 quarantined, as `schema`
names them), because only a literal lets SQLite use the partial indexes.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from gateway.store.records import OutboxRow, RetainedRow, Statistics, StoredAnswer, Transaction
from gateway.store.schema import PUBLISHED, QUARANTINED, StoreError, prepare

PATIENCE: Final = 1.0
"""Seconds to wait for a file that another process holds: long enough for one that is just ending."""


class RecordFile:
    """One SQLite file and the only connection to it. `statistics` always tells what is committed."""

    def __init__(self, path: Path, new_epoch: str) -> None:
        self.epoch = new_epoch
        self.is_new = True
        self.statistics = Statistics()
        self._path = path
        self._connection: sqlite3.Connection
        self._to_close = ExitStack()

    def open(self) -> None:
        """Open the file, or make it, readable by its owner alone. Raises `StoreError`."""
        try:
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)
            self._connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path} cannot be opened or made: {error}") from error
        self._to_close.callback(self._connection.close)
        try:
            self.epoch, self.is_new = prepare(self._connection, str(self._path), self.epoch)
            self._count()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close the file if it is open; SQLite then merges its write-ahead log."""
        self._to_close.close()

    # --- writing ------------------------------------------------------------------------------------------------

    def commit(self, transaction: Transaction) -> None:
        """Everything of the transaction, or, if this raises, nothing of it."""
        with self._atomic() as connection:
            connection.executemany(
                "INSERT INTO outbox (topic, payload, critical, equipment, seq, correlation) VALUES (?, ?, ?, ?, ?, ?)",
                [(m.topic, m.payload, m.critical, m.equipment, m.seq, m.correlation) for m in transaction.messages],
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
            answers = [(answer.cmd, answer.at, answer.payload, answer.sender) for answer in transaction.answers]
            connection.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", answers)
        critical = sum(message.critical for message in transaction.messages)
        self.statistics.queued_critical += critical
        self.statistics.queued_telemetry += len(transaction.messages) - critical

    def mark_published(self, ids: Sequence[int], at: int) -> None:
        """Keep critical rows as published at that time, delete the others."""
        keep = "UPDATE outbox SET condition = 1, settled_at = ? WHERE id = ? AND critical AND condition = 0"
        drop = "DELETE FROM outbox WHERE id = ? AND NOT critical AND condition = 0"
        with self._atomic() as connection:
            kept = connection.executemany(keep, [(at, row_id) for row_id in ids]).rowcount
            dropped = 0
            if kept < len(ids):
                dropped = connection.executemany(drop, [(row_id,) for row_id in ids]).rowcount
        self.statistics.queued_critical -= kept
        self.statistics.published += kept
        self.statistics.queued_telemetry -= dropped

    def mark_retained_sent(self, rows: Sequence[tuple[str, int]]) -> None:
        """Note which version of each topic the broker has; a newer one stays unsent."""
        with self._atomic() as connection:
            connection.executemany(
                "UPDATE retained SET sent_version = ? WHERE topic = ? AND version = ?",
                [(version, topic, version) for topic, version in rows],
            )

    def quarantine(self, row_id: int, reason: str) -> None:
        """Put a queued message aside, with the reason; any other is left as it is."""
        statement = "UPDATE outbox SET condition = 2, reason = ? WHERE id = ? AND condition = 0 RETURNING critical"
        with self._atomic() as connection:
            row = connection.execute(statement, (reason, row_id)).fetchone()
        if row is None:
            return
        self.statistics.quarantined += 1
        if row[0]:
            self.statistics.queued_critical -= 1
        else:
            self.statistics.queued_telemetry -= 1

    def forget_published(self, before: int) -> int:
        """Delete what was published before that time; returns how many."""
        with self._atomic() as connection:
            statement = "DELETE FROM outbox WHERE condition = 1 AND settled_at < ?"
            count = connection.execute(statement, (before,)).rowcount
        self.statistics.published -= count
        return count

    def forget_answers(self, before: int) -> None:
        """Delete answers that were given before that time."""
        with self._atomic() as connection:
            connection.execute("DELETE FROM answer WHERE at < ?", (before,))

    # --- reading ------------------------------------------------------------------------------------------------

    def checkpoints(self) -> dict[str, bytes]:
        """Everything that is to be remembered, by key."""
        return dict(self._connection.execute("SELECT key, value FROM checkpoint"))

    def answers(self) -> list[StoredAnswer]:
        """All answers, oldest first."""
        return [
            StoredAnswer(*row)
            for row in self._connection.execute("SELECT cmd, at, payload, sender FROM answer ORDER BY at, cmd")
        ]

    def unpublished(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The oldest queued messages behind `after_id`."""
        statement = (
            "SELECT id, topic, payload, correlation FROM outbox WHERE condition = 0 AND id > ? ORDER BY id LIMIT ?"
        )
        return [OutboxRow(*row) for row in self._connection.execute(statement, (after_id, limit))]

    def unsent_retained(self, limit: int) -> list[RetainedRow]:
        """Retained topics whose newest payload no broker acknowledged."""
        statement = "SELECT topic, payload, version FROM retained WHERE sent_version <> version LIMIT ?"
        return [RetainedRow(*row) for row in self._connection.execute(statement, (limit,))]

    # --- inside -------------------------------------------------------------------------------------------------

    @contextmanager
    def _atomic(self) -> Iterator[sqlite3.Connection]:
        """One transaction, undone whole if anything in it fails. Raises `StoreError` for what the file refuses."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:  # a full disk has undone it already (trap D4)
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError):
                text = f"{self._path} cannot be written: {error}; see whether its disk is full, read-only or failing"
                raise StoreError(text) from error
            raise
        self._measure()

    def _measure(self) -> None:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self.statistics.file_bytes = pages * self._page_size

    def _count(self) -> None:
        (self._page_size,) = self._connection.execute("PRAGMA page_size").fetchone()
        self._measure()
        counts = self.statistics
        for critical, count in self._connection.execute(
            "SELECT critical, COUNT(*) FROM outbox WHERE condition = 0 GROUP BY critical"
        ):
            if critical:
                counts.queued_critical = count
            else:
                counts.queued_telemetry = count
        counts.published = self._count_settled(PUBLISHED)
        counts.quarantined = self._count_settled(QUARANTINED)

    def _count_settled(self, condition: int) -> int:
        (count,) = self._connection.execute(f"SELECT COUNT(*) FROM outbox WHERE condition = {condition:d}").fetchone()  # noqa: S608 - a number, and a literal is what the index needs
        return int(count)

    def _unusable(self, error: sqlite3.Error) -> StoreError:
        if "locked" in str(error):
            return StoreError(f"{self._path} is in use by another gateway; give each its own record, or end the other")
        return StoreError(
            f"{self._path} is not a record of this gateway or is damaged ({error}); move it aside to begin anew"
        )
