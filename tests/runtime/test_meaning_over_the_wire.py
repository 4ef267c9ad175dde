"""From registers and nodes to a subscriber: ready-made states, a derived tag, a paced one with its unit, alarm arrays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asyncua import ua

from gateway.config.load import load_plant
from gateway.runtime.clock import SystemClock
from gateway.runtime.daemon import Daemon
from tests.brokers import Consumer, Mosquitto, eventually
from tests.contract import the_contract
from tests.drivers.modbus_devices import Device, device
from tests.drivers.opcua_servers import PLC, plc

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ, store: STORE}
mqtt: {client_id: edge-01, port: BROKER}
devices:
  M1: {driver: modbus, host: 127.0.0.1, port: PORT, poll_interval: 50ms}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      StateCurrent:    {register: 0, type: uint16}
      UnitModeCurrent: {register: 1, type: uint16}
      left:  {register: 10, type: uint16}
      right: {register: 11, type: uint16}
      total: {expression: "left + right", type: uint32, unit: kg, publish: true}
      oven:  {register: 12, type: uint16, scale: 0.1, unit: Cel, publish: {deadband: 1}}
      up:    {register: 20, type: uint16}
      code:  {register: 21, type: uint16}
    state: {model: packml, debounce: 0s}
    alarms: {entries: [{trigger: up, code: code}]}
"""
ROOT = "mfg/v1/ACME/HZ/A/L1/M1"
LONG = 30.0
"""Seconds for what takes a moment, on a machine that may have much else to do."""


@pytest.fixture
async def machine() -> AsyncIterator[Device]:
    async with device() as served:
        await served.set(0, 4, 1)
        await served.set(10, 30, 70, 1750)
        yield served


def heard(consumer: Consumer, topic: str) -> list[dict[str, Any]]:
    """What came on a topic of the equipment."""
    return [msgspec.json.decode(payload) for payload in consumer.payloads(f"{ROOT}/{topic}")]


def states(consumer: Consumer) -> list[str]:
    return [event["data"]["to"] for event in heard(consumer, "evt/equipment.state")]


def told(consumer: Consumer, name: str) -> list[Any]:
    """The values of one run parameter, in the order they came."""
    return [
        row[2] for batch in heard(consumer, "tel") for row in batch["rows"] if batch["names"][row[1]] == name
    ]  # fmt: skip


@asynccontextmanager
async def gateway(text: str, folder: Path, mosquitto: Mosquitto, port: int) -> AsyncIterator[Consumer]:
    """A gateway with that plant, and what a subscriber hears of it; all of that the contract must allow."""
    for name, value in {"STORE": folder / "gateway.db", "BROKER": mosquitto.port, "PORT": port}.items():
        text = text.replace(name, str(value))
    (folder / "plant").mkdir()
    (folder / "plant" / "plant.yaml").write_text(text, encoding="utf-8")
    stop = asyncio.Event()
    with Consumer(mosquitto.port) as consumer:
        running = asyncio.create_task(Daemon(load_plant(folder / "plant"), SystemClock()).run(stop))
        try:
            yield consumer
        finally:
            stop.set()
            await running
    for message in consumer.messages:
        the_contract().check(message.topic, msgspec.json.decode(message.payload))


