"""Writing over Modbus, held against the bytes on the wire: which function, which registers, what comes of a refusal."""

from contextlib import asynccontextmanager

import pytest
from clocks import ManualClock
from modbus_devices import liar
from modbus_memory import Memory

from gateway.domain.values import DataType, StatusCode, TagWrite, WriteResult
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver
from gateway.drivers.modbus.writer import NOT_SENT

ILLEGAL_FUNCTION = StatusCode.BAD_NOT_SUPPORTED


def tag(name: str, data_type: DataType, register, **address) -> Tag[ModbusAddress]:
    return Tag(name, data_type, ModbusAddress(register=register, **address))


def words(*registers: int) -> list[Tag[ModbusAddress]]:
    return [tag(f"w{at}", DataType.UINT16, at) for at in registers]


@asynccontextmanager
async def driver(memory: Memory, tags, **keys):
    """A driver on a device with that memory."""
    async with liar(memory) as plc:
        settings = ModbusSettings(host="127.0.0.1", port=plc.port, timeout="5s", **keys)
        async with ModbusDriver("PLC", settings, tags, ManualClock()) as opened:
            yield opened


async def write(opened: ModbusDriver, **values) -> dict[str, int]:
    """The status of each write, by tag."""
    results = await opened.write([TagWrite(name, value) for name, value in values.items()])
    return {result.tag_id: result.status_code for result in results}


# --- which function ---------------------------------------------------------------------------------------------------

COILS = [tag(f"c{at}", DataType.BOOL, at, table="coil") for at in range(20)]
SWITCH = tag("switch", DataType.BOOL, 100, bits=3)

