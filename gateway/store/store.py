"""The store: what the gateway promised to publish, what it must remember, and what it answered.

One connection on one thread (trap D1). A commit holds messages, checkpoints and answers of the same facts, so after
a crash there is never one without the other (trap D8).
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from gateway.store.record_file import RecordFile
from gateway.store.records import OutboxRow, RetainedRow, Statistics, StoredAnswer, Transaction

_Result = TypeVar("_Result")

MAX_WAITING: Final = 64
"""Requests that may wait for the thread; who comes after that waits for a place."""


class Store:
    """Opened with `async with`. Every method runs on the store's own thread, in the order of the calls.

    A new file gets `new_epoch`; an old one keeps the `epoch` it was made with. Methods raise `StoreError` where the
    file cannot be written. A call that is cancelled is carried out or not, but never by half.
    """

    def __init__(self, path: Path, new_epoch: str) -> None:
        self.path = path
        self._file = RecordFile(path, new_epoch)
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
    def statistics(self) -> Statistics:
        """How many messages are in which condition; kept in memory, so asking costs nothing."""
        return self._file.statistics

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

    async def quarantine(self, row_id: int, reason: str) -> None:
        """Put a message aside that the broker will not take, so that those behind it can pass."""
        await self._run(lambda: self._file.quarantine(row_id, reason))

    async def forget_published(self, before: int) -> int:
        """Delete messages that the broker acknowledged before that time; returns how many."""
        return await self._run(lambda: self._file.forget_published(before))

    async def forget_answers(self, before: int) -> None:
        """Delete answers given before that time: their commands would be carried out again."""
        await self._run(lambda: self._file.forget_answers(before))

    # --- reading ------------------------------------------------------------------------------------------------

    async def checkpoints(self) -> dict[str, bytes]:
        """Everything that was to be remembered, by key."""
        return await self._run(self._file.checkpoints)

    async def answers(self, since: int) -> list[StoredAnswer]:
        """The answers given at or after that time, oldest first; older ones are forgotten for good."""
        await self.forget_answers(since)
        return await self._run(self._file.answers)

    async def unpublished(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The oldest messages behind `after_id` that no broker acknowledged."""
        return await self._run(lambda: self._file.unpublished(after_id, limit))

    async def unsent_retained(self, limit: int) -> list[RetainedRow]:
        """Retained topics whose newest payload no broker acknowledged."""
        return await self._run(lambda: self._file.unsent_retained(limit))

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        async with self._places:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
