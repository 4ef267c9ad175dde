"""Cases R16-R18: late replies, broken replies, dead units. What is not certain is Bad; what is dead slows nobody."""

import asyncio
import os
import struct
import time
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
from clocks import PlantClock
from modbus_devices import honest_read, liar
from modbus_lines import honest, rtu_over_tcp, sealed, serial_line

from gateway.domain.values import DataType, StatusCode, TagChange, TagWrite, is_bad
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver
from tests.stopwatch import Stopwatch

try:
    import uvloop
except ImportError:
    uvloop = None

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
@pytest.mark.case("B1")
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
        assert units.connections == opened.statistics.timeouts + 1 >= 2


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


@asynccontextmanager
async def trickling(pause: float, reply_to):
    """A TCP server that answers its first request byte by byte; yields its port and what it has sent so far."""
    sent: list[bytes] = []

    async def trickle(reader, writer):
        request = await reader.read(512)
        with suppress(ConnectionError):
            for byte in reply_to(request):
                sent.append(bytes([byte]))
                writer.write(sent[-1])
                await asyncio.sleep(pause)
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], sent
    await asyncio.sleep(0.02)


def tcp_reply(request: bytes) -> bytes:
    """The right Modbus TCP reply where every register holds its own address."""
    pdu = honest(sealed(request[6:]))[1:-2]
    return request[:4] + struct.pack(">HB", len(pdu) + 1, request[6]) + pdu


REPLIES = {"tcp": tcp_reply, "rtu_over_tcp": honest}


@pytest.mark.parametrize("transport", REPLIES)
async def test_r17_over_a_network_a_reply_may_come_byte_by_byte_if_it_is_complete_in_time(transport):
    """TCP cuts where it likes, and a bridge passes on what it has: pauses say nothing, only the timeout does."""
    async with (
        trickling(0.001, REPLIES[transport]) as (port, sent),
        driver(transport, port, words(5), timeout=20.0) as opened,
    ):
        assert [change.value for change in await opened.read(["r5"])] == [5]
        assert len(sent) == {"tcp": 11, "rtu_over_tcp": 7}[transport]


@pytest.mark.parametrize("transport", REPLIES)
async def test_r17_a_trickle_that_is_not_complete_in_time_is_no_reply_however_lively(transport, record_property):
    """The timeout counts from the request and not from the last byte: 259 bytes at one per 10 ms are 2.6 s."""
    registers = words(*range(125))
    async with (
        trickling(0.01, REPLIES[transport]) as (port, sent),
        driver(transport, port, registers, timeout=0.2, retries_before_lost=0, quiet_time=0.0) as opened,
    ):
        with pytest.raises(LinkLost, match="no answer within"):
            await opened.read([tag.tag_id for tag in registers])
        assert 0 < len(sent) < 255
    record_property("figure", f"{transport}: trickled beyond the timeout, 0 values")


async def test_r17_the_rest_of_a_late_trickle_is_passed_over_and_the_next_answer_is_right():
    """Modbus TCP numbers its replies, so the connection need not be closed for it."""
    rest: list[bytes] = []

    def answer(asked):
        reply = honest_read(asked, 111 if not rest else 222)
        rest.append(reply[9:])
        return reply[:9] if len(rest) == 1 else rest[0] + reply

    async with liar(answer) as plc, driver("tcp", plc.port, words(0), timeout=0.2) as opened:
        assert [change.value for change in await opened.read(["r0"])] == [222], "the repetition's, not the late one's"


LOOPS = {"asyncio": None, "uvloop": None if uvloop is None else uvloop.new_event_loop}


async def read_half_a_reply(opened: ModbusDriver) -> "asyncio.Task[list[TagChange]]":
    """Ask, and wait until the first bytes of the reply have been read."""
    reading = asyncio.create_task(opened.read(["r5"]))
    async with asyncio.timeout(20):
        while (wire := opened._link._endpoint._wire) is None or wire._pause is None:
            await asyncio.sleep(0.001)
    return reading


@pytest.mark.parametrize("loop", LOOPS)
def test_r17_on_a_serial_line_a_reply_that_pauses_is_broken_and_the_rest_of_it_is_nobodys(loop, record_property):
    """Long before the timeout: a frame has no pauses (Modbus over Serial Line V1.02 §2.5.1.1)."""

    async def story():
        halves = iter([honest(sealed(b"\x01\x03\x00\x05\x00\x01"))[:4]])
        async with (
            serial_line(lambda asked: (0.0, next(halves, honest(asked)))) as (units, place),
            driver("rtu", place, words(5), timeout=30.0, character_timeout=0.02, quiet_time=0.1) as opened,
        ):
            async with asyncio.timeout(20):
                (broken,) = await (await read_half_a_reply(opened))
            assert (broken.value, broken.status_code) == (None, StatusCode.BAD_COMMUNICATION_ERROR)
            units.send(honest(units.asked[0])[4:])
            assert [change.value for change in await opened.read(["r5"])] == [5]
            assert opened.statistics.broken_replies == 1

    run_on(loop, story)
    record_property("figure", "serial: a reply with a pause in it, 0 values")


