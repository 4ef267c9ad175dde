"""R8 and its kin: what a cut, a restart, a refusal or an overflow may cost, and that it is told."""

import asyncio
import os
from contextlib import AsyncExitStack

import pytest
from asyncua import ua
from opcua_links import link, tag, until
from opcua_servers import PLC, plc, proxy
from secure_servers import make_certificate, make_key, make_pki, secure_plc

from gateway.domain.values import DataType, StatusCode
from gateway.drivers.opcua.subscribing.sequence import NotificationNumbers
from tests.stopwatch import Stopwatch

FULL = bool(os.environ.get("FULL"))


async def count(node, record_stop: asyncio.Event) -> int:
    """Write 1, 2, 3 … at 50 Hz until told to stop; the last number written."""
    value = 0
    while not record_stop.is_set():
        value += 1
        await node.write_value(value, ua.VariantType.Int32)
        await asyncio.sleep(0.02)
    return value


@pytest.mark.timeout(180)
async def test_r08_a_link_cut_again_and_again_at_50_hz_loses_nothing(record_property):
    cuts, outage, pause = (20, 2.0, 2.0) if FULL else (4, 0.4, 0.3)
    async with plc() as server, proxy(server.port) as between:
        node = await server.add("count", 0)
        async with link(between.port, tag("count"), rate=1 if FULL else 5) as record:
            await until(lambda: record.values() == [0])
            stop = asyncio.Event()
            counting = asyncio.create_task(count(node, stop))
            recovered = []
            for _ in range(cuts):
                ups = len(record.links)
                await asyncio.sleep(pause)
                between.refuse()
                between.cut()
                await asyncio.sleep(outage)
                between.accept()
                with Stopwatch() as down:
                    await until(lambda ups=ups: len(record.links) == ups + 2)
                recovered.append(down.seconds)
            stop.set()
            last = await counting
            await until(lambda: record.values()[-1] == last)
            assert record.values() == list(range(last + 1))
            assert record.gaps == []
            assert record.links == [(True, False)] + [(False, False), (True, True)] * cuts
            assert max(recovered) <= 5
            record_property("figure", f"0 of {last} lost in {cuts} cuts, back within {max(recovered):.1f} s")


async def test_r09_after_a_restart_with_swapped_namespaces_no_other_tags_value_is_believed(record_property):
    other = "urn:test:other"
    async with AsyncExitStack() as before:
        server = await before.enter_async_context(plc(namespaces=(other, PLC)))
        port, index = server.port, server.index
        await server.add("count", 1)
        await server.server.nodes.objects.add_variable(ua.NodeId("count", index - 1), "decoy", 666)
        async with link(port, tag("count"), rate=5) as record:
            await until(lambda: record.values() == [1])
            await before.aclose()
            async with plc(port, namespaces=(PLC, other)) as after:
                await after.server.nodes.objects.add_variable(ua.NodeId("count", after.index + 1), "decoy", 666)
                await after.add("count", 2)
                with Stopwatch() as took:
                    await until(lambda: record.values()[-1] == 2)
                assert 666 not in record.values()
                assert took.seconds <= 10
                moves = {(drift.name, drift.before, drift.after) for drift in record.drifts}
                assert moves == {(other, str(index - 1), str(index)), (PLC, str(index), str(index - 1))}
                assert [gap.cause for gap in record.gaps] == ["session"]
                record_property("figure", f"0 wrong samples, right ones after {took.seconds:.1f} s")


async def test_r09_a_tag_that_comes_with_another_type_is_bad_and_told_once():
    async with plc() as server, proxy(server.port) as between:
        node = await server.add("count", 1, ua.VariantType.Int32)
        await server.add("good", 5)
        async with link(between.port, tag("count", DataType.INT16), tag("good"), rate=5) as record:
            await until(lambda: record.values("good") == [5])
            for value in range(3):
                await node.write_value(value, ua.VariantType.Int32)
                await until(lambda value=value: len(record.values("count")) > value + 1)
            statuses = {
                change.status_code for batch in record.batches for change in batch.changes if change.tag_id == "count"
            }
            assert set(record.values("count")) == {None}
            assert statuses == {StatusCode.BAD_TYPE_MISMATCH}
            assert [(d.what, d.name, d.before, d.after) for d in record.drifts] == [("type", "count", "Int16", "Int32")]


