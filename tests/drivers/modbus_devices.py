"""Modbus devices to test against: an honest one of pymodbus, and a liar of our own that answers whatever it is told."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType as SimType
from pymodbus.simulator import SimData, SimDevice


class Request(NamedTuple):
    """One request as the device saw it; `values` None for a read."""

    function: int
    address: int
    count: int
    values: list[int] | list[bool] | None


class Device:
    """Registers 0-299 except the holes, and 64 coils and discrete inputs; remembers what it was asked."""

    def __init__(self, holes: tuple[int, ...]) -> None:
        self.requests: list[Request] = []
        self._holding = [SimData(at, values=0, datatype=SimType.REGISTERS) for at in range(300) if at not in holes]
        bits = [SimData(0, values=[False] * 64, datatype=SimType.BITS)]
        inputs = [SimData(0, count=300, values=0, datatype=SimType.REGISTERS)]
        simulated = SimDevice(1, ([*bits], [*bits], self._holding, inputs), action=self._note)
        self._server = ModbusTcpServer(simulated, address=("127.0.0.1", 0))
        self.delay = 0.0

    @property
    def port(self) -> int:
        return self._server.transport.sockets[0].getsockname()[1]

    @property
    def reads(self) -> list[tuple[int, int]]:
        """Address and count of every read so far."""
        return [(request.address, request.count) for request in self.requests if request.values is None]

    @property
    def writes(self) -> list[tuple[int, int, list[int] | list[bool]]]:
        """Function, address and values of every write so far."""
        return [(request.function, request.address, request.values) for request in self.requests if request.values]

    async def _note(self, function, start, address, count, registers, values):
        # pymodbus reads back what FC5 and FC6 wrote before it answers; that is no request.
        if not (self.requests and function in (5, 6) and values is None):
            self.requests.append(Request(function, address, count, values and list(values)))
        if self.delay:
            await asyncio.sleep(self.delay)

    async def set(self, address: int, *registers: int, table: str = "holding") -> None:
        function = {"holding": 16, "input": 4, "coil": 15, "discrete": 2}[table]
        await self._server.async_setValues(1, function, address, list(registers))
        self.requests.pop()

    async def get(self, address: int, count: int = 1) -> list[int]:
        values = await self._server.async_getValues(1, 3, address, count)
        self.requests.pop()
        return values


@asynccontextmanager
async def device(holes: tuple[int, ...] = ()) -> AsyncIterator[Device]:
    made = Device(holes)
    await made._server.serve_forever(background=True)
    try:
        yield made
    finally:
        await made._server.shutdown()
        await asyncio.sleep(0)


class Asked(NamedTuple):
    """One request frame as the liar received it."""

    transaction: int
    unit: int
    pdu: bytes

    def frame(self, pdu: bytes, transaction: int | None = None, unit: int | None = None) -> bytes:
        """A reply frame, honest in its header unless told otherwise."""
        number = self.transaction if transaction is None else transaction
        return struct.pack(">HHHB", number, 0, len(pdu) + 1, self.unit if unit is None else unit) + pdu


class Liar:
    """Answers each request with the bytes of `answer(asked)`; None is silence."""

    def __init__(self, answer: Callable[[Asked], bytes | None]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.port = 0
        self._connections: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                asked = Asked(transaction, unit, await reader.readexactly(length - 1))
                self.asked.append(asked)
                if (reply := self.answer(asked)) is not None:
                    writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()


@asynccontextmanager
async def liar(answer: Callable[[Asked], bytes | None]) -> AsyncIterator[Liar]:
    made = Liar(answer)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.hang_up()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


def honest_read(asked: Asked, register: int = 0) -> bytes:
    """A right answer to FC3 or FC4 in which every register is `register`."""
    (count,) = struct.unpack_from(">H", asked.pdu, 3)
    return asked.frame(bytes([asked.pdu[0], 2 * count]) + struct.pack(">H", register) * count)
