"""A machine on a real server, its outage filled from history, up to what the MES is told: orders, minutes, stops."""

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asyncua import ua
from opcua_links import until
from opcua_servers import PLC, plc, proxy

from gateway.config.load import load_plant
from gateway.domain.contract.envelope import Event
from gateway.domain.core import Core
from gateway.domain.effects import GatewayIdentity
from gateway.domain.times import format_timestamp
from gateway.domain.values import Batch
from gateway.mqtt.topics import Topics
from gateway.runtime.device_link import DeviceLink
from tests.contract import check_effects
from tests.drivers.clocks import PlantClock
from tests.gates import open_gate

RATE = 60
"""A minute of the plant is a second of the wall."""
MINUTE = 60_000
YAML = """
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{host: 127.0.0.1, client_id: edge-01}}
devices:
  PRESS:
    driver: opcua
    url: opc.tcp://127.0.0.1:{port}
    namespace: {namespace}
    security: none
    publishing_interval: 3s
    sampling_interval: 1s
    keepalive: 30s
    queue_size: 1000
    history: true
equipment:
  ACME/HZ/STAMP/L1/PRESS:
    device: PRESS
    tags:
      running: {{node: "s=running", type: int32}}
      strokes: {{node: "s=strokes", type: int32}}
      order: {{node: "s=order", type: string}}
    state:
      debounce: 0s
      rules: [{{to: RUN, when: "running == 1"}}, {{to: DOWN, when: "true"}}]
    counters: {{good: {{tag: strokes, max: 2147483647, max_rate: 1000/s}}}}
    order: {{from: tag, tag: order}}
"""


