"""What making pieces takes: material, tools, energy; what goes into them, and the samples that judge them."""

from collections.abc import Mapping

import msgspec
from msgspec import field

from gateway.domain.consumption.energy import Cut, EnergyMemory, EnergySpec, Meter, told
from gateway.domain.consumption.genealogy import OpenLink, ScanMemory, ScanSpec, consume, end_link, newest_scan
from gateway.domain.consumption.materials import MaterialMemory, MaterialSpec, follow_container, shortage, use
from gateway.domain.consumption.quality import Limits, SampleSpec, newest_subgroup
from gateway.domain.consumption.tools import ToolMemory, ToolSpec, follow_tool, wear
from gateway.domain.contract.event_data import EventData
from gateway.domain.contract.events import MaterialConsumed
from gateway.domain.effects import Recorder
from gateway.domain.production.counters import Step
from gateway.domain.production.history import History, PastEnergy, PastSample
from gateway.domain.production.orders import Run
from gateway.domain.production.windows import ClosedWindow
from gateway.domain.tags.expressions import Inputs
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp


class UsageSpec(msgspec.Struct, frozen=True):
    """Materials, meter, samples, tools and scanners of one equipment."""

    materials: tuple[MaterialSpec, ...] = ()
    energy: EnergySpec | None = None
    samples: tuple[SampleSpec, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    scans: tuple[ScanSpec, ...] = ()


class UsageMemory(msgspec.Struct):
    """What survives a restart."""

    materials: dict[str, MaterialMemory] = field(default_factory=dict)
    energy: EnergyMemory = field(default_factory=EnergyMemory)
    samples: dict[str, int] = field(default_factory=dict)
    limits: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    counted: Timestamp | None = None
    """When material was last counted, for the pace at which it runs out."""
    tools: dict[str, ToolMemory] = field(default_factory=dict)
    links: dict[str, OpenLink] = field(default_factory=dict)
    scans: dict[str, ScanMemory] = field(default_factory=dict)


class Usage:
    """Takes the scan's pieces after they found their order."""

    def __init__(
        self,
        spec: UsageSpec,
        memory: UsageMemory,
        recorder: Recorder,
        inputs: Inputs,
        delivered: Mapping[str, str],
        arrivals: Mapping[str, str],
        history: History,
    ) -> None:
        self.spec = spec
        self.memory = memory
        self.recorder = recorder
        self._inputs = inputs
        self._delivered = delivered
        self._arrivals = arrivals
        self._history = history
        self._meter = Meter(spec.energy, memory.energy) if spec.energy else None

    def take_scan(self, run: Run | None, steps: Mapping[str, Step], at: Timestamp, now: Timestamp) -> None:
        """Material, energy and samples of one scan; `run` is whom its pieces belong to."""
        for material in self.spec.materials:
            self._use(material, run, steps, at, now)
        for tool in self.spec.tools:
            self._wear(tool, run, steps, at, now)
        for scan in self.spec.scans:
            memory = self.memory.scans.setdefault(scan.position, ScanMemory())
            self._tell(newest_scan(scan, memory, self._inputs, _lot(run), at), run, at, now)
        self._take_meter(run, at)
        active = {name: Limits(*pair) for name, pair in self.memory.limits.items()}
        for sample in self.spec.samples:
            subgroup = newest_subgroup(sample, self.memory.samples, self._inputs, active)
            if subgroup is not None:
                self._history.samples.put(at, sampled := PastSample(at, data=subgroup), sampled.name)
                self.recorder.event(subgroup, at, now, order=run.order if run else None)

    def publish_window(self, window: ClosedWindow, unit: str, now: Timestamp) -> None:
        """What the pieces of a closed window took."""
        for spec in self.spec.materials:
            tally = window.tallies.get(spec.counter)
            if tally is None or tally.delta <= 0:
                continue
            memory = self.memory.materials.setdefault(spec.material, MaterialMemory())
            consumed = MaterialConsumed(
                material=spec.material, lot=memory.lot, qty=tally.delta, unit=unit, method="counter",
                window_end=format_timestamp(window.end),
            )  # fmt: skip
            self.recorder.event(consumed, window.end, now, order=window.order)

    def close(self, run: Run | None, until: Timestamp, now: Timestamp) -> None:
        """Publish the energy interval that ends at or before `until`."""
        self._tell_energy(self._meter.close(until) if self._meter else None, run, now)

    def cut(self, run: Run | None, at: Timestamp, now: Timestamp) -> None:
        """The order changes at `at`: what was used until then belongs to `run`."""
        self._tell_energy(self._meter.cut(at) if self._meter else None, run, now)
        for link in self.memory.links.values():
            self._tell(end_link(link), run, at, now)

    def kwh(self, run: Run) -> float | None:
        """The energy of a run, None without a meter."""
        return self.spec.energy.kwh(run.energy) if self.spec.energy else None

    def deadline(self) -> Timestamp | None:
        """When the open energy interval ends."""
        return self.memory.energy.end if self._meter and self.memory.energy.start is not None else None

    def _tell_energy(self, cut: Cut | None, run: Run | None, now: Timestamp) -> None:
        if cut is None or self.spec.energy is None:
            return
        key, order = (run.key, run.order) if run else (None, None)
        self._history.energy.put(cut.end, PastEnergy(cut.start, cut.end, key, order, cut.counts, cut.rows))
        self.recorder.event(told(self.spec.energy, cut), cut.end, now, order=order)

    def _use(
        self, spec: MaterialSpec, run: Run | None, steps: Mapping[str, Step], at: Timestamp, now: Timestamp
    ) -> None:
        memory = self.memory.materials.setdefault(spec.material, MaterialMemory())
        pieces = max(0, steps[spec.counter].delta) if spec.counter in steps else 0
        elapsed = at - self.memory.counted if self.memory.counted is not None else 0
        if pieces:
            self.memory.counted = at
        link = self.memory.links.setdefault(spec.material, OpenLink())
        self._tell(consume(link, _lot(run), memory.lot, pieces), run, at, now)  # what was made until now
        follow_container(spec, memory, self._inputs, self._delivered.get(spec.material))
        self._tell(consume(link, _lot(run), memory.lot, 0), run, at, now)
        low = use(spec, memory, pieces, pieces * 1000 / elapsed if elapsed > 0 else 0.0)
        if low is not None:
            memory.runs_out = at + low.runout_in_s * 1000 if low.runout_in_s is not None else None
            self._tell(low, run, at, now)
            self.judge_supply(spec.material, run, at, now)

    def judge_supply(self, material: str, run: Run | None, at: Timestamp, now: Timestamp) -> None:
        """Tell if what is announced of a material comes later than the container on the machine lasts."""
        for spec in self.spec.materials:
            memory = self.memory.materials.get(spec.material)
            if spec.material == material and memory is not None:
                self._tell(shortage(spec, memory, self._arrivals.get(material)), run, at, now)

    def _wear(self, spec: ToolSpec, run: Run | None, steps: Mapping[str, Step], at: Timestamp, now: Timestamp) -> None:
        memory = self.memory.tools.setdefault(spec.name, ToolMemory())
        follow_tool(spec, memory, self._inputs)
        if spec.counter in steps:
            self._tell(wear(spec, memory, max(0, steps[spec.counter].delta)), run, at, now)

    def _tell(self, fact: EventData | None, run: Run | None, at: Timestamp, now: Timestamp) -> None:
        if fact is not None:
            self.recorder.event(fact, at, now, order=run.order if run else None)

    def _take_meter(self, run: Run | None, at: Timestamp) -> None:
        meter, spec = self._meter, self.spec.energy
        if meter is None or spec is None:
            return
        reading = self._inputs.values[spec.slot]
        if not self._inputs.usable(spec.slot) or not isinstance(reading, int):
            return
        before = self.memory.energy.reading
        meter.take(reading, at)
        if run is not None and before is not None:
            run.energy += (reading - before) % (spec.max_value + 1)


def _lot(run: Run | None) -> str | None:
    return run.order.lot if run else None
