"""Which job order runs on an equipment, from when to when, and what belongs to it.

A run is an interval `[start, end)` of source time. What closes exactly at the end (the last count, the last pallet,
the completion itself) belongs to the run that is closing.
"""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import field

from gateway.domain.contract.events import OrderRef
from gateway.domain.values import Timestamp

KEPT_INTERVALS = 16
"""Closed intervals that are remembered, so that a late transition still finds its order."""

KEPT_PREPARED = 1_000
"""Orders in a machine's own list whose parameters are remembered; one that is cancelled there never comes to run."""

KEPT_NUMBERS = 1_000
"""Orders whose runs are counted, the last ones that ran: by run number an event of an order that runs again is told
from one of its first run, so they are not forgotten by age."""


class OrderSource(StrEnum):
    """Where an equipment learns which order it runs."""

    DOWNLOAD = "download"
    TAG = "tag"
    COMMAND = "command"
    UPSTREAM = "upstream"
    JOB_CONTROL = "job_control"


GIVEN: Final = frozenset({OrderSource.COMMAND, OrderSource.UPSTREAM})
"""Orders that the machine itself does not show."""


class OrderSpec(msgspec.Struct, frozen=True):
    """`tag`: the order is the text in `slot`, empty between orders. `download`: the first RUN after its parameters.

    `command`: the MES says so. `upstream`: what that unit ran `transit` milliseconds ago. `job_control`: what the list
    in `slot` shows as running, its orders named by `template`. `since` is the slot of a DateTime that says from when on
    the order of the tag is valid.
    """

    source: OrderSource
    slot: int | None = None
    trigger: str = "download"
    operation: str | None = None
    complete_at_quantity: bool = False
    since: int | None = None
    upstream: str | None = None
    transit: int = 0
    template: str = "{order}"


class KnownOrder(msgspec.Struct):
    """What a dispatch said of an order; `operations` by unit."""

    order: str
    planned: int | None = None
    lot: str | None = None
    material: str | None = None
    operations: dict[str, str] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    """Parameter set by unit, where the dispatch names one."""
    automatic: list[str] | None = None
    """States in which its sets are brought down without being asked; None if they are not."""
    dispatched: Timestamp = 0
    prio: int | None = None
    start: Timestamp | None = None
    """When it is planned to begin."""
    held: bool = False
    """True if the MES said that it shall not be loaded for now."""
    over: Timestamp | None = None
    """When it was first seen to have run on all its equipment and to run on none; see `forgetting`."""


class Run(msgspec.Struct):
    """One run of a job order on one equipment. Times are milliseconds per state."""

    order: OrderRef
    number: int
    start: Timestamp
    trigger: str
    planned: int | None = None
    parameters: dict[str, str] | None = None
    totals: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    energy: int = 0
    interrupted: bool = False
    end: Timestamp | None = None
    started: int = 1
    """How often its start was told; `revision` is how often its totals were."""
    revision: int = 0
    is_full: bool = False
    """True if it ended because its quantity was reached, and not because anybody said so."""

    @property
    def key(self) -> str:
        """Which run it is, among all runs of its equipment."""
        return f"{self.order.id}|{self.order.op or ''}|{self.number}"

    def add_time(self, state: str, milliseconds: int) -> None:
        """Time in a state, or less of it; a state without time is not named."""
        spent = self.times.get(state, 0) + milliseconds
        if spent:
            self.times[state] = spent
        else:
            self.times.pop(state, None)

    def overlaps(self, start: Timestamp, end: Timestamp) -> int:
        """Milliseconds of `[start, end)` that lie in this run."""
        last = end if self.end is None else min(end, self.end)
        return max(0, last - max(start, self.start))


class Interval(msgspec.Struct, frozen=True):
    """A run that is over."""

    order: OrderRef
    start: Timestamp
    end: Timestamp


class Armed(msgspec.Struct):
    """An order whose parameters are active and which starts at the next RUN."""

    order: str
    set: str
    rev: str


class OrderMemory(msgspec.Struct):
    """What survives a restart."""

    armed: Armed | None = None
    current: Run | None = None
    closing: list[Run] = field(default_factory=list)
    past: list[Interval] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, str] | None = None
    prepared: dict[str, dict[str, str]] = field(default_factory=dict)
    """Set and revision of the orders that wait in the machine's own list."""
    loaded: list[str] = field(default_factory=list)
    """Orders whose automatic download was tried: it is tried once."""
    planned: list[tuple[Timestamp, str]] = field(default_factory=list)
    """Changes of order that are still to come, "" for none."""

    def has_run(self, order: str) -> bool:
        """True if the order ever ran here."""
        return any(key.split("|", 1)[0] == order for key in self.numbers)


