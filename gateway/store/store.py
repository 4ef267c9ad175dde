"""The store: what the gateway promised to publish, what it must remember, and what it answered.

One connection on one thread (trap D1). A commit holds messages, checkpoints and answers of the same facts, so after
a crash there is never one without the other (trap D8).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from gateway.domain.uplink import NumberedNotice, SalvagedRecord
from gateway.store.record_file import RecordFile
from gateway.store.records import (
    Backlog,
    OutboxRow,
    RetainedRow,
    Statistics,
    StoredAnswer,
    StoredEvent,
    Transaction,
)
from gateway.store.salvaging.integrity import is_damage, mark
from gateway.store.schema import StoreDamaged

_Result = TypeVar("_Result")

MAX_WAITING: Final = 64
"""Requests that may wait for the thread; who comes after that waits for a place."""


class Store:
    """Opened with `async with`. Every method runs on the store's own thread, in the order of the calls.

    A new file gets `new_epoch`; an old one keeps the `epoch` it was made with. Methods raise `StoreError` where the
    file cannot be written, `StoreFull` where it is only full. A call that is cancelled is carried out or not, but
    never by half. The file has `max_bytes` at most, apart from a few megabytes of its log.
    """

    def __init__(self, path: Path, new_epoch: str, max_bytes: int | None = None) -> None:
        self.path = path
        self._file = RecordFile(path, new_epoch, max_bytes)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._places = asyncio.Semaphore(MAX_WAITING)

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._file.open)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        """What was asked before is still done; a cancellation does not leave the file open."""
        closed = self._thread.submit(self._file.close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closed))

    @property
    def epoch(self) -> str:
        """What tells this record, whose sequence numbers begin at 1, from an earlier one."""
        return self._file.epoch

    @property
    def is_new(self) -> bool:
        """True if there was no record before."""
        return self._file.is_new

    @property
    def salvaged(self) -> SalvagedRecord | None:
        """What came of the damage that was found when the file was opened."""
        return self._file.salvaged

    @property
    def statistics(self) -> Statistics:
        """How many messages are in which condition; kept in memory, so asking costs nothing."""
        return self._file.statistics

    @property
    def last_id(self) -> int:
        """The last row that was written, or is just being written."""
        return self._file.outbox.last_id

    # --- writing ------------------------------------------------------------------------------------------------

    async def commit(self, transaction: Transaction) -> None:
        """Commit everything or nothing; when this returns it survives a power cut."""
        await self._run(lambda: self._file.commit(transaction))

    async def mark_published(self, ids: Sequence[int], at: int) -> None:
        """The broker has these rows: keep critical ones for replay, delete the others."""
        if ids:
            await self._run(lambda: self._file.mark_published(ids, at))

    async def mark_retained_sent(self, rows: Sequence[tuple[str, int]]) -> None:
        """The broker has these versions of retained topics; where there is a newer one, it stays unsent."""
        if rows:
            await self._run(lambda: self._file.mark_retained_sent(rows))

    async def quarantine(self, row_id: int, reason: str, at: int) -> None:
        """Put a message aside that the broker will not take, so that those behind it can pass; it is to be told."""
        await self._run(lambda: self._file.quarantine(row_id, reason, at))

    async def let_go(self, ids: Sequence[int]) -> None:
        """These rows were read, but are not to be sent yet: until they are read again they may be dropped."""
        if ids:
            await self._run(lambda: self._file.outbox.let_go(ids))

    async def requeue(self, topic: str | None) -> int:
        """Queue what is in quarantine again, of one topic or (None) of all; returns how many messages."""
        return await self._run(lambda: self._file.requeue(topic))

    async def forget_published(self, before: int) -> int:
        """Delete messages that the broker acknowledged before that time; returns how many.

        A few at a time, so that commits come between.
        """
        total = 0
        while count := await self._run(lambda: self._file.forget_published(before)):
            total += count
        return total

    async def forget_answers(self, before: int) -> None:
        """Delete answers given before that time: their commands would be carried out again."""
        await self._run(lambda: self._file.forget_answers(before))

    async def move_times(self, by: int) -> None:
        """The clock was set forward by so many milliseconds: what is kept for a while is kept as long as before."""
        await self._run(lambda: self._file.move_times(by))

    async def take_notices(self) -> list[NumberedNotice]:
        """What events must tell of, each once until the next start; `Transaction.notices_told` strikes them off."""
        return await self._run(self._file.take_notices)

    @property
    def has_notices(self) -> bool:
        """Whether `take_notices` would give anything; asking costs nothing."""
        return not self._file.notices.is_empty

    # --- reading ------------------------------------------------------------------------------------------------

    async def account(self) -> Statistics:
        """`statistics` as of one moment, between two transactions: they add up exactly."""
        return await self._run(lambda: copy(self._file.statistics))

    async def checkpoints(self) -> dict[str, bytes]:
        """Everything that was to be remembered, by key."""
        return await self._run(self._file.checkpoints)

    async def answers(self, since: int) -> list[StoredAnswer]:
        """The answers given at or after that time, oldest first; older ones are forgotten for good."""
        await self.forget_answers(since)
        return await self._run(self._file.answers)

    async def unpublished(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The oldest messages behind `after_id` that no broker acknowledged. Raises `StoreDamaged`."""
        return await self._run(lambda: self._file.outbox.unpublished(after_id, limit))

    async def unpublished_of(self, stream: int, after_id: int, up_to: int, limit: int) -> list[OutboxRow]:
        """The same of one stream, up to the row `up_to`."""
        return await self._run(lambda: self._file.outbox.unpublished_of(stream, after_id, up_to, limit))

    async def unpublished_among(self, ids: Sequence[int]) -> list[OutboxRow]:
        """Those of these messages that are still queued, in order."""
        return await self._run(lambda: self._file.outbox.unpublished_among(ids))

    async def backlog(self) -> Backlog:
        """What is queued, stream by stream."""
        return await self._run(self._file.outbox.backlog)

    async def events(self, equipment: str | None, first: int, last: int, limit: int) -> list[StoredEvent]:
        """Events by their numbers, ends included: of an equipment, or of none; some may be kept no more.

        Raises `StoreDamaged`.
        """
        return await self._run(lambda: self._file.outbox.events(equipment, first, last, limit))

    async def retained(self, behind: str, limit: int) -> list[RetainedRow]:
        """Retained topics, sent or not, in order of their names, behind this one."""
        return await self._run(lambda: self._file.retained(behind, limit))

    async def unsent_retained(self, limit: int) -> list[RetainedRow]:
        """Retained topics whose newest payload no broker acknowledged."""
        return await self._run(lambda: self._file.unsent_retained(limit))

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        async with self._places:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._watched(work))

    def _watched(self, work: Callable[[], _Result]) -> _Result:
        """What is found damaged is marked, so that the next start salvages it; this gateway cannot go on with it."""
        try:
            return work()
        except StoreDamaged as damaged:
            reason = str(damaged)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            reason = f"{self.path} is damaged: {error}"
        mark(self.path, reason)
        raise StoreDamaged(f"{reason}; what can be read of it is salvaged when the gateway starts again")
