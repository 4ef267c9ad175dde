"""`gateway subscribe` behind a real broker: with the real gateway, and with one that answers from a list."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli.following import Follower
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, Filled, GivenUp, NotTaken, Report, Told
from gateway.consumer.topics import filters, status_filters
from gateway.mqtt.settings import MqttSettings
from tests.brokers import Consumer, Gate, Mosquitto, eventually, free_port
from tests.cli.running import Done
from tests.cli.running import gateway as command
from tests.consumer.fake_gateway import FakeGateway, Sent
from tests.contract import the_contract
from tests.runtime.uplink_line import LONG, Mes, gateway

ROOM = 100
"""Messages that the broker keeps for a consumer that is away or slow."""
UNIT = "ACME/HZ/A/L1/M1"


class Ear:
    """Hears reports in this process; the reconciler, and the session at the broker, outlive a connection."""

    def __init__(self, port: int) -> None:
        self.reconciler = Reconciler(f"ear-{port}")
        self.reports: list[Report] = []
        self.links: list[str] = []
        self.kept = 0
        self._settings = MqttSettings(port=port, client_id="ear")
        self._stop = asyncio.Event()

    def hear(self, report: Report) -> None:
        self.reports.append(report)

    def keep(self) -> None:
        self.kept += 1

    def link(self, state: str) -> None:
        self.links.append(state)

    async def listen(self, *, once: bool = True) -> None:
        both = filters("mfg/v1"), status_filters("mfg/v1")
        follower = Follower(self._settings, "mfg/v1", self.reconciler, self, filters=both, keep=600)
        async with asyncio.timeout(LONG):
            await follower.run(self._stop, once=once)

    def stop(self) -> None:
        self._stop.set()

    def of(self, kind: type) -> list:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def events(self) -> list[bytes]:
        return [report.event.payload for report in self.of(Told) if not report.event.of_nobody]


async def test_r07_what_a_queue_at_the_broker_lost_is_told_exactly_and_a_replay_restores_it(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    mosquitto.restart("max_inflight_messages 20", f"max_queued_messages {ROOM}")
    ear = Ear(mosquitto.port)
    async with gateway(tmp_path, mosquitto.port) as line:
        with Mes(mosquitto.port) as plain:
            await ear.listen()
            await line.toggle(10)
            await line.all_acknowledged()
            await ear.listen()
            before = len(ear.events)
            await line.toggle(300)
            await line.all_acknowledged()
            await ear.listen()
            published = [one.payload for one in plain.events() if one.historical != "replay"]
            plain.check_contract()
    asked, filled = ear.of(Asked), ear.of(Filled)
    came = {json.loads(report.event.payload)["seq"] for report in ear.of(Told) if report.event.historical != "replay"}
    lost = [number for number in range(1, len(published) + 1) if number not in came]
    assert before >= 10
    assert len(lost) > len(published) // 2, "the queue ran over"
    assert [(report.first, report.last, report.missing) for report in asked] == [(lost[0], lost[-1], len(lost))]
    assert [(report.first, report.last, report.messages) for report in filled] == [(lost[0], lost[-1], len(lost))]
    assert ear.events == published
    assert ear.reconciler.missing - _telemetry_missing(ear) == 0
    figure = f"{len(published)} events, {len(lost)} lost at the broker: told as {lost[0]}-{lost[-1]}, missing after replay 0"
    record_property("figure", figure)


def _telemetry_missing(ear: Ear) -> int:
    return sum(numbers.left for name, numbers in ear.reconciler.streams if name.kind == "tel")
