"""What a dry run does with the outbox: into a file instead of to a broker, each message one line of JSON."""

import asyncio
from typing import BinaryIO, Final

import msgspec

from gateway.drivers.base import Clock
from gateway.store.store import Store

READ_AHEAD: Final = 200


class DryRun:
    """In the place of the link to the broker. There is no connection to any, so no command can come in either."""

    connected = False

    def __init__(self, store: Store, out: BinaryIO, clock: Clock) -> None:
        self._store = store
        self._out = out
        self._clock = clock
        self._work = asyncio.Event()
        self._last_id = 0

    def wake(self) -> None:
        """Something was committed to the outbox."""
        self._work.set()

    def tell_status(self, online: bytes, offline: bytes) -> None:
        """There is nobody to be told."""

    async def run(self) -> None:
        """Write what is committed, until cancelled."""
        while True:
            self._work.clear()
            while await self._write_some():
                pass
            await self._work.wait()

    async def drain(self, seconds: float) -> None:
        """Write what is left, and no more than `seconds` long."""
        async with asyncio.timeout(seconds):
            while await self._write_some():
                pass

    async def _write_some(self) -> bool:
        """Some lines, on a thread: a pipe that nobody reads must not stop the loop (trap E3)."""
        rows = await self._store.unpublished(self._last_id, READ_AHEAD)
        retained = await self._store.unsent_retained(READ_AHEAD)
        if rows:
            self._last_id = rows[-1].id
        lines = [_line(row.topic, row.payload, retain=False) for row in rows]
        lines += [_line(row.topic, row.payload, retain=True) for row in retained]
        if not lines:
            return False
        await asyncio.to_thread(self._write, b"".join(lines))
        await self._store.mark_published([row.id for row in rows], self._clock.now())
        await self._store.mark_retained_sent([(row.topic, row.version) for row in retained])
        return True

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self._out.flush()


def _line(topic: str, payload: bytes, *, retain: bool) -> bytes:
    """The payload as it would be sent, byte for byte."""
    return msgspec.json.encode({"topic": topic, "retain": retain, "payload": msgspec.Raw(payload)}) + b"\n"
