"""Alarms, samples, materials and energy of one equipment: names to slots, seconds to milliseconds."""

from typing import Protocol

from gateway.config.models import AlarmsSection, ProductionSection
from gateway.config.yaml_reader import KeyPath
from gateway.domain.consumption.energy import EnergySpec
from gateway.domain.consumption.genealogy import ScanSpec
from gateway.domain.consumption.materials import MaterialSpec
from gateway.domain.consumption.quality import SampleSpec
from gateway.domain.consumption.tools import ToolSpec
from gateway.domain.production.usage import UsageSpec
from gateway.domain.state.alarm_sources import AlarmBit, AlarmEntry
from gateway.domain.state.alarms import AlarmSpec, AlarmText, Delays


class FindSlot(Protocol):
    """Gives the slot of a tag by name, after reporting under the keys if there is none."""

    def __call__(self, name: str, *keys: str | int) -> int:  # noqa: D102 - the class says it
        ...


class Report(Protocol):
    """Notes a problem at these keys of the equipment."""

    def __call__(self, keys: KeyPath, message: str) -> None:  # noqa: D102 - the class says it
        ...


class AlarmResolver:
    """The `alarms` section."""

    def __init__(self, section: AlarmsSection, slot: FindSlot, device: str) -> None:
        self._section = section
        self._slot = slot
        self._device = device

    def resolve(self) -> AlarmSpec:
        """The alarms as the domain takes them."""
        section = self._section
        texts = section.texts.items()
        return AlarmSpec(
            bits=tuple(self._bit(code) for code in section.bits),
            entries=tuple(self._entry(number) for number in range(len(section.entries))),
            condition_source=section.conditions,
            acknowledged_at=self._device if section.acknowledge else None,
            texts={code: AlarmText(text.text, text.severity, text.alarm_class) for code, text in texts},
            all_delays=self._delays(None, None),
            delays={code: self._delays(text.on_delay, text.off_delay) for code, text in texts},
        )

    def _delays(self, on: float | None, off: float | None) -> Delays:
        """What a code has of its own, else what all have."""
        up = self._section.on_delay if on is None else on
        gone = self._section.off_delay if off is None else off
        return Delays(round(up * 1000), round(gone * 1000))

    def _bit(self, code: str) -> AlarmBit:
        bit, keys = self._section.bits[code], ("alarms", "bits", code)
        acked = self._slot(bit.acked, *keys, "acked") if bit.acked is not None else None
        return AlarmBit(code, self._slot(bit.tag, *keys, "tag"), bit.bit, acked)

    def _entry(self, number: int) -> AlarmEntry:
        entry = self._section.entries[number]

        def slot(key: str) -> int | None:
            name = getattr(entry, key)
            return None if name is None else self._slot(name, "alarms", "entries", number, key)

        return AlarmEntry(
            trigger=self._slot(entry.trigger, "alarms", "entries", number, "trigger"),
            code=self._slot(entry.code, "alarms", "entries", number, "code"),
            message=slot("message"),
            severity=slot("severity"),
            acknowledged=slot("acked"),
        )


class UsageResolver:
    """The sections `samples`, `materials`, `tools`, `scans` and `energy`."""

    def __init__(self, section: ProductionSection, slot: FindSlot, report: Report) -> None:
        self._section = section
        self._slot = slot
        self._report = report

    def resolve(self) -> UsageSpec:
        """Each as the domain takes it."""
        return UsageSpec(self._materials(), self._energy(), self._samples(), self._tools(), self._scans())

    def _samples(self) -> tuple[SampleSpec, ...]:
        return tuple(
            SampleSpec(
                characteristic=name, gage=sample.gage, unit=sample.unit, limits_of=sample.limits_of,
                sequence=self._slot(sample.sequence, "samples", name, "sequence"),
                values=self._slot(sample.values, "samples", name, "values"), lower=sample.lsl, upper=sample.usl,
            )
            for name, sample in self._section.samples.items()
        )  # fmt: skip

    def _materials(self) -> tuple[MaterialSpec, ...]:
        specs = []
        for name, material in self._section.materials.items():
            keys = ("materials", name)
            self._check_counter(material.counter, keys)
            if material.low >= material.capacity:
                self._report((*keys, "low"), f"low {material.low} must lie below the capacity {material.capacity}")
            container = self._slot(material.container, *keys, "container") if material.container is not None else None
            lot = self._slot(material.lot, *keys, "lot") if material.lot is not None else None
            specs.append(
                MaterialSpec(
                    name, material.counter, material.capacity, material.low, container, material.call_off,
                    material.dock, lot,
                )
            )  # fmt: skip
        return tuple(specs)

    def _check_counter(self, name: str, keys: KeyPath) -> None:
        if name not in self._section.counters:
            known = ", ".join(self._section.counters) or "none"
            self._report((*keys, "counter"), f"no such counter: {name}; the counters are: {known}")

    def _tools(self) -> tuple[ToolSpec, ...]:
        specs = []
        for name, tool in self._section.tools.items():
            self._check_counter(tool.counter, ("tools", name))
            serial, thresholds = self._slot(tool.serial, "tools", name, "serial"), tuple(sorted(tool.thresholds))
            specs.append(ToolSpec(name, tool.counter, serial, tool.limit, tool.unit, thresholds, tool.spare))
        return tuple(specs)

    def _scans(self) -> tuple[ScanSpec, ...]:
        specs = []
        for name, scan in self._section.scans.items():
            keys = ("scans", name)
            parent = self._slot(scan.parent, *keys, "parent") if scan.parent is not None else None
            trigger, child = self._slot(scan.trigger, *keys, "trigger"), self._slot(scan.child, *keys, "child")
            specs.append(ScanSpec(name, trigger, child, parent, scan.relation, scan.unread))
        return tuple(specs)

    def _energy(self) -> EnergySpec | None:
        energy = self._section.energy
        if energy is None:
            return None
        slot = self._slot(energy.tag, "energy", "tag")
        return EnergySpec(slot, energy.kwh, energy.max, energy.medium, round(energy.interval * 1000))
