"""A second door to machines of a cell: Modbus TCP, a unit for each of them (pymodbus).

The first of `BEHIND` is unit 1, the second unit 2 and so on. A machine's tags are numbered as in `places`: a bool is
the coil of that number, any other the holding register (uint16). Those that need OPC UA or Int32 are not here.
"""

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.models.handshakes.machine import PARAMETERS, Machine
from simulators.models.handshakes.ways import WAYS

BEHIND: Final = ("sequence_number", "request_bits", "data_ready", "none")
"""The machines that can be reached, in the order of their units."""
_PARAMETER_TAGS: Final = [f"{name}_{end}" for end in ("set", "now") for name in PARAMETERS]
_SIZE: Final = 16
_COILS: Final = frozenset({1, 5, 15})
_REGISTERS: Final = frozenset({3, 6, 16})


def places(way: str) -> dict[str, int]:
    """The coil or register of every tag: those of the handshake, then what is written, then what is shown."""
    return {tag: place for place, tag in enumerate([*WAYS[way].tags, *_PARAMETER_TAGS])}


class CellModbus:
    """Shows and writes what the machines hold, which others scan; port 0 is any, `port` tells which."""

    def __init__(self, machines: Mapping[str, Machine], host: str = "127.0.0.1", port: int = 0) -> None:
        self.port = port
        self._units = [_Unit(machines[way]) for way in BEHIND]
        self._host = host
        self._server: ModbusTcpServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"modbus://{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # its errors are those of clients, who are told
        devices = [unit.device(number) for number, unit in enumerate(self._units, 1)]
        self._server = ModbusTcpServer(devices, address=(self._host, self.port))
        await self._server.serve_forever(background=True)
        self.port = cast(Any, self._server.transport).sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus has no hints here


class _Unit:
    """One machine as coils and holding registers."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tags = list(places(machine.name))

    def device(self, unit: int) -> SimDevice:
        """The machine for pymodbus, whose own memory is refreshed before it is read."""
        coils = [SimData(0, values=[False] * _SIZE, datatype=DataType.BITS)]
        registers = [SimData(0, count=_SIZE, values=0, datatype=DataType.REGISTERS)]
        return SimDevice(unit, (coils, coils, registers, registers), action=self._serve)

    async def _serve(
        self,
        function_code: int,
        _start: int,
        address: int,
        _count: int,
        current: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """One request; `current` is pymodbus' memory, in which sixteen coils are one register."""
        if function_code not in _COILS | _REGISTERS:
            return ExcCodes.ILLEGAL_FUNCTION
        is_bits = function_code in _COILS
        if values is not None:
            return self._write(address, values, is_bits=is_bits)
        image = self._image(is_bits=is_bits)
        current[: len(image)] = [sum(bit << place for place, bit in enumerate(image))] if is_bits else image
        return None

    def _image(self, *, is_bits: bool) -> list[int]:
        values = [self._machine.tags[tag] for tag in self._tags]
        return [int(value) if isinstance(value, bool) is is_bits else 0 for value in values]

    def _write(self, address: int, values: list[int] | list[bool], *, is_bits: bool) -> ExcCodes | None:
        """Nothing of a request that names what cannot be written; of one that is refused what came before."""
        tags = self._tags[address : address + len(values)]
        is_known = len(tags) == len(values) and set(tags) <= self._machine.writable
        if not is_known or any(isinstance(self._machine.tags[tag], bool) is not is_bits for tag in tags):
            return ExcCodes.ILLEGAL_ADDRESS
        now_ms = round(time.monotonic() * 1000)
        for tag, value in zip(tags, values, strict=True):
            if not self._machine.write(tag, bool(value) if is_bits else int(value), now_ms):
                return ExcCodes.DEVICE_FAILURE
        return None