async def test_r10_a_refused_subscription_is_no_connection_and_is_tried_again(record_property):
    async with plc() as server:
        await server.add("count", 7)
        server.server.iserver.max_subscriptions = 0
        refused = 0
        original = server.server.iserver.subscription_service.create_subscription

        async def counted(*args, **kwargs):
            nonlocal refused
            try:
                return await original(*args, **kwargs)
            except Exception:
                refused += 1
                raise

        server.server.iserver.subscription_service.create_subscription = counted
        async with link(server.port, tag("count"), rate=20) as record:
            await until(lambda: refused >= 3)
            assert [up for up, _ in record.links] == [False]
            assert record.batches == []
            server.server.iserver.max_subscriptions = 1
            with Stopwatch() as down:
                await until(lambda: record.values() == [7])
            took = 20 * down.seconds
            assert record.links == [(False, False), (True, False)]
            assert took <= 60
            record_property("figure", f"down while refused {refused} times, values {took:.0f} s after the last")


async def test_r11_a_missing_node_is_bad_its_neighbour_goes_on_and_it_comes_back(record_property):
    async with plc() as server:
        good = await server.add("good", 0)
        async with link(server.port, tag("good"), tag("late"), rate=20) as record:
            await until(lambda: record.values("late") == [None] and record.values("good") == [0])
            for value in (1, 2, 3):
                await good.write_value(value, ua.VariantType.Int32)
                await until(lambda value=value: record.values("good")[-1] == value)
            await asyncio.sleep(30 / 20)
            await server.add("late", 77)
            with Stopwatch() as missing:
                await until(lambda: record.values("late") == [None, 77])
            took = 20 * missing.seconds
            assert record.values("good") == [0, 1, 2, 3]
            assert record.links == [(True, False)]
            assert took <= 60
            record_property("figure", f"neighbour unaffected, restored after {took:.0f} s")


@pytest.mark.timeout(700)
@pytest.mark.case("A7")
async def test_r12_a_device_1300_ms_away_is_never_taken_for_lost(record_property):
    seconds = 600 if FULL else 4
    async with plc() as server, proxy(server.port) as between:
        node = await server.add("count", 0)
        between.delay = 0.65
        async with link(between.port, tag("count"), publishing_interval="500ms", keepalive="1s") as record:
            await until(lambda: record.values() == [0], 30)
            stop = asyncio.Event()
            counting = asyncio.create_task(count(node, stop))
            await asyncio.sleep(seconds)
            stop.set()
            last = await counting
            await until(lambda: record.values()[-1] == last)
            assert record.links == [(True, False)]
            assert record.values() == list(range(last + 1))
            record_property("figure", f"0 reconnects in {seconds} s")


async def test_r13_a_half_open_connection_is_found_in_time(record_property):
    keepalive, timeout = (5, 4) if FULL else (1, 1)
    async with plc() as server, proxy(server.port) as between:
        await server.add("count", 0)
        keys = {"publishing_interval": "500ms", "keepalive": f"{keepalive}s", "request_timeout": f"{timeout}s"}
        async with link(between.port, tag("count"), **keys) as record:
            await until(lambda: record.values() == [0])
            between.freeze()
            with Stopwatch() as took:
                await until(lambda: record.links[-1] == (False, False))
            assert took.seconds <= keepalive + timeout + 0.5
            record_property(
                "figure", f"found after {took.seconds:.1f} s with keepalive {keepalive} s, timeout {timeout} s"
            )


