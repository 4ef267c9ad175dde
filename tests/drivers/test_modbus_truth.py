"""Cases R16-R18: late replies, broken replies, dead units. What is not certain is Bad; what is dead slows nobody."""

import asyncio
import os
import struct
from contextlib import suppress

import pytest
from clocks import PlantClock
from modbus_devices import honest_read, liar
from modbus_lines import honest, rtu_over_tcp, sealed, serial_line

from gateway.domain.values import DataType, StatusCode, TagWrite, is_bad
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver

FULL = bool(os.environ.get("FULL"))
WAY = {"rtu_over_tcp": rtu_over_tcp, "rtu": serial_line}


def words(*registers: int) -> list[Tag[ModbusAddress]]:
    return [Tag(f"r{at}", DataType.UINT16, ModbusAddress(register=at)) for at in registers]


def in_yaml(value):
    """Seconds as people write them."""
    return f"{round(value * 1000)}ms" if isinstance(value, float) else value


# A pty has no parity bit, and Linux says so.
def driver(transport: str, place, tags, clock=None, **keys) -> ModbusDriver:
    where = {"port": place, "parity": "none"} if transport == "rtu" else {"host": "127.0.0.1", "port": place}
    keys = {"timeout": 0.03, "poll_interval": 0.02, **keys}
    settings = ModbusSettings(transport=transport, **where, **{key: in_yaml(value) for key, value in keys.items()})
    return ModbusDriver("PLC", settings, tags, clock or PlantClock())


@pytest.mark.parametrize("transport", WAY)
async def test_r16_a_hundred_late_replies_give_no_wrong_value(transport, record_property):
    timeout = 0.2 if FULL else 0.03
    numbers = iter(range(1_000_000))

    def answer(request):
        """Every other reply comes after the timeout, most while the line is still being left alone."""
        number = next(numbers)
        return ((1.1 + number % 9 / 10) * timeout if number % 2 == 0 else 0.0, honest(request))

    tags, values = words(0, 200), []
    async with WAY[transport](answer) as (units, place):
        keys = {"timeout": timeout, "quiet_time": 1.2 * timeout, "retries_before_lost": 0}
        while len(units.asked) < 200:
            with suppress(LinkLost):
                async with driver(transport, place, tags, **keys) as opened:
                    while len(units.asked) < 200:
                        tag = tags[len(values) % 2]
                        values += [(tag.address.span.first, c.value) for c in await opened.read([tag.tag_id])]
    late, wrong = len(units.asked) // 2, [pair for pair in values if pair[0] != pair[1]]
    record_property("figure", f"{transport}: {len(wrong)} wrong values after {late} late replies, {len(values)} right")
    assert late >= 100
    assert wrong == []


async def test_r16_a_line_that_was_out_of_step_is_used_again_by_the_same_driver():
    silent_once = iter([True])

    def answer(request):
        return (0.045 if next(silent_once, False) else 0.0), honest(request)

    async with (
        rtu_over_tcp(answer) as (units, port),
        driver("rtu_over_tcp", port, words(7)) as opened,
    ):
        assert [change.value for change in await opened.read(["r7"])] == [7]
        assert (units.connections, opened.statistics.timeouts) == (2, 1)


BROKEN = {
    "short reply": lambda asked: sealed(asked[:2] + b"\x02\x00\x07"),
    "wrong unit": lambda asked: sealed(b"\x09\x03\x04\x00\x00\x00\x01"),
    "wrong function": lambda asked: sealed(asked[:6]).replace(b"\x03", b"\x06", 1),
    "unknown function": lambda asked: sealed(b"\x01\x55\x04\x00\x00\x00\x01"),
    "wrong byte count": lambda asked: sealed(asked[:2] + b"\x06\x00\x07\x00\x07\x00\x07"),
    "bad checksum": lambda asked: honest(asked)[:-1] + bytes([honest(asked)[-1] ^ 1]),
    "flipped bit": lambda asked: honest(asked)[:4] + bytes([honest(asked)[4] ^ 4]) + honest(asked)[5:],
    "two replies": lambda asked: honest(asked) * 2,
    "trickle that never ends": lambda asked: honest(asked)[:-1],
    "one byte": lambda asked: b"\x01",
}


@pytest.mark.parametrize("transport", WAY)
@pytest.mark.parametrize("lie", BROKEN)
async def test_r17_a_broken_rtu_reply_is_bad_and_never_a_value(lie, transport, record_property):
    changes, lost = [], 0
    async with WAY[transport](lambda asked: (0.0, BROKEN[lie](asked))) as (_, place):
        for _ in range(3):
            try:
                async with driver(transport, place, words(0, 1), retries_before_lost=0, quiet_time=0.0) as opened:
                    changes += await opened.read(["r0", "r1"])
            except LinkLost:
                lost += 1
    assert all(is_bad(change.status_code) and change.value is None for change in changes)
    assert len(changes) // 2 + lost == 3
    record_property("figure", "RTU: 100 % rejected, 0 values")


