"""A TCP proxy that fails on command: what lies between a gateway and its device, or its broker, in real plants.

Each fault is what a network really does: `cut` is a reset, `refuse` a closed port, `freeze` a cable pulled out (the
sockets stay open and nothing comes), `delay` a slow link, `trickle` a serial converter, `corrupt` a bad one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

Direction = Literal["up", "down"]
"""`up` goes from the client to the target, `down` comes back."""
BOTH: Final[tuple[Direction, ...]] = ("up", "down")
_CHUNK: Final = 65_536
_HELD: Final = 1_000
"""Chunks kept on their way by a delay; with more the sender has to wait, as on a real line."""
_FLIPPED: Final = 0x40
"""The bit that a corrupted byte has wrong."""


@dataclass(slots=True)
class Statistics:
    """What went through since the proxy was opened; bytes are counted when they are handed on."""

    connections: int = 0
    failed: int = 0
    cut: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    corrupted: int = 0


@dataclass(slots=True)
class _Fault:
    """What is done to one direction. `delay` and `pause` in seconds."""

    delay: float = 0.0
    piece: int = 0
    pause: float = 0.0
    every: int = 0
    passed: int = 0


class FaultProxy:
    """Listens on loopback and carries to `host:port`, `async with FaultProxy(port) as proxy: proxy.cut()`.

    Faults hold for connections there are and for those to come, until `clear`. With `listen` 0 a free port is taken,
    told by `port` and kept over `refuse` and `accept`.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, listen: int = 0, address: str = "127.0.0.1") -> None:
        self.statistics = Statistics()
        self.port = listen
        self._address = address
        self._target = (host, port)
        self._faults: dict[Direction, _Fault] = {direction: _Fault() for direction in BOTH}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    # --- faults -------------------------------------------------------------------------------------------------

    def cut(self) -> int:
        """Reset every connection, both ends; new ones are taken. Answers with how many were cut."""
        number = len(self._serving)
        self.statistics.cut += number
        for writer in self._writers:
            writer.transport.abort()
        return number

    async def refuse(self) -> None:
        """Cut, and close the port: who tries is refused by the system."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next round

    async def accept(self) -> None:
        """Listen, again after `refuse`, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._take, self._address, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        """Half-open: connections stay, and can be made, but nothing gets through in either direction."""
        self._flowing.clear()

    def thaw(self) -> None:
        """What was held back arrives, in its order, and all flows again."""
        self._flowing.set()

    def delay(self, seconds: float, *directions: Direction) -> None:
        """Everything arrives that much later, in its order and as fast as before; no direction means both."""
        for direction in directions or BOTH:
            self._faults[direction].delay = seconds

    def trickle(self, piece: int, pause: float, *directions: Direction) -> None:
        """Hand on `piece` bytes at a time with a pause of so many seconds between; 0 bytes ends it."""
        for direction in directions or BOTH:
            self._faults[direction].piece, self._faults[direction].pause = piece, pause

    def corrupt(self, every: int, *directions: Direction) -> None:
        """One bit of every `every`-th byte from now on arrives wrong; 0 ends it."""
        for direction in directions or BOTH:
            self._faults[direction].every, self._faults[direction].passed = every, 0

    async def clear(self) -> None:
        """No fault any more: accept, thaw, no delay, no trickle, nothing corrupted."""
        self._faults = {direction: _Fault() for direction in BOTH}
        self.thaw()
        await self.accept()

    # --- carrying -----------------------------------------------------------------------------------------------

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="proxied connection")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.statistics.connections += 1
        async with self._closing(writer):
            try:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
            except OSError:
                self.statistics.failed += 1
                return
            async with self._closing(far_writer):
                # One end's end is the other's: a half-closed connection is no fault of this proxy's repertoire.
                carrying = [
                    asyncio.create_task(self._carry(reader, far_writer, "up")),
                    asyncio.create_task(self._carry(far_reader, writer, "down")),
                ]
                try:
                    await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in carrying:
                        task.cancel()
                    await asyncio.gather(*carrying, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _closing(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """One direction until either end closes. What was read before the end is still handed on."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD)
        handing_on = asyncio.create_task(self._hand_on(held, writer, direction))
        now = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while content := await reader.read(_CHUNK):
                    await held.put((now() + self._faults[direction].delay, content))
                await held.put((now(), b""))
                await handing_on
        finally:
            handing_on.cancel()
            await asyncio.gather(handing_on, return_exceptions=True)

    async def _hand_on(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, content = await held.get()
            if not content:
                return
            if (wait := due - now()) > 0:
                await asyncio.sleep(wait)
            await self._flowing.wait()
            await self._write(self._spoil(content, direction), writer, direction)

    async def _write(self, content: bytes, writer: asyncio.StreamWriter, direction: Direction) -> None:
        while content:
            fault = self._faults[direction]
            piece, content = (content[: fault.piece], content[fault.piece :]) if fault.piece else (content, b"")
            writer.write(piece)
            await writer.drain()
            if direction == "up":
                self.statistics.bytes_up += len(piece)
            else:
                self.statistics.bytes_down += len(piece)
            if content:
                await asyncio.sleep(fault.pause)
                await self._flowing.wait()

    def _spoil(self, content: bytes, direction: Direction) -> bytes:
        fault = self._faults[direction]
        if not fault.every:
            return content
        spoilt = bytearray(content)
        first = fault.every - 1 - fault.passed % fault.every
        for at in range(first, len(spoilt), fault.every):
            spoilt[at] ^= _FLIPPED
            self.statistics.corrupted += 1
        fault.passed += len(spoilt)
        return bytes(spoilt)
