"""ISO 22400-2 in seconds and pieces: availability, effectiveness, quality ratio, OEE.

The formulas are those of the open ontology of the standard (hsu-aut, IndustrialStandard-ODP-ISO22400-2):
availability = APT / PBT, effectiveness = PRI * PQ / APT, quality = GQ / PQ, OEE = PRI * GQ / PBT. PRI, the planned
runtime per item, comes from the plan and not from the machine (OPC 40501-1, C.2.4).

Which time a state counts as is configuration, for even the companion specifications disagree (OPC 40001-1 annex C,
OPC 40501-1 annex C). The default follows OPC 40001-1 C.2: a machine that could work and does not is delayed (ADET)
while it has an order, and down (ADOT) while it has none. UNKNOWN is left out of every time and reported by itself.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import field

from gateway.domain.contract.kpi_events import OrderKpi, ShiftKpi
from gateway.domain.production.orders import Run
from gateway.domain.state.shifts import ShiftRecord
from gateway.domain.state.states import State
from gateway.domain.times import format_timestamp, whole_seconds
from gateway.domain.values import PlainValue


class IsoTime(StrEnum):
    """The times of ISO 22400-2 that a state can count as."""

    APT = "APT"
    AUST = "AUST"
    ADET = "ADET"
    ADOT = "ADOT"
    NOT_PLANNED = "NOT_PLANNED"


IN_AN_ORDER: Final[Mapping[State, IsoTime]] = {
    State.RUN: IsoTime.APT,
    State.SETUP: IsoTime.AUST,
    State.STARVED: IsoTime.ADET,
    State.BLOCKED: IsoTime.ADET,
    State.HELD: IsoTime.ADET,
    State.IDLE: IsoTime.ADET,
    State.DOWN: IsoTime.ADOT,
    State.MAINT: IsoTime.NOT_PLANNED,
    State.OFF: IsoTime.NOT_PLANNED,
}
IN_A_SHIFT: Final[Mapping[State, IsoTime]] = {**IN_AN_ORDER, State.IDLE: IsoTime.ADOT}

KEPT_SETS: Final = 32
"""Parameter sets whose planned cycle is remembered: those of the orders that may still be told anew."""

ROUNDING: Final = 6
"""Digits of a ratio."""


class KpiSpec(msgspec.Struct, frozen=True):
    """What is planned. `cycle` is PRI in milliseconds, unless a parameter of the active set gives it.

    The parameter is either the time per piece or, with `is_rate`, pieces per time; `per` is its unit in milliseconds.
    """

    cycle: float | None = None
    parameter: str | None = None
    per: float = 1000.0
    is_rate: bool = False
    times: Mapping[State, IsoTime] = field(default_factory=dict)


class KpiMemory(msgspec.Struct):
    """What survives a restart: PRI in milliseconds by parameter set and revision."""

    cycles: dict[str, float] = field(default_factory=dict)


class Kpi:
    """The indicators of one equipment, which counts these counters."""

    def __init__(self, spec: KpiSpec, memory: KpiMemory, counters: Iterable[str]) -> None:
        self.spec = spec
        self.memory = memory
        self._nothing = dict.fromkeys(counters, 0)

    def learn(self, name: str, rev: str, active: Mapping[str, PlainValue]) -> None:
        """A parameter set is active: perhaps it says what is planned."""
        value = active.get(self.spec.parameter or "")
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            return
        cycles = self.memory.cycles
        cycles.pop(f"{name}|{rev}", None)
        cycles[f"{name}|{rev}"] = self.spec.per / value if self.spec.is_rate else self.spec.per * value
        for oldest in list(cycles)[:-KEPT_SETS]:
            del cycles[oldest]

    def cycle(self, run: Run | None) -> float | None:
        """PRI in milliseconds for the pieces of a run, None where nothing is planned."""
        parameters = run.parameters if run else None
        if parameters is None:
            return self.spec.cycle
        return self.memory.cycles.get(f"{parameters['set']}|{parameters['rev']}", self.spec.cycle)

    def of_order(self, run: Run) -> OrderKpi:
        """The indicators of a run that is over."""
        plan = [(self.cycle(run), run.totals)]
        return OrderKpi(run=run.number, **self._figures(IN_AN_ORDER, run.times, run.totals, plan))

    def of_shift(self, record: ShiftRecord) -> ShiftKpi:
        """The indicators of a shift that is over."""
        shift = record.shift
        plans = [(float(cycle) if cycle else None, counts) for cycle, counts in record.plans.items()]
        return ShiftKpi(
            shift=shift.name, start=format_timestamp(shift.start), end=format_timestamp(shift.end),
            **self._figures(IN_A_SHIFT, record.times, record.counts, plans),
        )  # fmt: skip

    def _figures(
        self,
        table: Mapping[State, IsoTime],
        times: Mapping[str, int],
        counts: Mapping[str, int],
        plans: Iterable[tuple[float | None, Mapping[str, int]]],
    ) -> dict[str, Any]:
        spent = dict.fromkeys(IsoTime, 0)
        for state, duration in times.items():
            if state != State.UNKNOWN:
                spent[{**table, **self.spec.times}[State(state)]] += duration
        apt, busy = spent[IsoTime.APT], sum(spent.values()) - spent[IsoTime.NOT_PLANNED]
        pieces = Pieces.of({**self._nothing, **counts})
        plan = Plan.of((cycle, {**self._nothing, **made}) for cycle, made in plans)
        ratios, why_null = _ratios(apt, busy, pieces, plan)
        return {
            "apt_s": whole_seconds(apt), "aust_s": whole_seconds(spent[IsoTime.AUST]),
            "adet_s": whole_seconds(spent[IsoTime.ADET]), "adot_s": whole_seconds(spent[IsoTime.ADOT]),
            "pbt_s": whole_seconds(busy), "not_planned_s": whole_seconds(spent[IsoTime.NOT_PLANNED]),
            "unknown_s": whole_seconds(times.get(State.UNKNOWN, 0)),
            "planned_s": None if plan.produced is None else round(plan.produced / 1000, ROUNDING),
            "produced": pieces.produced, "good": pieces.good, "scrap": pieces.scrap, "rework": pieces.rework,
            **ratios, "why_null": why_null,
        }  # fmt: skip


class Pieces(msgspec.Struct, frozen=True):
    """Quantities; None where nothing counts them, nor two others that they follow from."""

    produced: int | None
    good: int | None
    scrap: int | None
    rework: int | None

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> "Pieces":
        """From the counters `produced`, `good`, `scrap` and `rework`, as far as there are such.

        The produced quantity holds good, scrap and rework (OPC 40001-3), so it can be summed where it is not counted.
        """
        produced, good, scrap, rework = (counts.get(name) for name in ("produced", "good", "scrap", "rework"))
        if produced is None and good is not None and scrap is not None:
            produced = good + scrap + (rework or 0)
        if good is None and produced is not None and scrap is not None:
            good = produced - scrap - (rework or 0)
        return cls(produced, good, scrap, rework)


class Plan(msgspec.Struct, frozen=True):
    """Milliseconds that the pieces should have taken; None where some were made without a plan."""

    produced: float | None
    good: float | None

    @classmethod
    def of(cls, plans: Iterable[tuple[float | None, Mapping[str, int]]]) -> "Plan":
        """From the pieces by what was planned for one."""
        produced: float | None = 0.0
        good: float | None = 0.0
        for cycle, counts in plans:
            pieces = Pieces.of(counts)
            produced = _sum(produced, cycle, pieces.produced)
            good = _sum(good, cycle, pieces.good)
        return cls(produced, good)


def _sum(total: float | None, cycle: float | None, pieces: int | None) -> float | None:
    if pieces == 0:
        return total
    return None if total is None or cycle is None or pieces is None else total + cycle * pieces


def _ratios(apt: int, busy: int, pieces: Pieces, plan: Plan) -> tuple[dict[str, float | None], dict[str, str]]:
    """The four ratios, and for each that is null the reason."""
    no_time, no_plan = "the planned busy time is 0", "pieces were made without a planned cycle time"
    uncounted = "the produced or the good quantity is not counted"
    why = {
        "availability": [(busy == 0, no_time)],
        "effectiveness": [
            (apt == 0, "the production time is 0"), (pieces.produced is None, uncounted),
            (plan.produced is None, no_plan),
        ],
        "quality": [
            (pieces.produced is None or pieces.good is None, uncounted), (pieces.produced == 0, "nothing was produced"),
        ],
        "oee": [(busy == 0, no_time), (pieces.good is None, uncounted), (plan.good is None, no_plan)],
    }  # fmt: skip
    why_null = {
        name: reason
        for name, reasons in why.items()
        if (reason := next((text for holds, text in reasons if holds), None)) is not None
    }
    fractions = {
        "availability": (apt, busy),
        "effectiveness": (plan.produced, apt),
        "quality": (pieces.good, pieces.produced),
        "oee": (plan.good, busy),
    }
    ratios = {
        name: None if name in why_null or above is None or not below else round(above / below, ROUNDING)
        for name, (above, below) in fractions.items()
    }
    return ratios, why_null
