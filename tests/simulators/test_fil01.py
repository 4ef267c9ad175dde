"""FIL01 over a real OPC UA socket."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import Client, ua
from stages import Stage, eventually, opened

from simulators.servers import fil01


class Changes:
    """Collects data changes as asyncua hands them over, one list a publish response."""

    def __init__(self) -> None:
        self.values: list[tuple[str, Any, datetime]] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values.append((node.nodeid.Identifier, value, data.monitored_item.Value.SourceTimestamp))


class Machine:
    """A client that speaks of points by their name."""

    def __init__(self, client: Client, namespace: int) -> None:
        self.client = client
        self.namespace = namespace

    def node(self, name: str) -> Any:
        return self.client.get_node(f"ns={self.namespace};s=FIL01.{name}")

    async def read(self, *names: str) -> list[Any]:
        return [await self.node(name).read_value() for name in names]

    async def write(self, name: str, value: Any, kind: ua.VariantType) -> None:
        await self.node(name).write_value(ua.DataValue(ua.Variant(value, kind)))


@pytest.fixture
async def machine(stage: Stage) -> AsyncIterator[Machine]:
    async with opened(stage, fil01.server(stage.play)) as device, Client(device.url) as client:
        yield Machine(client, await client.get_namespace_index("urn:simulators:fil01"))


async def test_every_point_of_the_packtags_has_its_type(machine: Machine) -> None:
    types = {
        "Status.StateCurrent": ua.VariantType.Int32,
        "Status.CurMachSpeed": ua.VariantType.Float,
        "Status.EquipmentInterlock.Starved": ua.VariantType.Boolean,
        "Admin.ProdProcessedCount[0].AccCount": ua.VariantType.Int32,
        "Admin.ProdDefectiveCount[0].Count": ua.VariantType.Int32,
        "Admin.StopReason[0].ID": ua.VariantType.Int32,
        "Admin.Alarm[7].Message": ua.VariantType.String,
        "Admin.Alarm[7].AckDateTime": ua.VariantType.DateTime,
        "Machine.Heartbeat": ua.VariantType.Boolean,
        "MES.Hold": ua.VariantType.Boolean,
        "Command.Parameter[1].Value": ua.VariantType.Float,
        "Command.Parameter[1].Unit": ua.VariantType.String,
        "Status.Parameter[0].Value": ua.VariantType.Float,
        "MES.CmdSeq": ua.VariantType.Int32,
    }
    assert {name: await machine.node(name).read_data_type_as_variant_type() for name in types} == types


async def test_one_publish_holds_a_whole_scan_with_the_plant_time_of_the_scan(machine: Machine, stage: Stage) -> None:
    names = ["Status.StateCurrent", "Admin.StopReason[0].ID", "Admin.ProdProcessedCount[0].AccCount", "Machine.PowerOk"]
    changes = Changes()
    await stage.to(159)
    subscription = await machine.client.create_subscription(20, changes)
    await subscription.subscribe_data_change([machine.node(name) for name in names], queuesize=10)
    await eventually(lambda: len(changes.values) == 4)
    changes.values.clear()

    await stage.to(160)
    await eventually(lambda: changes.values)

    at = datetime(2026, 3, 2, 23, 57, 40, tzinfo=UTC)
    assert changes.values == [
        ("FIL01.Status.StateCurrent", 11, at),
        ("FIL01.Admin.StopReason[0].ID", 2107, at),
        ("FIL01.Admin.ProdProcessedCount[0].AccCount", 50, at),
    ]


async def test_a_client_that_was_slow_gets_every_scan_it_queued(machine: Machine, stage: Stage) -> None:
    changes = Changes()
    await stage.to(100)
    subscription = await machine.client.create_subscription(100, changes)
    await subscription.subscribe_data_change([machine.node("Admin.ProdProcessedCount[0].Count")], queuesize=50)
    await eventually(lambda: changes.values)
    for second in range(101, 121):
        await stage.to(second)
    await eventually(lambda: len(changes.values) == 21)

    assert [value for _, value, _ in changes.values] == [*range(40, 61)]


async def test_a_download_is_answered_at_once_and_done_after_the_handshake(machine: Machine, stage: Stage) -> None:
    await machine.write("Command.Parameter[0].Value", 330.5, ua.VariantType.Float)
    await machine.write("MES.CmdSeq", 1, ua.VariantType.Int32)
    busy = await machine.read("MES.AckSeq", "MES.CmdStatus", "Status.Parameter[0].Value")
    await stage.to(2)
    done = await machine.read("MES.AckSeq", "MES.CmdStatus", "Status.Parameter[0].Value")

    assert (busy, done) == ([1, 1, 0.0], [1, 2, 330.5])
    assert [(w.tag, w.value, w.accepted) for w in stage.line.writes] == [
        ("FIL01.Command.Parameter[0].Value", 330.5, True),
        ("FIL01.MES.CmdSeq", 1, True),
    ]


async def test_what_a_client_wrote_carries_plant_time_too(machine: Machine, stage: Stage) -> None:
    await stage.to(30)
    await machine.write("MES.Hold", True, ua.VariantType.Boolean)
    value = await machine.node("MES.Hold").read_data_value()

    at = datetime(2026, 3, 2, 23, 55, 30, tzinfo=UTC)
    assert (value.Value.Value, value.SourceTimestamp, value.ServerTimestamp) == (True, at, at)


async def test_points_that_belong_to_the_machine_cannot_be_written(machine: Machine, stage: Stage) -> None:
    with pytest.raises(ua.UaStatusCodeError):
        await machine.write("Status.StateCurrent", 6, ua.VariantType.Int32)
    with pytest.raises(ua.UaStatusCodeError):
        await machine.write("MES.CmdSeq", 1, ua.VariantType.Int64)

    assert await machine.read("Status.StateCurrent", "MES.AckSeq") == [4, 0]
    assert [w.accepted for w in stage.line.writes] == [False, False]


async def test_an_array_does_not_get_into_a_machine_that_wants_a_number(machine: Machine, stage: Stage) -> None:
    await machine.write("Command.Parameter[0].Value", [1.0, 2.0], ua.VariantType.Float)

    assert await machine.read("Command.Parameter[0].Value") == [0.0]
    assert [w.accepted for w in stage.line.writes] == [False]


async def test_an_alarm_entry_shows_when_it_came_and_was_acknowledged(machine: Machine, stage: Stage) -> None:
    await stage.to(166)
    trigger, code, text, came, acked = await machine.read(
        *(f"Admin.Alarm[0].{name}" for name in ("Trigger", "ID", "Message", "DateTime", "AckDateTime"))
    )

    assert (trigger, code, text) == (True, 2107, "Infeed jam")
    assert came == datetime(2026, 3, 2, 23, 57, 42, tzinfo=UTC)
    assert acked == datetime(2026, 3, 2, 23, 57, 45, tzinfo=UTC)
