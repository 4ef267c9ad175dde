"""The section `kpi` of an equipment: what is planned, and which time of ISO 22400 a state counts as."""

from collections.abc import Mapping
from typing import Final

from gateway.config.models import EquipmentSection, TagSection
from gateway.config.resolve_usage import Report
from gateway.domain.production.kpi import KpiSpec

TIMES: Final = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}
"""Milliseconds of the units (UCUM) that a planned cycle can be given in; a rate is `/` and one of them."""


def resolve_kpi(
    section: EquipmentSection, tags: Mapping[str, tuple[TagSection, str] | None], report: Report
) -> KpiSpec | None:
    """What the domain takes, after reporting what does not go together; None without the section."""
    kpi = section.kpi
    if kpi is None:
        return None
    if section.state is None:
        report(("kpi",), "needs the section state: the indicators are shares of the time spent in the states")
    cycle = kpi.cycle_time * 1000 if kpi.cycle_time is not None else None
    unit = _unit_of_parameter(section, tags, report) if kpi.cycle_parameter is not None else "s"
    per = TIMES.get(unit.removeprefix("/"), 0)
    if per == 0:
        known = ", ".join([*TIMES, *(f"/{name}" for name in TIMES)])
        report(("kpi", "cycle_parameter"), f"{kpi.cycle_parameter} is in {unit or 'no unit'}; it must be in {known}")
    return KpiSpec(cycle, kpi.cycle_parameter, per, is_rate=unit.startswith("/"), times=kpi.times)


def _unit_of_parameter(
    section: EquipmentSection, tags: Mapping[str, tuple[TagSection, str] | None], report: Report
) -> str:
    """The unit of the tag that the parameter is written to; one that is fine where the parameter was reported."""
    parameters = section.download.parameters if section.download else {}
    name = section.kpi.cycle_parameter if section.kpi else None
    if name not in parameters:
        known = ", ".join(parameters) or "none"
        report(("kpi", "cycle_parameter"), f"no such parameter: {name}; those of download are: {known}")
        return "s"
    resolved = tags.get(parameters[name].tag)
    return "s" if resolved is None else resolved[0].unit or ""