@pytest.mark.parametrize("loop", LOOPS)
def test_r17_a_gateway_that_stood_still_itself_takes_that_for_no_pause_of_the_line(loop):
    async def story():
        whole = honest(sealed(b"\x01\x03\x00\x05\x00\x01"))
        async with (
            serial_line(lambda _asked: (0.0, whole[:4])) as (units, place),
            driver("rtu", place, words(5), timeout=30.0, character_timeout=0.05) as opened,
        ):
            reading = await read_half_a_reply(opened)
            units.send(whole[4:])
            time.sleep(0.2)  # a busy machine: the timer is due before the rest, long since there, was read
            assert [change.value for change in await reading] == [5]

    run_on(loop, story)


def run_on(loop, story) -> None:
    if loop == "uvloop" and uvloop is None:
        pytest.skip("uvloop is not installed; the gateway then runs on the standard loop")
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(story())


async def test_r17_a_wrong_echo_of_a_write_is_bad():
    def answer(asked):
        return 0.0, sealed(asked[:4] + b"\x00\x07")

    async with (
        rtu_over_tcp(answer) as (_, port),
        driver("rtu_over_tcp", port, words(5), timeout=10.0, quiet_time=0.0) as opened,
    ):
        results = await opened.write([TagWrite("r5", 1234)])
        assert [result.status_code for result in results] == [StatusCode.BAD_COMMUNICATION_ERROR]


async def keep_polling(made, polls: list[float], watch: Stopwatch, pause: float) -> None:
    """What a supervisor does: open, poll, lose, wait, again. Notes when each poll came."""
    while True:
        with suppress(LinkLost):
            async with made() as opened:
                batches = opened.changes()
                while True:
                    await anext(batches)
                    polls.append(watch.seconds)
        await asyncio.sleep(pause)


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
@pytest.mark.case("B7")
async def test_r18_one_dead_unit_of_ten_hardly_slows_the_others(transport, record_property):
    interval, seconds = (1.0, 120) if FULL else (0.1, 6)
    timeout = interval  # so that a unit asked too often takes its neighbours whole polls

    def honest_but_three(request):
        return None if request[0] == 3 else (0.0, honest(request))

    def tcp_answer(asked):
        return None if asked.unit == 3 else honest_read(asked)

    way = liar(tcp_answer) if transport == "tcp" else rtu_over_tcp(honest_but_three)
    polls: dict[int, list[float]] = {unit: [] for unit in range(1, 11)}
    async with way as server:
        port = server.port if transport == "tcp" else server[1]

        def polling(unit):
            keys = {"unit_id": unit, "poll_interval": interval, "timeout": timeout, "quiet_time": timeout / 5}
            made = partial(driver, transport, port, words(0, 1, 50), **keys)
            return keep_polling(made, polls[unit], watch, pause=interval / 5)

        with Stopwatch() as watch:
            tasks = [asyncio.create_task(polling(unit)) for unit in polls]
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    dead = polls.pop(3)
    periods = [(told[-1] - told[0]) / (len(told) - 1) / interval for told in polls.values()]
    record_property("figure", f"{transport}: period {max(periods):.2f}x nominal beside a dead unit")
    assert dead == []
    assert max(periods) <= 1.2


async def test_a_unit_that_comes_back_is_found_by_the_next_probe():
    dead = [True]

    def answer(asked):
        return None if asked.unit == 2 and dead else honest_read(asked, 5)

    async with (
        liar(answer) as plc,
        driver("tcp", plc.port, words(0), unit_id=1, timeout=10.0) as one,
        driver("tcp", plc.port, words(0), unit_id=2, timeout="50ms", retries_before_lost=0) as two,
    ):
        for _ in range(2):
            with pytest.raises(LinkLost, match=r"unit 2: no answer within 0\.05 s, 1 times in a row"):
                await two.read(["r0"])
        assert len([asked for asked in plc.asked if asked.unit == 2]) == 1, "the open breaker sends nothing"
        dead.clear()
        async with asyncio.timeout(20):
            while True:
                with suppress(LinkLost):
                    assert [change.value for change in await two.read(["r0"])] == [5]
                    break
                await asyncio.sleep(0.01)
        assert [change.value for change in await one.read(["r0"])] == [5]


def test_the_registers_of_the_test_device_tell_their_address():
    assert honest(sealed(struct.pack(">BBHH", 1, 3, 7, 1)))[3:5] == b"\x00\x07"
