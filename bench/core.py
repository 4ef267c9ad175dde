"""What the core adds to a value, without sockets: 100 machines of 100 tags, one commit per batch, as the daemon has it.

Measured is everything between driver and store: `handle_changes`, `take_effects` with the checkpoints, the messages'
bytes. Two plants: run parameters alone, and machines of which one counter and one state move in every batch.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.plant import TAGS_PER_MACHINE, write_plant
from gateway.config.load import load_plant
from gateway.domain.core import Core
from gateway.domain.effects import GatewayIdentity
from gateway.domain.values import Batch, TagChange
from gateway.mqtt.topics import Topics
from gateway.runtime.clock import SystemClock
from gateway.runtime.commit import Committer

MACHINES = 100
BATCHES = 60
WARM_UP = 10
CYCLE = 100
"""Milliseconds of source time between two batches."""
BEGIN = 1_772_431_200_000

MACHINE = """\
      state: {node: s=state, type: int32}
      good: {node: s=good, type: uint32}
    state:
      debounce: 0s
      rules:
        - {to: DOWN, when: "state in [8, 9]", reason: state}
        - {to: STARVED, when: "state == 5"}
        - {to: RUN, when: "state == 6"}
        - {to: UNKNOWN, when: "true"}
    counters:
      good: {tag: good, max: 4294967295, max_rate: 100/s}
"""


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU per value, the best round of several: the collector's and the neighbours' pauses left out."""

    what: str
    values: int
    core: float
    encoding: float


def measure() -> list[Cost]:
    """Both plants."""
    tags = MACHINES * TAGS_PER_MACHINE
    return [
        _cost("run parameters", _plant(tags), lambda number: _run_parameters(tags, number)),
        _cost("counter readings", _plant(MACHINES, MACHINE), lambda number: _machines("good", number, number)),
        _cost(
            "state changes",
            _plant(MACHINES, MACHINE),
            lambda number: _machines("state", 5 + number % 2, number),
        ),
    ]


def _plant(tags: int, machine: str = "") -> Any:
    with TemporaryDirectory(prefix="bench-") as folder:
        write_plant(Path(folder), tags, 1, 1, machine=machine)
        return load_plant(Path(folder))


def _run_parameters(tags: int, number: int) -> list[TagChange]:
    at = BEGIN + CYCLE * number
    return [
        TagChange(f"M{place // TAGS_PER_MACHINE:04}.t{place}", number + place / 1e6, 0, at, at) for place in range(tags)
    ]


def _machines(tag: str, value: int, number: int) -> list[TagChange]:
    at = BEGIN + CYCLE * number
    return [TagChange(f"M{machine:04}.{tag}", value, 0, at, at) for machine in range(MACHINES)]


def _cost(what: str, plant: Any, changes: Any) -> Cost:
    identity = GatewayIdentity(plant.gateway_id, plant.fingerprint, "bench", "bench")
    core = Core(plant.equipment, identity, {}, {}, BEGIN)
    topics = Topics(plant.topic_root, plant.site, plant.gateway_id)
    committer = Committer(core, None, topics, SystemClock())  # type: ignore[arg-type] - nothing is committed
    core.handle_link("LOAD", True, BEGIN, BEGIN)
    spent = list(_rounds(core, committer, changes))[WARM_UP:]
    values = len(changes(0))
    return Cost(what, values, *(min(column) / values * 1e6 for column in zip(*spent, strict=True)))


def _rounds(core: Core, committer: Committer, changes: Any) -> Iterator[tuple[float, float]]:
    for number in range(1, BATCHES + 1):
        now = BEGIN + CYCLE * number
        batch = Batch(changes(number), now)
        began = time.process_time()
        core.handle_changes("LOAD", batch, now)
        effects = core.take_effects(now)
        handled = time.process_time()
        if effects is not None:
            committer.transaction(effects)
        yield handled - began, time.process_time() - handled