async def test_r14_every_overflow_and_every_jump_is_counted_and_marked(record_property):
    async with plc() as server:
        node = await server.add("count", 0)
        async with link(server.port, tag("count")) as record:
            await until(lambda: record.values() == [0])
            for value in range(1, 6):
                overflowed = ua.DataValue(ua.Variant(value, ua.VariantType.Int32), ua.StatusCode(0x480))
                await node.write_value(overflowed)
                await until(lambda value=value: record.values()[-1] == value)
            for value in range(6, 9):
                server.subscription._notification_seq += value
                await node.write_value(value, ua.VariantType.Int32)
                await until(lambda value=value: record.values()[-1] == value)
            overflows = [gap for gap in record.gaps if gap.cause == "overflow"]
            jumps = [gap.notifications for gap in record.gaps if gap.cause == "sequence"]
            assert [(gap.tags, gap.first) for gap in overflows] == [(1, ("count",))] * 5
            assert jumps == [6, 7, 8]
            assert len({(gap.cause, gap.start, gap.number) for gap in record.gaps}) == 8
            assert record.values() == list(range(9))
            record_property("figure", "5 of 5 overflows and 3 of 3 jumps marked")


async def test_r14_a_notification_that_the_server_still_keeps_is_fetched_and_no_gap():
    async with plc() as server:
        node = await server.add("count", 0)
        async with link(server.port, tag("count")) as record:
            await until(lambda: record.values() == [0])
            subscription = server.subscription
            forward, lost = subscription.pub_result_callback, []

            async def lose_one(result, requestdata):
                if result.NotificationMessage.NotificationData and not lost:
                    lost.append(result)
                    server.processor._publish_requests.append(requestdata)
                    return
                await forward(result, requestdata)

            subscription.pub_result_callback = lose_one
            for value in (1, 2):
                await node.write_value(value, ua.VariantType.Int32)
                await until(lambda value=value: len(lost) == 1 and record.values()[-1] in (value, value - 1))
                await asyncio.sleep(0.1)
            await until(lambda: record.values() == [0, 1, 2])
            assert len(lost) == 1
            assert record.gaps == []


@pytest.mark.case("A9", "A10")
async def test_r15_a_stalled_consumer_costs_no_memory_and_no_values(record_property):
    seconds, tags = (60, 50) if FULL else (2, 10)
    async with plc() as server:
        nodes = [await server.add(f"t{number}", 0) for number in range(tags)]
        async with link(server.port, *(tag(f"t{number}", queue_size=10_000) for number in range(tags))) as record:
            await until(lambda: len(record.batches) >= 1 and record.values(f"t{tags - 1}") == [0])
            record.hold.clear()
            written, began = 0, asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - began < seconds:
                written += 1
                for node in nodes:
                    await node.write_value(written, ua.VariantType.Int32)
                await asyncio.sleep(0.01)
            held = record.link._connection._subscription._received.qsize()
            assert held <= 3
            record.hold.set()
            await until(lambda: all(record.values(f"t{number}")[-1] == written for number in range(tags)), 60)
            for number in range(tags):
                assert record.values(f"t{number}") == list(range(written + 1))
            assert record.gaps == []
            record_property("figure", f"0 of {written * tags} lost in a stall of {seconds} s, {held} answers in memory")


async def test_a8_values_of_a_server_that_does_not_run_are_uncertain_until_it_does():
    async with plc() as server:
        await server.add("count", 7)
        state = server.server.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_State))
        async with link(server.port, tag("count"), keepalive="1s") as record:
            await until(lambda: record.values() == [7])
            for told, status in ((ua.ServerState.Suspended, 0x40900000), (ua.ServerState.Running, StatusCode.GOOD)):
                seen = len(record.values())
                await state.write_value(ua.DataValue(ua.Variant(int(told), ua.VariantType.Int32)))
                await until(lambda seen=seen: len(record.values()) > seen)
                (change,) = [change for batch in record.batches for change in batch.changes][seen:]
                assert (change.value, change.status_code) == (7, status)
            assert record.links == [(True, False)]


