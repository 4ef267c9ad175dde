"""The OPC UA driver against a real server: values, acknowledgements, what a server refuses, and what gets lost."""

import asyncio
import contextlib
import logging
import socket
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from asyncua import ua
from clocks import ManualClock, PlantClock
from opcua_servers import PLC, plc, proxy
from structlog.testing import capture_logs

from gateway.domain.values import DataType, StatusCode, TagChange, TagWrite, WriteResult
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.opcua import channel
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver

PATIENCE = 5
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    """One server for the tests that leave it as it was: loading its address space takes a second."""
    async with plc() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def server(shared):
    yield shared
    await shared.clear()


def tag(name: str, data_type: DataType = DataType.INT32, **address) -> Tag[OpcUaAddress]:
    return Tag(name, data_type, OpcUaAddress(node=address.pop("node", f"s={name}"), **address))


@asynccontextmanager
async def driver(port: int, tags, clock=None, **settings):
    """An open driver that publishes every 20 ms."""
    keys = {
        "namespace": PLC,
        "publishing_interval": "20ms",
        "sampling_interval": "20ms",
        "keepalive": "200ms",
        **settings,
    }
    made = OpcUaDriver(
        "FIL01",
        OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", security="none", **keys),
        tags,
        clock or PlantClock(),
    )
    async with made:
        yield made


async def until(condition) -> None:
    """Wait until a condition on the server's side holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


def our_tasks() -> set[asyncio.Task]:
    """All but those of the test's own server."""
    return {task for task in asyncio.all_tasks() if "asyncua/server" not in str(task.get_coro().cr_code.co_filename)}


async def exhaust(batches) -> None:
    """Ask for batches until the link is lost."""
    async with asyncio.timeout(PATIENCE):
        async for _ in batches:
            pass


async def changes_of(batches, count: int) -> list[TagChange]:
    """Ask for batches until that many changes came."""
    changes: list[TagChange] = []
    async with asyncio.timeout(PATIENCE):
        while len(changes) < count:
            changes += (await anext(batches)).changes
    return changes


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
        first, keep_alive = await anext(batches), await anext(batches)
        assert server.subscription.data.RevisedPublishingInterval == 25
        assert server.subscription.data.RevisedMaxKeepAliveCount == 10
        assert 4_000 <= keep_alive.contact - first.contact <= 10_000


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


# --- the link ---------------------------------------------------------------------------------------------------------


async def test_a2_after_a_restart_with_other_namespaces_the_right_tag_is_read():
    other = "urn:test:other"
    async with plc(namespaces=(other, PLC)) as server:
        await server.add("count", 1)
        decoy = await server.server.nodes.objects.add_variable(ua.NodeId("count", server.index - 1), "decoy", 666)
        async with driver(server.port, [tag("count")]) as opened:
            assert [change.value for change in (await anext(opened.changes())).changes] == [1]
        port = server.port
    async with plc(port, namespaces=(PLC, other)) as server:
        await server.add("count", 2)
        await server.server.nodes.objects.add_variable(ua.NodeId("count", server.index + 1), "decoy", 666)
        assert decoy.nodeid.NamespaceIndex == server.index
        async with driver(port, [tag("count")]) as opened:
            assert [change.value for change in (await anext(opened.changes())).changes] == [2]


async def test_a2_a_missing_namespace_is_a_lost_link_that_names_those_that_exist():
    async with plc(namespaces=("urn:test:other",)) as server:
        with pytest.raises(LinkLost, match=r"no namespace 'urn:test:plc'; it has http.*, urn:test:other"):
            async with driver(server.port, [tag("count")]):
                pass
        await until(lambda: not server.server.bserver.clients)