class Press:
    """A machine with its ledger: every stroke and stop as it truly was, by the plant's clock."""

    def __init__(self, clock: PlantClock) -> None:
        self._clock = clock
        self._nodes: dict[str, object] = {}
        self._order = ""
        self._strokes = 0
        self.made: dict[tuple[str, int], int] = defaultdict(int)
        """Strokes by order and end of the minute."""

    async def build(self, server) -> None:
        for name, value, kind in (("running", 0, "Int32"), ("strokes", 0, "Int32"), ("order", "", "String")):
            self._nodes[name] = await server.add(name, value, ua.VariantType[kind])
            await self._show(name, value)
            await server.server.historize_node_data_change(self._nodes[name], period=None)

    async def _show(self, name: str, value) -> int:
        """Shown for some time, so that one scan holds one change; answers with its moment."""
        at = self._clock.now()
        kind = ua.VariantType.String if name == "order" else ua.VariantType.Int32
        stamp = datetime.fromtimestamp(at / 1000, UTC)
        await self._nodes[name].write_value(ua.DataValue(ua.Variant(value, kind), SourceTimestamp=stamp))
        await asyncio.sleep(0.005)
        return at

    async def run(self, *, running: bool) -> int:
        return await self._show("running", int(running))

    async def begin(self, order: str) -> None:
        await self._show("order", order)
        self._order = order

    async def strike(self, times: int) -> None:
        for _ in range(times):
            self._strokes += 1
            at = await self._show("strokes", self._strokes)
            self.made[self._order, -(-at // MINUTE) * MINUTE] += 1


class Mes:
    """The intake of one device: a core, and what a reader of its events knows."""

    def __init__(self, plant, clock: PlantClock) -> None:
        self._clock = clock
        identity = GatewayIdentity("edge-01", plant.fingerprint, "epoch", "0")
        self.core = Core(plant.equipment, identity, {}, {}, clock.now())
        self._topics = Topics(plant.topic_root, plant.site, plant.gateway_id)
        self.events: dict[str, Event] = {}
        self.is_up = False

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        self.is_up = up
        self.core.handle_link(device, up, self._clock.now(), self._clock.now(), detail, resumed)
        self._commit()

    async def take_batch(self, device: str, batch: Batch) -> None:
        self.core.handle_changes(device, batch, self._clock.now())
        self._commit()

    def operation_done(self, result) -> None:
        raise AssertionError("nobody asked for an operation")

    async def watch_deadlines(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.core.handle_deadline(self._clock.now())
            self._commit()

    def _commit(self) -> None:
        effects = self.core.take_effects(self._clock.now())
        if effects is None:
            return
        check_effects(effects, self._topics)
        for event in effects.events:
            if event.id not in self.events or self.events[event.id].rev < event.rev:
                self.events[event.id] = event

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events.values() if event.type == kind]

    def counted(self) -> dict[tuple[str, int], int]:
        """Pieces by order and end of the minute, by the highest revision of each window."""
        pieces: dict[tuple[str, int], int] = defaultdict(int)
        for event in self.of("production.count"):
            end = -(-event.source_time // MINUTE) * MINUTE  # a window that ends with its order is part of its minute
            pieces[event.order.id if event.order else "", end] += event.data.delta
        return {key: delta for key, delta in pieces.items() if delta}


@asynccontextmanager
async def supervised(plant, clock: PlantClock):
    mes = Mes(plant, clock)
    (device,) = plant.devices.values()
    tasks = [
        asyncio.create_task(run)
        for run in (DeviceLink(device, mes, clock, open_gate(clock)).run(), mes.watch_deadlines())
    ]
    try:
        yield mes
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []


async def forget(server, between, mes: Mes) -> None:
    """The server forgets every session but its historian's, and nobody gets in."""
    between.refuse()
    iserver = server.server.iserver
    service, own = iserver.subscription_service, iserver.isession.session_id
    await service.delete_subscriptions([n for n, sub in service.subscriptions.items() if sub.session_id != own])
    for session in list(iserver._external_sessions.values()):
        await session.close_session(True)
    between.cut()
    await until(lambda: not mes.is_up)


def by_order(made: dict[tuple[str, int], int]) -> dict[str, int]:
    return {name: sum(n for (order, _), n in made.items() if order == name) for name in ("4711", "4712")}


def only(minutes: set[int], made: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """What was made in these minutes: those that lie in the outage as a whole.

    At this rate a live value that the machine running the test delays by 10 ms comes in the next minute.
    """
    return {key: pieces for key, pieces in made.items() if key[1] in minutes}


@pytest.mark.timeout(60)
async def test_every_stroke_of_an_outage_is_counted_to_its_order_and_minute_and_the_stop_in_it_has_its_length(
    tmp_path: Path,
):
    clock = PlantClock(RATE)
    async with plc() as server, proxy(server.port) as between:
        (tmp_path / "plant.yaml").write_text(YAML.format(port=between.port, namespace=PLC))
        press = Press(clock)
        await press.build(server)
        async with supervised(load_plant(tmp_path), clock) as mes:
            await until(lambda: mes.is_up)
            await press.begin("4711")
            await press.run(running=True)
            await press.strike(30)
            await forget(server, between, mes)
            lost = clock.now()
            await press.strike(90)
            await press.begin("4712")
            await press.strike(30)
            stopped = await press.run(running=False)
            await asyncio.sleep(0.3)
            started = await press.run(running=True)
            while clock.now() < lost + 2 * MINUTE:
                await press.strike(10)
            between.accept()
            while not mes.is_up:
                await press.strike(1)
            back = clock.now()
            await press.strike(30)
            await until(lambda: sum(mes.counted().values()) == sum(press.made.values()))
            assert by_order(mes.counted()) == by_order(press.made)
            minutes = {end for _, end in press.made if lost < end - MINUTE and end < back}
            assert minutes
            assert only(minutes, mes.counted()) == only(minutes, press.made)
            stops = {event.data.start: event.data.dur_s for event in mes.of("downtime.closed")}
            assert stops[format_timestamp(stopped)] == pytest.approx((started - stopped) / 1000, abs=0.001)
            assert [event.order.id for event in mes.of("order.started")] == ["4711", "4712"]
            assert {event.data.filled is not None for event in mes.of("data.gap")} == {True}
            assert max(event.source_time - event.gateway_time for event in mes.events.values()) <= 0
