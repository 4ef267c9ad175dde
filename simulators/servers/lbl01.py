"""LBL01: a Modbus TCP server with the register map of `simulators.servers.registers`, unit identifier 1 (pymodbus)."""

import asyncio
import logging
from typing import Final, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.faults import HANDSHAKE, MODBUS, DeviceFaults, ExceptionReply
from simulators.servers import registers
from simulators.servers.faulty_modbus import FaultyServer
from simulators.servers.play import Play

UNIT_ID: Final = 1
_READ, _WRITE_ONE, _WRITE_MANY = 3, 6, 16

LONGEST_HOLD: Final = 60_000
"""Plant milliseconds after which registers are shown even by a play that cannot keep up."""


class ModbusDevice:
    """The server in front of the line's labeller. Every read sees one whole scan."""

    name = "LBL01"

    def __init__(self, play: Play, host: str = "127.0.0.1", port: int = 0) -> None:
        self._play = play
        self._labeller = play.line.labeller
        self._address = (host, port)
        self._limits = list(self._labeller.limits)
        self._image = registers.image(self._labeller.tags())
        self._shown = -LONGEST_HOLD
        self._server: ModbusTcpServer | None = None
        writable = [str(register) for register in (registers.COMMAND, *registers.PARAMETERS)]
        self.faults = DeviceFaults(self.name, MODBUS | HANDSHAKE, writable, play.line.scenario, play.line.time)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"modbus://{self._address[0]}:{self._address[1]}"

    async def open(self) -> None:
        """Listen."""
        # Its errors are those of clients, who get them as exception responses.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        block = SimData(0, count=registers.SIZE, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(UNIT_ID, simdata=[block], action=self._serve)
        self._server = FaultyServer(device, self._address, self.faults)
        await self._server.serve_forever(background=True)
        self._address = (self._address[0], _port(self._server))

    async def close(self) -> None:
        """Drop every connection and stop listening."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no hints here
            self._server = None

    async def cut(self, *, restart: bool) -> None:
        """Drop every connection and stop listening, until mended; Modbus has no sessions that a restart could end."""
        await self.close()

    async def mend(self) -> None:
        """Listen again on the same port."""
        await self.open()

    async def publish(self) -> None:
        """Take over a whole scan, unless it is late and a newer one is due.

        Registers have no time stamps. What is made up for scan by scan, within milliseconds, would look to whoever
        polls meanwhile as if a minute's bottles had been labelled in one second.
        """
        now = self._play.line.time.ms
        if self._play.is_late and now - self._shown < LONGEST_HOLD:
            return
        self._shown = now
        self._labeller.limits = [
            int(min(limit, self.faults.ceiling(str(register))))
            for register, limit in zip(registers.PARAMETERS, self._limits, strict=False)
        ]
        self._image = registers.image(self._labeller.tags())

    async def _serve(
        self,
        function_code: int,
        _start: int,
        address: int,
        count: int,
        current: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """One request. `current` are the server's own registers: they are refreshed before they are read."""
        if function_code not in {_READ, _WRITE_ONE, _WRITE_MANY}:
            return ExcCodes.ILLEGAL_FUNCTION
        for fault in self.faults.active(ExceptionReply):
            if address <= fault.last and fault.first < address + count:
                return ExcCodes(fault.code)
        if values is not None:
            if not self._write(address, [int(value) for value in values]):
                return ExcCodes.ILLEGAL_ADDRESS
            await self.publish()
        current[: registers.SIZE] = self._image
        return None

    def _write(self, address: int, values: list[int]) -> bool:
        """False for registers that cannot be written. A write that a fault ignores is as good as any to the client."""
        self._play.touch()
        is_ignored = any(self.faults.ignores(str(address + offset)) for offset in range(len(values)))
        known = is_ignored or self._pass_on(address, values)
        self._play.line.note(self.name, f"HR{address}", values, accepted=known and not is_ignored)
        return known

    def _pass_on(self, address: int, values: list[int]) -> bool:
        if address == registers.COMMAND and len(values) == 1:
            self._labeller.handshake.interference = self.faults.interference()
            self._labeller.handshake.request(values[0], self._play.line.time.ms)
        elif address in registers.PARAMETERS:  # they are the last registers: whatever is longer is refused before
            self._labeller.write_parameters(address - registers.PARAMETERS.start, values)
        else:
            return False
        return True


def _port(server: ModbusTcpServer) -> int:
    """The port that was taken; what pymodbus calls the transport of a listening server is asyncio's server."""
    listener = cast(asyncio.Server, server.transport)
    port: int = listener.sockets[0].getsockname()[1]
    return port
