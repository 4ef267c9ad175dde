"""A gateway that comes back with a million events in its record: how fast they leave, and what happens meanwhile."""

import asyncio
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from bench.plant import write_plant
from bench.processes import PATIENCE, module, mosquitto
from gateway.domain.contract.events import OrderRef, ProductionCount
from gateway.domain.effects import Effects, GatewayIdentity, Recorder, SequenceMemory
from gateway.domain.times import format_timestamp
from gateway.mqtt.payloads import encode_event
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.store import Store

EVENTS: Final = 1_000_000
OLD_MACHINES: Final = 30
"""Machines whose events wait; the plant of the gateway no longer has them, and they leave all the same."""
TAGS: Final = 1_000
"""Run parameters that change ten times a second meanwhile."""
SITE: Final = "BENCH/SITE"
BEGIN: Final = 1_772_431_200_000
_BATCH: Final = 3_000

_LIVE = f"""\
equipment:
  {SITE}/NOW/L/LIVE:
    device: LOAD
    tags: {{x: {{node: s=tag0, type: float64}}}}
    order: {{from: command}}
"""


@dataclass(frozen=True)
class Figures:
    """Times in seconds, latencies in milliseconds, sizes in bytes."""

    events: int
    bytes_per_event: float
    payload: float
    first: float
    """From the start of the process to the first event at the subscriber."""
    drained: float
    """Events per second from the first to the last."""
    cpu_per_event: float
    """Microseconds, with all that happened meanwhile."""
    disordered: int
    meanwhile: dict[str, float | None]
    longest: dict[str, float | None]
    afterwards: dict[str, float | None]
    orders: int
    values: float
    """Run parameters per second meanwhile."""
    bytes_per_value: float
    rss: int


def measure(events: int = EVENTS) -> Figures:
    """The gateway as it is run, pinned to one processor, all the rest on the other."""
    measured, other = (1, 0) if (psutil.cpu_count() or 1) > 1 else (None, None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        config = folder / "config"
        config.mkdir()
        size, payload = asyncio.run(_fill(config / "record.db", events))
        broker, port = mosquitto(folder, other)
        stack.enter_context(broker)
        source = stack.enter_context(module("bench.load_source", str(TAGS), folder=folder, core=other))
        write_plant(config, TAGS, source.hear()["port"], port)
        (config / "live.yaml").write_text(_LIVE)
        text = (config / "bench.yaml").read_text()
        (config / "bench.yaml").write_text(text.replace("mqtt:", "  store_limit: 4 GB\nmqtt:", 1))
        consumer = stack.enter_context(
            module("bench.backlog_consumer", str(port), f"mfg/v1/{SITE}", folder=folder, core=other)
        )
        consumer.hear()
        began = time.time()
        gateway = stack.enter_context(module("gateway", "run", "-c", str(config), folder=folder, core=measured))
        told, rss = _drained(source, consumer, gateway, events)
        cpu = gateway.spent().cpu
        source.ask("go 50")
        after = consumer.ask("report")
        return Figures(
            events=events, bytes_per_event=size, payload=payload, first=told["first"] - began,
            drained=told["old"] / (told["last"] - told["first"]), cpu_per_event=cpu / events * 1e6,
            disordered=told["disordered"], meanwhile=told["p99"], longest=told["longest"], afterwards=after["p99"],
            orders=told["orders"], values=told["values"] / (told["last"] - told["first"]),
            bytes_per_value=after["bytes"] / after["values"], rss=rss,
        )  # fmt: skip


def _drained(source: Any, consumer: Any, gateway: Any, events: int) -> tuple[dict[str, Any], int]:
    """Run parameters change until every old event has come; what was told in all, and the most memory."""
    total: dict[str, Any] = {}
    rss, deadline = 0, time.monotonic() + 2 * PATIENCE
    while total.get("old", 0) < events:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: after {2 * PATIENCE:g} s only {total.get('old', 0):,} events have come")
        if total.get("old", 0):
            source.ask("go 20")
        else:
            time.sleep(0.2)
        told = consumer.ask("report")
        rss = max(rss, gateway.spent().rss)
        total = _added(total, told) if total.get("old") else told
    return total, rss


def _added(total: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Both reports as one; the worse of two 99th percentiles."""
    worse = {
        name: {what: max((value for value in (total[name][what], told[name][what]) if value is not None), default=None)
               for what in told[name]}
        for name in ("p99", "longest")
    }  # fmt: skip
    sums = {name: total[name] + told[name] for name in ("old", "disordered", "values", "bytes", "orders")}
    return worse | sums | {"first": total["first"], "last": told["last"] or total["last"]}


async def _fill(path: Path, events: int) -> tuple[float, float]:
    """A record with so many events of many machines; bytes of file and of payload per event."""
    identity, effects = GatewayIdentity("bench", "9f3c2a9f3c2a", "9f3c2a9f3c2a", "bench"), Effects()
    recorders = [
        Recorder(identity, f"{SITE}/OLD/L1/M{number:02}", SequenceMemory(), effects) for number in range(OLD_MACHINES)
    ]
    payload = 0
    async with Store(path, new_epoch=identity.epoch) as store:
        for start in range(0, events, _BATCH):
            for number in range(start, min(start + _BATCH, events)):
                at = BEGIN + number * 100
                recorders[number % OLD_MACHINES].event(
                    _count(number, at), at, at, order=OrderRef("4711", "0010", "4711-L1")
                )
            messages = [
                OutboxMessage(f"mfg/v1/{e.equipment}/evt/{e.type}", encode_event(e), "evt", e.equipment, e.seq)
                for e in effects.events
            ]
            payload += sum(len(message.payload) for message in messages)
            effects.events.clear()
            await store.commit(Transaction(messages=messages, at=BEGIN))
        return store.statistics.file_bytes / events, payload / events


def _count(number: int, at: int) -> ProductionCount:
    return ProductionCount(
        counter="good", delta=120, order_total=number * 4, shift_total=number * 4, window_end=format_timestamp(at),
        unit="pcs",
    )  # fmt: skip
