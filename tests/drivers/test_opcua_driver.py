"""The OPC UA driver against a real server: values, acknowledgements, what a server refuses, and writes."""

import asyncio
from itertools import pairwise

import pytest
from asyncua import ua
from clocks import ManualClock, PlantClock
from opcua_drivers import changes_of, driver, tag, until
from opcua_servers import plc, proxy
from structlog.testing import capture_logs

from gateway.domain.values import DataType, StatusCode, TagChange, TagWrite, WriteResult
from gateway.drivers.base import LinkLost

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- values and batches -----------------------------------------------------------------------------------------------


async def test_the_first_batch_brings_every_tag_with_status_and_both_timestamps(server):
    await server.add("state", 6)
    speed = await server.add("speed", 1.5, ua.VariantType.Double)
    await speed.write_value(ua.DataValue(ua.Variant(2.5, ua.VariantType.Double), ua.StatusCode(0x40940000)))
    async with driver(server.port, [tag("state"), tag("speed", DataType.FLOAT64)]) as opened:
        batch = await anext(opened.changes())
        assert [(change.tag_id, change.value, change.status_code) for change in batch.changes] == [
            ("state", 6, StatusCode.GOOD),
            ("speed", 2.5, 0x40940000),
        ]
        assert batch.changes[0].source_timestamp is not None
        assert batch.changes[0].server_timestamp is not None


