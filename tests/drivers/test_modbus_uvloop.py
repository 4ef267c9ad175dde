"""`gateway run` plays on uvloop where it exists, whose transports are no subclasses of asyncio's: Modbus must not mind."""

import asyncio

import pytest

from gateway.domain.values import DataType, TagChange
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver
from gateway.runtime.clock import SystemClock
from tests.drivers.modbus_devices import device


def test_a_register_is_read_on_uvloop_as_on_the_standard_loop() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed; the gateway then runs on the standard loop")
    tag = Tag("OVEN.actual", DataType.UINT16, ModbusAddress(register=7))

    async def read() -> list[TagChange]:
        async with device() as oven:
            await oven.set(7, 1751)
            settings = ModbusSettings(host="127.0.0.1", port=oven.port)
            async with ModbusDriver("OVEN", settings, [tag], SystemClock()) as driver:
                return await driver.read([tag.tag_id])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(read()) == [TagChange("OVEN.actual", 1751)]
