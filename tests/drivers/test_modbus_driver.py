"""The Modbus driver against real servers: polls, holes, writes."""

import asyncio
import itertools
import struct

from clocks import ManualClock, PlantClock
from modbus_devices import device, honest_read, liar
from modbus_drivers import driver, first, tag, word
from modbus_memory import Memory

from gateway.domain.values import DataType, StatusCode, TagChange, TagWrite, WriteResult
from gateway.domain.writing.checksums import crc16_modbus
from gateway.drivers.modbus.blocks import BlockReader, Seen
from gateway.drivers.modbus.config import ModbusSettings, Span
from gateway.drivers.modbus.link import Link
from gateway.drivers.modbus.writer import NOT_SENT

SEALED = {"registers": "110-119", "checksum": {"register": 119, "over": "110-118", "type": "crc16-modbus"}}


LBL01 = [
    word("state", 0),
    word("good", 11),
    tag("batch", DataType.STRING, "30-37"),
    tag("energy", DataType.UINT32, "40-41", word_order="low_first"),
    tag("job", DataType.UINT16, 50, encoding="bcd"),
    tag("oven", DataType.INT16, 20),
]


async def test_the_first_poll_brings_every_tag_and_later_ones_what_changed():
    async with device() as lbl01:
        await lbl01.set(0, 0b10)
        await lbl01.set(11, 29_000)
        await lbl01.set(20, 0xFFF6)
        await lbl01.set(30, *struct.unpack(">8H", b"4711-L1".ljust(16, b"\0")))
        await lbl01.set(40, 0xD687, 0x0012)
        await lbl01.set(50, 0x4711)
        async with driver(lbl01.port, LBL01) as opened:
            batches = opened.changes()
            everything = {change.tag_id: change.value for change in await first(batches)}
            assert everything == {
                "state": 2, "good": 29_000, "batch": "4711-L1", "energy": 1_234_567, "job": 4711, "oven": -10,
            }  # fmt: skip
            assert await first(batches) == []
            await lbl01.set(11, 29_001)
            assert await first(batches) == [TagChange("good", 29_001)]
            assert len({change.source_timestamp for change in await opened.read(["good", "job"])} - {None}) == 0


async def test_one_poll_is_one_request_where_the_device_allows_it():
    async with device() as lbl01, driver(lbl01.port, LBL01) as opened:
        await first(opened.changes())
        assert lbl01.reads == [(0, 51)]


async def test_gaps_wider_than_max_gap_are_not_read():
    async with device() as lbl01, driver(lbl01.port, LBL01, max_gap=5) as opened:
        await first(opened.changes())
        assert lbl01.reads == [(0, 1), (11, 1), (20, 1), (30, 12), (50, 1)]


async def test_b10_a_value_of_several_registers_is_never_read_in_two_requests():
    tags = [tag(f"energy{number}", DataType.UINT32, f"{3 * number}-{3 * number + 1}") for number in range(20)]
    async with device() as lbl01, driver(lbl01.port, tags, max_registers=10) as opened:
        await first(opened.changes())
        assert all(count <= 10 for _, count in lbl01.reads)
        for own in tags:
            assert any(at <= own.address.span.first and own.address.span.end <= at + n for at, n in lbl01.reads)


async def test_coils_discrete_inputs_and_input_registers_are_read_from_their_own_tables():
    tags = [
        tag("coil", DataType.BOOL, 3, table="coil"),
        tag("contact", DataType.BOOL, 9, table="discrete"),
        tag("input", DataType.UINT16, 3, table="input"),
        word("holding", 3),
    ]
    async with device() as lbl01, driver(lbl01.port, tags) as opened:
        await lbl01.set(3, True, table="coil")
        await lbl01.set(9, True, table="discrete")
        await lbl01.set(3, 17, table="input")
        await lbl01.set(3, 18)
        assert [change.value for change in await opened.read(["coil", "contact", "input", "holding"])] == [
            True,
            True,
            17,
            18,
        ]
        assert await opened.write([TagWrite("coil", False), TagWrite("input", 1), TagWrite("contact", True)]) == [
            WriteResult("coil"),
            WriteResult("input", StatusCode.BAD_NOT_WRITABLE),
            WriteResult("contact", StatusCode.BAD_NOT_WRITABLE),
        ]
        assert lbl01.writes == [(5, 3, [False])]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_poll_says_how_long_after_its_beginning_its_answers_came():
    async with device() as lbl01, driver(lbl01.port, [word("state", 0)], PlantClock(20)) as opened:
        lbl01.delay = 0.1
        batch = await anext(opened.changes())
        assert batch.lag >= 20 * 100


async def test_polls_keep_to_the_plant_time_grid_however_long_they_take():
    clock = ManualClock()
    start = clock.now()
    async with device() as lbl01, driver(lbl01.port, [word("state", 0)], clock, poll_interval="1s") as opened:
        batches = opened.changes()
        contacts = [(await anext(batches)).contact - start]
        # The consumer takes 300 ms, then 2,400 ms of plant time: two grid points are missed and none is made up.
        for busy in (0.3, 2.4, 0.0):
            clock._now += round(busy * 1000)
            waiting = asyncio.ensure_future(anext(batches))
            while not clock._sleepers:
                await asyncio.sleep(0.001)
            await clock.advance(clock.asked[-1])
            contacts.append((await waiting).contact - start)
        assert contacts == [0, 1000, 4000, 5000]


