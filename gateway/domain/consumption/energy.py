"""Meter readings to energy per interval and order. A meter is a counter; what nobody ran for is unassigned."""

import msgspec
from msgspec import field

from gateway.domain.contract.events import EnergyInterval
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp


class EnergySpec(msgspec.Struct, frozen=True):
    """One meter: the slot of its raw reading, what one count is in kWh, and where it rolls over."""

    slot: int
    kwh_per_count: float
    max_value: int
    medium: str = "elec"
    interval: int = 900_000

    def kwh(self, counts: int) -> float:
        """Counts as kWh, rounded as a meter shows them."""
        return round(counts * self.kwh_per_count, 6)


class EnergyMemory(msgspec.Struct):
    """What survives a restart: the last reading and the open interval, in raw counts."""

    reading: int | None = None
    counts: int = 0
    start: Timestamp | None = None
    end: Timestamp = 0
    rows: list[int] = field(default_factory=list)
    """The steps of the open interval in turn: moment, counts, moment, counts …"""


class Cut(msgspec.Struct, frozen=True):
    """A closed interval, in raw counts."""

    start: Timestamp
    end: Timestamp
    counts: int
    rows: list[int]


class Meter:
    """Intervals end on multiples of their length and where the order changes. All its memory is in `memory`."""

    def __init__(self, spec: EnergySpec, memory: EnergyMemory) -> None:
        self.spec = spec
        self.memory = memory

    def take(self, reading: int, at: Timestamp) -> None:
        """A reading at `at`: the difference belongs to the open interval."""
        memory = self.memory
        if memory.start is None:
            self._open(at)
        if memory.reading is not None and reading != memory.reading:
            counts = (reading - memory.reading) % (self.spec.max_value + 1)
            memory.counts += counts
            memory.rows += (at, counts)
        memory.reading = reading

    def close(self, until: Timestamp) -> Cut | None:
        """The open interval, if it ends at or before `until`."""
        memory = self.memory
        return self.cut(memory.end) if memory.start is not None and memory.end <= until else None

    def cut(self, at: Timestamp) -> Cut | None:
        """The open interval ends at `at`, because the order changes there."""
        memory = self.memory
        if memory.start is None or at <= memory.start:
            return None
        closed = Cut(memory.start, at, memory.counts, memory.rows)
        memory.counts, memory.rows = 0, []
        self._open(at)
        return closed

    def _open(self, at: Timestamp) -> None:
        self.memory.start = at
        self.memory.end = (at // self.spec.interval + 1) * self.spec.interval


def told(spec: EnergySpec, interval: Cut) -> EnergyInterval:
    """The interval as it is published."""
    return EnergyInterval(
        kwh=spec.kwh(interval.counts), start=format_timestamp(interval.start), end=format_timestamp(interval.end),
        medium=spec.medium, meter=spec.medium,
    )  # fmt: skip