async def test_r08_what_went_into_the_broken_channel_is_fetched_at_once_and_not_at_the_next_keep_alive():
    async with plc() as server, proxy(server.port) as between:
        node = await server.add("count", 0)
        async with link(between.port, tag("count"), keepalive="60s") as record:
            await until(lambda: record.values() == [0])
            await until(lambda: len(server.processor._publish_requests) >= 2)
            between.refuse()
            between.cut()
            await node.write_value(1, ua.VariantType.Int32)
            await until(lambda: 2 in server.unacknowledged)
            between.accept()
            await until(lambda: record.values() == [0, 1], 5)
            assert record.gaps == []


async def test_r08_a_signed_and_encrypted_session_goes_on_over_a_new_channel_too(tmp_path):
    key = make_key()
    certificate = make_certificate(key)
    async with secure_plc(certificate, key) as server:
        node = await server.add("count", 0)
        pki = make_pki(tmp_path / "pki", certificate)
        keys = {"security": "Basic256Sha256", "pki": pki.folder}
        async with link(server.port, tag("count"), rate=5, **keys) as record:
            await until(lambda: record.values() == [0])
            for value in (1, 2, 3):
                for client in list(server.server.bserver.clients):
                    client.transport.abort()
                await node.write_value(value, ua.VariantType.Int32)
                await until(lambda value=value: record.values()[-1] == value)
            assert record.values() == [0, 1, 2, 3]
            assert record.links == [(True, False)] + [(False, False), (True, True)] * 3
            assert record.gaps == []


async def test_r08_a_certificate_that_is_shown_without_security_does_not_keep_a_session_from_going_on():
    key = make_key()
    async with secure_plc(make_certificate(key), key) as server:
        node = await server.add("count", 0)
        async with link(server.port, tag("count"), rate=5) as record:
            await until(lambda: record.values() == [0])
            for client in list(server.server.bserver.clients):
                client.transport.abort()
            await node.write_value(1, ua.VariantType.Int32)
            await until(lambda: record.values() == [0, 1])
            assert record.links == [(True, False), (False, False), (True, True)]


async def test_r08_a_server_that_forgot_the_session_costs_one_gap_and_no_more():
    async with plc() as server:
        node = await server.add("count", 0)
        async with link(server.port, tag("count"), rate=5) as record:
            await until(lambda: record.values() == [0])
            service = server.server.iserver.subscription_service
            await service.delete_subscriptions(list(service.subscriptions))
            for session in list(server.server.iserver._external_sessions.values()):
                await session.close_session(True)
            for client in list(server.server.bserver.clients):
                client.transport.abort()
            await node.write_value(1, ua.VariantType.Int32)
            await until(lambda: record.values() == [0, 1])
            (gap,) = record.gaps
            assert (gap.cause, gap.notifications) == ("session", None)
            assert record.batches[0].contact <= gap.start <= gap.end
            assert record.links == [(True, False), (False, False), (True, False)]


@pytest.mark.parametrize(
    ("expected", "number", "available", "missing", "kept"),
    [
        (5, 5, [3, 4, 5], 0, []),
        (5, 9, [4, 7, 5, 9], 4, [5, 7]),
        (5, 3, [3], 0, []),
        (0xFFFFFFFE, 3, [1, 0xFFFFFFFF], 4, [0xFFFFFFFF, 1]),
        (2, 0x7FFF0000, [2], 0x7FFEFFFE, [2]),
    ],
)
def test_r14_what_is_missing_before_a_number_and_what_of_it_is_still_kept(expected, number, available, missing, kept):
    numbers = NotificationNumbers()
    numbers.expected = expected
    assert numbers.missing_before(number) == missing
    assert numbers.still_kept(available, number) == kept


def test_a14_a_notification_that_came_by_republish_is_known_once():
    numbers = NotificationNumbers()
    numbers.take(1, is_keep_alive=False)
    numbers.note_fetched(1)
    assert (numbers.is_known(1), numbers.is_known(1), numbers.expected) == (True, False, 2)
    numbers.take(2, is_keep_alive=True)
    assert numbers.expected == 2
