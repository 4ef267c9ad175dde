"""What one equipment's sections mean together: names to tags, expressions to closures, seconds to milliseconds."""

import difflib
from collections.abc import Mapping

import msgspec

from gateway.config.models import (
    AlarmsSection,
    DerivedTagSection,
    DownloadSection,
    EquipmentSection,
    HandshakeSection,
    ParameterSection,
    TagSection,
)
from gateway.config.resolve_kpi import resolve_kpi
from gateway.config.resolve_production import ProductionResolver
from gateway.config.resolve_state import StateResolver
from gateway.config.resolve_tags import NUMBERS, DerivedResolver, resolve_pace
from gateway.config.resolve_usage import AlarmResolver
from gateway.config.validation import Reporter
from gateway.config.yaml_reader import Document, KeyPath
from gateway.domain.alarms import AlarmSpec
from gateway.domain.conversion import Conversion
from gateway.domain.download_spec import Condition, DownloadSpec, MethodCommit, ParameterSpec, SequenceNumber
from gateway.domain.equipment import EquipmentSpec, TagSpec
from gateway.domain.expressions import Compiled, ExpressionError, compile_expression, tags_used
from gateway.domain.lanes import LaneSpec
from gateway.domain.orders import OrderSource
from gateway.domain.pacing import Pace
from gateway.domain.states import StateSpec
from gateway.domain.values import INTEGER_RANGES, DataType, MethodCall

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
        production = ProductionResolver(self._section, self._slot, self._tag_section, self._report).resolve()
        lanes = tuple(self._lane(name) for name in self._section.lanes)
        download = self._download()
        alarms = self._alarms(self._section.alarms) if self._section.alarms is not None else None
        if self._section.hold is not None:
            self._device_slot(self._section.hold, "hold")
        kpi = resolve_kpi(self._section, self._tags, self._report)
        paces = {name: self._pace(name) for name in self._tags}
        if len(self._reporter.problems) > problems or any(tag is None for tag in self._tags.values()):
            return None
        tags = tuple(self._tag(name, pace) for name, pace in paces.items())
        hold = tags[self._slots[self._section.hold]] if self._section.hold is not None else None
        return EquipmentSpec(
            path, unit, tags, state, production, download, alarms, hold, derived=derived_tags, kpi=kpi, lanes=lanes
        )

    def _lane(self, lane: str) -> LaneSpec:
        section = self._section.lanes[lane]

        def slot(name: str, *keys: str | int) -> int:
            return self._slot(name, "lanes", lane, *keys)

        def report(keys: KeyPath, message: str) -> None:
            self._report(("lanes", lane, *keys), message)

        if section.order is not None and section.order.source in (OrderSource.DOWNLOAD, OrderSource.COMMAND):
            report(("order", "from"), "a lane gets its orders from a tag or a unit upstream; commands know no lanes")
        return LaneSpec(lane, ProductionResolver(section, slot, self._tag_section, report).resolve())

    def _alarms(self, section: AlarmsSection) -> AlarmSpec:
        if section.acknowledge and section.conditions is None:
            text = "only OPC UA conditions can be acknowledged; name their source with conditions:, or take it out"
            self._report(("alarms", "acknowledge"), text)
        return AlarmResolver(section, self._slot, self._section.device).resolve()

    # --- names --------------------------------------------------------------------------------------------------

    def _report(self, keys: KeyPath, message: str) -> None:
        self._reporter.report(self._document, (*self._keys, *keys), message)

    def _slot(self, name: str, *keys: str | int) -> int:
        """The slot of a tag by name; -1 after reporting that there is none."""
        if name not in self._slots:
            close = difflib.get_close_matches(name, self._slots, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            self._report(keys, f"the tag {name!r} is unknown; {hint}The tags are: {', '.join(self._slots)}")
            return -1
        self._inputs.add(self._slots[name])
        return self._slots[name]

    def _device_slot(self, name: str, *keys: str | int) -> int:
        """The same for a tag that is read or written by itself, so it must be one of a device."""
        if name in self._derived_tags:
            self._report(keys, f"{name} is computed by the gateway; name a tag that the device has")
        return self._slot(name, *keys)

    def _expression(self, text: str, *keys: str | int) -> Compiled | None:
        try:
            compiled = compile_expression(text, self._slots)
        except ExpressionError as error:
            self._report(keys, f"the expression {text!r} {error}")
            return None
        self._inputs.update(self._slots[name] for name in tags_used(text))
        return compiled

    def _tag_id(self, name: str) -> str:
        return f"{self._unit}.{name}"

    def _conversion(self, name: str) -> Conversion:
        resolved = self._tags.get(name)
        section = resolved[0] if resolved else TagSection(type=DataType.FLOAT64)
        return Conversion(section.type, section.scale, section.offset, section.bit, section.sentinels, section.enum)

    def _derived_resolver(self) -> DerivedResolver:
        addressed = {name: (tag[1], self._tag_id(name)) for name, tag in self._tags.items() if tag is not None}
        return DerivedResolver(self._derived_tags, addressed, self._slots, self._expression, self._report)

    def _pace(self, name: str) -> Pace | None:
        section = self._tag_section(name)
        return resolve_pace(name, section.type, section.publish, self._report) if section is not None else None

    def _tag(self, name: str, pace: Pace | None) -> TagSpec:
        resolved = self._tags[name]
        assert resolved is not None
        section, device = resolved
        slot, conversion = self._slots[name], self._conversion(name)
        return TagSpec(
            tag_id=self._tag_id(name), name=name, slot=slot, device=device,
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
            section, self._slots, self._tag_section, slot=self._slot, expression=self._expression, report=self._report
        ).resolve()
        names = list(self._slots)
        grounded = {self._slots[source] for slot in spec.needs for source in derived.sources(names[slot])}
        return msgspec.structs.replace(spec, needs=tuple(sorted(grounded)))

    def _tag_section(self, name: str) -> TagSection | None:
        """What is said of a tag, be it a device's or a derived one; None if there is no such tag, or a wrong one."""
        derived, resolved = self._derived_tags.get(name), self._tags.get(name)
        if derived is not None:
            return TagSection(type=derived.type, unit=derived.unit, publish=derived.publish)
        return resolved[0] if resolved is not None else None

    # --- download -----------------------------------------------------------------------------------------------

    def _download(self) -> DownloadSpec | None:
        section = self._section.download
        if section is None:
            return None
        conditions = [
            Condition(name, compiled)
            for name, text in section.conditions.items()
            if (compiled := self._expression(text, "download", "conditions", name)) is not None
        ]
        return DownloadSpec(
            device=self._section.device,
            parameters=self._parameters(section),
            conditions=tuple(conditions),
            permit=self._expression(section.permit, "download", "permit") if section.permit is not None else None,
            permit_timeout=milliseconds(section.permit_timeout),
            handshake=self._handshake(section.handshake) if section.handshake is not None else None,
            commit=self._commit(section) if section.commit is not None else None,
        )

    def _commit(self, section: DownloadSection) -> MethodCommit:
        assert section.commit is not None
        if section.handshake is not None:
            self._report(("download", "commit"), "the machine takes parameters by a handshake or by a method; keep one")
        call = MethodCall(section.commit.object, section.commit.method)
        return MethodCommit(call, section.commit.result)

    def _parameters(self, section: DownloadSection) -> dict[str, ParameterSpec]:
        parameters = {}
        for name, parameter in section.parameters.items():
            keys = ("download", "parameters", name)
            self._device_slot(parameter.tag, *keys, "tag")
            if parameter.readback is not None:
                self._device_slot(parameter.readback, *keys, "readback")
            resolved = self._tags.get(parameter.tag)
            minimum, maximum = self._limits(parameter, resolved[0] if resolved is not None else None, keys)
            parameters[name] = ParameterSpec(
                name=name, tag_id=self._tag_id(parameter.tag),
                readback=self._tag_id(parameter.readback or parameter.tag),
                conversion=self._conversion(parameter.tag), minimum=minimum, maximum=maximum,
                parameter_class=parameter.parameter_class, unit=resolved[0].unit if resolved else None,
            )  # fmt: skip
        return parameters

    def _limits(self, parameter: ParameterSection, tag: TagSection | None, keys: KeyPath) -> tuple[float, float]:
        """The machine's limits of a parameter, and whether its tag can be one at all."""
        if tag is not None and tag.bit is not None:
            self._report((*keys, "tag"), f"{parameter.tag} is {_ONE_BIT}")
        if tag is not None and tag.type is DataType.BOOL:
            for key in sorted({"min", "max"} & parameter.model_fields_set):
                self._report((*keys, key), f"{parameter.tag} is a bool and has no limits; take {key} out")
            return 0.0, 1.0
        if tag is not None and tag.type not in NUMBERS:
            self._report((*keys, "tag"), f"{parameter.tag} is a {tag.type}; parameters are numbers or bool")
        for key in ("min", "max"):
            if getattr(parameter, key) is None:
                self._report(keys, f"the key {key!r} is missing: nothing is written without limits")
        minimum, maximum = parameter.min or 0.0, parameter.max or 0.0
        if None not in (parameter.min, parameter.max) and minimum > maximum:
            self._report((*keys, "min"), f"min {minimum:g} is above max {maximum:g}")
        return minimum, maximum

    def _handshake(self, section: HandshakeSection) -> SequenceNumber:
        for key in ("command", "acknowledged", "status", "error"):
            self._device_slot(getattr(section, key), "download", "handshake", key)
        resolved = self._tags.get(section.command)
        highest = INTEGER_RANGES.get(resolved[0].type, (0, 0))[1] if resolved else 1
        if highest == 0:
            self._report(("download", "handshake", "command"), f"{section.command} is not an integer tag")
        return SequenceNumber(
            command=self._tag_id(section.command), acknowledged=self._tag_id(section.acknowledged),
            status=self._tag_id(section.status), error=self._tag_id(section.error), highest=highest,
            done=section.done, rejected=section.rejected, poll=milliseconds(section.poll),
            acknowledge_timeout=milliseconds(section.acknowledge_timeout),
            done_timeout=milliseconds(section.done_timeout),
        )  # fmt: skip


_ONE_BIT = (
    "one bit of a word, which cannot be written without the others; give it a bool of its own, or on Modbus write "
    "bits: instead of bit:, with type: bool"
)
_FLOATS = frozenset({DataType.FLOAT32, DataType.FLOAT64})
"""Always converted, since a device may send NaN."""