async def test_one_publish_response_is_one_batch_with_all_changes_in_their_order(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")], publishing_interval="200ms") as opened:
        batches = opened.changes()
        await anext(batches)
        for value in range(1, 51):
            await count.write_value(value, ua.VariantType.Int32)
        assert [change.value for change in (await anext(batches)).changes] == list(range(1, 51))


async def test_a_keep_alive_is_an_empty_batch_that_moves_the_contact_on(server):
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        contacts = [(await anext(batches)).contact]
        for _ in range(3):
            batch = await anext(batches)
            assert batch.changes == []
            contacts.append(batch.contact)
        assert contacts == sorted(set(contacts))


async def test_a_scenario_at_20_times_speed_publishes_20_times_as_often(server):
    await server.add("count", 0)
    tags = [tag("count", sampling_interval="1s")]
    async with driver(server.port, tags, PlantClock(20), publishing_interval="500ms", keepalive="5s") as opened:
        batches = opened.changes()
        first, *keep_alives = [await anext(batches) for _ in range(6)]
        assert server.subscription.data.RevisedPublishingInterval == 25
        assert server.subscription.data.RevisedMaxKeepAliveCount == 10
        contacts = [first.contact, *(keep_alive.contact for keep_alive in keep_alives)]
        # 0.25 s of wall time between two; a machine that stands still delays one, and others come in a burst behind it.
        assert any(4_000 <= later - earlier <= 10_000 for earlier, later in pairwise(contacts))


async def test_read_asks_the_device_now_and_answers_tag_by_tag_in_the_order_asked(server):
    names = await server.add("names", ["a", "b"], ua.VariantType.String)
    await server.add("state", 6)
    tags = [tag("names", DataType.STRING), tag("state"), tag("gone")]
    async with driver(server.port, tags) as opened:
        await names.write_value(["c"], ua.VariantType.String)
        changes = await opened.read(["state", "gone", "names"])
        assert [(change.tag_id, change.value, change.status_code) for change in changes] == [
            ("state", 6, StatusCode.GOOD),
            ("gone", None, StatusCode.BAD_NODE_ID_UNKNOWN),
            ("names", ("c",), StatusCode.GOOD),
        ]


# --- acknowledgement and gaps -----------------------------------------------------------------------------------------


async def test_a_notification_is_acknowledged_only_when_the_next_batch_is_asked_for(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        await count.write_value(1, ua.VariantType.Int32)
        await until(lambda: server.unacknowledged == [1, 2])
        await anext(batches)
        await until(lambda: server.unacknowledged == [2])
        await anext(batches)
        await until(lambda: server.unacknowledged == [])


async def test_three_publish_requests_wait_at_the_server_and_two_while_a_batch_is_in_hand(server):
    await server.add("count", 0)
    async with driver(server.port, [tag("count")], keepalive="1s") as opened:
        batches = opened.changes()
        await anext(batches)
        await until(lambda: len(server.processor._publish_requests) == 2)
        asking = asyncio.ensure_future(anext(batches))
        await until(lambda: len(server.processor._publish_requests) == 3)
        await asking


@pytest.mark.case("A9", "A10")
async def test_while_the_consumer_stalls_the_device_keeps_the_values_and_none_is_lost(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count", queue_size=1000)]) as opened:
        batches = opened.changes()
        await anext(batches)
        for value in range(1, 201):
            await count.write_value(value, ua.VariantType.Int32)
            if value % 20 == 0:
                await asyncio.sleep(0.03)
        assert [change.value for change in await changes_of(batches, 200)] == list(range(1, 201))
        assert opened.statistics.missed_notifications == 0


async def test_a11_a_gap_in_the_sequence_numbers_is_seen_counted_and_said(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        server.subscription._notification_seq += 3
        await count.write_value(1, ua.VariantType.Int32)
        with capture_logs() as logs:
            assert [change.value for change in await changes_of(batches, 1)] == [1]
        assert (opened.statistics.sequence_gaps, opened.statistics.missed_notifications) == (1, 3)
        assert [(line["expected"], line["received"], line["missed"]) for line in logs] == [(2, 5, 3)]


async def test_a_notification_that_is_repeated_is_delivered_and_not_taken_for_a_gap(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        for number, value in ((2, 1), (1, 2), (3, 3)):
            server.subscription._notification_seq = number
            await count.write_value(value, ua.VariantType.Int32)
            assert [change.value for change in await changes_of(batches, 1)] == [value]
        assert opened.statistics.sequence_gaps == 0


async def test_sequence_numbers_that_start_again_at_1_after_the_highest_are_no_gap(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        server.subscription._notification_seq = 0xFFFFFFFF
        await count.write_value(1, ua.VariantType.Int32)
        await changes_of(batches, 1)
        gaps = opened.statistics.sequence_gaps
        server.subscription._notification_seq = 1
        for value in (2, 3):
            await count.write_value(value, ua.VariantType.Int32)
            await changes_of(batches, 1)
        assert opened.statistics.sequence_gaps == gaps


async def test_a13_the_queue_is_asked_for_and_its_overflow_is_passed_on_and_counted(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count", queue_size=7)]) as opened:
        batches = opened.changes()
        await anext(batches)
        (item,) = server.subscription.monitored_item_srv._monitored_items.values()
        assert item.queue_size == 7
        await count.write_value(ua.DataValue(ua.Variant(9, ua.VariantType.Int32), ua.StatusCode(0x480)))
        assert [(change.value, change.status_code) for change in await changes_of(batches, 1)] == [(9, 0x480)]
        assert opened.statistics.overflows == 1


async def test_a13_a_queue_and_an_interval_that_the_server_cut_are_said_once_for_all_tags():
    async with plc() as server:
        server.server.iserver.max_monitored_item_queue_size = 10
        for number in range(3):
            await server.add(f"t{number}", 0)
        tags = [tag(f"t{number}", sampling_interval="5ms") for number in range(3)]
        with capture_logs() as logs:
            async with driver(server.port, tags) as opened:
                await anext(opened.changes())
        assert [(line["event"], line["what"], line["tags"]) for line in logs] == [
            ("device revised", "sampling_interval 5 became 20", 3),
            ("device revised", "queue_size 100 became 10", 3),
        ]


async def test_a_server_that_takes_but_one_publish_request_is_asked_one_at_a_time(server):
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        server.processor.publish_request_limit = lambda subscriptions: 1
        batches = opened.changes()
        await anext(batches)
        for value in range(1, 6):
            await count.write_value(value, ua.VariantType.Int32)
            assert [change.value for change in await changes_of(batches, 1)] == [value]


# --- what a server refuses --------------------------------------------------------------------------------------------


async def test_a3_a_refused_subscription_is_a_lost_link_and_leaves_no_session_behind():
    async with plc() as server:
        await server.add("count", 0)
        service = server.server.iserver
        service.max_subscriptions = 0
        async with driver(server.port, [tag("count")]) as opened:
            with pytest.raises(LinkLost, match=r"no subscription: CreateSubscriptionRequest.*BadTooManySubscriptions"):
                await anext(opened.changes())
        service.max_subscriptions = 1
        for _ in range(2):
            async with driver(server.port, [tag("count")]) as opened:
                assert [change.value for change in (await anext(opened.changes())).changes] == [0]
            await until(lambda: server.subscriptions == [])


async def test_a4_a_missing_node_is_bad_once_leaves_its_neighbour_alone_and_comes_back_by_itself(server):
    clock = ManualClock()
    good = await server.add("good", 0)
    async with driver(server.port, [tag("good"), tag("late")], clock) as opened:
        batches = opened.changes()
        assert (await anext(batches)).changes == [TagChange("late", None, StatusCode.BAD_NODE_ID_UNKNOWN)]
        assert [change.tag_id for change in await changes_of(batches, 1)] == ["good"]
        for seconds in (5, 10, 20, 40, 60):
            await until(lambda seconds=seconds: clock.asked[-1:] == [seconds])
            await good.write_value(seconds, ua.VariantType.Int32)
            assert [change.tag_id for change in await changes_of(batches, 1)] == ["good"]
            await clock.advance(seconds)
        await until(lambda: clock.asked == [5, 10, 20, 40, 60, 60])
        await server.add("late", 77)
        await clock.advance(60)
        assert [(change.tag_id, change.value) for change in await changes_of(batches, 1)] == [("late", 77)]


async def test_a15_items_are_created_in_chunks_of_what_the_server_takes_and_every_result_is_looked_at():
    async with plc() as server:
        limit = ua.NodeId(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall)
        await server.server.get_node(limit).write_value(10, ua.VariantType.UInt32)
        for number in range(25):
            if number not in (3, 17):
                await server.add(f"t{number}", number)
        calls: list[int] = []
        original = server.server.iserver.subscription_service.create_monitored_items

        async def counted(params):
            calls.append(len(params.ItemsToCreate))
            return await original(params)

        server.server.iserver.subscription_service.create_monitored_items = counted
        async with driver(server.port, [tag(f"t{number}") for number in range(25)]) as opened:
            changes = {change.tag_id: change for change in await changes_of(opened.changes(), 25)}
        assert calls == [10, 10, 5]
        bad = {name for name, change in changes.items() if change.status_code == StatusCode.BAD_NODE_ID_UNKNOWN}
        assert bad == {"t3", "t17"}
        assert sum(change.value or 0 for change in changes.values()) == sum(range(25)) - 20


async def test_a_read_of_more_nodes_than_the_server_takes_is_asked_in_pieces():
    async with plc() as server:
        limits = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead
        await server.server.get_node(ua.NodeId(limits)).write_value(4, ua.VariantType.UInt32)
        for number in range(10):
            await server.add(f"t{number}", number)
        async with driver(server.port, [tag(f"t{number}") for number in range(10)]) as opened:
            assert [change.value for change in await opened.read([f"t{n}" for n in range(10)])] == list(range(10))


# --- writes -----------------------------------------------------------------------------------------------------------


async def test_a16_a_write_carries_the_declared_type_and_no_timestamp(server):
    setpoint = await server.add("setpoint", 1, ua.VariantType.Int16)
    await server.add("readonly", 1)
    await server.server.get_node(ua.NodeId("readonly", server.index)).set_writable(False)
    tags = [tag("setpoint", DataType.INT16), tag("readonly"), tag("gone"), tag("wrong", node="s=setpoint")]
    async with driver(server.port, tags) as opened:
        results = await opened.write(
            [
                TagWrite("setpoint", 7),
                TagWrite("readonly", 2),
                TagWrite("gone", 3),
                TagWrite("wrong", 4),
            ]
        )
        assert results == [
            WriteResult("setpoint"),
            WriteResult("readonly", 0x801F0000),
            WriteResult("gone", 0x801F0000),
            WriteResult("wrong", StatusCode.BAD_TYPE_MISMATCH),
        ]
        stored = await setpoint.read_data_value()
        assert stored.Value == ua.Variant(7, ua.VariantType.Int16)
        assert stored.SourceTimestamp is None


async def test_a_value_out_of_range_is_refused_without_a_packet(server):
    async with proxy(server.port) as between:
        await server.add("setpoint", 1, ua.VariantType.Int16)
        async with driver(between.port, [tag("setpoint", DataType.INT16)], request_timeout="300ms") as opened:
            between.freeze()
            assert await opened.write([TagWrite("setpoint", 32_768)]) == [
                WriteResult("setpoint", StatusCode.BAD_OUT_OF_RANGE)
            ]
            with pytest.raises(LinkLost, match=r"does not answer a WriteRequest within 0\.3 s"):
                await opened.write([TagWrite("setpoint", 32_767)])
