"""How a gateway starts: it looks at its machines before it listens to the MES, but waits for none that is away."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.load import load_plant
from gateway.runtime import daemon
from gateway.runtime.clock import SystemClock
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.store import Store
from tests.brokers import Consumer, Mosquitto, eventually, free_port
from tests.drivers.modbus_devices import device
from tests.runtime.pressed import gateway

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}}}
devices:
  PRESS: {{driver: modbus, host: 127.0.0.1, port: {press}, poll_interval: 100ms, timeout: 20s}}
equipment:
  ACME/HZ/A/L1/PRESS:
    device: PRESS
    tags:
      remote: {{register: 0, type: uint16}}
      force: {{register: 1, type: uint16}}
    download:
      conditions: {{remote_mode: "remote == 1"}}
      parameters: {{force: {{tag: force, min: 0, max: 900, class: trim}}}}
"""
UNIT = "mfg/v1/ACME/HZ/A/L1/PRESS"
STATUS = "mfg/v1/ACME/HZ/_gw/edge-01/status"
COMMAND = {
    "cmd": "C1", "eq": "PRESS", "order": "4711", "set": "S", "rev": "A",
    "items": [{"name": "force", "value": 450}],
}  # fmt: skip


def plant(folder: Path, broker: int, press: int) -> daemon.Daemon:
    config = folder / "config"
    config.mkdir()
    (config / "plant.yaml").write_text(PLANT.format(folder=folder, broker=broker, press=press), encoding="utf-8")
    return daemon.Daemon(load_plant(config), SystemClock())


async def test_a_download_sent_when_the_gateway_says_online_is_not_refused_for_want_of_contact(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "FIRST_TRY", 30.0)
    async with device() as press:
        await press.set(0, 1)
        press.delay = 0.4
        gateway, stop = plant(tmp_path, mosquitto.port, press.port), asyncio.Event()
        with Consumer(mosquitto.port) as mes:

            def answers() -> list[Any]:
                return [msgspec.json.decode(payload) for payload in mes.payloads(f"{UNIT}/res/")]

            running = asyncio.create_task(gateway.run(stop))
            try:
                await eventually(lambda: bool(mes.payloads(STATUS)), "online", 30)
                press.delay = 0
                mes.publish(f"{UNIT}/cmd/params.download", msgspec.json.encode(COMMAND))
                await eventually(lambda: any(answer["final"] for answer in answers()), "the answer", 30)
            finally:
                stop.set()
                await running
        assert [(answer["answer"], answer["codes"]) for answer in answers()] == [("accepted", []), ("done", [])]
        assert await press.get(1) == [450]


async def is_online(mosquitto: Mosquitto, gateway: daemon.Daemon) -> bool:
    """True when the MES hears of the gateway; then it ends."""
    stop = asyncio.Event()
    with Consumer(mosquitto.port) as mes:
        running = asyncio.create_task(gateway.run(stop))
        try:
            await eventually(lambda: bool(mes.payloads(STATUS)), "online", 30)
        finally:
            stop.set()
            await running
        return b'"online"' in mes.payloads(STATUS)[0]


async def test_a_machine_that_is_away_keeps_nobody_waiting(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "FIRST_TRY", 3600.0)
    assert await is_online(mosquitto, plant(tmp_path, mosquitto.port, free_port()))


async def test_a_machine_that_answers_nothing_is_waited_for_no_longer_than_the_first_try(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "FIRST_TRY", 0.1)
    async with device() as press:
        press.delay = 60
        assert await is_online(mosquitto, plant(tmp_path, mosquitto.port, press.port))


@pytest.mark.case("D9")
async def test_what_waits_for_a_machine_that_the_yaml_no_longer_has_leaves_all_the_same(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    topic = "mfg/v1/ACME/HZ/A/L1/SOLD/evt/equipment.state"
    async with Store(tmp_path / "gateway.db", new_epoch="e") as store:
        await store.commit(Transaction([OutboxMessage(topic, b"{}", "evt", "ACME/HZ/A/L1/SOLD", 1)]))
    async with device() as press, gateway(tmp_path, mosquitto.port, press.port) as mes:
        await eventually(lambda: mes.consumer.payloads(topic) == [b"{}"], "its event")
        mes.consumer.messages[:] = [message for message in mes.consumer.messages if message.topic != topic]