async def test_a1_a_server_that_stops_is_lost_at_once_without_noise_and_without_leftovers(caplog):
    before = our_tasks()
    async with plc() as server:
        await server.add("count", 0)
        async with driver(server.port, [tag("count")], keepalive="5s") as opened:
            batches = opened.changes()
            await anext(batches)
            asking = asyncio.ensure_future(anext(batches))
            await until(lambda: len(server.processor._publish_requests) == 3)
            await server.server.stop()
            async with asyncio.timeout(1):
                with pytest.raises(LinkLost, match=r"^opc.tcp://127.0.0.1:\d+: connection lost"):
                    await asking
                with pytest.raises(LinkLost, match="connection lost"):
                    await opened.read(["count"])
    noise = [
        record for record in caplog.records if record.name.startswith(("asyncua.client", "asyncua.common", "asyncio"))
    ]
    assert noise == []
    assert our_tasks() == before


async def test_a_half_open_connection_is_lost_after_three_keep_alives_and_closed_in_bounded_time(server):
    async with proxy(server.port) as between:
        await server.add("count", 0)
        async with driver(between.port, [tag("count")], keepalive="100ms", request_timeout="250ms") as opened:
            batches = opened.changes()
            await anext(batches)
            between.freeze()
            started = asyncio.get_running_loop().time()
            with pytest.raises(LinkLost, match=r"has published nothing for 0\.3 s, not even a keep-alive"):
                await exhaust(batches)
            assert asyncio.get_running_loop().time() - started < 0.7
        assert asyncio.get_running_loop().time() - started < 0.8


async def test_a_connection_cut_in_the_middle_of_a_request_is_lost_at_once(server):
    async with proxy(server.port) as between:
        await server.add("count", 0)
        async with driver(between.port, [tag("count")]) as opened:
            between.freeze()
            reading = asyncio.ensure_future(opened.read(["count"]))
            await asyncio.sleep(0)
            between.cut()
            async with asyncio.timeout(1):
                with pytest.raises(LinkLost, match="connection lost"):
                    await reading


async def test_a_subscription_that_the_server_ends_is_a_lost_link(server):
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        server.subscription._startup = True
        await server.subscription.enqueue_statuschange(ua.StatusCode(ua.StatusCodes.BadTimeout))
        with pytest.raises(LinkLost, match="ended the subscription: BadTimeout"):
            await exhaust(batches)


async def test_an_answer_that_cannot_be_decoded_ends_the_link_and_nothing_else(server, monkeypatch):
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        garbage = ua.ExtensionObject(
            ua.NodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary), b"\xff\xff\xff\x7f" + bytes(9)
        )
        server.subscription._pop_triggered_datachanges = lambda result: (
            result.NotificationMessage.NotificationData.append(garbage)
        )
        with pytest.raises(LinkLost, match="sent an answer that cannot be decoded"):
            await exhaust(batches)


async def test_the_channel_is_renewed_before_its_token_expires(server, monkeypatch):
    assert channel._RENEW_AFTER < 1, "what is renewed later than its end has ended"
    # A long lifetime renewed early: a machine that stalls for a second must not look like a token that ran out.
    monkeypatch.setattr(channel, "CHANNEL_LIFETIME", 60_000)
    monkeypatch.setattr(channel, "_RENEW_AFTER", 0.002)
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        token = server.processor._connection.security_token.TokenId
        async with asyncio.timeout(PATIENCE):
            while server.processor._connection.security_token.TokenId < token + 3:
                assert [change.value for change in await opened.read(["count"])] == [0]
                await asyncio.sleep(0.01)
        await count.write_value(1, ua.VariantType.Int32)
        assert [change.value for change in await changes_of(batches, 1)] == [1]


async def test_a_server_that_is_not_there_is_a_lost_link_with_the_reason():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(LinkLost, match=f"opc.tcp://127.0.0.1:{port}: cannot be connected: Connection refused"):
            async with driver(port, []):
                pass


async def test_a_server_that_accepts_and_says_nothing_is_lost_within_the_request_timeout():
    closed = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        closed.set()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with asyncio.timeout(2), silent:
        with pytest.raises(LinkLost, match=r"does not answer within 0\.2 s"):
            async with driver(port, [], request_timeout="200ms"):
                pass
        await closed.wait()


async def test_a22_asyncua_never_logs_requests_even_when_everything_else_is_debugged(server, caplog):
    caplog.set_level(logging.DEBUG)
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        await anext(opened.changes())
        assert [record.name for record in caplog.records if record.name.startswith("asyncua.client")] == []