async def test_a_scenario_at_50_times_speed_polls_50_times_as_often():
    async with (
        device() as lbl01,
        driver(lbl01.port, [word("state", 0)], PlantClock(rate=50), poll_interval="1s") as opened,
    ):
        batches = opened.changes()
        contacts = [(await anext(batches)).contact for _ in range(6)]
        steps = [later - earlier for earlier, later in itertools.pairwise(contacts)]
        assert all(abs(step - 1000 * round(step / 1000)) <= 500 for step in steps)
        assert contacts[-1] - contacts[0] >= 4500


async def test_a_value_that_comes_back_to_what_it_was_is_told_whichever_group_sees_it():
    """The joint poll of both groups has one block, and finds in it what it found at its last time."""
    clock, memory = ManualClock(), Memory()
    tags = [tag("fast", DataType.UINT16, 0, poll_interval="100ms"), tag("slow", DataType.UINT16, 1)]
    async with liar(memory) as plc, driver(plc.port, tags, clock, poll_interval="200ms") as opened:
        batches = opened.changes()
        told = [{change.tag_id: change.value for change in await first(batches)}]
        for value in (1, 0, 2, 2, 2):
            memory.registers[0] = value
            following = asyncio.ensure_future(first(batches))
            await clock.advance(0.1)
            told.append({change.tag_id: change.value for change in await following})
    assert told == [{"fast": 0, "slow": 0}, {"fast": 1}, {"fast": 0}, {"fast": 2}, {}, {}]
    assert memory.asked[:3] == ["0300000002", "0300000001", "0300000002"]


async def test_a_value_that_could_not_be_read_for_one_poll_is_told_again_though_it_is_the_same():
    busy = iter([False, True, False])
    async with (
        liar(lambda asked: asked.frame(b"\x83\x06") if next(busy, False) else honest_read(asked, 5)) as plc,
        driver(plc.port, [word("state", 0)]) as opened,
    ):
        batches = opened.changes()
        assert [change.value for _ in range(4) for change in await first(batches)] == [5, None, 5]


# --- holes (B6) -------------------------------------------------------------------------------------------------------


async def test_b6_a_hole_makes_its_own_tag_bad_and_its_neighbours_are_read_in_one_piece():
    tags = [word(f"r{register}", register) for register in range(16)]
    async with device(holes=(9,)) as lbl01, driver(lbl01.port, tags) as opened:
        for register in (*range(9), *range(10, 16)):
            await lbl01.set(register, 100 + register)
        batches = opened.changes()
        changes = {change.tag_id: change for change in await first(batches)}
        assert changes.pop("r9") == TagChange("r9", None, StatusCode.BAD_NODE_ID_UNKNOWN)
        assert {change.value for change in changes.values()} == {
            100 + register for register in range(16) if register != 9
        }
        lbl01.requests.clear()
        assert await first(batches) == []
        assert lbl01.reads == [(0, 9), (10, 6)]


async def test_b6_a_gap_that_does_not_exist_is_bridged_once_and_never_again():
    tags = [word(f"r{register}", register) for register in (0, 1, 2, 6, 7, 8)]
    async with device(holes=(4,)) as lbl01, driver(lbl01.port, tags) as opened:
        batches = opened.changes()
        assert [change.status_code for change in await first(batches)] == [StatusCode.GOOD] * 6
        assert opened.statistics.refusals == 1
        lbl01.requests.clear()
        for _ in range(3):
            assert await first(batches) == []
        assert lbl01.reads == [(0, 3), (6, 3)] * 3
        assert opened.statistics.refusals == 1


async def test_a_hole_is_asked_for_once_a_minute_and_found_when_the_plc_has_gained_the_register():
    memory, now = Memory(), [0.0]
    memory.holes = {1}
    spans = (Span(0, 1), Span(1, 1), Span(2, 1))
    async with liar(memory) as plc:
        settings = ModbusSettings(host="127.0.0.1", port=plc.port, timeout="10s")
        link = Link(settings)
        await link.open()
        reader = BlockReader(link, "PLC", "holding", settings, wall=lambda: now[0])

        async def asked_at(seconds: float) -> tuple[list[str], bytes | int]:
            now[0] = seconds
            memory.asked.clear()
            answers = await reader.read(spans, Seen())
            return memory.asked.copy(), answers[spans[1]]

        await asked_at(0)
        apart, hole = ["0300000001", "0300020001"], StatusCode.BAD_NODE_ID_UNKNOWN
        assert await asked_at(59) == (apart, hole)
        assert await asked_at(60) == ([*apart, "0300010001"], hole)
        assert await asked_at(61) == (apart, hole)
        memory.holes.clear()
        assert await asked_at(119) == (apart, hole)
        assert await asked_at(120) == ([*apart, "0300010001"], b"\0\0")
        assert await asked_at(121) == (["0300000003"], b"\0\0")
        await link.close()


