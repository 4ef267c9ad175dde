"""What the Modbus driver believes, and what becomes of a device that lies, falls silent or hangs up."""

import asyncio
import socket
import struct
import time

import pytest
from modbus_devices import Asked, device, honest_read, liar
from modbus_drivers import driver, first, word

from gateway.domain.values import StatusCode, TagWrite, WriteResult
from gateway.drivers.base import LinkLost

# --- lies (B2) --------------------------------------------------------------------------------------------------------

LIES = {
    "one register for ten": lambda asked: asked.frame(b"\x03\x02\x00\x07"),
    "reply to FC6": lambda asked: asked.frame(b"\x06" + asked.pdu[1:]),
    "unknown function": lambda asked: asked.frame(b"\x55\x00"),
    "byte count too small": lambda asked: asked.frame(b"\x03\x12" + bytes(20)),
    "two bytes too many": lambda asked: asked.frame(b"\x03\x14" + bytes(22)),
    "another unit": lambda asked: asked.frame(b"\x03\x14" + bytes(20), unit=9),
    "no transaction number": lambda asked: asked.frame(b"\x03\x14" + bytes(20), transaction=0),
}


@pytest.mark.parametrize("lie", LIES)
async def test_b2_a_reply_that_does_not_answer_the_request_gives_a_bad_tag_and_no_value(lie):
    tags = [word(f"r{register}", register) for register in range(10)]
    async with liar(LIES[lie]) as plc, driver(plc.port, tags) as opened:
        changes = await opened.read([tag.tag_id for tag in tags])
        assert {(change.value, change.status_code) for change in changes} == {
            (None, StatusCode.BAD_COMMUNICATION_ERROR)
        }
        assert opened.statistics.broken_replies == 1
        plc.answer = honest_read
        assert [change.value for change in await opened.read(["r0"])] == [0]


async def test_b2_a_reply_to_another_request_is_no_reply():
    async with (
        liar(lambda asked: asked.frame(b"\x03\x02\x00\x07", transaction=9999)) as plc,
        driver(plc.port, [word("state", 0)], timeout="50ms", retries_before_lost=1) as opened,
    ):
        with pytest.raises(LinkLost, match=r"no answer within 0\.05 s, 2 times in a row"):
            await opened.read(["state"])
        assert len(plc.asked) == 2


async def test_a_reply_that_lay_there_while_the_gateway_stood_still_is_no_timeout():
    async def serve(reader, writer):
        transaction, unit, pdu = (request := await reader.readexactly(12))[:2], request[6], request[7:]
        writer.write(honest_read(Asked(int.from_bytes(transaction, "big"), unit, pdu), 5))
        time.sleep(0.3)  # nobody runs, neither the reader nor the timeout
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with (
        server,
        driver(server.sockets[0].getsockname()[1], [word("state", 0)], timeout="200ms") as opened,
    ):
        assert [change.value for change in await opened.read(["state"])] == [5]
        assert opened.statistics.timeouts == 0
    await asyncio.sleep(0.01)


async def test_b2_a_late_reply_is_never_taken_for_the_answer_to_a_later_request():
    held_back: list[bytes] = []

    def answer(asked):
        """The first request is answered only with the second: 111 is register 0, 222 is register 200."""
        reply = asked.frame(b"\x03\x02" + struct.pack(">H", 222 if held_back else 111))
        held_back.append(reply)
        return None if len(held_back) == 1 else held_back[0] + reply

    async with liar(answer) as plc, driver(plc.port, [word("r0", 0), word("r200", 200)], timeout="50ms") as opened:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await opened.read(["r0"])
        assert [change.value for change in await opened.read(["r200"])] == [222]


async def test_b2_a_wrong_echo_is_no_success():
    async with (
        liar(lambda asked: asked.frame(asked.pdu[:3] + b"\x00\x07")) as plc,
        driver(plc.port, [word("seq", 100)]) as opened,
    ):
        assert await opened.write([TagWrite("seq", 1234)]) == [WriteResult("seq", StatusCode.BAD_COMMUNICATION_ERROR)]


# --- the link ---------------------------------------------------------------------------------------------------------


async def test_b4_a_device_that_is_not_there_is_a_lost_link_with_the_reason():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(LinkLost, match=rf"127.0.0.1:{port} unit 1: cannot be connected: Connection refused"):
            async with driver(port, [word("state", 0)]):
                pass


async def test_a_device_that_falls_silent_is_lost_after_the_retries():
    async with (
        liar(honest_read) as plc,
        driver(plc.port, [word("state", 0)], timeout="50ms", retries_before_lost=2) as opened,
    ):
        batches = opened.changes()
        assert len(await first(batches)) == 1
        plc.answer = lambda asked: None
        plc.asked.clear()
        with pytest.raises(LinkLost, match=r"no answer within 0\.05 s, 3 times in a row"):
            await first(batches)
        assert len(plc.asked) == 3


async def test_b8_only_the_setting_decides_how_many_silences_a_link_survives():
    silences = iter(range(8))
    async with (
        liar(lambda asked: None if next(silences, None) is not None else honest_read(asked, 5)) as plc,
        driver(plc.port, [word("state", 0)], timeout="20ms", retries_before_lost=10) as opened,
    ):
        assert [change.value for change in await opened.read(["state"])] == [5]
        assert len(plc.asked) == opened.statistics.timeouts + 1 >= 9


async def test_silences_count_only_in_a_row():
    answered = iter([False, True] * 5)
    async with (
        liar(lambda asked: honest_read(asked, 5) if next(answered) else None) as plc,
        driver(plc.port, [word("state", 0)], timeout="20ms", retries_before_lost=3) as opened,
    ):
        for _ in range(5):
            assert [change.value for change in await opened.read(["state"])] == [5]
        assert opened.statistics.timeouts >= 5


async def test_b5_a_device_that_hangs_up_in_the_middle_of_a_request_is_lost_at_once():
    async with (
        liar(lambda asked: plc.hang_up()) as plc,
        driver(plc.port, [word("state", 0)], timeout="5s") as opened,
    ):
        async with asyncio.timeout(1):
            with pytest.raises(LinkLost, match="closed the connection"):
                await opened.read(["state"])
            with pytest.raises(LinkLost, match="closed the connection"):
                await opened.write([TagWrite("state", 1)])


async def test_small_requests_leave_at_once_and_nothing_is_left_behind():
    before = asyncio.all_tasks()
    async with device() as lbl01, driver(lbl01.port, [word("state", 0)]) as opened:
        await first(opened.changes())
        open_socket = opened._link._endpoint._wire._carrier.get_extra_info("socket")
        assert open_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert open_socket.fileno() == -1
    assert asyncio.all_tasks() == before
