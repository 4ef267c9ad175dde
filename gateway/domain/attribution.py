"""Pieces to orders: what one scan of an equipment made, and which job order it belongs to."""

from collections.abc import Mapping
from itertools import chain

import msgspec
from msgspec import field

from gateway.domain.containers import ContainerMemory, ContainerSpec, newest_container
from gateway.domain.counters import CounterMemory, CounterSpec, Step, advance
from gateway.domain.effects import Recorder
from gateway.domain.events import CounterSuspect, OrderCompleted, OrderProgress, OrderRef, OrderStarted, ProductionCount
from gateway.domain.expressions import Inputs
from gateway.domain.orders import OrderMemory, OrderSource, OrderSpec, OrderTracker, Run
from gateway.domain.production import ClosedWindow, Derived, WindowMemory, Windows
from gateway.domain.shared import SharedRecord
from gateway.domain.shifts import ShiftTracker
from gateway.domain.states import Observation, State, StateTracker
from gateway.domain.times import format_timestamp, whole_seconds
from gateway.domain.usage import Usage, UsageMemory, UsageSpec
from gateway.domain.values import Timestamp


class ProductionSpec(msgspec.Struct, frozen=True):
    """What an equipment counts, in which windows (milliseconds), and where its order context comes from."""

    counters: tuple[CounterSpec, ...] = ()
    derived: tuple[Derived, ...] = ()
    unit: str = "pcs"
    window: int = 60_000
    order: OrderSpec | None = None
    container: ContainerSpec | None = None
    usage: UsageSpec = UsageSpec()


class ProductionMemory(msgspec.Struct):
    """What survives a restart."""

    counters: dict[str, CounterMemory] = field(default_factory=dict)
    windows: WindowMemory = field(default_factory=WindowMemory)
    order: OrderMemory = field(default_factory=OrderMemory)
    container: ContainerMemory = field(default_factory=ContainerMemory)
    usage: UsageMemory = field(default_factory=UsageMemory)


