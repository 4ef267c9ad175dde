"""The audit as the running gateway writes it: on a thread of its own, so that the loop never waits for its disk."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog

from gateway.audit.folder import AuditError, AuditFolder, Head
from gateway.audit.lines import Entry

log = structlog.get_logger()

MAX_OWED: Final = 1_000
"""Lines that may wait for a disk that takes none. No device is written meanwhile, so they are answers only."""

_Result = TypeVar("_Result")


def audit_folder(store: str | Path) -> Path:
    """Where the audit of a record lies: beside it, as `<store>.audit/`."""
    path = Path(store)
    return path.with_name(f"{path.name}.audit")


class AuditTrail:
    """Opened with `async with`. What it has appended survives a power cut."""

    def __init__(self, folder: AuditFolder, known: Head, now: Callable[[], int]) -> None:
        """`known` is the end of the chain as the record has it, `now` the gateway's clock."""
        self._folder = folder
        self._known = known
        self._now = now
        self._owed: list[Entry] = []
        self._lost = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit")

    async def __aenter__(self) -> Self:
        """Look at the chain; what is wrong with it is told, and ends nothing: machines are read all the same."""
        try:
            await self._run(lambda: self._folder.look(self._known, self._now()))
        except AuditError as error:
            log.error("the audit cannot be written; no device is written to", reason=str(error))
        self._tell_noticed()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owed:
            await self.tell(())
        self._thread.shutdown(wait=False)

    @property
    def head(self) -> Head:
        """The end of the chain, for the record to know."""
        return self._folder.end if self._folder.end.n else self._known

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """Append, and return the lines' numbers. Raises `AuditError`: what they are about must not be done then."""
        owed, self._owed = self._owed, []
        if self._lost:
            text = f"{self._lost} lines about answers are lost: the disk took none for too long"
            owed = [*owed, Entry(kind="lost", t=self._now(), detail=(text,))]
        try:
            numbers = await self._run(lambda: self._folder.append([*owed, *entries]))
        except AuditError:
            self._owed = owed[:-1] if self._lost else owed
            raise
        self._lost = 0
        self._tell_noticed()
        return numbers[len(owed) :]

    async def tell(self, entries: Sequence[Entry]) -> None:
        """Append what has happened already. On a disk that takes no line it is owed, and written with the next."""
        try:
            await self.append(entries)
        except AuditError as error:
            log.error("the audit cannot be written; no device is written to", reason=str(error))
            room = max(0, MAX_OWED - len(self._owed))
            self._owed += entries[:room]
            self._lost += len(entries[room:])

    def _tell_noticed(self) -> None:
        noticed, self._folder.noticed = self._folder.noticed, []
        for entry in noticed:
            log.error("the audit is not as it was left", what=entry.kind, detail="; ".join(entry.detail))

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