class OrderTracker:
    """Opens and closes runs and says which one owns a moment. All its memory is in `memory`."""

    def __init__(self, spec: OrderSpec, unit: str, memory: OrderMemory) -> None:
        self.spec = spec
        self.unit = unit
        self.memory = memory

    def arm(self, order: str, parameter_set: str, rev: str) -> None:
        """The order's parameters are active on the machine."""
        current = self.memory.current
        if self.spec.source is OrderSource.JOB_CONTROL and (current is None or current.order.id != order):
            self._prepare(order, {"set": parameter_set, "rev": rev})
            return
        self.memory.parameters = {"set": parameter_set, "rev": rev}
        if current is not None and current.order.id == order:
            current.parameters = self.memory.parameters
        elif self.spec.source is OrderSource.DOWNLOAD:
            self.memory.armed = Armed(order, parameter_set, rev)

    def _prepare(self, order: str, parameters: dict[str, str]) -> None:
        """The machine has the order in a list, with parameters of its own that hold once it runs."""
        prepared = self.memory.prepared
        prepared[order] = parameters
        for oldest in list(prepared)[:-KEPT_PREPARED]:
            del prepared[oldest]

    def start(self, order: str, known: KnownOrder | None, at: Timestamp, trigger: str) -> Run:
        """Open a run; the one before must be ended."""
        self.memory.armed = None
        self.memory.current = self.create(order, known, at, trigger)
        return self.memory.current

    def create(self, order: str, known: KnownOrder | None, at: Timestamp, trigger: str) -> Run:
        """A run with the next number of its order and operation."""
        operation = (known.operations.get(self.unit) if known else None) or self.spec.operation
        key = f"{order}|{operation or ''}"
        numbers = self.memory.numbers
        numbers[key] = number = numbers.pop(key, 0) + 1
        for oldest in list(numbers)[:-KEPT_NUMBERS]:
            del numbers[oldest]
        return Run(
            order=OrderRef(order, operation, known.lot if known else None),
            number=number,
            start=at,
            trigger=trigger,
            planned=known.planned if known else None,
            parameters=self.memory.prepared.pop(order, None) or self.memory.parameters,
        )

    def end(self, at: Timestamp) -> None:
        """Close the running order's interval; its totals follow when everything up to `at` is settled."""
        run = self.memory.current
        if run is not None:
            run.end = max(at, run.start)
            self.memory.current = None
            self.memory.closing.append(run)

    @property
    def changed(self) -> Timestamp:
        """When the order changed last."""
        memory = self.memory
        if memory.current is not None:
            return memory.current.start
        ends = [*(run.end or 0 for run in memory.closing), *(past.end for past in memory.past[-1:])]
        return max(ends, default=0)

    def owner(self, at: Timestamp) -> OrderRef | None:
        """The order that the moment `at` belongs to."""
        current = self.memory.current
        if current is not None and at >= current.start:
            return current.order
        for run in self.memory.closing:
            if run.start <= at < (run.end or at):
                return run.order
        return next((past.order for past in reversed(self.memory.past) if past.start <= at < past.end), None)

    def counted_at(self, at: Timestamp, begins: bool) -> Timestamp:
        """The moment at which the pieces of a scan count that was overtaken.

        It is just after `at` if the scan `begins` an order, or the machine showed one that began then, and none ends.
        """
        begins = begins or (self.spec.source not in GIVEN and self.owner(at) is not None)
        return at + 1 if begins and self.owner(at - 1) is None else at

    def run_at(self, at: Timestamp) -> Run | None:
        """The run, open or not yet settled, that the moment `at` belongs to."""
        runs = [*self.memory.closing, *([self.memory.current] if self.memory.current else [])]
        return next((run for run in runs if run.start <= at and (run.end is None or at < run.end)), None)

    def add_state_time(self, state: str, start: Timestamp, end: Timestamp) -> None:
        """An interval of a state is final: give each run its share."""
        for run in [*self.memory.closing, *([self.memory.current] if self.memory.current else [])]:
            run.add_time(state, run.overlaps(start, end))

    def finish(self, settled_until: Timestamp | None, state: str | None, since: Timestamp) -> list[Run]:
        """The closing runs whose end is settled, with the share of the state that still lasts."""
        done = [run for run in self.memory.closing if settled_until is None or (run.end or 0) <= settled_until]
        for run in done:
            end = run.end or run.start
            if state is not None:
                run.add_time(state, run.overlaps(since, end))
            run.revision += 1
            self.memory.closing.remove(run)
            self.memory.past.append(Interval(run.order, run.start, end))
        del self.memory.past[:-KEPT_INTERVALS]
        return done

    def remember(self, runs: list[Run]) -> None:
        """The runs that are over are now these."""
        over = sorted((Interval(run.order, run.start, run.end) for run in runs if run.end is not None), key=_start)
        self.memory.past[:] = over[-KEPT_INTERVALS:]


def _start(interval: Interval) -> Timestamp:
    return interval.start
