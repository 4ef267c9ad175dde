"""One press behind Modbus, with a parameter set of two values; the gateway in front of it as a daemon or in parts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.audit.folder import AuditFolder
from gateway.audit.lines import Line
from gateway.audit.trail import audit_folder
from gateway.audit.verify import lines
from gateway.config.load import load_plant
from gateway.runtime.clock import SystemClock
from gateway.runtime.daemon import Daemon
from tests.brokers import Consumer, eventually
from tests.contract import the_contract

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}}}
devices:
  PRESS: {{driver: modbus, host: 127.0.0.1, port: {press}, poll_interval: 50ms}}
equipment:
  ACME/HZ/A/L1/PRESS:
    device: PRESS
    tags:
      remote: {{register: 0, type: uint16}}
      force: {{register: 1, type: uint16}}
      speed: {{register: 3, type: uint16}}
    download:
      conditions: {{remote_mode: "remote == 1"}}
      parameters:
        force: {{tag: force, min: 0, max: 900, class: trim}}
        speed: {{tag: speed, min: 0, max: 900, class: trim}}
"""
UNIT = "mfg/v1/ACME/HZ/A/L1/PRESS"
STATUS = "mfg/v1/ACME/HZ/_gw/edge-01/status"
EVENTS = "mfg/v1/ACME/HZ/_gw/edge-01/evt"
LONG = 30.0


def write_plant(folder: Path, broker: int, press: int, edit: Callable[[str], str] = str) -> Path:
    config = folder / "config"
    config.mkdir(exist_ok=True)
    text = PLANT.format(folder=folder, broker=broker, press=press)
    (config / "plant.yaml").write_text(edit(text), encoding="utf-8")
    return config


def audited(folder: Path) -> list[Line]:
    """Every line of the audit."""
    return list(lines(AuditFolder(audit_folder(folder / "gateway.db"))))


class Mes:
    """Sends downloads and hears the answers."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer

    def told(self, topic: str) -> list[Any]:
        return [json.loads(payload) for payload in self.consumer.payloads(topic) if payload]

    def send(self, cmd: str, **values: float) -> None:
        items = [{"name": name, "value": value} for name, value in values.items()]
        body = {"cmd": cmd, "eq": "PRESS", "order": "4711", "set": "S", "rev": "A", "corr": f"c-{cmd}", "items": items}
        self.consumer.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode())

    async def final(self, cmd: str) -> Any:
        """The final answer to a command."""

        def answers() -> list[Any]:
            return [answer for answer in self.told(f"{UNIT}/res/") if answer["cmd"] == cmd and answer["final"]]

        await eventually(lambda: bool(answers()), f"the final answer to {cmd}", LONG)
        (answer,) = answers()
        return answer

    async def download(self, cmd: str, **values: float) -> Any:
        self.send(cmd, **values)
        return await self.final(cmd)


@asynccontextmanager
async def gateway(folder: Path, broker: int, press: int, edit: Callable[[str], str] = str) -> AsyncIterator[Mes]:
    """The gateway while it runs, with the press in reach. Everything that it publishes the contract must allow."""
    daemon, stop = Daemon(load_plant(write_plant(folder, broker, press, edit)), SystemClock()), asyncio.Event()
    with Consumer(broker) as consumer:
        mes = Mes(consumer)
        running = asyncio.create_task(daemon.run(stop))
        try:
            await eventually(lambda: any(s["state"] == "online" for s in mes.told(STATUS)), "the gateway", LONG)
            await eventually(lambda: bool(daemon._core.links.get("PRESS")), "the press", LONG)
            yield mes
        finally:
            stop.set()
            await running
    for message in consumer.messages:
        if message.payload and "/cmd/" not in message.topic and "/_res/" not in message.topic:
            the_contract().check(message.topic, json.loads(message.payload))
