"""What a server's history gives back of an outage in which it forgot the session: everything, once, in order."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from asyncua import ua
from opcua_links import link, tag, until
from opcua_servers import plc, proxy

from gateway.domain.values import DataType, Gap, TagChange
from gateway.drivers.opcua.config import OpcUaSettings, check_opcua_tag
from gateway.drivers.opcua.subscribing import backfill, history
from gateway.drivers.opcua.subscribing.last_told import LastTold
from gateway.drivers.opcua.subscribing.publications import Publication
from tests.drivers.clocks import PlantClock


class Machine:
    """A server whose nodes are dated by the plant's clock, behind a proxy that can be closed."""

    def __init__(self, server, between) -> None:
        self.server, self.between = server, between
        self.record = None

    async def add(self, name: str, *, historized: bool = True):
        node = await self.server.add(name, 0)
        await self.write(node, 0)
        if historized:
            await self.server.server.historize_node_data_change(node, period=None)
        return node

    async def write(self, node, value: int) -> None:
        clock = self.record.link._clock if self.record else PlantClock()
        shown = datetime.fromtimestamp(clock.now() / 1000, UTC)
        await node.write_value(ua.DataValue(ua.Variant(value, ua.VariantType.Int32), SourceTimestamp=shown))
        await asyncio.sleep(0.002)  # two values of one tag never have the same millisecond

    async def forget_and_close(self) -> None:
        """The session is gone, the link cut, and nobody gets in."""
        self.between.refuse()
        iserver = self.server.server.iserver
        service, own = iserver.subscription_service, iserver.isession.session_id
        await service.delete_subscriptions([n for n, sub in service.subscriptions.items() if sub.session_id != own])
        for session in list(iserver._external_sessions.values()):
            await session.close_session(True)
        self.between.cut()
        await until(lambda: not self.record.links[-1][0])


@asynccontextmanager
async def machine():
    async with plc() as server, proxy(server.port) as between:
        yield Machine(server, between)


def filled(record) -> list:
    return [batch for batch in record.batches if batch.backfill is not None]


