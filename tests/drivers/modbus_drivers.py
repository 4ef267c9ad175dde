"""Tags and open drivers for tests against a Modbus device on loopback."""

from contextlib import asynccontextmanager

from clocks import PlantClock

from gateway.domain.values import DataType, TagChange
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver


def tag(name: str, data_type: DataType, register, **address) -> Tag[ModbusAddress]:
    return Tag(name, data_type, ModbusAddress(register=register, **address))


def word(name: str, register: int) -> Tag[ModbusAddress]:
    return tag(name, DataType.UINT16, register)


@asynccontextmanager
async def driver(port: int, tags, clock=None, **settings):
    """An open driver that waits for a busy machine; whatever test leaves it, the socket is closed."""
    keys = {"timeout": "10s", "poll_interval": "20ms", **settings}
    made = ModbusDriver("LBL01", ModbusSettings(host="127.0.0.1", port=port, **keys), tags, clock or PlantClock())
    async with made:
        yield made


async def first(batches) -> list[TagChange]:
    return (await anext(batches)).changes
