"""A gateway whose one machine is shown to it directly, in front of a real broker; and an MES that asks for more.

Its window is small, so that a test can cut a replay in the middle.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho

from gateway.config.load import load_plant
from gateway.domain.values import Batch, TagChange
from gateway.runtime.clock import SystemClock
from gateway.runtime.daemon import Daemon
from tests.brokers import Consumer, eventually, free_port
from tests.contract import the_contract

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}, window: {window}}}
devices:
  M1: {{driver: modbus, host: 127.0.0.1, port: {nobody}}}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      running: {{register: 0, type: uint16, bit: 0}}
      speed: {{register: 1, type: uint16, publish: true}}
      note: {{register: 10-20, type: string, publish: true}}
    state: {{debounce: 0s, stale_after: 24h, rules: [{{to: RUN, when: "running"}}, {{to: DOWN, when: "true"}}]}}
"""
OWN = "mfg/v1/ACME/HZ/_gw/edge-01"
SITE = "mfg/v1/ACME/HZ"
MACHINE = "ACME/HZ/A/L1/M1"
UNIT = f"mfg/v1/{MACHINE}"
LONG = 30.0


class Received(NamedTuple):
    """A message with what the user property `historical` says of it."""

    topic: str
    payload: bytes
    historical: str | None

    @property
    def body(self) -> Any:
        return json.loads(self.payload)


class Mes(Consumer):
    """Hears everything, and sends commands to the gateway."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.received: list[Received] = []
        hear = self._client.on_message

        def on_message(client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
            properties = dict(getattr(message.properties, "UserProperty", []))
            self.received.append(Received(message.topic, bytes(message.payload), properties.get("historical")))
            hear(client, data, message)  # type: ignore[misc]

        self._client.on_message = on_message

    def events(self, path: str | None = MACHINE, historical: str | None = "any") -> list[Received]:
        """Those of one stream, in the order in which they came, with that property (`any`: whatever it says)."""
        found = [one for one in list(self.received) if "/evt/" in one.topic and one.body["eq"] == path]
        return [one for one in found if historical in ("any", one.historical)]

    def ask(self, kind: str, level: str = OWN, **body: Any) -> None:
        self.publish(f"{level}/cmd/{kind}", json.dumps(body).encode())

    def answers(self, cmd: str, level: str = OWN) -> list[Any]:
        found = [json.loads(payload) for payload in self.payloads(f"{level}/res/")]
        return [answer for answer in found if answer["cmd"] == cmd]

    async def final(self, cmd: str, level: str = OWN) -> Any:
        """The final answer to a command."""
        await eventually(lambda: any(a["final"] for a in self.answers(cmd, level)), f"the end of {cmd}", LONG)
        return self.answers(cmd, level)[-1]

    def check_contract(self) -> None:
        """Whatever was published, the contract allows."""
        for message in self.messages:
            if message.payload and "/cmd/" not in message.topic:
                the_contract().check(message.topic, json.loads(message.payload))


class Line:
    """The running gateway, with the hand that moves its machine."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._shown = 0
        self._begin = round(time.time() * 1000) - 1_000_000

    @property
    def store(self) -> Any:
        return self.daemon._store.statistics

    @property
    def last(self) -> int:
        """The last number that the machine's events were given."""
        return self.daemon._core._recorders[MACHINE].last

    async def toggle(self, times: int) -> None:
        """The machine starts or stops so many times, a second of its clock apart; each time is an event or two."""
        for _ in range(times):
            self._shown += 1
            at = self._begin + self._shown * 1000
            changes = [TagChange("M1.running", self._shown % 2, 0, at), TagChange("M1.speed", self._shown, 0, at)]
            await self.daemon.take_batch("M1", Batch(changes, at))

    async def write_notes(self, times: int, size: int) -> None:
        """Run parameters alone: so many `tel` messages of so many bytes, and no event."""
        for _ in range(times):
            self._shown += 1
            at = self._begin + self._shown * 1000
            await self.daemon.take_batch("M1", Batch([TagChange("M1.note", "n" * size, 0, at)], at))

    async def all_acknowledged(self) -> None:
        await eventually(lambda: self.store.queued == 0, "everything is acknowledged", LONG)

    async def settled(self) -> None:
        """Nothing is left to be told either, and what came of telling it has been answered by the broker."""

        def is_quiet() -> bool:
            return not self.daemon._store.has_notices and self.store.queued == 0

        for _ in range(20):
            await eventually(is_quiet, "all is quiet", LONG)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway(
    folder: Path, broker: int, *, window: int = 8, store_limit: int = 16_000_000, in_reach: bool = True
) -> AsyncIterator[Line]:
    """The gateway while it runs, from the connect on; killed at the end, so that what it had in memory is gone.

    With `in_reach` false nobody waits for the connect.
    """
    config = folder / "config"
    config.mkdir(exist_ok=True)
    text = PLANT.format(folder=folder, broker=broker, nobody=free_port(), window=window)
    (config / "plant.yaml").write_text(text, encoding="utf-8")
    plant = replace(load_plant(config), store_limit=store_limit)
    daemon = Daemon(plant, SystemClock())
    running = asyncio.create_task(daemon.run(asyncio.Event()))
    try:

        def has_begun() -> bool:
            return hasattr(daemon, "_broker") and (daemon._broker.connected or not in_reach)

        await eventually(lambda: running.done() or has_begun(), "the gateway", LONG)
        yield Line(daemon)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
