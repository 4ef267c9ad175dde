"""PAL01, CW01 and the alarm events over a real OPC UA socket."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import Client, ua
from stages import Stage, eventually, opened

from simulators.servers.scada import ScadaDevice


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[Client]:
    async with opened(stage, ScadaDevice(stage.play)) as device, Client(device.url) as client:
        yield client


async def _read(client: Client, name: str) -> Any:
    namespace = await client.get_namespace_index("urn:simulators:scada")
    return await client.get_node(f"ns={namespace};s={name}").read_value()


class Events:
    """Collects alarm events: (condition, active, acknowledged, retain, time), or the name of a refresh event."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def event_notification(self, event: Any) -> None:
        if event.EventType == ua.NodeId(ua.ObjectIds.OffNormalAlarmType):
            state = getattr(event, "ActiveState/Id"), getattr(event, "AckedState/Id"), event.Retain
            self.seen.append((event.SourceName, event.ConditionName, *state, event.Time))
        else:
            self.seen.append(ua.ObjectIdNames[event.EventType.Identifier])


async def _subscribe(client: Client, events: Events) -> int:
    subscription = await client.create_subscription(20, events)
    kinds = [ua.ObjectIds.OffNormalAlarmType, ua.ObjectIds.RefreshStartEventType, ua.ObjectIds.RefreshEndEventType]
    await subscription.subscribe_events(client.nodes.server, [ua.NodeId(kind) for kind in kinds])
    return int(subscription.subscription_id)


async def test_a_pallet_and_its_label_appear_in_one_scan(client: Client, stage: Stage) -> None:
    await stage.to(149)
    assert await _read(client, "PAL01.PalletSeq") == 0
    await stage.to(150)

    names = ("PalletSeq", "PalletSSCC", "PalletCases", "PalletQty", "PalletOrder", "GoodTotal", "CasesTotal", "State")
    assert [await _read(client, f"PAL01.{name}") for name in names] == [
        1, stage.line.palletiser.pallets[0].sscc, 5, 50, "81", 50, 5, 1,
    ]  # fmt: skip


async def test_a_sample_is_five_weights_with_a_toggle(client: Client, stage: Stage) -> None:
    await stage.to(90)

    assert (await _read(client, "CW01.SampleToggle"), await _read(client, "CW01.SampleSeq")) == (True, 1)
    weights = await _read(client, "CW01.Values")
    assert len(weights) == 5
    assert 328 <= sum(weights) / 5 <= 334


async def test_task_text_and_order_can_be_written_for_the_operator(client: Client, stage: Stage) -> None:
    namespace = await client.get_namespace_index("urn:simulators:scada")
    node = client.get_node(f"ns={namespace};s=PAL01.MES.TaskText")
    await node.write_value(ua.DataValue(ua.Variant("change film", ua.VariantType.String)))
    await stage.to(5)

    assert await node.read_value() == "change film"
    assert [w.value for w in stage.line.writes] == ["change film"]


async def test_an_alarm_tells_of_its_three_moments_with_their_plant_time(client: Client, stage: Stage) -> None:
    events = Events()
    await _subscribe(client, events)
    for second in (179, 180, 190, 210, 220):
        await stage.to(second)
    await eventually(lambda: len(events.seen) >= 3)

    assert events.seen == [
        ("PAL01", "4010", True, False, True, datetime(2026, 3, 2, 23, 58, 0, tzinfo=UTC)),
        ("PAL01", "4010", True, True, True, datetime(2026, 3, 2, 23, 58, 10, tzinfo=UTC)),
        ("PAL01", "4010", False, True, False, datetime(2026, 3, 2, 23, 58, 30, tzinfo=UTC)),
    ]


async def test_a_refresh_sends_the_alarms_that_still_matter_between_start_and_end(client: Client, stage: Stage) -> None:
    async def refreshed() -> list[Any]:
        events = Events()
        number = await _subscribe(client, events)
        condition_type = client.get_node(ua.NodeId(ua.ObjectIds.ConditionType))
        method = ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh)
        await condition_type.call_method(method, ua.Variant(number, ua.VariantType.UInt32))
        await eventually(lambda: "RefreshEndEventType" in events.seen)
        return [*events.seen]

    await stage.to(185)
    during = await refreshed()
    await stage.to(220)
    after = await refreshed()

    start, alarm, end = during
    assert (start, end) == ("RefreshStartEventType", "RefreshEndEventType")
    assert alarm[:5] == ("PAL01", "4010", True, False, True)
    assert after == ["RefreshStartEventType", "RefreshEndEventType"]
