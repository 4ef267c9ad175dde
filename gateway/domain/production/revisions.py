"""A change of what was already told: a back-dated change of order, or pieces that belong to a minute that is over.

A revision gathers the closed windows and intervals that it touches, moves what was made from one run to another, and
tells what became different: under the ids that it had before, with a higher revision. Whoever keeps the highest
revision of every id has the right sums. What is new in the past is told as revision 2 from the start, since only
revisions may go back in time.
"""

from typing import Final

import msgspec
from msgspec import UnsetType

from gateway.domain.consumption.energy import EnergySpec
from gateway.domain.consumption.materials import MaterialSpec
from gateway.domain.contract.events import EnergyInterval, MaterialConsumed, OrderRef, OrderStarted, ProductionCount
from gateway.domain.effects import Recorder
from gateway.domain.production.history import Consumed, History, PastEnergy, PastWindow, Told, row_pairs
from gateway.domain.production.kpi import Kpi
from gateway.domain.production.order_events import completed
from gateway.domain.production.orders import KnownOrder, OrderTracker, Run
from gateway.domain.production.windows import Tally, WindowMemory
from gateway.domain.state.shifts import ShiftTracker
from gateway.domain.state.states import Observation
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp

LATE: Final = "late"
"""Flag of a count that changed because of data that came after its window was told."""

FOR_EVER: Final = 1 << 62


class Scope(msgspec.Struct, frozen=True):
    """What a revision works on: the past of one equipment or lane, and how it is told."""

    history: History
    orders: OrderTracker
    open_window: WindowMemory
    recorder: Recorder
    unit: str
    length: int
    counters: tuple[str, ...]
    materials: tuple[MaterialSpec, ...] = ()
    energy: EnergySpec | None = None
    shifts: ShiftTracker | None = None
    kpi: Kpi | None = None