@pytest.mark.timeout(60)
async def test_what_yaml_says_in_a_word_arrives_at_the_subscriber(
    machine: Device, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with gateway(PLANT, tmp_path, mosquitto, machine.port) as consumer:
        await eventually(lambda: told(consumer, "oven") and told(consumer, "total"), "the first run parameters", LONG)
        await eventually(lambda: states(consumer) == ["IDLE"], "the first state", LONG)
        assert heard(consumer, "now/units") == [
            {"tags": {"total": {"unit": "kg", "code": "KGM"}, "oven": {"unit": "Cel", "code": "CEL"}}}
        ]
        await machine.set(0, 6)
        await machine.set(12, 1755)
        await machine.set(11, 90)
        await machine.set(20, 1, 2107)
        await eventually(lambda: states(consumer) == ["IDLE", "RUN"], "the machine runs", LONG)
        await eventually(lambda: heard(consumer, "evt/alarm.raised"), "the alarm", LONG)
        await eventually(lambda: 120 in told(consumer, "total"), "the new total", LONG)
        await machine.set(12, 1761)
        await machine.set(20, 0, 0)
        await eventually(lambda: heard(consumer, "evt/alarm.cleared"), "the end of the alarm", LONG)
        await eventually(lambda: len(told(consumer, "oven")) == 2, "the oven beyond its deadband", LONG)
    seen = [event["data"] for event in heard(consumer, "evt/equipment.state")]
    assert [(state["to"], state["raw"]) for state in seen] == [
        ("IDLE", {"StateCurrent": 4, "UnitModeCurrent": 1}), ("RUN", {"StateCurrent": 6, "UnitModeCurrent": 1}),
    ]  # fmt: skip
    assert told(consumer, "oven") == [175.0, 176.1]
    assert told(consumer, "total") == [100, 120]
    assert [event["data"]["code"] for event in heard(consumer, "evt/alarm.raised")] == ["2107"]


PACKML = """\
gateway: {id: edge-01, site: ACME/HZ, store: STORE}
mqtt: {client_id: edge-01, port: BROKER}
devices:
  M1: {driver: opcua, url: "opc.tcp://127.0.0.1:PORT", namespace: NAMESPACE, security: none, publishing_interval: 50ms}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      state:         {node: s=State, type: string}
      machine_state: {node: s=MachineState, type: string}
      execute_state: {node: s=ExecuteState, type: string}
      triggers: {node: "s=Admin.Alarm.Trigger", type: bool}
      ids:      {node: "s=Admin.Alarm.ID", type: int32}
      texts:    {node: "s=Admin.Alarm.Message", type: string}
      acks:     {node: "s=Admin.Alarm.AckDateTime", type: datetime}
    state: {model: packml, debounce: 0s}
    alarms: {entries: [{trigger: triggers, code: ids, message: texts, acked: acks}]}
""".replace("NAMESPACE", PLC)
NEVER = datetime(1601, 1, 1, tzinfo=UTC)
"""OPC UA's null date: what AckDateTime holds until somebody acknowledges."""


@pytest.mark.timeout(60)
async def test_packml_with_nested_states_and_a_whole_alarm_array_arrives_too(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    inactive = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadStateNotActive))
    async with plc() as server:
        state, machine, execute = [
            await server.add(name, ua.LocalizedText(text), ua.VariantType.LocalizedText)
            for name, text in (("State", "Aborted"), ("MachineState", ""), ("ExecuteState", ""))
        ]
        triggers = await server.add("Admin.Alarm.Trigger", [True, False, False], ua.VariantType.Boolean)
        ids = await server.add("Admin.Alarm.ID", [2107, 0, 0], ua.VariantType.Int32)
        await server.add("Admin.Alarm.Message", ["Infeed jam", "", ""], ua.VariantType.String)
        acks = await server.add("Admin.Alarm.AckDateTime", [NEVER] * 3, ua.VariantType.DateTime)
        for node in (machine, execute):
            await node.write_value(inactive)
        async with gateway(PACKML, tmp_path, mosquitto, server.port) as consumer:
            await eventually(lambda: heard(consumer, "evt/alarm.raised"), "the alarm that was up already", LONG)
            await eventually(lambda: states(consumer) == ["DOWN"], "the outermost state", LONG)
            await execute.write_value(ua.LocalizedText("Execute"))
            await machine.write_value(ua.LocalizedText("Running"))
            await state.write_value(ua.LocalizedText("Cleared"))
            await eventually(lambda: states(consumer) == ["DOWN", "RUN"], "the innermost state", LONG)
            await acks.write_value([datetime(2026, 3, 2, 7, 26, 30, tzinfo=UTC), NEVER, NEVER])
            await eventually(lambda: heard(consumer, "evt/alarm.acked"), "the acknowledgement", LONG)
            await triggers.write_value([False, False, False])
            await ids.write_value(ua.Variant([0, 0, 0], ua.VariantType.Int32))
            await eventually(lambda: heard(consumer, "evt/alarm.cleared"), "the end of the alarm", LONG)
        raised = [event["data"] for event in heard(consumer, "evt/alarm.raised")]
        assert [(alarm["code"], alarm["text"], alarm["initial"]) for alarm in raised] == [("2107", "Infeed jam", True)]
        assert (len(heard(consumer, "evt/alarm.acked")), len(heard(consumer, "evt/alarm.cleared"))) == (1, 1)
