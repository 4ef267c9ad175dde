"""Tags beyond their address: the pace at which they are told, and those that are computed of others."""

from collections.abc import Mapping, Sequence

from gateway.config.models import DerivedTagSection, PublishSection
from gateway.config.resolve_state import CompileRule
from gateway.config.resolve_usage import Report
from gateway.domain.tags.derived import DerivedTag
from gateway.domain.tags.expressions import Compiled, tags_used
from gateway.domain.tags.pacing import Pace
from gateway.domain.values import INTEGER_RANGES, DataType, TagId

NUMBERS = frozenset({*INTEGER_RANGES, DataType.FLOAT32, DataType.FLOAT64})
_COMPUTABLE = NUMBERS | {DataType.BOOL, DataType.STRING}


def resolve_pace(name: str, data_type: DataType, publish: PublishSection | None, report: Report) -> Pace | None:
    """The pace of a tag, None if every change is told or nothing is."""
    if publish is None or publish == PublishSection():
        return None
    keys = ("tags", name, "publish")
    if publish.deadband and data_type not in NUMBERS:
        report((*keys, "deadband"), f"{name} is a {data_type}; only numbers have a deadband")
    if publish.max_interval is not None and publish.max_interval < publish.min_interval:
        text = f"max_interval {publish.max_interval:g} s is shorter than min_interval {publish.min_interval:g} s"
        report((*keys, "max_interval"), text)
    longest = None if publish.max_interval is None else round(publish.max_interval * 1000)
    return Pace(publish.deadband, round(publish.min_interval * 1000), longest)


class DerivedResolver:
    """The tags with an `expression`; `addressed` are the others, with device and id."""

    def __init__(
        self,
        sections: Mapping[str, DerivedTagSection],
        addressed: Mapping[str, tuple[str, TagId]],
        slots: Mapping[str, int],
        expression: CompileRule,
        report: Report,
    ) -> None:
        self._sections = sections
        self._addressed = addressed
        self._slots = slots
        self._expression = expression
        self._report = report
        self._uses: dict[str, set[str]] = {}

    def resolve(self) -> tuple[DerivedTag, ...]:
        """The derived tags, each after those that it is computed of; none if one of them is wrong."""
        compiled = {name: self._compile(name, section) for name, section in self._sections.items()}
        order = self._in_order() if None not in compiled.values() else ()
        return tuple(self._tag(name, compute) for name in order if (compute := compiled[name]) is not None)

    def sources(self, name: str) -> frozenset[str]:
        """The tags of devices that a tag comes down to, itself if it is one."""
        if name not in self._uses:
            return frozenset({name})
        return frozenset().union(*(self.sources(used) for used in self._uses[name]))

    def _compile(self, name: str, section: DerivedTagSection) -> Compiled | None:
        if section.type not in _COMPUTABLE:
            self._report(("tags", name, "type"), f"{section.type} cannot be computed; use a number, bool or string")
        compiled = self._expression(section.expression, "tags", name, "expression")
        if compiled is not None:
            self._uses[name] = tags_used(section.expression)
            if not self._uses[name]:
                self._report(("tags", name, "expression"), f"{section.expression!r} names no tag, so it never changes")
        return compiled

    def _in_order(self) -> list[str]:
        order: list[str] = []
        for name in self._sections:
            if not self._visit(name, [], order):
                return []
        return order

    def _visit(self, name: str, above: Sequence[str], order: list[str]) -> bool:
        if name in order or name not in self._uses:
            return True
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            self._report(("tags", name, "expression"), f"is computed of itself: {circle}")
            return False
        if not all(self._visit(used, [*above, name], order) for used in sorted(self._uses[name])):
            return False
        order.append(name)
        return True

    def _tag(self, name: str, compute: Compiled) -> DerivedTag:
        section = self._sections[name]
        pace = resolve_pace(name, section.type, section.publish, self._report)
        return DerivedTag(
            name=name, slot=self._slots[name], type=section.type, compute=compute,
            inputs=frozenset(self._slots[used] for used in self._uses[name]),
            sources=tuple(self._addressed[tag] for tag in sorted(self.sources(name)) if tag in self._addressed),
            unit=section.unit, publish=section.publish is not None and pace is None, pace=pace,
        )  # fmt: skip
