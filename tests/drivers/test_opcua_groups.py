"""Deadbands, triggers, polling and snapshots, against a real server."""

import asyncio

import pytest
from asyncua import ua
from clocks import PlantClock
from opcua_servers import PLC, plc
from pydantic import ValidationError

from gateway.domain.values import DataType, TagChange
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import Deadband, OpcUaAddress, OpcUaSettings, check_opcua_device, check_opcua_tag
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.drivers.opcua.subscribing.snapshots import DATA_LOST


def tag(name: str, data_type: DataType = DataType.INT32, **address) -> Tag[OpcUaAddress]:
    return Tag(name, data_type, OpcUaAddress(node=f"s={name}", **address))


def settings(port: int = 4840, **keys) -> OpcUaSettings:
    keys = {"namespace": PLC, "publishing_interval": "20ms", "sampling_interval": "20ms", "keepalive": "200ms", **keys}
    return OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", security="none", **keys)


async def changes_of(batches, count: int) -> list[TagChange]:
    changes: list[TagChange] = []
    async with asyncio.timeout(5):
        while len(changes) < count:
            changes += (await anext(batches)).changes
    return changes


async def test_a_deadband_and_a_trigger_are_asked_of_the_server_tag_by_tag():
    async with plc() as server:
        level = await server.add("level", 10.0, ua.VariantType.Double)
        await server.add("rate", 1.0, ua.VariantType.Double)
        await server.add("plain", 1)
        tags = [
            tag("level", DataType.FLOAT64, deadband={"absolute": 0.5}),
            tag("rate", DataType.FLOAT64, deadband={"percent": 2}, trigger="timestamp"),
            tag("plain"),
        ]
        async with OpcUaDriver("FIL01", settings(server.port), tags, PlantClock()) as opened:
            batches = opened.changes()
            await changes_of(batches, 3)
            asked = [item.filter for item in server.subscription.monitored_item_srv._monitored_items.values()]
            assert [(f.Trigger, f.DeadbandType, f.DeadbandValue) for f in asked[:2]] == [
                (ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Absolute, 0.5),
                (ua.DataChangeTrigger.StatusValueTimestamp, ua.DeadbandType.Percent, 2.0),
            ]
            assert not isinstance(asked[2], ua.DataChangeFilter)
            for value in (10.2, 10.3, 11.0):
                await level.write_value(value)
            assert [change.value for change in await changes_of(batches, 1)] == [11.0]


@pytest.mark.parametrize("keys", [{}, {"absolute": 1, "percent": 2}, {"absolute": 0}, {"percent": 101}])
def test_a_deadband_is_one_of_two_and_positive(keys):
    with pytest.raises(ValidationError):
        Deadband(**keys)


def test_a_deadband_that_cannot_work_is_refused_with_what_would():
    text = tag("t", DataType.STRING, deadband={"absolute": 1})
    assert check_opcua_tag(settings(), text) == ["a deadband is for numbers and this tag is a string; take it out"]
    percent = tag("t", deadband={"percent": 1})
    (problem,) = check_opcua_tag(settings(mode="poll"), percent)
    assert "write {absolute: …}" in problem


def test_a_snapshot_of_a_tag_that_is_not_there_is_refused():
    made = settings(snapshots=[{"trigger": "F.seq", "read": ["F.a", "F.b"]}])
    assert check_opcua_device(made, [tag("F.seq"), tag("F.a")]) == [
        "snapshots: this device has no tag F.b; write <unit>.<tag> of one it has"
    ]
    chained = settings(snapshots=[{"trigger": "F.seq", "read": ["F.a"]}, {"trigger": "F.a", "read": ["F.seq"]}])
    assert len(check_opcua_device(chained, [tag("F.seq"), tag("F.a")])) == 2


async def test_a_server_without_subscriptions_is_polled_and_only_what_changed_is_handed_on():
    async with plc() as server:
        server.server.iserver.max_subscriptions = 0
        count = await server.add("count", 0)
        level = await server.add("level", 10.0, ua.VariantType.Double)
        tags = [tag("count"), tag("level", DataType.FLOAT64, deadband={"absolute": 0.5}), tag("gone")]
        made = settings(server.port, mode="poll", poll_interval="1s")
        async with OpcUaDriver("FIL01", made, tags, PlantClock(50)) as opened:
            batches = opened.changes()
            first = await anext(batches)
            assert [(change.tag_id, change.value) for change in first.changes] == [
                ("count", 0),
                ("level", 10.0),
                ("gone", None),
            ]
            await level.write_value(10.4)
            second = await anext(batches)
            assert second.changes == []
            assert 900 <= second.contact - first.contact <= 2_500
            await count.write_value(1, ua.VariantType.Int32)
            await level.write_value(10.6)
            assert [(change.tag_id, change.value) for change in await changes_of(batches, 2)] == [
                ("count", 1),
                ("level", 10.6),
            ]
            assert server.subscriptions == []


async def test_a_record_is_read_whole_on_each_edge_and_never_put_together_from_two_pieces(record_property):
    pieces = 60
    async with plc() as server:
        nodes = [await server.add(name, 0) for name in ("seq", "weight", "torque")]
        tags = [tag("seq"), tag("weight"), tag("torque")]
        made = settings(server.port, snapshots=[{"trigger": "seq", "read": ["weight", "torque"]}])

        async def make_pieces() -> None:
            """Faster than the publishing interval now and then, so that some records are overwritten."""
            for number in range(1, pieces + 1):
                for node, factor in zip(nodes[1:], (10, 100), strict=True):
                    await node.write_value(factor * number, ua.VariantType.Int32)
                await nodes[0].write_value(number, ua.VariantType.Int32)
                await asyncio.sleep(0.03 if number % 3 else 0.002)

        async with OpcUaDriver("FIL01", made, tags, PlantClock()) as opened:
            batches = opened.changes()
            await changes_of(batches, 3)
            assert len(server.subscription.monitored_item_srv._monitored_items) == 1
            making = asyncio.create_task(make_pieces())
            changes: list[TagChange] = []
            while not any(change.tag_id == "seq" and change.value == pieces for change in changes):
                changes += await changes_of(batches, 1)
            await making
        stamp = {change.source_timestamp: change.value for change in changes if change.tag_id == "seq"}
        records: dict = {}
        for change in changes:
            if change.tag_id != "seq":
                records.setdefault((change.source_timestamp, change.status_code), {})[change.tag_id] = change.value
        good = {at: record for (at, status), record in records.items() if status == 0}
        assert all(record == {"weight": 10 * stamp[at], "torque": 100 * stamp[at]} for at, record in good.items())
        assert {status for _, status in records} <= {0, DATA_LOST}
        snapshots = opened._snapshots
        assert snapshots.taken + snapshots.lost == pieces + 1
        assert snapshots.taken > pieces / 4
        record_property("figure", f"0 torn, {snapshots.lost} of {pieces} overwritten and said so")
