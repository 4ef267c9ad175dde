"""R8 to R14 once more, against node-opcua: it samples, has real queues, knows its limits and repeats by the book."""

import asyncio
import os

import pytest
from node_plants import NodeProcess, once, running

from gateway.domain.values import StatusCode
from simulators.proxy import FaultProxy
from tests.drivers.opcua_links import link, tag, until
from tests.drivers.opcua_servers import PLC

FULL = bool(os.environ.get("FULL"))
OTHER = "urn:test:other"


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.timeout(180)
async def test_r08_a_link_cut_again_and_again_at_50_hz_loses_nothing_of_node_opcua(node: NodeProcess, record_property):
    cuts, outage, pause, rate = (20, 2.0, 2.0, 1) if FULL else (3, 0.3, 0.2, 5)
    async with running(node) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        async with link(between.port, tag("count"), rate=rate, sampling_interval=f"{5 * rate}ms") as record:
            await until(lambda: record.values() == [0])
            await plant.count("count", hertz=50)
            recovered = []
            for _ in range(cuts):
                ups = len(record.links)
                await asyncio.sleep(pause)
                await between.refuse()
                await asyncio.sleep(outage)
                await between.accept()
                began = now()
                await until(lambda ups=ups: len(record.links) == ups + 2)
                recovered.append(now() - began)
            last = await plant.do("rest")
            await until(lambda: record.values()[-1] == last)
            assert once(record) == list(range(last + 1))
            assert record.gaps == []
            assert record.links == [(True, False)] + [(False, False), (True, True)] * cuts
            assert max(recovered) <= 5
            record_property("figure", f"node-opcua: 0 of {last} lost in {cuts} cuts, back in {max(recovered):.1f} s")


async def test_r08_what_node_opcua_sent_into_the_broken_channel_is_fetched(node: NodeProcess):
    async with running(node) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        async with link(between.port, tag("count"), rate=5, keepalive="300s") as record:
            await until(lambda: record.values() == [0])
            await plant.do("lose")
            await plant.write("count", 1)
            while 2 not in await plant.do("kept"):
                await asyncio.sleep(0.01)
            between.cut()
            await until(lambda: once(record) == [0, 1])
            assert record.links == [(True, False), (False, False), (True, True)]
            assert record.gaps == []


async def test_r08_a_session_that_node_opcua_forgot_costs_one_gap_and_no_more(node: NodeProcess):
    async with running(node) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        async with link(between.port, tag("count"), rate=5) as record:
            await until(lambda: record.values() == [0])
            await between.refuse()
            await plant.do("forget")
            await plant.write("count", 1)
            await between.accept()
            await until(lambda: record.values() == [0, 1])
            assert [(gap.cause, gap.notifications) for gap in record.gaps] == [("session", None)]
            assert record.links == [(True, False), (False, False), (True, False)]


async def test_r08_a_subscription_that_node_opcua_ends_costs_one_gap_and_no_more(node: NodeProcess):
    async with running(node) as plant:
        await plant.add("count", 0)
        async with link(plant.port, tag("count"), rate=5) as record:
            await until(lambda: record.values() == [0])
            await plant.do("terminate")
            await plant.write("count", 1)
            await until(lambda: record.values() == [0, 1])
            assert [gap.cause for gap in record.gaps] == ["session"]
            assert record.links == [(True, False), (False, False), (True, False)]


async def test_r09_node_opcua_restarted_with_swapped_namespaces_gives_no_wrong_value(
    node: NodeProcess, record_property
):
    async with running(node, namespaces=[PLC, OTHER]) as before:
        port = before.port
        await before.add("count", 1)
        await before.add("count", 666, namespace=OTHER)
        watched = link(port, tag("count"), rate=5)
        record = await watched.__aenter__()
        await until(lambda: record.values() == [1])
    try:
        async with running(node, port=port, namespaces=[OTHER, PLC]) as after:
            await after.add("count", 666)
            await after.add("count", 2, namespace=PLC)
            began = now()
            await until(lambda: record.values()[-1] == 2)
            took = now() - began
    finally:
        await watched.__aexit__(None, None, None)
    assert 666 not in record.values()
    assert took <= 10
    assert {(drift.name, drift.before, drift.after) for drift in record.drifts} == {(PLC, "2", "3"), (OTHER, "3", "2")}
    assert [gap.cause for gap in record.gaps] == ["session"]
    record_property("figure", f"node-opcua: 0 wrong samples, right ones after {took:.1f} s")


async def test_r10_a_subscription_that_node_opcua_refuses_is_no_connection(node: NodeProcess, record_property):
    async with running(node) as plant:
        await plant.add("count", 7)
        await plant.do("limit", maxSubscriptions=0)
        async with link(plant.port, tag("count"), rate=20) as record:
            while (refused := (await plant.do("told"))["answers"].get("BadTooManySubscriptions", 0)) < 3:
                await asyncio.sleep(0.01)
            assert [up for up, _ in record.links] == [False]
            assert record.batches == []
            await plant.do("limit", maxSubscriptions=1)
            began = now()
            await until(lambda: record.values() == [7])
            took = 20 * (now() - began)
            assert record.links == [(False, False), (True, False)]
            assert took <= 60
            record_property("figure", f"node-opcua: down while refused {refused} times, up {took:.0f} s after the last")


