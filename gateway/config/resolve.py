"""What one equipment's sections mean together: names to tags, expressions to closures, seconds to milliseconds."""

import difflib
from collections.abc import Mapping

import msgspec

from gateway.config.models import (
    AlarmsSection,
    DerivedTagSection,
    EquipmentSection,
    TagSection,
)
from gateway.config.resolve_download import DownloadResolver
from gateway.config.resolve_jobs import JobResolver
from gateway.config.resolve_kpi import resolve_kpi
from gateway.config.resolve_production import ProductionResolver
from gateway.config.resolve_state import StateResolver
from gateway.config.resolve_tags import DerivedResolver, resolve_pace
from gateway.config.resolve_usage import AlarmResolver
from gateway.config.validation import Reporter
from gateway.config.yaml_reader import Document, KeyPath
from gateway.domain.equipment import EquipmentSpec
from gateway.domain.production.lanes import LaneSpec
from gateway.domain.production.orders import OrderSource
from gateway.domain.state.alarms import AlarmSpec
from gateway.domain.state.states import StateSpec
from gateway.domain.tags.conversion import Conversion
from gateway.domain.tags.expressions import Compiled, ExpressionError, compile_expression, tags_used
from gateway.domain.tags.pacing import Pace
from gateway.domain.tags.tag_spec import TagSpec
from gateway.domain.values import DataType
from gateway.domain.writing.download_spec import DownloadSpec

