"""A Modbus TCP device that takes parameters: 1,000 registers that can be read and written (FC3, FC6, FC16).

Register 900 counts the reads of it, so that a tag on it changes at every poll; writing `CmdSeq` (910) acknowledges it
at once (911) with the status done (912). `python -m bench.parameter_device` says its port; `report` on standard input
asks for the write requests since the last one: {"writes": …, "reads": …}.
"""

import asyncio
import struct
import sys

from bench.lines import say

BEAT, COMMAND, ACKNOWLEDGED, STATUS, ERROR = 900, 910, 911, 912, 913
DONE = 2


class _Memory:
    """The registers, and how often they were asked for."""

    def __init__(self) -> None:
        self.registers = [0] * 1_000
        self.reads = self.writes = 0

    def answer(self, pdu: bytes) -> bytes:
        """What a device says to this request."""
        function, first, number = struct.unpack(">BHH", pdu[:5])
        if function == 3:
            self.reads += 1
            if first <= BEAT < first + number:
                self.registers[BEAT] = (self.registers[BEAT] + 1) % 65_536
            held = self.registers[first : first + number]
            return struct.pack(f">BB{number}H", 3, 2 * number, *held)
        self.writes += 1
        values = [number] if function == 6 else list(struct.unpack(f">{number}H", pdu[6:]))
        self.registers[first : first + len(values)] = values
        if first <= COMMAND < first + len(values):
            self.registers[ACKNOWLEDGED], self.registers[STATUS] = self.registers[COMMAND], DONE
        return pdu[:5]


class _Device(asyncio.Protocol):
    """One connection; a client asks one thing at a time, so a request is never cut in two on loopback."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """One request: answered at once."""
        transaction, protocol, _, unit = struct.unpack(">HHHB", data[:7])
        pdu = self._memory.answer(data[7:])
        self._transport.write(struct.pack(">HHHB", transaction, protocol, len(pdu) + 1, unit) + pdu)


async def _serve() -> None:
    memory, loop = _Memory(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Device(memory), "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})

    def report() -> None:
        if sys.stdin.readline().strip() == "report":
            say({"writes": memory.writes, "reads": memory.reads})
            memory.writes = memory.reads = 0

    loop.add_reader(sys.stdin, report)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