async def test_a_busy_device_makes_the_tags_bad_for_one_poll_and_is_not_taken_for_a_hole():
    busy = iter([True])
    async with (
        liar(lambda asked: asked.frame(b"\x83\x06") if next(busy, False) else honest_read(asked, 5)) as plc,
        driver(plc.port, [word("state", 0), word("good", 1)]) as opened,
    ):
        batches = opened.changes()
        assert [change.status_code for change in await first(batches)] == [0x80040000] * 2
        assert [change.value for change in await first(batches)] == [5, 5]


# --- writes -----------------------------------------------------------------------------------------------------------

PARAMETERS = [word(f"p{register}", register) for register in range(110, 119)]
DOWNLOAD = [*PARAMETERS, word("crc", 119), word("seq", 100), word("status", 102), word("error", 103)]


async def test_a_parameter_set_travels_as_one_sealed_block_and_the_sequence_number_after_it():
    async with device() as lbl01, driver(lbl01.port, DOWNLOAD, blocks=[SEALED]) as opened:
        await lbl01.set(110, *range(1, 11))
        results = await opened.write([TagWrite("p112", 1750), TagWrite("p110", 4), TagWrite("seq", 7)])
        assert results == [WriteResult("p112"), WriteResult("p110"), WriteResult("seq")]
        content = [4, 2, 1750, 4, 5, 6, 7, 8, 9]
        crc = crc16_modbus(struct.pack(">9H", *content))
        assert lbl01.writes == [(16, 110, [*content, crc]), (6, 100, [7])]
        assert await lbl01.get(119) == [crc]


async def test_neighbouring_registers_are_written_together_and_a_single_one_with_fc6():
    async with device() as lbl01, driver(lbl01.port, DOWNLOAD) as opened:
        await opened.write([TagWrite("status", 1), TagWrite("error", 2), TagWrite("seq", 3)])
        assert lbl01.writes == [(16, 102, [1, 2]), (6, 100, [3])]


async def test_the_checksum_itself_is_nobodys_to_write():
    async with device() as lbl01, driver(lbl01.port, DOWNLOAD, blocks=[SEALED]) as opened:
        assert await opened.write([TagWrite("crc", 1)]) == [WriteResult("crc", StatusCode.BAD_NOT_WRITABLE)]
        assert lbl01.requests == []


async def test_a_value_out_of_range_is_refused_without_a_packet_and_the_others_are_written():
    async with device() as lbl01, driver(lbl01.port, DOWNLOAD) as opened:
        results = await opened.write([TagWrite("seq", 65_536), TagWrite("status", "x"), TagWrite("error", 5)])
        assert [result.status_code for result in results] == [
            StatusCode.BAD_OUT_OF_RANGE,
            StatusCode.BAD_TYPE_MISMATCH,
            StatusCode.GOOD,
        ]
        assert lbl01.writes == [(6, 103, [5])]


async def test_a_refused_write_is_a_result_and_not_an_error():
    async with device(holes=(100,)) as lbl01, driver(lbl01.port, DOWNLOAD) as opened:
        assert await opened.write([TagWrite("seq", 1), TagWrite("error", 2)]) == [
            WriteResult("seq", StatusCode.BAD_NODE_ID_UNKNOWN),
            WriteResult("error"),
        ]


async def test_b3_an_unanswered_write_is_sent_once_and_nothing_follows_it():
    async with liar(lambda asked: None) as plc, driver(plc.port, DOWNLOAD, timeout="50ms") as opened:
        results = await opened.write([TagWrite("p110", 1), TagWrite("seq", 2)])
        assert results == [WriteResult("p110", StatusCode.BAD_TIMEOUT), WriteResult("seq", NOT_SENT)]
        assert [asked.pdu for asked in plc.asked] == [b"\x06" + struct.pack(">HH", 110, 1)]


async def test_b3_an_unanswered_read_is_repeated_and_the_link_survives_one_lost_answer():
    silences = iter([True])
    async with (
        liar(lambda asked: None if next(silences, False) else honest_read(asked, 5)) as plc,
        driver(plc.port, [word("state", 0)], timeout="50ms") as opened,
    ):
        assert [change.value for change in await opened.read(["state"])] == [5]
        assert len(plc.asked) == opened.statistics.timeouts + 1 >= 2


async def test_a_write_waits_for_one_read_and_not_for_a_whole_poll():
    tags = [word(f"r{register}", register) for register in range(0, 200, 20)]
    async with device() as lbl01, driver(lbl01.port, tags, max_registers=1, timeout="1s") as opened:
        polling = asyncio.ensure_future(anext(opened.changes()))
        lbl01.delay = 0.01
        while not lbl01.requests:
            await asyncio.sleep(0.001)
        await opened.write([TagWrite("r0", 1)])
        position = [request.values is not None for request in lbl01.requests].index(True)
        assert position <= 2
        assert len((await polling).changes) == 10