BROKEN_TCP = {
    "short reply": lambda asked: asked.frame(b"\x03\x02\x00\x07"),
    "wrong unit": lambda asked: asked.frame(b"\x03\x04" + bytes(4), unit=9),
    "wrong function": lambda asked: asked.frame(asked.pdu),
    "wrong byte count": lambda asked: asked.frame(b"\x03\x06" + bytes(4)),
    "another protocol": lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "trickle that never ends": lambda asked: honest_read(asked)[:-1],
}


@pytest.mark.parametrize("lie", BROKEN_TCP)
async def test_r17_a_broken_tcp_reply_is_bad_and_never_a_value(lie, record_property):
    changes, lost = [], 0
    async with liar(BROKEN_TCP[lie]) as plc:
        for _ in range(3):
            try:
                async with driver("tcp", plc.port, words(0, 1), retries_before_lost=0) as opened:
                    changes += await opened.read(["r0", "r1"])
            except LinkLost:
                lost += 1
    assert all(is_bad(change.status_code) and change.value is None for change in changes)
    assert len(changes) // 2 + lost == 3
    record_property("figure", "TCP: 100 % rejected, 0 values")


async def test_r17_a_reply_in_single_bytes_that_arrives_in_time_is_put_together():
    async def trickle(reader, writer):
        request = await reader.readexactly(8)
        for byte in honest(request):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with driver("rtu_over_tcp", port, words(5), timeout="2s") as opened:
            assert [change.value for change in await opened.read(["r5"])] == [5]
        await asyncio.sleep(0.02)


async def test_r17_a_wrong_echo_of_a_write_is_bad():
    def answer(asked):
        return 0.0, sealed(asked[:4] + b"\x00\x07")

    async with (
        rtu_over_tcp(answer) as (_, port),
        driver("rtu_over_tcp", port, words(5), quiet_time=0.0) as opened,
    ):
        results = await opened.write([TagWrite("r5", 1234)])
        assert [result.status_code for result in results] == [StatusCode.BAD_COMMUNICATION_ERROR]


async def keep_polling(made, contacts: list[int], pause: float) -> None:
    """What a supervisor does: open, poll, lose, wait, again."""
    while True:
        with suppress(LinkLost):
            async with made() as opened:
                batches = opened.changes()
                while True:
                    contacts.append((await anext(batches)).contact)
        await asyncio.sleep(pause)


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
async def test_r18_one_dead_unit_of_ten_hardly_slows_the_others(transport, record_property):
    interval, seconds = (1.0, 120) if FULL else (0.1, 12)
    timeout = interval  # so that a unit asked too often takes its neighbours whole polls

    def honest_but_three(request):
        return None if request[0] == 3 else (0.0, honest(request))

    def tcp_answer(asked):
        return None if asked.unit == 3 else honest_read(asked)

    way = liar(tcp_answer) if transport == "tcp" else rtu_over_tcp(honest_but_three)
    contacts: dict[int, list[int]] = {unit: [] for unit in range(1, 11)}
    async with way as server:
        port = server.port if transport == "tcp" else server[1]

        def polling(unit):
            keys = {"unit_id": unit, "poll_interval": interval, "timeout": timeout, "quiet_time": timeout / 5}
            return keep_polling(
                lambda: driver(transport, port, words(0, 1, 50), **keys), contacts[unit], pause=interval / 5
            )

        tasks = [asyncio.create_task(polling(unit)) for unit in contacts]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    dead = contacts.pop(3)
    periods = [(told[-1] - told[0]) / (len(told) - 1) / 1000 / interval for told in contacts.values()]
    record_property("figure", f"{transport}: period {max(periods):.2f}x nominal beside a dead unit")
    assert dead == []
    assert max(periods) <= 1.2


async def test_a_unit_that_comes_back_is_found_by_the_next_probe():
    dead = [True]

    def answer(asked):
        return None if asked.unit == 2 and dead else honest_read(asked, 5)

    async with (
        liar(answer) as plc,
        driver("tcp", plc.port, words(0), unit_id=1) as one,
        driver("tcp", plc.port, words(0), unit_id=2, timeout="5ms", retries_before_lost=0) as two,
    ):
        for _ in range(2):
            with pytest.raises(LinkLost, match=r"unit 2: no answer within 0\.005 s, 1 times in a row"):
                await two.read(["r0"])
        assert len([asked for asked in plc.asked if asked.unit == 2]) == 1, "the open breaker sends nothing"
        dead.clear()
        async with asyncio.timeout(5):
            while True:
                with suppress(LinkLost):
                    assert [change.value for change in await two.read(["r0"])] == [5]
                    break
                await asyncio.sleep(0.01)
        assert [change.value for change in await one.read(["r0"])] == [5]


def test_the_registers_of_the_test_device_tell_their_address():
    assert honest(sealed(struct.pack(">BBHH", 1, 3, 7, 1)))[3:5] == b"\x00\x07"