class Revision:
    """One change, or several that came together. `tell` ends it."""

    def __init__(self, scope: Scope, lasting: Observation | None) -> None:
        self._scope = scope
        self._memory = scope.orders.memory
        self._lasting = lasting
        self._since: Timestamp = FOR_EVER
        self._windows: list[PastWindow] = []
        self._energy: list[PastEnergy] = []
        self._touched_energy: list[PastEnergy] = []
        settled = list(scope.history.runs.after(0))
        self._settled = {run.key: run.end or 0 for run in settled}
        open_runs = [*self._memory.closing, *([self._memory.current] if self._memory.current else [])]
        self._runs = {run.key: run for run in (*settled, *open_runs)}
        self._touched_runs: set[str] = set()

    # --- a change of order --------------------------------------------------------------------------------------

    def change_order(self, wanted: str, since: Timestamp, known: KnownOrder | None, now: Timestamp) -> None:
        """The order was `wanted` ("" for none) from `since` on, up to the next change that is known."""
        before = self._run_over(since)
        if (before.order.id if before else "") == wanted:
            return
        ends = [before.end] if before and before.end is not None and not before.is_full else []
        until = min((*ends, *(run.start for run in self._runs.values() if run.start > since)), default=None)
        self._reach(since)
        self._cut(since)
        ended = before.end if before else None
        if before is not None:
            self._end(before, since)
        target = self._begin(wanted, since, until, known, now) if wanted else None
        end = FOR_EVER if until is None else until
        self._move(since, end, target)
        self._move_time(since, end if ended is None else min(end, ended), before, -1)
        self._move_time(since, end, target, 1)
        self._tell_facts(since, end, target.order if target else None, now)

    def _run_over(self, moment: Timestamp) -> Run | None:
        over = (run for run in self._runs.values() if run.start <= moment and (run.end is None or moment < run.end))
        return next(over, None)

    def _end(self, run: Run, at: Timestamp) -> None:
        self._touched_runs.add(run.key)
        run.end = at
        if run is self._memory.current:
            self._memory.current = None
            self._memory.closing.append(run)

    def _begin(
        self, order: str, since: Timestamp, until: Timestamp | None, known: KnownOrder | None, now: Timestamp
    ) -> Run:
        """The run that the time belongs to: the next one, if it is of the same order, else a run of its own."""
        later = (run for run in self._runs.values() if run.start == until and run.order.id == order)
        run = next(later, None)
        if run is None:
            run = self._scope.orders.create(order, known, since, self._scope.orders.spec.trigger)
            run.totals = dict.fromkeys(self._scope.counters, 0)
            self._runs[run.key] = run
            if until is None:
                self._memory.current, run.started = run, 0
            else:
                run.end, run.revision = until, 1
                self._memory.closing.append(run)
        run.start, run.started = since, run.started + 1
        self._touched_runs.add(run.key)
        started = OrderStarted(run=run.number, trigger=run.trigger, params=run.parameters)
        self._scope.recorder.event(started, since, now, order=run.order, revision=run.started)
        return run

    def _move(self, since: Timestamp, end: Timestamp, target: Run | None) -> None:
        """Pieces and energy of `(since, end]` go to that run."""
        key, order = (target.key, target.order) if target else (None, None)
        for window in self._windows:
            if since < window.end <= end:
                for name, tally in window.tallies.items():
                    self._count(window.run, name, -tally.delta)
                    self._count(key, name, tally.delta)
                window.run, window.order = key, order
        for interval in self._energy:
            if since < interval.end <= end:
                for whose, counts in ((interval.run, -interval.counts), (key, interval.counts)):
                    if whose is not None:
                        self._runs[whose].energy += counts
                interval.run, interval.order = key, order
                self._touched_energy.append(interval)

    def _move_time(self, since: Timestamp, end: Timestamp, run: Run | None, sign: int) -> None:
        """The time in each state between two moments is added to a run, or taken from it."""
        if run is None:
            return
        for past in self._scope.history.states.after(since):
            run.add_time(past.state, sign * max(0, min(past.end, end) - max(past.start, since)))
        # The state that still lasts is added when it ends, except to the runs that are told already.
        if self._lasting is not None and run.key in self._settled:
            share = min(self._settled[run.key], end) - max(self._lasting.since, since)
            run.add_time(self._lasting.state, sign * max(0, share))

    def _tell_facts(self, since: Timestamp, end: Timestamp, order: OrderRef | None, now: Timestamp) -> None:
        """Containers and samples of `(since, end]` belong to another order."""
        containers, samples = self._scope.history.containers, self._scope.history.samples
        for container in [item for item in containers.after(since) if item.at <= end]:
            container.data, container.revision = container.of(order), container.revision + 1
            containers.put(container.at, container, container.name)
            self._scope.recorder.event(container.data, container.at, now, order=order, revision=container.revision)
        for sample in [item for item in samples.after(since) if item.at <= end]:
            sample.revision += 1
            samples.put(sample.at, sample, sample.name)
            self._scope.recorder.event(sample.data, sample.at, now, order=order, revision=sample.revision)

    # --- late pieces --------------------------------------------------------------------------------------------

    def place(self, counter: str, delta: int, flags: tuple[str, ...], at: Timestamp) -> None:
        """Pieces that showed at `at`, in a time that is over: they belong to the window and the run of that time."""
        self._reach(at - 1)
        window = next((w for w in self._windows if w.start < at <= w.end), None) or self._new_window(at)
        _book(window, counter, delta, (*flags, LATE), at)
        self._count(window.run, counter, delta)

    def take_back(self, counter: str, delta: int, at: Timestamp) -> None:
        """Pieces that were counted at `at` were made before."""
        open_window = self._scope.open_window
        if open_window.end is not None and at > open_window.start:
            _book(open_window, counter, -delta, (LATE,), at)
            current = self._memory.current
            self._count(current.key if current and current.order == open_window.order else None, counter, -delta)
            return
        self._reach(at - 1)
        window = next(w for w in self._windows if w.start < at <= w.end)
        _book(window, counter, -delta, (LATE,), at)
        self._count(window.run, counter, -delta)

    def parts(self, at: Timestamp, later: Timestamp) -> bool:
        """True if the two moments do not lie in the same window."""
        open_window = self._scope.open_window
        if open_window.end is not None and min(at, later) > open_window.start:
            return False
        self._reach(min(at, later) - 1)
        return not any(w.start < at <= w.end and w.start < later <= w.end for w in self._windows)

    def steps_after(self, counter: str, moment: Timestamp) -> list[tuple[Timestamp, int]]:
        """The steps of a counter that showed after a moment, in order of time."""
        self._reach(moment)
        rows = [row for window in self._windows for row in row_pairs(window.rows.get(counter, []))]
        rows += row_pairs(self._scope.open_window.rows.get(counter, []))
        return sorted(row for row in rows if row[0] > moment)

    def _count(self, key: str | None, counter: str, delta: int) -> None:
        if key is not None:
            run = self._runs[key]
            run.totals[counter] = run.totals.get(counter, 0) + delta
            self._touched_runs.add(key)

    def _new_window(self, at: Timestamp) -> PastWindow:
        """Nothing was counted there until now: a window between its neighbours, the minute and the change of order."""
        ended = (run for run in self._runs.values() if run.start < at and (run.end is None or at <= run.end))
        began = (run for run in self._runs.values() if run.start == at)
        run = next(ended, None) or next(began, None)
        edges = [edge for run in self._runs.values() for edge in (run.start, run.end) if edge is not None]
        edges += [self._scope.open_window.start, *(e for window in self._windows for e in (window.start, window.end))]
        minute = -(-at // self._scope.length) * self._scope.length
        end = min((edge for edge in (*edges, minute) if edge >= at), default=minute)
        start = max((edge for edge in (*edges, end - self._scope.length) if edge < at), default=at - 1)
        window = PastWindow(start, end, run.key if run else None, run.order if run else None)
        self._windows.append(window)
        self._windows.sort(key=_end)
        return window

    # --- what it touches ----------------------------------------------------------------------------------------

    def _reach(self, since: Timestamp) -> None:
        """Load what ends after `since`, if it is not loaded yet."""
        if since >= self._since:
            return
        history = self._scope.history
        self._windows = [*(w for w in history.windows.after(since) if w.end <= self._since), *self._windows]
        self._energy = [*(e for e in history.energy.after(since) if e.end <= self._since), *self._energy]
        self._since = since

    def _cut(self, at: Timestamp) -> None:
        """No window or interval may hold time before and after `at`."""
        for window in [w for w in self._windows if w.start < at < w.end]:
            self._windows.insert(self._windows.index(window), window.split(at))
        for interval in [e for e in self._energy if e.start < at < e.end]:
            counts = sum(counts for moment, counts in row_pairs(interval.rows) if moment <= at)
            rows = [number for row in row_pairs(interval.rows) if row[0] <= at for number in row]
            first = PastEnergy(interval.start, at, interval.run, interval.order, counts, rows, revision=1)
            self._energy.insert(self._energy.index(interval), first)
            interval.start, interval.counts, interval.rows = at, interval.counts - counts, interval.rows[len(rows) :]
            self._touched_energy += [first]

    # --- telling ------------------------------------------------------------------------------------------------

    def tell(self, now: Timestamp) -> None:
        """Publish what became different, and keep it."""
        totals = self._totals()
        for window in self._windows:
            self._tell_window(window, totals[window.end], now)
            self._scope.history.windows.put(window.end, window)
        for interval in {id(e): e for e in self._touched_energy}.values():
            self._tell_energy(interval, now)
            self._scope.history.energy.put(interval.end, interval)
        for key in sorted(self._touched_runs & self._settled.keys()):
            self._tell_run(self._runs[key], now)
        self._scope.orders.remember([run for run in self._runs.values() if run.key in self._settled])

    def _totals(self) -> dict[Timestamp, dict[str, int]]:
        """The order's totals at the end of each window: what it has now, less what came later."""
        left = {key: dict(run.totals) for key, run in self._runs.items()}
        current, open_window = self._memory.current, self._scope.open_window
        if current is not None and open_window.order == current.order:
            _subtract(left[current.key], open_window.tallies)
        totals: dict[Timestamp, dict[str, int]] = {}
        for window in reversed(self._windows):
            mine = left.get(window.run or "", {})
            totals[window.end] = dict(mine)
            _subtract(mine, window.tallies)
        return totals

    def _tell_window(self, window: PastWindow, totals: dict[str, int], now: Timestamp) -> None:
        end = format_timestamp(window.end)
        for name, tally in window.tallies.items():
            told, total = window.told.get(name), totals.get(name)
            if told is None and tally.delta == 0:
                continue
            if told is not None and (told.delta, told.total, told.order) == (tally.delta, total, window.order):
                continue
            revision = told.revision + 1 if told else 2
            shift_total = told.shift_total if told is not None and told.delta == tally.delta else None
            count = ProductionCount(
                counter=name, delta=tally.delta, order_total=total, window_end=end, unit=self._scope.unit,
                shift_total=shift_total, flags=tuple(tally.flags),
            )  # fmt: skip
            cycle = self._cycle(window, told)
            window.told[name] = Told(tally.delta, total, window.order, revision, shift_total, cycle)
            self._revise_shift(name, tally.delta, cycle, told, window.end)
            self._scope.recorder.event(count, window.end, now, order=window.order, revision=revision)
        for material in self._scope.materials:
            self._tell_material(material, window, now)

    def _cycle(self, window: PastWindow, told: Told | None) -> float | None:
        """What was planned for a piece of the window: as it was told, unless the pieces went to another order."""
        if told is not None and told.order == window.order and not isinstance(told.cycle, UnsetType):
            return told.cycle
        return self._scope.kpi.cycle(self._runs.get(window.run or "")) if self._scope.kpi else None

    def _revise_shift(
        self, counter: str, delta: int, cycle: float | None, told: Told | None, window_end: Timestamp
    ) -> None:
        """The shift has the pieces anew, by what is planned for one where they belong now."""
        shifts = self._scope.shifts
        if shifts is None:
            return
        before, planned = (told.delta, told.cycle) if told is not None else (0, cycle)
        if isinstance(planned, UnsetType) or planned == cycle:
            changes = [(delta - before, cycle)]
        else:
            changes = [(-before, planned), (delta, cycle)]
        for pieces, by in changes:
            if pieces:
                shifts.count(counter, pieces, window_end, by)

    def _tell_material(self, material: MaterialSpec, window: PastWindow, now: Timestamp) -> None:
        """What was used follows its pieces; an order that did not use it after all is told so, with 0."""
        tally = window.tallies.get(material.counter)
        mine = _consumption_key(material.material, window.order)
        others = [known for name, known in window.consumed.items() if name.startswith(f"{material.material}|")]
        lot = next((known.lot for known in others), None)
        if tally is not None and tally.delta > 0:
            window.consumed.setdefault(mine, Consumed(0, lot, window.order))
        for name, known in window.consumed.items():
            if not name.startswith(f"{material.material}|"):
                continue
            qty = max(0, tally.delta) if tally is not None and name == mine else 0
            if qty == known.qty:
                continue
            known.qty, known.revision = qty, known.revision + 1
            consumed = MaterialConsumed(
                material=material.material, lot=known.lot, qty=qty, unit=self._scope.unit, method="counter",
                window_end=format_timestamp(window.end),
            )  # fmt: skip
            self._scope.recorder.event(consumed, window.end, now, order=known.order, revision=known.revision)

    def _tell_energy(self, interval: PastEnergy, now: Timestamp) -> None:
        spec = self._scope.energy
        assert spec is not None
        interval.revision += 1
        told = EnergyInterval(
            kwh=spec.kwh(interval.counts), start=format_timestamp(interval.start), end=format_timestamp(interval.end),
            medium=spec.medium, meter=spec.medium,
        )  # fmt: skip
        self._scope.recorder.event(told, interval.end, now, order=interval.order, revision=interval.revision)

    def _tell_run(self, run: Run, now: Timestamp) -> None:
        assert run.end is not None
        spec, runs = self._scope.energy, self._scope.history.runs
        run.revision += 1
        runs.drop(self._settled[run.key], run.key)
        runs.put(run.end, run, run.key)
        done = completed(run, spec.kwh(run.energy) if spec else None)
        self._scope.recorder.event(done, run.end, now, order=run.order, revision=run.revision)
        if self._scope.kpi is not None:
            indicators = self._scope.kpi.of_order(run)
            self._scope.recorder.event(indicators, run.end, now, order=run.order, revision=run.revision)


def consumptions(
    materials: tuple[MaterialSpec, ...],
    tallies: dict[str, Tally],
    order: OrderRef | None,
    lots: dict[str, str | None],
) -> dict[str, Consumed]:
    """What was told of the materials of a window that has just been closed."""
    return {
        _consumption_key(m.material, order): Consumed(tallies[m.counter].delta, lots.get(m.material), order)
        for m in materials
        if m.counter in tallies and tallies[m.counter].delta > 0
    }


def _consumption_key(material: str, order: OrderRef | None) -> str:
    return f"{material}|{order.id if order else ''}"


def _subtract(totals: dict[str, int], tallies: dict[str, Tally]) -> None:
    for name, tally in tallies.items():
        totals[name] = totals.get(name, 0) - tally.delta


def _book(window: PastWindow | WindowMemory, counter: str, delta: int, flags: tuple[str, ...], at: Timestamp) -> None:
    """Pieces of a counter, at their place among the rows of a window."""
    window.tallies.setdefault(counter, Tally()).add(delta, flags)
    rows = window.rows.setdefault(counter, [])
    place = next((index for index, (moment, _) in enumerate(row_pairs(rows)) if moment > at), len(rows) // 2)
    rows[2 * place : 2 * place] = [at, delta]


def _end(window: PastWindow) -> Timestamp:
    return window.end
