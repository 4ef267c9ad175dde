"""The file itself: opening and closing it, transactions, and room for them. Runs on the store's one thread."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from zlib import crc32

import structlog

from gateway.domain.uplink import NumberedNotice, QuarantinedMessages, SalvagedRecord
from gateway.store.notices import Notices
from gateway.store.outbox import Outbox
from gateway.store.records import RetainedRow, Statistics, StoredAnswer, Transaction
from gateway.store.salvaging.integrity import is_damage, is_ours, log_of, marked, note_closed, note_open
from gateway.store.salvaging.salvage import from_nothing, salvage, without_log
from gateway.store.schema import StoreDamaged, StoreError, StoreFull, prepare

log = structlog.get_logger()

PATIENCE: Final = 1.0
"""Seconds to wait for a file that another process holds: long enough for one that is just ending."""

CHUNK: Final = 1_000
"""Messages that are deleted in one transaction: a larger one would hold up what waits to be committed."""

KEPT_BACK: Final = 500_000
"""Bytes beyond the limit for what makes the record smaller in the end: acknowledgements must go in when it is full."""

MOST_PAGES: Final = 4_294_967_294
"""Pages that SQLite can count (sqlite.org/limits.html §12)."""

MOST_NOTICES: Final = 500
"""Notices that one event loop turn has to tell of."""


class RecordFile:
    """One SQLite file and the only connection to it. `statistics` always tells what is committed.

    It grows to `max_bytes` at most, and by `KEPT_BACK` more for acknowledgements. Then published messages have to go,
    oldest first, then queued run parameters, counted and noted; never anything else that no broker has. Only where no
    message is left in it does it grow on: what the gateway has to remember gets no smaller by waiting.
    """

    def __init__(self, path: Path, new_epoch: str, max_bytes: int | None = None, *, mend: bool = True) -> None:
        """Without `mend` nothing is written but what is asked for: a damaged file stays as it is."""
        self.epoch = self._new_epoch = new_epoch
        self.is_new = True
        self.statistics = Statistics()
        self.salvaged: SalvagedRecord | None = None
        """What came of the damage that was found when it was opened."""
        self._path = path
        self._mend = mend
        self._is_noted = False
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection
        self.outbox: Outbox
        self.notices: Notices
        self._to_close = ExitStack()

    def open(self) -> None:
        """Open the file, or make it, readable by its owner alone; salvage a damaged one. Raises `StoreError`."""
        reason = marked(self._path) if self._mend else None
        if reason is None:
            try:
                self._open()
            except StoreDamaged as error:
                self._to_close.close()
                if not self._mend:
                    raise
                reason = str(error)
            else:
                return
        self.salvaged = salvage(self._path, reason, self._new_epoch)
        self._open()

    def close(self) -> None:
        """Close the file if it is open; SQLite then merges its write-ahead log."""
        if self._is_noted:
            self._is_noted = False
            with suppress(sqlite3.Error):  # whoever opens it next finds out what ails it
                note_closed(self._connection)
        self._to_close.close()

    def _open(self) -> None:
        had_log, was_empty = log_of(self._path).exists(), self._path.exists() and self._path.stat().st_size == 0
        try:
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)
            self._connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path} cannot be opened or made: {error}") from error
        self._to_close.callback(self._connection.close)
        try:
            self.epoch, self.is_new = prepare(self._connection, str(self._path), self._new_epoch)
            if self._mend:
                self._note_open(had_log=had_log, was_empty=was_empty)
            (self._page_size,) = self._connection.execute("PRAGMA page_size").fetchone()
            self._limit(0)
            self.outbox = Outbox(self._connection, self.statistics)
            self.notices = Notices(self._connection)
            self.outbox.load()
            self.notices.load()
            self._measure()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _note_open(self, *, had_log: bool, was_empty: bool) -> None:
        """Note that it is in use. One that was in use, and whose log is gone, has lost its newest commits."""
        was_open = note_open(self._connection)
        self._is_noted = True
        if not self.is_new and was_open and not had_log:
            self.salvaged = without_log(self._connection, self._path, self._new_epoch)
            self.epoch = self._new_epoch
        elif self.is_new and was_empty and not had_log:
            self.salvaged = from_nothing(self._connection, self._path)

    # --- writing ------------------------------------------------------------------------------------------------

    def commit(self, transaction: Transaction) -> None:
        """Everything of the transaction, or, if this raises, nothing of it. Raises `StoreFull` and other errors."""
        while True:
            try:
                self._commit(transaction)
            except StoreFull:
                if self._make_room(transaction.at):
                    continue
                if self._max_bytes is None or self.statistics.queued or self.statistics.quarantined:
                    raise
                return self._commit_beyond(transaction)
            else:
                return None

    def _commit_beyond(self, transaction: Transaction) -> None:
        """Commit it whatever the file grows to, and from here on let it have `KEPT_BACK` more than that."""
        limit = self._max_bytes
        self._connection.execute(f"PRAGMA max_page_count = {MOST_PAGES:d}")
        try:
            self._commit(transaction)
            self._max_bytes = self.statistics.file_bytes + KEPT_BACK
        finally:
            self._limit(0)
        log.warning(
            "what is remembered of machines and commands alone fills the record; it may grow, raise store_limit",
            file=str(self._path), store_limit=limit, file_bytes=self.statistics.file_bytes,
        )  # fmt: skip

    def _commit(self, transaction: Transaction) -> None:
        with self._atomic() as connection:
            self.outbox.insert(transaction.messages, transaction.at)
            self.notices.strike_off(transaction.notices_told)
            connection.executemany(
                "INSERT INTO retained (topic, payload, version) VALUES (?, ?, 1) "
                "ON CONFLICT (topic) DO UPDATE SET payload = excluded.payload, version = version + 1",
                list(transaction.retained.items()),
            )
            kept = [(key, value, crc32(value)) for key, value in transaction.checkpoints.items() if value is not None]
            gone = [(key,) for key, value in transaction.checkpoints.items() if value is None]
            connection.executemany("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", kept)
            connection.executemany("DELETE FROM checkpoint WHERE key = ?", gone)
            answers = [(answer.cmd, answer.at, answer.payload, answer.sender) for answer in transaction.answers]
            connection.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", answers)

    def mark_published(self, ids: Sequence[int], at: int) -> None:
        """Keep critical rows as published at that time, delete the others."""
        self._keep_house(lambda _: self.outbox.mark_published(ids, at))
        self.outbox.let_go(ids)

    def mark_retained_sent(self, rows: Sequence[tuple[str, int]]) -> None:
        """Note which version of each topic the broker has; a newer one stays unsent."""
        statement = "UPDATE retained SET sent_version = ? WHERE topic = ? AND version = ?"
        values = [(version, topic, version) for topic, version in rows]
        self._keep_house(lambda connection: connection.executemany(statement, values))

    def quarantine(self, row_id: int, reason: str, at: int) -> None:
        """Put a queued message aside, with the reason, and note it; any other is left as it is."""

        def put_aside(_: sqlite3.Connection) -> None:
            topic = self.outbox.quarantine(row_id, reason)
            if topic is not None:
                self.notices.add(QuarantinedMessages(topic, reason, 1, row_id, row_id, at, at))

        self._keep_house(put_aside)
        self.outbox.let_go([row_id])

    def requeue(self, topic: str | None) -> int:
        """Queue what is in quarantine again, of one topic or all of it; returns how many there were."""
        total = 0
        while True:
            with self._atomic():
                count = self.outbox.requeue(topic, CHUNK)
            total += count
            if count < CHUNK:
                return total

    def forget_published(self, before: int) -> int:
        """Delete up to a chunk of what was published before that time; returns how many."""
        with self._atomic():
            return self.outbox.forget_published(before, CHUNK)

    def forget_answers(self, before: int) -> None:
        """Delete answers that were given before that time."""
        with self._atomic() as connection:
            connection.execute("DELETE FROM answer WHERE at < ?", (before,))

    def move_times(self, by: int) -> None:
        """The clock was set forward: what is kept for a while is kept as long as before."""
        with self._atomic() as connection:
            connection.execute("UPDATE answer SET at = at + ?", (by,))
            connection.execute("UPDATE outbox SET settled_at = settled_at + ? WHERE condition = 1", (by,))

    def take_notices(self) -> list[NumberedNotice]:
        """What events must tell of, each once in the life of this connection."""
        if self.notices.is_empty:
            return []
        with self._atomic():
            return self.notices.take(MOST_NOTICES)

    # --- reading ------------------------------------------------------------------------------------------------

    def checkpoints(self) -> dict[str, bytes]:
        """Everything that is to be remembered, by key. Raises `StoreDamaged`."""
        found = self._connection.execute("SELECT key, value, crc FROM checkpoint").fetchall()
        for key, value, crc in found:
            if crc32(value) != crc:
                raise StoreDamaged(f"what is remembered of {key} is not as it was written")
        return {key: value for key, value, _ in found}

    def answers(self) -> list[StoredAnswer]:
        """All answers, oldest first."""
        return [
            StoredAnswer(*row)
            for row in self._connection.execute("SELECT cmd, at, payload, sender FROM answer ORDER BY at, cmd")
        ]

    def retained(self, behind: str, limit: int) -> list[RetainedRow]:
        """Retained topics, sent or not, in order of their names."""
        statement = "SELECT topic, payload, version FROM retained WHERE topic > ? ORDER BY topic LIMIT ?"
        return [RetainedRow(*row) for row in self._connection.execute(statement, (behind, limit))]

    def unsent_retained(self, limit: int) -> list[RetainedRow]:
        """Retained topics whose newest payload no broker acknowledged."""
        statement = "SELECT topic, payload, version FROM retained WHERE sent_version <> version LIMIT ?"
        return [RetainedRow(*row) for row in self._connection.execute(statement, (limit,))]

    # --- inside -------------------------------------------------------------------------------------------------

    def _keep_house(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """A transaction that gets through at the limit as well: it may cost what is kept for replay, or a page beyond.

        Otherwise a record full of what no broker has could not even note that a broker has it now.
        """
        while True:
            try:
                with self._atomic() as connection:
                    work(connection)
            except StoreFull:
                if not self._forget_oldest():
                    break
            else:
                return
        self._limit(KEPT_BACK)
        try:
            with self._atomic() as connection:
                work(connection)
        finally:
            self._limit(0)

    def _forget_oldest(self) -> bool:
        """Delete a chunk of what was published; False if there is nothing, or the disk takes not even that."""
        try:
            return self.forget_published(1 << 62) > 0
        except StoreFull:
            return False

    def _limit(self, beyond: int) -> None:
        """From here on the file may have `max_bytes` and so many beyond, or what it has already if that is more."""
        if self._max_bytes is not None:
            pages = (self._max_bytes + beyond) // self._page_size
            self._connection.execute(f"PRAGMA max_page_count = {pages:d}")

    def _make_room(self, at: int) -> bool:
        """Delete a chunk of what may go; False if there is nothing, or the disk takes not even that."""
        try:
            with self._atomic():
                if self.outbox.forget_published(None, CHUNK):
                    return True
                dropped = self.outbox.drop_telemetry(CHUNK, at)
                for notice in dropped:
                    self.notices.add(notice)
                return bool(dropped)
        except StoreFull:
            return False

    @contextmanager
    def _atomic(self) -> Iterator[sqlite3.Connection]:
        """One transaction, undone whole if anything in it fails. Raises `StoreError` for what the file refuses."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            self.outbox.begin()
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:  # a full disk has undone it already (trap D4)
                connection.execute("ROLLBACK")
            self.outbox.undo()
            self.notices.look()
            if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, sqlite3.ProgrammingError):
                raise
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StoreFull(f"{self._path} is full, and nothing in it may be dropped") from error
            if is_damage(error):
                raise StoreDamaged(f"{self._path} is damaged: {error}") from error
            text = f"{self._path} cannot be written: {error}; see whether its disk is full, read-only or failing"
            raise StoreError(text) from error
        self._measure()

    def _measure(self) -> None:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        self.statistics.file_bytes = pages * self._page_size

    def _unusable(self, error: sqlite3.Error) -> StoreError:
        if "locked" in str(error):
            return StoreError(f"{self._path} is in use by another gateway; give each its own record, or end the other")
        if is_damage(error) and is_ours(self._path):
            return StoreDamaged(f"{self._path} is damaged: {error}")
        return StoreError(
            f"{self._path} is not a record of this gateway or is damaged ({error}); move it aside to begin anew"
        )
