"""Children of the demo: started in sessions of their own, read line by line, ended all together."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

PATIENCE: Final = 8.0
"""Seconds for an orderly end before a child is killed."""

READY: Final = 30.0
"""Seconds for a child to say that it is ready, on a slow machine."""


class ChildFailed(Exception):  # noqa: N818 - it says what happened, and reads so where it is caught
    """A child ended, or never became ready; the text shows the end of its log."""


class Child:
    """One process. Its standard output is JSON lines, its standard error goes to a log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log

    async def lines(self) -> AsyncIterator[Any]:
        """What it prints, decoded, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            yield msgspec.json.decode(line)

    async def ready(self) -> dict[str, Any]:
        """Its first line; raises `ChildFailed` with its log if it does not come."""
        try:
            async with asyncio.timeout(READY):
                async for line in self.lines():
                    return dict(line)
        except TimeoutError:
            raise self.failure(f"was not ready within {READY:g} s") from None
        raise self.failure("ended before it was ready")

    def failure(self, what: str) -> ChildFailed:
        """`what` happened, with the end of the log."""
        tail = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
        return ChildFailed("\n".join([f"{self.name} {what}; its log ends:", *(f"    {line}" for line in tail)]))

    async def end(self) -> None:
        """SIGTERM, patience, SIGKILL: afterwards it is gone."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._drained()
        except TimeoutError:
            _kill_group(self.process.pid)
            await self.process.wait()

    async def _drained(self) -> None:
        """Wait for its end; somebody must read its output meanwhile, or a full pipe would hold it."""
        assert self.process.stdout is not None
        while not self.process.stdout.at_eof() and await _read_some(self.process.stdout):
            pass
        await self.process.wait()


class Children:
    """All of them; leaving the block ends whatever still runs, the newest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            await asyncio.shield(child.end())

    async def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Child:
        """Start `python -m …`. A session of its own keeps Ctrl-C for the demo, which then ends everything in order."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=2**20,
                start_new_session=True, env={**os.environ, **(environment or {})},
            )  # fmt: skip
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def forget(self, child: Child) -> None:
        """It ended as it should."""
        self._children.remove(child)

    def find_ended(self) -> Child | None:
        """A child that ended although nobody asked it to."""
        return next((child for child in self._children if child.process.returncode is not None), None)


async def _read_some(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.read(2**16)
    except RuntimeError:  # another task is reading it, and goes on doing so
        await asyncio.sleep(0.02)
        return b"." if not stream.at_eof() else b""


def _kill_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        return
