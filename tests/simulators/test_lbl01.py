"""LBL01 over a real Modbus TCP socket."""

from collections.abc import AsyncIterator

import pytest
from pymodbus.client import AsyncModbusTcpClient
from stages import Stage, opened

from simulators.models.labeller import PARAMETERS, crc16
from simulators.servers.lbl01 import ModbusDevice


class Registers:
    """A client that reads and writes holding registers of unit 1."""

    def __init__(self, client: AsyncModbusTcpClient) -> None:
        self.client = client

    async def read(self, address: int, count: int = 1) -> list[int]:
        answer = await self.client.read_holding_registers(address, count=count, device_id=1)
        assert not answer.isError(), answer
        return answer.registers

    async def write(self, address: int, *values: int) -> int:
        """The exception code, 0 for success. One value goes by FC6, several by FC16."""
        if len(values) == 1:
            answer = await self.client.write_register(address, values[0], device_id=1)
        else:
            answer = await self.client.write_registers(address, list(values), device_id=1)
        return answer.exception_code if answer.isError() else 0


@pytest.fixture
async def registers(stage: Stage) -> AsyncIterator[Registers]:
    async with opened(stage, ModbusDevice(stage.play)) as device:
        client = AsyncModbusTcpClient(
            "127.0.0.1", port=int(device.url.rpartition(":")[2]), retries=0, reconnect_delay=0
        )
        await client.connect()
        yield Registers(client)
        client.close()


def _set(oven_sp: int) -> list[int]:
    values = [oven_sp, *(parameter.initial for parameter in PARAMETERS[1:])]
    return [*values, crc16(values)]


async def test_the_register_map_in_the_middle_of_a_batch(registers: Registers, stage: Stage) -> None:
    await stage.to(181)
    image = await registers.read(0, 120)

    # Ready, starved, remote, permit: the filler jammed 20 s ago. Alarm 3301 is active, not acknowledged.
    assert image[0] == 0b1010_1010
    assert image[1:4] == [1, 1, 0]
    assert image[10:13] == [(65500 + 90) % 65536, 80, 10]
    assert image[20:22] == [1500, 1500]
    assert image[30:38] == [0x3831, 0, 0, 0, 0, 0, 0, 0]
    # 18 raw counts in 181 s: 65530 + 18 = 65548, low word first.
    assert image[40:42] == [12, 1]
    assert image[50] == 0x81
    assert image[100:104] == [0, 0, 0, 0]
    assert image[119] == crc16(image[110:119])


async def test_a_read_sees_one_scan_whole(registers: Registers, stage: Stage) -> None:
    await stage.to(120)
    before = await registers.read(0, 120)
    stage.line.advance_to(150_000)

    assert await registers.read(0, 120) == before
    await stage.to(150)
    assert (await registers.read(11))[0] == before[11] + 30


async def test_a_download_in_one_transaction_is_taken_clamped_and_read_back(registers: Registers, stage: Stage) -> None:
    await stage.to(40)
    assert await registers.write(110, *_set(1825)) == 0
    assert await registers.write(100, 1) == 0
    assert await registers.read(101, 3) == [1, 1, 0]
    await stage.to(42)

    assert await registers.read(101, 3) == [1, 2, 0]
    assert await registers.read(110, 10) == _set(1800)
    assert await registers.read(21) == [1800]
    assert [(w.tag, w.value) for w in stage.line.writes] == [("HR110", _set(1825)), ("HR100", [1])]


async def test_a_machine_that_is_not_remote_says_so(registers: Registers, stage: Stage) -> None:
    await stage.to(29)
    await registers.write(110, *_set(1750))
    await registers.write(100, 1)

    assert await registers.read(100, 4) == [1, 1, 3, 1]
    assert (await registers.read(0))[0] & 1 << 5 == 0


async def test_a_wrong_crc_is_refused(registers: Registers, stage: Stage) -> None:
    await stage.to(40)
    await registers.write(110, *_set(1750)[:-1], 0)
    await registers.write(100, 1)

    assert await registers.read(101, 3) == [1, 3, 2]


async def test_only_command_and_parameters_can_be_written(registers: Registers, stage: Stage) -> None:
    refused = [await registers.write(10, 0), await registers.write(101, 5), await registers.write(118, 0, 0, 0)]

    assert refused == [2, 2, 2]
    assert [w.accepted for w in stage.line.writes] == [False, False]  # the last one ends outside of all registers
    assert await registers.read(10) == [65500]


async def test_what_is_not_in_the_map_is_an_error_not_a_zero(registers: Registers) -> None:
    beyond = await registers.client.read_holding_registers(119, count=2, device_id=1)
    coils = await registers.client.read_coils(0, count=1, device_id=1)
    inputs = await registers.client.read_input_registers(0, count=1, device_id=1)

    assert [answer.exception_code for answer in (beyond, coils, inputs)] == [2, 1, 1]
