"""The `counters`, `order`, `container` and usage of an equipment or of one of its lanes, as the domain takes them."""

import re
from collections.abc import Callable

from gateway.config.models import CounterSection, DerivedTagSection, ProductionSection, TagSection
from gateway.config.resolve_jobs import LIST_TAG
from gateway.config.resolve_usage import FindSlot, Report, UsageResolver
from gateway.domain.production.containers import ContainerSpec
from gateway.domain.production.counters import CounterSpec
from gateway.domain.production.orders import OrderSource, OrderSpec
from gateway.domain.production.production_spec import ProductionSpec
from gateway.domain.production.windows import Derived
from gateway.domain.values import INTEGER_RANGES, DataType

FindTag = Callable[[str], TagSection | DerivedTagSection | None]
"""Gives the section of a tag by name, None if there is none or it is wrong."""


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class ProductionResolver:
    """What is counted, and for whom."""

    def __init__(self, section: ProductionSection, slot: FindSlot, tag_section: FindTag, report: Report) -> None:
        self._section = section
        self._slot = slot
        self._tag_section = tag_section
        self._report = report

    def resolve(self) -> ProductionSpec:
        """The sections together; what is wrong was reported."""
        return ProductionSpec(
            counters=self._counters(), derived=self._derived(), unit=self._section.count_unit,
            window=_milliseconds(self._section.count_window), order=self._order(), container=self._container(),
            usage=UsageResolver(self._section, self._slot, self._report).resolve(),
        )  # fmt: skip

    def _counters(self) -> tuple[CounterSpec, ...]:
        specs = []
        for name, section in self._section.counters.items():
            if section.derive is None and self._counter_is_complete(name, section):
                assert section.tag is not None
                assert section.max is not None
                assert section.max_rate is not None
                slot = self._slot(section.tag, "counters", name, "tag")
                specs.append(CounterSpec(name, slot, section.max, section.max_rate, section.policy, section.tolerance))
        return tuple(specs)

    def _counter_is_complete(self, name: str, section: CounterSection) -> bool:
        missing = [key for key in ("tag", "max", "max_rate") if getattr(section, key) is None]
        if missing:
            text = (
                "a counter needs the tag, the highest value before it wraps (max) and the fastest it can go (max_rate)"
            )
            self._report(("counters", name), f"{', '.join(missing)} missing: {text}; or derive it from others")
        elif section.tag is not None:
            tag = self._tag_section(section.tag)
            if tag is not None and tag.type not in INTEGER_RANGES:
                self._report(("counters", name, "tag"), f"{section.tag} is a {tag.type}; counters are integers")
        return not missing

    def _derived(self) -> tuple[Derived, ...]:
        specs = []
        own = [name for name, section in self._section.counters.items() if section.derive is None]
        for name, section in self._section.counters.items():
            if section.derive is None:
                continue
            if not re.fullmatch(r"\s*-?\s*[\w.]+(\s*[-+]\s*[\w.]+)*\s*", section.derive):
                self._report(("counters", name, "derive"), f"{section.derive!r} is not a sum such as: produced - scrap")
                continue
            terms = re.findall(r"([-+]?)\s*([\w.]+)", section.derive)
            unknown = [term for _, term in terms if term not in own]
            if unknown:
                text = f"{', '.join(unknown)}: no such counter; the counters are: {', '.join(own) or 'none'}"
                self._report(("counters", name, "derive"), text)
            plus = tuple(term for sign, term in terms if sign != "-")
            specs.append(Derived(name, plus, tuple(term for sign, term in terms if sign == "-")))
        return tuple(specs)

    def _order(self) -> OrderSpec | None:
        section = self._section.order
        if section is None:
            return None
        source = section.source if isinstance(section.source, OrderSource) else OrderSource.UPSTREAM
        slot = since = None
        if source is OrderSource.TAG:
            if section.tag is None:
                self._report(("order",), "from: tag needs the key 'tag', the tag that carries the order's number")
            else:
                slot = self._slot(section.tag, "order", "tag")
            since = self._since(section.since) if section.since is not None else None
        template, jobs = "{order}", getattr(self._section, "job_control", None)
        if source is OrderSource.JOB_CONTROL and jobs is None:
            self._report(("order", "from"), "from: job_control needs the section job_control beside it")
        elif source is OrderSource.JOB_CONTROL and jobs is not None:
            slot, template = self._slot(LIST_TAG, "order", "from"), jobs.job_order.id
        for key in ("tag", "since") if source is not OrderSource.TAG else ():
            if getattr(section, key) is not None:
                self._report(
                    ("order", key), f"has no meaning with from: {section.source}; take it out or write from: tag"
                )
        if section.transit is not None and source is not OrderSource.UPSTREAM:
            text = f"has no meaning with from: {section.source}; it goes with the name of a unit upstream"
            self._report(("order", "transit"), text)
        return OrderSpec(
            source, slot, section.trigger or source, section.operation, section.complete == "at_quantity", since,
            None if isinstance(section.source, OrderSource) else section.source, _milliseconds(section.transit or 0),
            template,
        )  # fmt: skip

    def _since(self, name: str) -> int:
        tag = self._tag_section(name)
        if tag is not None and tag.type is not DataType.DATETIME:
            self._report(("order", "since"), f"{name} is a {tag.type}; a moment is a datetime")
        return self._slot(name, "order", "since")

    def _container(self) -> ContainerSpec | None:
        section = self._section.container
        if section is None:
            return None
        if (section.sscc is None) == (section.sscc_prefix is None):
            text = "give either sscc, the tag with the code, or sscc_prefix, extension digit and company prefix"
            self._report(("container",), text)
        return ContainerSpec(
            sequence=self._slot(section.sequence, "container", "sequence"),
            sscc=self._slot(section.sscc, "container", "sscc") if section.sscc is not None else None,
            prefix=section.sscc_prefix or "",
            quantity=self._slot(section.quantity, "container", "quantity"),
            cases=self._slot(section.cases, "container", "cases") if section.cases is not None else None,
            full=section.full,
            unit=self._section.count_unit,
        )