@pytest.mark.parametrize("server_cuts", [False, True], ids=["it cuts at what we ask for", "it gives pages"])
async def test_a_counter_is_told_to_the_last_piece_through_outages_in_which_the_session_was_forgotten(
    monkeypatch, server_cuts
):
    monkeypatch.setattr(history, "VALUES_PER_NODE", 1_000 if server_cuts else 7)
    async with machine() as press:
        press.server.server.iserver.history_manager.storage.max_history_data_response_size = (
            5 if server_cuts else 10_000
        )
        nodes = [await press.add(name) for name in ("count", "scrap")]
        async with link(press.between.port, tag("count"), tag("scrap"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: record.values() == record.values("scrap") == [0])
            pieces = [0, 0]

            async def make(times: int) -> None:
                """Three good ones, then one that is scrap, and so on."""
                for _ in range(times):
                    which = 1 if sum(pieces) % 4 == 3 else 0
                    pieces[which] += 1
                    await press.write(nodes[which], pieces[which])

            def is_told() -> bool:
                return record.values()[-1] == pieces[0] and record.values("scrap")[-1] == pieces[1]

            for _ in range(3):
                await make(12)
                await until(is_told)
                await make(3)
                await press.forget_and_close()
                await make(40)
                press.between.accept()
                while not record.links[-1][0]:
                    await make(1)
                await make(12)
                await until(is_told)
            assert record.values() == list(range(pieces[0] + 1))
            assert record.values("scrap") == list(range(pieces[1] + 1))
            assert [(gap.cause, gap.tags) for gap in record.gaps] == [("session", 0)] * 3
            assert sum(gap.filled for gap in record.gaps) == sum(len(batch.changes) for batch in filled(record)) >= 120
            assert record.links == [(True, False)] + [(False, False), (True, True)] * 3


async def test_the_history_comes_in_order_of_time_over_all_tags_and_speaks_no_further_than_it_knows():
    async with machine() as press:
        nodes = [await press.add(name) for name in ("a", "b", "c")]
        async with link(press.between.port, *map(tag, "abc"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: record.values("c") == [0])
            await press.forget_and_close()
            for value in range(1, 31):
                await press.write(nodes[value % 3], value)
            press.between.accept()
            await until(lambda: record.links[-1] == (True, True) and filled(record)[-1].backfill.is_last)
            told = [change for batch in filled(record) for change in batch.changes]
            assert [change.value for change in told] == list(range(1, 31))
            for batch in filled(record):
                assert batch.time_quality == "history"
                assert all(change.source_timestamp <= batch.contact for change in batch.changes)
            contacts = [batch.contact for batch in record.batches]
            assert contacts == sorted(contacts)
            assert filled(record)[0].resumed


async def test_a_tag_without_history_is_named_and_begins_anew_beside_one_that_has_it():
    async with machine() as press:
        count, speed = await press.add("count"), await press.add("speed", historized=False)
        async with link(press.between.port, tag("count"), tag("speed"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: record.values("speed") == [0])
            await press.forget_and_close()
            for value in range(1, 6):
                await press.write(count, value)
                await press.write(speed, value)
            press.between.accept()
            await until(lambda: record.values("speed")[-1] == 5)
            assert record.values("speed") == [0, 5]
            assert record.values() == [0, 1, 2, 3, 4, 5]
            assert [(gap.filled, gap.tags, gap.first) for gap in record.gaps] == [(5, 1, ("speed",))]
            assert filled(record)[-1].backfill.covered == {"count"}


async def test_a_server_without_history_costs_one_line_and_the_gap_that_there_is_anyway(capsys):
    async with machine() as press:
        node = await press.add("count", historized=False)
        async with link(press.between.port, tag("count"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: record.values() == [0])
            await press.forget_and_close()
            for value in range(1, 6):
                await press.write(node, value)
            press.between.accept()
            await until(lambda: record.values()[-1] == 5)
            assert record.values() == [0, 5]
            assert record.links[-1] == (True, False)
            assert [(gap.cause, gap.filled) for gap in record.gaps] == [("session", None)]
            assert filled(record) == []
            assert capsys.readouterr().out.count("device gives no history") == 1


async def test_a_link_that_breaks_while_the_history_is_told_goes_on_where_it_broke():
    async with machine() as press:
        node = await press.add("count")
        async with link(press.between.port, tag("count"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: record.values() == [0])
            await press.forget_and_close()
            for value in range(1, 31):
                await press.write(node, value)
            record.hold.clear()
            press.between.accept()
            await until(lambda: filled(record))
            press.between.cut()
            record.hold.set()
            await press.write(node, 31)
            await until(lambda: record.values()[-1] == 31 and record.gaps)
            assert record.values() == list(range(32))
            assert [gap.cause for gap in record.gaps] == ["session"]


async def test_a_server_with_few_continuation_points_is_read_tag_by_tag():
    async with machine() as press:
        nodes = [await press.add(name) for name in "abcd"]
        manager = press.server.server.iserver.history_manager
        manager.storage.max_history_data_response_size = 5
        read, refused = manager.read_history, 0

        async def read_with_one_point(params):
            nonlocal refused
            results = await read(params)
            for result in [result for result in results if result.ContinuationPoint][1:]:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadNoContinuationPoints)
                result.ContinuationPoint, result.HistoryData = None, ua.HistoryData()
                refused += 1
            return results

        manager.read_history = read_with_one_point
        async with link(press.between.port, *map(tag, "abcd"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: all(record.values(name) == [0] for name in "abcd"))
            await press.forget_and_close()
            for value in range(1, 13):
                for node in nodes:
                    await press.write(node, value)
            press.between.accept()
            await until(lambda: record.gaps)
            assert refused > 0
            assert [(gap.filled, gap.tags) for gap in record.gaps] == [(48, 0)]
            assert all(record.values(name) == list(range(13)) for name in "abcd")


async def test_a_historian_that_lags_behind_its_server_is_waited_for(monkeypatch):
    monkeypatch.setattr(backfill, "_TRIES", 100)  # so that a machine that stands still for a second is in time
    async with machine() as press:
        node = await press.add("count")
        storage = press.server.server.iserver.history_manager.storage
        save, late = storage.save_node_value, []

        async def save_later(*args) -> None:
            late.append(args)

        async with link(press.between.port, tag("count"), rate=5, history=True) as record:
            press.record = record
            await until(lambda: record.values() == [0])
            await press.forget_and_close()
            storage.save_node_value = save_later
            for value in range(1, 21):
                await press.write(node, value)
            await until(lambda: len(late) == 20)
            press.between.accept()
            await until(lambda: filled(record))
            for args in late:
                await save(*args)
            await until(lambda: record.values()[-1] == 20 and record.gaps)
            assert record.values() == list(range(21))
            assert [(gap.filled, gap.tags) for gap in record.gaps] == [(20, 0)]


async def test_a_server_that_dies_of_being_asked_for_its_history_is_seen_without_it(capsys, monkeypatch):
    monkeypatch.setattr(backfill, "_VAIN_TRIES", 1)
    async with machine() as press:
        node = await press.add("count")
        asked = 0

        async def read_and_die(params):
            nonlocal asked
            asked += 1
            press.between.cut()
            return []

        press.server.server.iserver.history_manager.read_history = read_and_die
        async with link(press.between.port, tag("count"), rate=20, history=True) as record:
            press.record = record
            await until(lambda: record.values() == [0])
            await press.forget_and_close()
            await press.write(node, 1)
            press.between.accept()
            await until(lambda: record.values()[-1] == 1)
            assert asked == 1
            assert [(gap.cause, gap.filled) for gap in record.gaps] == [("session", None)]
            assert "the link broke over it" in capsys.readouterr().out


async def test_a_restarted_gateway_asks_for_no_history_of_before():
    async with machine() as press:
        node = await press.add("count")
        for value in range(1, 4):
            await press.write(node, value)
        async with link(press.between.port, tag("count"), history=True) as record:
            await until(lambda: record.values() == [3])
            assert record.gaps == []


def test_history_without_a_subscription_or_without_the_device_s_clock_is_refused_at_check():
    tag_with = tag("count", DataType.INT32, history=True)
    settings = {"url": "opc.tcp://10.0.0.1:4840", "namespace": "urn:plc"}
    assert check_opcua_tag(OpcUaSettings(**settings), tag_with) == []
    (poll,) = check_opcua_tag(OpcUaSettings(**settings, mode="poll"), tag_with)
    assert "write mode: subscribe" in poll
    (clock,) = check_opcua_tag(OpcUaSettings(**settings, clock="gateway"), tag_with)
    assert "write clock: auto" in clock
    without = tag("count", history=False)
    assert check_opcua_tag(OpcUaSettings(**settings, mode="poll", history=True), without) == []


def test_a_cut_behind_the_history_does_not_take_the_first_values_of_tags_without_one() -> None:
    """What only the new subscription tells must not count as told, over whichever channel it comes."""
    device = SimpleNamespace(name="PLC", dates=SimpleNamespace(offset=0), clock=SimpleNamespace(rate=1))
    tags = [(SimpleNamespace(tag_id=name), None) for name in ("setting", "made")]
    filler = backfill.Backfiller(SimpleNamespace(), device, LastTold(1_000), tags, Gap(1_000, 2_000, "session"))
    filler._shown = {"setting": TagChange("setting", 7, 0, 500), "made": TagChange("made", 8, 0, 1_900)}
    filler._reader.refused["setting"] = ua.StatusCodes.BadHistoryOperationUnsupported
    filler.is_told = True
    first = Publication(1, 1, list(filler._shown.values()), is_keep_alive=False)
    assert [(change.tag_id, change.value) for change in filler.strip(first, 2_500).changes] == [("setting", 7)]
    filler.move(SimpleNamespace())
    assert [(change.tag_id, change.value) for change in filler.strip(first, 2_500).changes] == [("setting", 7)]
