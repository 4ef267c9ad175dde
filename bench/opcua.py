"""From the socket of an OPC UA server to a subscriber of mosquitto, at a given number of changes per second."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.plant import write_plant
from bench.processes import PATIENCE, Part, module, mosquitto

INTERVAL = 0.1
"""Seconds between two notifications, where nothing else is said."""
WARM_UP = 10
"""Notifications before those that count."""


@dataclass(frozen=True)
class Figures:
    """One run. CPU in seconds, latencies in milliseconds after the source's stamp, memory in bytes."""

    asked: float
    """Changes per second."""
    seconds: float
    sent: int
    received: int
    missing: int
    disordered: int
    skipped: int
    """Publishing intervals in which the client had no PublishRequest waiting: it could not keep up."""
    cpu: float
    p50: int | None
    p99: int | None
    rss: int
    subscribed_after: float
    """Seconds from the start of the process to the first value at the subscriber, or to all items subscribed."""

    @property
    def cpu_per_value(self) -> float:
        """Microseconds, of all threads of the process measured."""
        return self.cpu / self.sent * 1e6

    @property
    def core(self) -> float:
        """Share of one core."""
        return self.cpu / self.seconds

    @property
    def rate(self) -> float:
        """Changes per second that arrived."""
        return self.received / self.seconds


@dataclass(frozen=True)
class Stage:
    """What stands around the process that is measured."""

    source: Part
    source_port: int
    consumer: Part
    broker_port: int
    folder: Path
    core: int | None
    """The processor that the measured process has to itself; None where there is only one."""


@contextmanager
def _stage(tags: int, topic: str) -> Iterator[Stage]:
    """Source, broker and consumer, on another processor than what is measured; with a folder for its files."""
    measured, other = (1, 0) if (psutil.cpu_count() or 1) > 1 else (None, None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker, broker_port = mosquitto(folder, other)
        stack.enter_context(broker)
        source = stack.enter_context(module("bench.load_source", str(tags), folder=folder, core=other))
        source_port = source.hear()["port"]
        consumer = stack.enter_context(module("bench.consumer", str(broker_port), topic, folder=folder, core=other))
        consumer.hear()
        yield Stage(source, source_port, consumer, broker_port, folder, measured)


def measure_gateway(tags: int, notifications: int, interval: float = INTERVAL) -> Figures:
    """The gateway as it is run, `gateway run -c …`, with its store on disk."""
    with _stage(tags, "mfg/v1/#") as stage:
        config = stage.folder / "config"
        write_plant(config, tags, stage.source_port, stage.broker_port, interval=f"{interval:g}s")
        began = time.monotonic()
        with module("gateway", "run", "-c", str(config), folder=stage.folder, core=stage.core) as gateway:
            _wait_for_initial_values(stage.consumer, tags)
            return _measure(gateway, stage, tags / interval, notifications, time.monotonic() - began)


def measure_yardstick(tags: int, notifications: int) -> Figures:
    """The plain way, in the same place; it may use every processor, for pinned to one its two threads fight for it."""
    with _stage(tags, "yardstick/#") as stage:
        arguments = (f"opc.tcp://127.0.0.1:{stage.source_port}", str(tags), str(stage.broker_port))
        began = time.monotonic()
        with module("bench.yardstick", *arguments, folder=stage.folder) as yardstick:
            yardstick.hear()
            return _measure(yardstick, stage, tags / INTERVAL, notifications, time.monotonic() - began)


def _measure(measured: Part, stage: Stage, asked: float, notifications: int, subscribed_after: float) -> Figures:
    stage.source.ask(f"go {WARM_UP}")
    _settled(stage.consumer)
    stage.consumer.ask("reset")
    before = measured.spent()
    sent = stage.source.ask(f"go {notifications}")
    arrived = _settled(stage.consumer)
    after = measured.spent()
    return Figures(
        asked=asked, seconds=sent["seconds"], sent=sent["sent"], received=arrived["values"],
        missing=arrived["missing"], disordered=arrived["disordered"], skipped=sent["skipped"],
        cpu=after.cpu - before.cpu, p50=arrived["p50"], p99=arrived["p99"], rss=after.rss,
        subscribed_after=subscribed_after,
    )  # fmt: skip


def _settled(consumer: Part) -> dict[str, Any]:
    """What came, when nothing more has come for a second and a half."""
    told, quiet = consumer.ask("report"), 0
    while quiet < 3:
        time.sleep(0.5)
        before, told = told, consumer.ask("report")
        quiet = quiet + 1 if told == before else 0
    return told


def _wait_for_initial_values(consumer: Part, tags: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while consumer.ask("report")["initial"] < tags:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: not every tag had a value after {PATIENCE:g} s")
        time.sleep(0.02)
