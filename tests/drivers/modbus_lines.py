"""Modbus units of our own on every transport, that answer as a test tells them: late, wrongly, in pieces, not at all."""

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from pymodbus.framer.rtu import FramerRTU

Reply = tuple[float, bytes] | None
"""Seconds to wait, then the whole frame; None is silence."""


def sealed(frame: bytes) -> bytes:
    """With the checksum that pymodbus computes, so that ours is not tested against itself."""
    return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


def honest(request: bytes) -> bytes:
    """The right RTU reply of a device in which every register holds its own address."""
    unit, function, first, count = struct.unpack_from(">BBHH", request)
    if function in (3, 4):
        content = struct.pack(f">{count}H", *range(first, first + count))
        return sealed(struct.pack(">BBB", unit, function, len(content)) + content)
    return sealed(request[:8] if function == 22 else request[:6])


def request_size(received: bytes) -> int:
    """Bytes of the RTU request that begins here; 8 for those that read."""
    if len(received) > 6 and received[1] in (15, 16):
        return 9 + received[6]
    return 10 if len(received) > 1 and received[1] == 22 else 8


class RtuUnits:
    """All units of one RTU line; `answer(request)` says what comes of each request, its checksum included."""

    def __init__(self, answer: Callable[[bytes], Reply]) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.connections = 0
        self.send: Callable[[bytes], object] = lambda _frame: None
        self._received = bytearray()
        self._late: set[asyncio.TimerHandle] = set()

    def take(self, data: bytes, send: Callable[[bytes], None]) -> None:
        """Bytes from the line; answers leave through `send`."""
        self._received += data
        while len(self._received) >= (size := request_size(bytes(self._received))):
            request = bytes(self._received[:size])
            del self._received[:size]
            self.asked.append(request)
            if (reply := self.answer(request)) is not None:
                delay, frame = reply
                self._late.add(asyncio.get_running_loop().call_later(delay, send, frame))

    def stop(self) -> None:
        for late in self._late:
            late.cancel()


@asynccontextmanager
async def rtu_over_tcp(answer: Callable[[bytes], Reply]) -> AsyncIterator[tuple[RtuUnits, int]]:
    """A serial server: all connections lead to the same line, and what arrives late goes to whoever is there then."""
    units = RtuUnits(answer)
    connected: set[asyncio.StreamWriter] = set()

    def broadcast(frame: bytes) -> None:
        for writer in connected:
            writer.write(frame)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        units.connections += 1
        connected.add(writer)
        with suppress(ConnectionError):
            while data := await reader.read(512):
                units.take(data, broadcast)
        connected.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield units, server.sockets[0].getsockname()[1]
    finally:
        units.stop()
        for writer in list(connected):
            writer.transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serial_line(answer: Callable[[bytes], Reply]) -> AsyncIterator[tuple[RtuUnits, str]]:
    """A pty pair: the units at one end, the path of the other."""
    units = RtuUnits(answer)
    own, other = os.openpty()
    tty.setraw(own)
    tty.setraw(other)
    loop = asyncio.get_running_loop()
    units.send = lambda frame: os.write(own, frame)
    loop.add_reader(own, lambda: units.take(os.read(own, 512), units.send))
    try:
        yield units, os.ttyname(other)
    finally:
        units.stop()
        loop.remove_reader(own)
        os.close(own)
        os.close(other)