async def test_r11_too_many_items_and_a_missing_node_leave_the_others_alone(node: NodeProcess, record_property):
    async with running(node) as plant:
        await plant.add("good", 0)
        await plant.add("surplus", 5)
        await plant.do("limit", maxMonitoredItemsPerSubscription=1)
        async with link(plant.port, tag("good"), tag("late"), tag("surplus"), rate=20) as record:
            await until(lambda: record.values("good") == [0] and record.values("late") == [None])
            statuses = {c.tag_id: c.status_code for batch in record.batches for c in batch.changes}
            assert statuses["late"] == StatusCode.BAD_NODE_ID_UNKNOWN
            assert statuses["surplus"] == 0x80DB0000, "BadTooManyMonitoredItems"
            for value in (1, 2, 3):
                await plant.write("good", value)
                await until(lambda value=value: record.values("good")[-1] == value)
            await asyncio.sleep(10 / 20)
            await plant.do("limit", maxMonitoredItemsPerSubscription=100)
            await plant.add("late", 77)
            began = now()
            await until(lambda: record.values("late") == [None, 77] and record.values("surplus") == [None, 5])
            took = 20 * (now() - began)
            assert record.values("good") == [0, 1, 2, 3]
            assert record.links == [(True, False)]
            assert took <= 60
            record_property("figure", f"node-opcua: neighbour unaffected, two restored after {took:.0f} s")


@pytest.mark.timeout(700)
async def test_r12_node_opcua_1300_ms_away_is_never_taken_for_lost(node: NodeProcess, record_property):
    seconds = 600 if FULL else 1
    async with running(node) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        keys = {"publishing_interval": "500ms", "sampling_interval": "5ms", "keepalive": "1s"}
        async with link(between.port, tag("count"), **keys) as record:
            await until(lambda: record.values() == [0])
            between.delay(0.65)
            await plant.count("count", hertz=50)
            await asyncio.sleep(seconds)
            last = await plant.do("rest")
            await until(lambda: record.values()[-1] == last)
            assert record.links == [(True, False)]
            assert record.values() == list(range(last + 1))
            record_property("figure", f"node-opcua: 0 reconnects in {seconds} s")


async def test_r13_a_frozen_link_to_node_opcua_is_found_in_time_and_then_loses_nothing(
    node: NodeProcess, record_property
):
    keepalive, timeout, limit, rate = (5, 4, 10, 1) if FULL else (1, 1, 5, 5)
    async with running(node) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        keys = {"publishing_interval": f"{500 * rate}ms", "sampling_interval": f"{5 * rate}ms"}
        keys |= {"keepalive": f"{keepalive * rate}s", "request_timeout": f"{timeout}s"}
        async with link(between.port, tag("count"), rate=rate, **keys) as record:
            await until(lambda: record.values() == [0])
            await plant.count("count", hertz=50)
            between.freeze()
            began = now()
            await until(lambda: record.links[-1] == (False, False))
            took = now() - began
            between.thaw()
            await until(lambda: record.links[-1] == (True, True))
            last = await plant.do("rest")
            await until(lambda: record.values()[-1] == last)
            assert once(record) == list(range(last + 1))
            assert took <= limit
            record_property("figure", f"node-opcua: found after {took:.1f} s, 0 of {last} lost")


async def test_r14_every_value_that_found_its_queue_full_is_accounted_for(node: NodeProcess, record_property):
    async with running(node) as plant:
        await plant.add("count", 0)
        keys = {"publishing_interval": "300ms", "sampling_interval": "5ms", "queue_size": 4}
        async with link(plant.port, tag("count"), **keys) as record:
            await until(lambda: record.values() == [0])
            for start in (1, 21, 41):
                await plant.do("burst", name="count", values=list(range(start, start + 20)))
                await until(lambda start=start: record.values()[-1] == start + 19)
            told = await plant.do("told")
            gaps = [gap for gap in record.gaps if gap.cause == "overflow"]
            assert len(gaps) == told["overflows"] >= 3
            assert {(gap.tags, gap.first) for gap in gaps} == {(1, ("count",))}
            assert 61 - len(record.values()) == told["discarded"]
            record_property("figure", f"node-opcua: {len(gaps)} overflows marked, {told['discarded']} values discarded")


async def test_r14_numbers_that_node_opcua_skips_are_a_gap_each_time(node: NodeProcess, record_property):
    async with running(node) as plant:
        await plant.add("count", 0)
        async with link(plant.port, tag("count")) as record:
            await until(lambda: record.values() == [0])
            for value in (6, 7, 8):
                await plant.do("skip", numbers=value)
                await plant.write("count", value)
                await until(lambda value=value: record.values()[-1] == value)
            assert [(gap.cause, gap.notifications) for gap in record.gaps] == [("sequence", n) for n in (6, 7, 8)]
            record_property("figure", "node-opcua: 3 of 3 jumps marked")


async def test_r14_a_notification_that_node_opcua_still_keeps_is_fetched_and_no_gap(node: NodeProcess):
    async with running(node) as plant:
        await plant.add("count", 0)
        async with link(plant.port, tag("count")) as record:
            await until(lambda: record.values() == [0])
            await plant.do("lose")
            await plant.write("count", 1)
            while 2 not in await plant.do("kept"):
                await asyncio.sleep(0.01)
            await plant.write("count", 2)
            await until(lambda: record.values() == [0, 1, 2])
            assert record.gaps == []
            assert record.links == [(True, False)]