ResolvedTags = Mapping[str, tuple[TagSection, str] | None]


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, as the domain counts time."""
    return round(seconds * 1000)


class EquipmentResolver:
    """Resolves one equipment; every problem is reported with its line, and None is given where there was one."""

    def __init__(
        self,
        reporter: Reporter,
        document: Document,
        keys: KeyPath,
        section: EquipmentSection,
        tags: ResolvedTags,
        derived_tags: Mapping[str, DerivedTagSection],
    ) -> None:
        self._reporter = reporter
        self._document = document
        self._keys = keys
        self._section = section
        self._tags = tags
        self._derived_tags = derived_tags
        self._slots = {name: slot for slot, name in enumerate([*tags, *derived_tags])}
        self._inputs: set[int] = set()
        self._unit = keys[1]

    def resolve(self, path: str, unit: str) -> EquipmentSpec | None:
        """The equipment as the domain takes it."""
        problems = len(self._reporter.problems)
        self._unit = unit
        derived = self._derived_resolver()
        derived_tags, state = derived.resolve(), self._state(derived)
        production = ProductionResolver(self._section, self._slot, self.tag_section, self.report).resolve()
        lanes = tuple(self._lane(name) for name in self._section.lanes)
        download = self._download()
        alarms = self._alarms(self._section.alarms) if self._section.alarms is not None else None
        if self._section.hold is not None:
            self.device_slot(self._section.hold, "hold")
        kpi = resolve_kpi(self._section, self._tags, self.report)
        paces = {name: self._pace(name) for name in self._tags}
        if len(self._reporter.problems) > problems or any(tag is None for tag in self._tags.values()):
            return None
        tags = tuple(self._tag(name, pace) for name, pace in paces.items())
        hold = tags[self._slots[self._section.hold]] if self._section.hold is not None else None
        return EquipmentSpec(
            path, unit, tags, state, production, download, alarms, hold, derived=derived_tags, kpi=kpi, lanes=lanes
        )

    def _download(self) -> DownloadSpec | None:
        """How the equipment takes parameter sets: into tags, or into job orders."""
        section = self._section
        if section.job_control is not None:
            if section.download is not None:
                self.report(("download",), "a set goes into tags or into job orders; keep download or job_control")
            operation = section.order.operation if section.order is not None else None
            return JobResolver(section.job_control, section.device, operation, self).resolve()
        return DownloadResolver(section, self).resolve() if section.download is not None else None

    def _lane(self, lane: str) -> LaneSpec:
        section = self._section.lanes[lane]

        def slot(name: str, *keys: str | int) -> int:
            return self._slot(name, "lanes", lane, *keys)

        def report(keys: KeyPath, message: str) -> None:
            self.report(("lanes", lane, *keys), message)

        if section.order is not None and section.order.source in _OF_THE_WHOLE:
            report(("order", "from"), "a lane gets its orders from a tag or a unit upstream; commands know no lanes")
        return LaneSpec(lane, ProductionResolver(section, slot, self.tag_section, report).resolve())

    def _alarms(self, section: AlarmsSection) -> AlarmSpec:
        if section.acknowledge and section.conditions is None:
            text = "only OPC UA conditions can be acknowledged; name their source with conditions:, or take it out"
            self.report(("alarms", "acknowledge"), text)
        return AlarmResolver(section, self._slot, self._section.device).resolve()

    # --- names --------------------------------------------------------------------------------------------------

    def report(self, keys: KeyPath, message: str) -> None:
        """A problem of this equipment, with its place."""
        self._reporter.report(self._document, (*self._keys, *keys), message)

    def _slot(self, name: str, *keys: str | int) -> int:
        """The slot of a tag by name; -1 after reporting that there is none."""
        if name not in self._slots:
            close = difflib.get_close_matches(name, self._slots, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            self.report(keys, f"the tag {name!r} is unknown; {hint}The tags are: {', '.join(self._slots)}")
            return -1
        self._inputs.add(self._slots[name])
        return self._slots[name]

    def device_slot(self, name: str, *keys: str | int) -> int:
        """The same for a tag that is read or written by itself, so it must be one of a device."""
        if name in self._derived_tags:
            self.report(keys, f"{name} is computed by the gateway; name a tag that the device has")
        return self._slot(name, *keys)

    def expression(self, text: str, *keys: str | int) -> Compiled | None:
        """The expression, compiled; None after reporting what is wrong with it."""
        try:
            compiled = compile_expression(text, self._slots)
        except ExpressionError as error:
            self.report(keys, f"the expression {text!r} {error}")
            return None
        self._inputs.update(self._slots[name] for name in tags_used(text))
        return compiled

    def device_of(self, name: str) -> str | None:
        """The device that has the tag; None where there is no such tag, or a wrong one."""
        resolved = self._tags.get(name)
        return resolved[1] if resolved is not None else None

    def tag_id(self, name: str) -> str:
        """How the domain names a tag of this equipment."""
        return f"{self._unit}.{name}"

    def conversion(self, name: str) -> Conversion:
        """How the raw values of a tag become engineering values."""
        resolved = self._tags.get(name)
        section = resolved[0] if resolved else TagSection(type=DataType.FLOAT64)
        return Conversion(section.type, section.scale, section.offset, section.bit, section.sentinels, section.enum)

    def _derived_resolver(self) -> DerivedResolver:
        addressed = {name: (tag[1], self.tag_id(name)) for name, tag in self._tags.items() if tag is not None}
        return DerivedResolver(self._derived_tags, addressed, self._slots, self.expression, self.report)

    def _pace(self, name: str) -> Pace | None:
        section = self.tag_section(name)
        return resolve_pace(name, section.type, section.publish, self.report) if section is not None else None

    def _tag(self, name: str, pace: Pace | None) -> TagSpec:
        resolved = self._tags[name]
        assert resolved is not None
        section, device = resolved
        slot, conversion = self._slots[name], self.conversion(name)
        return TagSpec(
            tag_id=self.tag_id(name), name=name, slot=slot, device=device,
            conversion=None if conversion.is_identity and section.type not in _FLOATS else conversion,
            is_input=slot in self._inputs or section.heartbeat is not None,
            publish=section.publish is not None and pace is None, pace=pace, unit=section.unit,
            heartbeat_period=milliseconds(section.heartbeat) if section.heartbeat is not None else None,
        )  # fmt: skip

    # --- state --------------------------------------------------------------------------------------------------

    def _state(self, derived: DerivedResolver) -> StateSpec | None:
        section = self._section.state
        if section is None:
            return None
        spec = StateResolver(
            section, self._slots, self.tag_section, slot=self._slot, expression=self.expression, report=self.report
        ).resolve()
        names = list(self._slots)
        grounded = {self._slots[source] for slot in spec.needs for source in derived.sources(names[slot])}
        return msgspec.structs.replace(spec, needs=tuple(sorted(grounded)))

    def tag_section(self, name: str) -> TagSection | None:
        """What is said of a tag, be it a device's or a derived one; None if there is no such tag, or a wrong one."""
        derived, resolved = self._derived_tags.get(name), self._tags.get(name)
        if derived is not None:
            return TagSection(type=derived.type, unit=derived.unit, publish=derived.publish)
        return resolved[0] if resolved is not None else None


_OF_THE_WHOLE = (OrderSource.DOWNLOAD, OrderSource.COMMAND, OrderSource.JOB_CONTROL)
"""Sources that know a machine, and none of its lanes."""

_FLOATS = frozenset({DataType.FLOAT32, DataType.FLOAT64})
"""Always converted, since a device may send NaN."""