class Attribution:
    """Counts, and gives every piece, container and moment its order."""

    def __init__(
        self,
        spec: ProductionSpec,
        unit: str,
        memory: ProductionMemory,
        recorder: Recorder,
        record: SharedRecord,
        inputs: Inputs,
        shifts: ShiftTracker | None = None,
    ) -> None:
        self.spec = spec
        self.memory = memory
        self.recorder = recorder
        self.orders = OrderTracker(spec.order or OrderSpec(OrderSource.DOWNLOAD), unit, memory.order)
        self._record = record
        self._counted = [counter.name for counter in spec.counters] + [derived.name for derived in spec.derived]
        self._inputs = inputs
        self._windows = Windows(spec.window, memory.windows)
        self._shifts = shifts
        self._usage = Usage(spec.usage, memory.usage, recorder, inputs, record.delivered)

    def take_scan(self, touched: set[int], seen: Observation | None, at: Timestamp, now: Timestamp) -> None:
        """Attribute what the scan at `at` shows. Its pieces were made before `at`.

        So at a change of order they belong to the one that ends there; only where nothing ends they belong to the
        one that begins: the baseline is the reading before the change.
        """
        steps = self._count(touched, at, now)
        before, wanted = self.memory.order.current, self._wanted_order(seen)
        self.close_windows(at - 1, now)
        if wanted is None or (before is not None and wanted == before.order.id):
            self._add(steps, at, now)
            self._report_container(self.orders.owner(at), at, now)
            self._complete_at_quantity(at, now)
            return
        if before is not None:
            self._add(steps, at, now, *(["estimated"] if wanted and steps else []))
            self._report_container(before.order, at, now)
            self._end_order(at, now)
        else:
            self._cut_window(at, now)
        if wanted:
            self._start_order(wanted, at, now)
            if before is None:
                self._add(steps, at, now)
                self._report_container(self.orders.owner(at), at, now)

    def close_windows(self, until: Timestamp, now: Timestamp) -> None:
        """Publish the window that ends at or before `until`."""
        closed = self._windows.close(until)
        if closed is not None:
            self._publish_window(closed, now)
        self._usage.close(self.memory.order.current, until, now)

    def finish_orders(self, states: StateTracker | None, now: Timestamp) -> None:
        """Publish the totals of the orders whose last state is settled."""
        if not self.memory.order.closing:
            return
        settled = states.settled_until() if states else None
        current = states.memory.current if states else None
        state, since = (current.state, current.since) if current else (None, 0)
        for run in self.orders.finish(settled, state, since):
            assert run.end is not None
            self.recorder.event(_completed(run, self._usage.kwh(run)), run.end, now, order=run.order)

    def deadline(self) -> Timestamp | None:
        """When the next window or interval ends."""
        times = (self._windows.deadline(), self._usage.deadline())
        return min((at for at in times if at is not None), default=None)

    def _count(self, touched: set[int], at: Timestamp, now: Timestamp) -> dict[str, Step]:
        steps: dict[str, Step] = {}
        for counter in self.spec.counters:
            reading = self._inputs.values[counter.slot]
            if counter.slot not in touched or not self._inputs.usable(counter.slot) or not isinstance(reading, int):
                continue
            memory = self.memory.counters.get(counter.name)
            if memory is None:
                self.memory.counters[counter.name] = CounterMemory(reading, at)
                continue
            previous, elapsed = memory.reading, max(0, at - memory.at)
            step = advance(counter, memory, reading, at)
            if step.suspect is not None:
                plausible = int(counter.max_rate * (elapsed / 1000 + 1))
                suspect = CounterSuspect(counter=counter.name, previous=previous, value=reading, plausible=plausible)
                self.recorder.event(suspect, at, now, order=self.orders.owner(at))
            steps[counter.name] = step
        for derived in self.spec.derived:
            if any(name in steps for name in (*derived.plus, *derived.minus)):
                steps[derived.name] = _derive(derived, steps)
        return {name: step for name, step in steps.items() if step.delta or step.flags}

    def _add(self, steps: Mapping[str, Step], at: Timestamp, now: Timestamp, *flags: str) -> None:
        run = self.memory.order.current
        limit = self._shifts.limit(at) if self._shifts is not None and steps else None
        for name, step in steps.items():
            self._windows.add(name, step.delta, (*step.flags, *flags), run.order if run else None, at, limit)
            if run is not None:
                run.totals[name] = run.totals.get(name, 0) + step.delta
        self._usage.take_scan(run, steps, at, now)

    def _publish_window(self, window: ClosedWindow, now: Timestamp) -> None:
        end = format_timestamp(window.end)
        run = self.memory.order.current
        runs = [*self.memory.order.closing, *([run] if run else [])]
        totals = next((run.totals for run in runs if run.order == window.order), {})
        for name, tally in window.tallies.items():
            count = ProductionCount(
                counter=name, delta=tally.delta, order_total=totals.get(name), window_end=end,
                shift_total=self._shifts.count(name, tally.delta, window.end) if self._shifts is not None else None,
                unit=self.spec.unit, flags=tuple(tally.flags),
            )  # fmt: skip
            self.recorder.event(count, window.end, now, order=window.order)
        self._usage.publish_window(window, self.spec.unit, now)
        if run is not None and run.order == window.order:
            self.recorder.event(_progress(run, window), window.end, now, order=run.order)

    def _wanted_order(self, seen: Observation | None) -> str | None:
        """The order that the machine says it runs, "" for none, None to leave it as it is."""
        spec, armed = self.spec.order, self.memory.order.armed
        if spec is None:
            return None
        if spec.source is OrderSource.DOWNLOAD:
            return armed.order if armed is not None and seen is not None and seen.state is State.RUN else None
        assert spec.slot is not None
        if not self._inputs.usable(spec.slot):
            return None
        wanted = str(self._inputs.values[spec.slot] or "").strip()
        return None if wanted == "" and self.memory.order.current is None else wanted

    def _start_order(self, order: str, at: Timestamp, now: Timestamp) -> None:
        run = self.orders.start(order, self._record.orders.get(order), at, self.orders.spec.trigger)
        run.totals = dict.fromkeys(self._counted, 0)
        started = OrderStarted(run=run.number, trigger=run.trigger, params=run.parameters)
        self.recorder.event(started, at, now, order=run.order)
        self._retain_order(run)

    def _end_order(self, at: Timestamp, now: Timestamp) -> None:
        self._cut_window(at, now)
        self.orders.end(at)
        self._retain_order(None)

    def _complete_at_quantity(self, at: Timestamp, now: Timestamp) -> None:
        run, spec = self.memory.order.current, self.spec.order
        if spec is None or run is None or not spec.complete_at_quantity or run.planned is None:
            return
        if run.totals.get("good", 0) >= run.planned:
            self._end_order(at, now)

    def _cut_window(self, at: Timestamp, now: Timestamp) -> None:
        window = self._windows.cut(at)
        if window is not None:
            self._publish_window(window, now)
        self._usage.cut(self.memory.order.current, at, now)

    def _retain_order(self, run: Run | None) -> None:
        payload = msgspec.to_builtins(run.order) if run else None
        self.recorder.retain("order", {"order": payload, "since": format_timestamp(run.start) if run else None})

    def _report_container(self, order: OrderRef | None, at: Timestamp, now: Timestamp) -> None:
        if self.spec.container is None:
            return
        lot = order.lot if order else None
        quality = "HOLD" if lot in self._record.held_lots else "OK"
        container = newest_container(self.spec.container, self.memory.container, self._inputs, lot, quality)
        if container is not None:
            self.recorder.event(container, at, now, order=order)


def _derive(derived: Derived, steps: Mapping[str, Step]) -> Step:
    plus = sum(steps[name].delta for name in derived.plus if name in steps)
    minus = sum(steps[name].delta for name in derived.minus if name in steps)
    flags = dict.fromkeys(
        chain.from_iterable(steps[name].flags for name in (*derived.plus, *derived.minus) if name in steps)
    )
    if plus < minus:
        flags["correction"] = None
    return Step(plus - minus, tuple(flags))


def _progress(run: Run, window: ClosedWindow) -> OrderProgress:
    good, length = run.totals.get("good"), max(1, window.end - window.start)
    made = window.tallies["good"].delta if "good" in window.tallies else 0
    rate = round(made * 60_000 / length, 3)
    left = None if run.planned is None or good is None else max(0, run.planned - good)
    eta = format_timestamp(window.end + round(left * 60_000 / rate)) if left is not None and rate > 0 else None
    return OrderProgress(
        window_end=format_timestamp(window.end), planned=run.planned, rate_per_min=rate, eta=eta,
        produced=run.totals.get("produced"), good=good, scrap=run.totals.get("scrap"), rework=run.totals.get("rework"),
    )  # fmt: skip


def _completed(run: Run, kwh: float | None) -> OrderCompleted:
    good = run.totals.get("good")
    return OrderCompleted(
        run=run.number,
        planned=run.planned,
        produced=run.totals.get("produced"),
        good=good,
        scrap=run.totals.get("scrap"),
        rework=run.totals.get("rework"),
        times_s={state: whole_seconds(spent) for state, spent in run.times.items()},
        kwh=kwh,
        partial=run.planned is not None and good is not None and good < run.planned,
    )
