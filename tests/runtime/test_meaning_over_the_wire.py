"""From registers to a subscriber: a ready-made state, a derived tag, a paced one with its unit, an alarm array."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.load import load_plant
from gateway.runtime.clock import SystemClock
from gateway.runtime.daemon import Daemon
from tests.brokers import Consumer, Mosquitto, eventually
from tests.contract import the_contract
from tests.drivers.modbus_devices import Device, device

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


@pytest.fixture
async def machine() -> AsyncIterator[Device]:
    async with device() as served:
        await served.set(0, 4, 1)
        await served.set(10, 30, 70, 1750)
        yield served


def heard(consumer: Consumer, topic: str) -> list[dict[str, Any]]:
    """What came on a topic, every message of which the contract allows."""
    messages = [msgspec.json.decode(payload) for payload in consumer.payloads(f"{ROOT}/{topic}")]
    for message in messages:
        the_contract().check(f"{ROOT}/{topic}", message)
    return messages


def told(consumer: Consumer, name: str) -> list[Any]:
    """The values of one run parameter, in the order they came."""
    return [
        row[2] for batch in heard(consumer, "tel") for row in batch["rows"] if batch["names"][row[1]] == name
    ]  # fmt: skip


@pytest.mark.timeout(60)
async def test_what_yaml_says_in_a_word_arrives_at_the_subscriber(
    machine: Device, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    values = {"STORE": str(tmp_path / "gateway.db"), "BROKER": str(mosquitto.port), "PORT": str(machine.port)}
    text = PLANT
    for name, value in values.items():
        text = text.replace(name, value)
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "plant.yaml").write_text(text, encoding="utf-8")
    stop = asyncio.Event()
    with Consumer(mosquitto.port) as consumer:
        running = asyncio.create_task(Daemon(load_plant(tmp_path / "plant"), SystemClock()).run(stop))
        await eventually(lambda: told(consumer, "oven") and told(consumer, "total"), "the first run parameters")
        assert heard(consumer, "now/units") == [
            {"tags": {"total": {"unit": "kg", "code": "KGM"}, "oven": {"unit": "Cel", "code": "CEL"}}}
        ]
        await machine.set(0, 6)
        await machine.set(12, 1755)
        await machine.set(11, 90)
        await machine.set(20, 1, 2107)
        await eventually(lambda: len(heard(consumer, "evt/equipment.state")) == 2, "the machine runs")
        await eventually(lambda: heard(consumer, "evt/alarm.raised"), "the alarm")
        await eventually(lambda: 120 in told(consumer, "total"), "the new total")
        await machine.set(12, 1761)
        await machine.set(20, 0, 0)
        await eventually(lambda: heard(consumer, "evt/alarm.cleared"), "the end of the alarm")
        await eventually(lambda: len(told(consumer, "oven")) == 2, "the oven beyond its deadband")
        stop.set()
        await running
    states = [event["data"] for event in heard(consumer, "evt/equipment.state")]
    assert [(state["to"], state["raw"]) for state in states] == [
        ("IDLE", {"StateCurrent": 4, "UnitModeCurrent": 1}), ("RUN", {"StateCurrent": 6, "UnitModeCurrent": 1}),
    ]  # fmt: skip
    assert told(consumer, "oven") == [175.0, 176.1]
    assert told(consumer, "total") == [100, 120]
    assert [event["data"]["code"] for event in heard(consumer, "evt/alarm.raised")] == ["2107"]
