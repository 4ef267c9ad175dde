"""UDP, one connection for many units, budgets, groups, enumerations; and what two devices must agree on."""

import asyncio
import itertools

import pytest
from clocks import ManualClock, PlantClock
from modbus_devices import Asked, honest_read, liar
from modbus_lines import rtu_over_tcp, sealed

from gateway.domain.tags.conversion import Conversion, to_engineering, to_raw
from gateway.domain.values import DataType, StatusCode, TagChange, TagWrite, WriteResult
from gateway.drivers.base import Tag
from gateway.drivers.modbus.budget import Budget
from gateway.drivers.modbus.checks import shared_endpoint_problem
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.connecting import frame_silence
from gateway.drivers.modbus.driver import ModbusDriver


def tag(name: str, data_type: DataType, register, **address) -> Tag[ModbusAddress]:
    return Tag(name, data_type, ModbusAddress(register=register, **address))


WORD = tag("word", DataType.UINT16, 0)


def driver(tags, clock=None, **keys) -> ModbusDriver:
    settings = ModbusSettings(**{"host": "127.0.0.1", "timeout": "5s", "poll_interval": "20ms", **keys})
    return ModbusDriver("PLC", settings, tags, clock or PlantClock())


# --- UDP -----------------------------------------------------------------------------------------------------------------


class UdpDevice(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        asked = Asked(int.from_bytes(data[:2], "big"), data[6], data[7:])
        self.transport.sendto(honest_read(asked, 9), addr)


async def test_a_device_is_read_over_udp():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(UdpDevice, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    async with driver([WORD], transport="udp", port=port) as opened:
        assert [change.value for change in await opened.read(["word"])] == [9]
    transport.close()
    await asyncio.sleep(0.01)


# --- one connection, budgets ------------------------------------------------------------------------------------------


async def test_units_of_one_endpoint_share_one_connection():
    async with (
        rtu_over_tcp(lambda request: (0.0, _own_unit(request))) as (units, port),
        driver([WORD], transport="rtu_over_tcp", port=port, unit_id=1) as one,
        driver([WORD], transport="rtu_over_tcp", port=port, unit_id=2) as two,
    ):
        answers = await asyncio.gather(*(opened.read(["word"]) for opened in (one, two, one, two)))
        assert [changes[0].value for changes in answers] == [1, 2, 1, 2]
        assert units.connections == 1


def _own_unit(request: bytes) -> bytes:
    return sealed(bytes([request[0], 3, 2, 0, request[0]]))


def test_a_budget_of_four_a_second_gives_places_a_quarter_of_a_second_apart_and_saves_none_up():
    budget = Budget(4)
    assert [budget.wait(now=10.0) for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    assert [budget.wait(now=20.0) for _ in range(3)] == [0.0, 0.25, 0.5]
    assert [budget.wait(now=20.6) for _ in range(2)] == [pytest.approx(0.15), pytest.approx(0.4)]
    assert Budget(None).wait(now=10.0) == 0.0


async def test_a_device_is_asked_no_more_often_than_it_bears():
    asked_at: list[float] = []
    loop = asyncio.get_running_loop()

    def answer(asked):
        asked_at.append(loop.time())
        return honest_read(asked)

    async with liar(answer) as plc, driver([WORD], port=plc.port, max_requests_per_second=50) as opened:
        began = loop.time()
        await asyncio.gather(*(opened.read(["word"]) for _ in range(6)))
    assert all(at - began >= number / 50 for number, at in enumerate(asked_at))


async def test_every_frame_keeps_its_distance_from_the_last_whichever_unit_it_is_for():
    asked_at: list[float] = []
    loop = asyncio.get_running_loop()

    def answer(asked):
        asked_at.append(loop.time())
        return honest_read(asked)

    async with (
        liar(answer) as plc,
        driver([WORD], port=plc.port, unit_id=1, request_delay="30ms") as one,
        driver([WORD], port=plc.port, unit_id=2, request_delay="30ms") as two,
    ):
        await asyncio.gather(*(opened.read(["word"]) for opened in (one, two, one, two, one)))
    assert all(later - earlier >= 0.029 for earlier, later in itertools.pairwise(asked_at))


@pytest.mark.parametrize(("baudrate", "milliseconds"), [(9_600, 4.01), (19_200, 2.01), (38_400, 1.75), (115_200, 1.75)])
def test_a_serial_line_is_silent_between_frames_for_three_and_a_half_characters(baudrate, milliseconds):
    """Fixed at 1.75 ms above 19,200 baud (Modbus over Serial Line V1.02 §2.5.1.1)."""
    line = ModbusSettings(transport="rtu", port="/dev/ttyUSB0", baudrate=baudrate)
    assert frame_silence(line) * 1000 == pytest.approx(milliseconds, abs=0.01)
    assert frame_silence(line.model_copy(update={"request_delay": 0.02})) == 0.02


def test_units_on_one_connection_must_agree_on_it_and_be_different_units():
    one = ModbusSettings(host="10.0.0.1", unit_id=1)
    assert shared_endpoint_problem(one, ModbusSettings(host="10.0.0.1", unit_id=2)) == ""
    assert shared_endpoint_problem(one, ModbusSettings(host="10.0.0.2", unit_id=1)) == ""
    other = ModbusSettings(host="10.0.0.1", unit_id=2, transport="rtu_over_tcp")
    assert "10.0.0.1:502 has another transport there" in shared_endpoint_problem(one, other)
    assert "10.0.0.1:502 unit 1 is configured there" in shared_endpoint_problem(one, one)


# --- bits, groups, enumerations ---------------------------------------------------------------------------------------


async def test_a_bit_is_written_by_the_device_itself_and_never_read_first():
    async with liar(lambda asked: asked.frame(asked.pdu)) as plc:
        async with driver([tag("run", DataType.BOOL, 100, bits=3)], port=plc.port) as opened:
            assert await opened.write([TagWrite("run", True)]) == [WriteResult("run")]
        assert [asked.pdu.hex() for asked in plc.asked] == ["160064fff70008"]


async def test_tags_with_an_interval_of_their_own_are_polled_by_it_and_a_batch_names_those_it_speaks_for():
    fast, slow = tag("fast", DataType.UINT16, 0, poll_interval="100ms"), tag("slow", DataType.UINT16, 200)
    clock = ManualClock()
    async with liar(honest_read) as plc, driver([fast, slow], clock, port=plc.port, poll_interval="1s") as opened:
        batches = opened.changes()
        polled = [(await anext(batches)).polled]
        for _ in range(20):
            following = asyncio.ensure_future(anext(batches))
            await clock.advance(0.1)
            polled.append((await following).polled)
        asked = [int.from_bytes(asked.pdu[1:3], "big") for asked in plc.asked]
    assert (asked.count(0), asked.count(200)) == (21, 3)
    both = [number for number, groups in enumerate(polled) if set(groups) == {frozenset({"fast"}), frozenset({"slow"})}]
    assert both == [0, 10, 20]
    assert polled.count((frozenset({"fast"}),)) == 18


def test_a_code_is_shown_as_the_text_that_it_means_and_written_back_as_the_code():
    conversion = Conversion(DataType.UINT16, labels={0: "stopped", 1: "running"})
    assert to_engineering(TagChange("t", 1), conversion) == ("running", StatusCode.GOOD)
    assert to_engineering(TagChange("t", 9), conversion) == ("9", StatusCode.UNCERTAIN)
    assert to_raw("stopped", conversion) == 0
    with pytest.raises(ValueError, match="is none of stopped, running"):
        to_raw("flying", conversion)