WIRE = {
    "one coil on: FC5, FF00": (COILS, {"c3": True}, ["050003ff00"]),
    "one coil off: FC5, 0000": (COILS, {"c3": False}, ["0500030000"]),
    "ten coils side by side: FC15, bits from the lowest": (
        COILS, {f"c{at}": at in (3, 5, 6, 10, 11, 12) for at in range(3, 13)}, ["0f0003000a028d03"],
    ),
    "one register: FC6": (words(7), {"w7": 0x1234}, ["0600071234"]),
    "registers side by side: FC16": (words(7, 8), {"w7": 1, "w8": 2}, ["100007000204" "00010002"]),
    "a float over two registers: FC16": (
        [tag("oven", DataType.FLOAT32, "40-41")], {"oven": 180.5}, ["10002800020443348000"],
    ),
    "one bit: FC22, and mask, or mask": ([SWITCH], {"switch": True}, ["160064fff70008"]),
    "the same bit off": ([SWITCH], {"switch": False}, ["160064fff70000"]),
    "a field of four bits": ([tag("mode", DataType.UINT16, 100, bits="4-7")], {"mode": 9}, ["160064ff0f0090"]),
    "a bit of a register whose low byte comes first": (
        [tag("switch", DataType.BOOL, 100, bits=3, byte_order="little")], {"switch": True}, ["160064f7ff0800"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", WIRE)
async def test_each_kind_of_write_has_its_function_and_its_bytes(story):
    tags, values, wire = WIRE[story]
    memory = Memory()
    async with driver(memory, tags) as opened:
        assert await write(opened, **values) == dict.fromkeys(values, StatusCode.GOOD)
        assert memory.asked == wire
        assert {change.tag_id: change.value for change in await _read_holding(opened, tags, values)} == {
            name: value for name, value in values.items() if tags is not COILS
        }


async def _read_holding(opened, tags, values):
    return [] if tags is COILS else await opened.read(list(values))


async def test_a_bit_that_the_machine_sets_meanwhile_survives_a_write_by_function_22():
    memory = Memory()
    memory.registers[100] = 0b0000_0001
    async with driver(memory, [SWITCH]) as opened:
        await write(opened, switch=True)
    assert memory.registers[100] == 0b0000_1001


# --- bits without function 22 -----------------------------------------------------------------------------------------


async def test_a_device_without_function_22_refuses_the_bit_and_the_register_is_left_alone():
    memory = Memory(lacks=(22,))
    async with driver(memory, [SWITCH]) as opened:
        assert await write(opened, switch=True) == {"switch": ILLEGAL_FUNCTION}
    assert memory.asked == ["160064fff70008"]


async def test_where_the_yaml_allows_it_the_whole_register_is_read_changed_and_written():
    memory = Memory(lacks=(22,))
    memory.registers[100] = 0x8001
    async with driver(memory, [SWITCH], read_modify_write=True) as opened:
        assert await write(opened, switch=True) == {"switch": StatusCode.GOOD}
        assert await write(opened, switch=False) == {"switch": StatusCode.GOOD}
    once = ["160064fff70008", "0300640001", "0600648009"]
    assert memory.asked == [*once, "0300640001", "0600648001"], "function 22 is tried once"


async def test_the_register_is_not_read_back_for_the_machine_has_bits_of_its_own_in_it():
    memory = Memory(lacks=(22,))
    memory.keep = lambda _register, value: value | 0x0100  # a heartbeat
    async with driver(memory, [SWITCH], read_modify_write=True, read_write_multiple=True) as opened:
        assert await write(opened, switch=True) == {"switch": StatusCode.GOOD}


# --- function 23 ------------------------------------------------------------------------------------------------------

PARAMETERS = [*words(110, 111, 112), tag("seq", DataType.UINT16, 100)]


async def test_a_block_is_written_and_read_back_in_one_exchange():
    memory = Memory()
    async with driver(memory, PARAMETERS, read_write_multiple=True) as opened:
        assert await write(opened, w110=1, w111=2, seq=7) == dict.fromkeys(["w110", "w111", "seq"], StatusCode.GOOD)
    assert memory.asked == ["17006e0002006e00020400010002", "170064000100640001020007"]
    assert (memory.registers[110:112], memory.registers[100]) == ([1, 2], 7)


async def test_a_value_that_the_device_clamps_is_known_at_once_and_the_trigger_is_held_back():
    memory = Memory()
    memory.keep = lambda _register, value: min(value, 1_700)
    async with driver(memory, PARAMETERS, read_write_multiple=True) as opened:
        results = await write(opened, w110=1_750, seq=7)
    assert results == {"w110": StatusCode.BAD_OUT_OF_RANGE, "seq": NOT_SENT}
    assert memory.registers[100] == 0


async def test_a_device_without_function_23_refuses_and_nothing_is_written_in_another_way():
    memory = Memory(lacks=(23,))
    async with driver(memory, PARAMETERS, read_write_multiple=True) as opened:
        assert await write(opened, w110=1) == {"w110": ILLEGAL_FUNCTION}
    assert (len(memory.asked), memory.registers[110]) == (1, 0)


async def test_a_sealed_block_is_read_once_and_then_written_and_read_back_together():
    block = {"registers": "110-112", "checksum": {"register": 112, "over": "110-111", "type": "crc16-modbus"}}
    memory = Memory()
    memory.registers[110:112] = [5, 6]
    async with driver(memory, PARAMETERS, read_write_multiple=True, blocks=[block]) as opened:
        assert await write(opened, w111=9) == {"w111": StatusCode.GOOD}
    assert [pdu[:2] for pdu in memory.asked] == ["03", "17"]
    assert memory.registers[110:112] == [5, 9]


async def test_one_request_of_function_23_writes_121_registers_and_no_more():
    memory = Memory()
    tags = words(*range(122))
    async with driver(memory, tags, read_write_multiple=True) as opened:
        await write(opened, **{tag.tag_id: at for at, tag in enumerate(tags)})
    assert [pdu[:18] for pdu in memory.asked] == ["170000007900000079", "170079000100790001"]
    assert memory.registers[:122] == list(range(122))


# --- scale registers --------------------------------------------------------------------------------------------------

LIMIT = tag("limit", DataType.INT16, 10, scale_register=13)


def scaled(exponent: int) -> Memory:
    memory = Memory()
    memory.registers[13] = exponent & 0xFFFF
    return memory


@pytest.mark.parametrize(
    ("exponent", "value", "register"),
    [(-2, 12.34, 1234), (0, 12.0, 12), (3, 7000.0, 7), (-1, -0.5, 0xFFFB), (-2, 0.29, 29)],
)
async def test_a_value_is_written_through_the_scale_that_the_device_has_now(exponent, value, register):
    memory = scaled(exponent)
    async with driver(memory, [LIMIT]) as opened:
        assert await write(opened, limit=value) == {"limit": StatusCode.GOOD}
        assert memory.asked == ["03000d0001", f"06000a{register:04x}"]
        assert [change.value for change in await opened.read(["limit"])] == [value]


async def test_the_scale_is_read_anew_for_every_write():
    memory = scaled(-2)
    async with driver(memory, [LIMIT]) as opened:
        await write(opened, limit=12.0)
        memory.registers[13] = 0xFFFF  # the device was configured anew: one digit
        await write(opened, limit=12.0)
    assert memory.registers[10] == 120


@pytest.mark.parametrize(
    ("exponent", "value"),
    [(-0x8000, 1.0), (11, 1.0), (-2, 1.234), (1, 7.0), (-2, 400.0), (0, -32768.0), (0, float("nan"))],
    ids=["no scale", "no such scale", "too many digits", "too fine", "too large", "not implemented", "no number"],
)
async def test_what_the_scale_of_the_device_cannot_hold_is_refused_and_not_rounded(exponent, value):
    memory = scaled(exponent)
    async with driver(memory, [LIMIT]) as opened:
        assert await write(opened, limit=value) == {"limit": StatusCode.BAD_OUT_OF_RANGE}
    assert memory.asked == ["03000d0001"]


async def test_a_value_and_its_own_scale_are_never_written_in_one_go():
    memory = scaled(-2)
    async with driver(memory, [LIMIT, tag("scale", DataType.INT16, 13)]) as opened:
        assert await write(opened, limit=1.0, scale=-1) == {
            "limit": StatusCode.BAD_NOT_WRITABLE,
            "scale": StatusCode.GOOD,
        }


async def test_a_scale_that_the_device_refuses_to_tell_refuses_the_write():
    memory = Memory(lacks=(3,))
    async with driver(memory, [LIMIT]) as opened:
        assert await opened.write([TagWrite("limit", 1.0)]) == [WriteResult("limit", ILLEGAL_FUNCTION)]
    assert memory.registers[10] == 0
