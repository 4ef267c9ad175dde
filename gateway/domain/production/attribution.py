"""Pieces to orders: what one scan of an equipment made, and which job order it belongs to."""

from collections.abc import Mapping

import msgspec

from gateway.domain.contract.events import CounterRebased, OrderRef, OrderStarted, ProductionCount
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import CounterRebase
from gateway.domain.effects import Recorder
from gateway.domain.production.containers import newest_container
from gateway.domain.production.counters import Step
from gateway.domain.production.counting import Counting, is_reading
from gateway.domain.production.history import History, PastContainer, PastWindow, Told
from gateway.domain.production.job_list import running_order
from gateway.domain.production.jumps import REBASED, find_jump
from gateway.domain.production.kpi import Kpi
from gateway.domain.production.order_events import completed, progress
from gateway.domain.production.orders import GIVEN, OrderSource, OrderSpec, OrderTracker, Run
from gateway.domain.production.production_spec import ProductionMemory, ProductionSpec
from gateway.domain.production.revisions import Revision, Scope, consumptions
from gateway.domain.production.usage import Usage
from gateway.domain.production.windows import ClosedWindow, Windows
from gateway.domain.shared import SharedRecord
from gateway.domain.state.shifts import ShiftTracker
from gateway.domain.state.states import Observation, State, StateMemory, StateTracker
from gateway.domain.tags.expressions import Inputs
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp, Value

PRUNE_INTERVAL = 3_600_000
"""How often what is too old to be told anew is looked for."""


class Context(msgspec.Struct, frozen=True):
    """What the attribution of an equipment looks at and speaks through."""

    unit: str
    recorder: Recorder
    record: SharedRecord
    inputs: Inputs
    states: StateMemory
    history: History
    shifts: ShiftTracker | None = None
    kpi: Kpi | None = None


class Attribution:
    """Counts, and gives every piece, container and moment its order."""

    def __init__(self, spec: ProductionSpec, memory: ProductionMemory, context: Context) -> None:
        recorder, inputs, history = context.recorder, context.inputs, context.history
        self._record = record = context.record
        self.spec = spec
        self.memory = memory
        self.recorder = recorder
        self.orders = OrderTracker(spec.order or OrderSpec(OrderSource.DOWNLOAD), context.unit, memory.order)
        self.history = history
        self.followers: list[tuple[Attribution, int]] = []
        """Whoever gets its orders from here, that many milliseconds later."""
        self._states = context.states
        self._counting = Counting(spec.counters, spec.derived, memory.counters, inputs)
        self._inputs = inputs
        self._windows = Windows(spec.window, memory.windows)
        self._shifts, self._kpi = context.shifts, context.kpi
        self._usage = Usage(spec.usage, memory.usage, recorder, inputs, record.delivered, record.arrivals, history)
        self._scope = Scope(
            history, self.orders, memory.windows, recorder, spec.unit, spec.window, self._counting.names,
            spec.usage.materials, spec.usage.energy, self._shifts, self._kpi,
        )  # fmt: skip
        self._revision: Revision | None = None
        self.tells_past = False
        """True while a device tells of an outage: windows that the clock closed meanwhile take their pieces yet."""
        self.lag = 0
        """Milliseconds by which the readings of the scan in hand may be younger than its moment."""
        self._pruned: Timestamp = 0

    def take_scan(self, touched: set[int], seen: Observation | None, at: Timestamp, now: Timestamp) -> None:
        """Attribute what the scan at `at` shows. Its pieces were made before `at`.

        So at a change of order they belong to the one that ends there; only where nothing ends they belong to the
        one that begins: the baseline is the reading before the change.
        """
        if self.tells_past and at > self.memory.windows.start:
            self.tell_revision(now)  # before windows and orders go on that it does not know
        previous, self.memory.newest = self.memory.newest, max(self.memory.newest, at)
        steps, suspects = self._counting.take(touched, at, self.lag)
        for suspect in suspects:
            self.recorder.event(suspect, at, now, order=self.orders.owner(at))
        met = bool(self.memory.order.planned) and self._meets(previous, at)
        self.close_windows(at - 1, now)
        before, wanted = self.memory.order.current, self._wanted_order(seen)
        is_change = wanted is not None and wanted != (before.order.id if before else "")
        since = self._effective(at, seen) if is_change else at
        is_over = since < self.memory.newest or (self.tells_past and at <= self.memory.windows.start)
        if not is_change or is_over:
            is_past = is_over and at < max(self.memory.newest, self.memory.windows.start)
            made = self.orders.counted_at(at, is_change and bool(wanted) and since == at) if is_past else at
            self._add(steps, made, now, *(["estimated"] if met else []))
            if self.spec.container is not None:
                self._report_container(self.orders.owner(at), at, now)
            if is_change and wanted is not None:
                self.change_order(wanted, since, now)
            elif at >= previous:
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

    # --- what comes late or is dated back -----------------------------------------------------------------------

    def change_order(self, wanted: str, since: Timestamp, now: Timestamp) -> None:
        """The order is `wanted` ("" for none) from `since` on: told anew where that is over, else waited for."""
        self.recorder.changed = True
        if since > self.memory.newest:
            self.memory.order.planned.append((since, wanted))
            self.memory.order.planned.sort()
            return
        self.tell_revision(now)
        self._cut_window(self.memory.newest, now)
        self._past().change_order(wanted, since, self._record.orders.get(wanted), now)
        self.tell_revision(now)
        armed = self.memory.order.armed
        if armed is not None and armed.order == wanted:
            self.memory.order.armed = None
        self._retain_order(self.memory.order.current)
        self._lead(wanted, since, now)

    def take_late(self, slot: int, value: Value, at: Timestamp) -> bool:
        """A reading that is older than the last one of its counter: perhaps it parts what was counted later.

        True if the slot is that of a counter.
        """
        counter = next((counter for counter in self.spec.counters if counter.slot == slot), None)
        if counter is None or not is_reading(value) or not self._counting.is_old(counter, at):
            return False
        past = self._past()
        pieces, later = self._counting.made_before(counter, value, past.steps_after(counter.name, at))
        if pieces and past.parts(at, later):
            for name, share in self._counting.shares(counter.name, pieces).items():
                past.take_back(name, share, later)
                past.place(name, share, (), at)
        return True

    def settle_jump(self, command: CounterRebase, now: Timestamp) -> list[Objection]:
        """An operator says how many pieces a jump was: they are counted where it happened, and it is over."""
        memory = self.memory.counters.get(command.counter)
        if memory is None:
            known = ", ".join(counter.name for counter in self.spec.counters) or "none"
            return [Objection("unknown_counter", f"{command.counter} is not counted here; the counters are: {known}")]
        jump, objections = find_jump(memory, command, now)
        if jump is None or objections:
            return objections
        memory.jumps.remove(jump)
        shares = self._counting.shares(command.counter, command.pieces)
        self._add({name: Step(pieces, (REBASED,)) for name, pieces in shares.items() if pieces}, jump.at, now)
        self.tell_revision(now)
        told = CounterRebased(
            counter=command.counter, jump=format_timestamp(jump.at), previous=jump.previous, value=jump.value,
            pieces=command.pieces, by=command.by,
        )  # fmt: skip
        self.recorder.event(told, now, now, order=self.orders.owner(now), time_quality="gateway", corr=command.corr)
        return []

    def tell_revision(self, now: Timestamp) -> None:
        """Tell what late data has changed, if any came."""
        revision, self._revision = self._revision, None
        if revision is not None:
            self.recorder.changed = True
            revision.tell(now)

    def follow(self, others: Mapping[str, "Attribution"]) -> None:
        """Get the orders of the unit upstream, if that is where they come from."""
        if self.spec.order is not None and self.spec.order.upstream is not None:
            others[self.spec.order.upstream].followers.append((self, self.spec.order.transit))

    def _past(self) -> Revision:
        if self._revision is None:
            self._revision = Revision(self._scope, self._states.current)
        return self._revision

    def _effective(self, at: Timestamp, seen: Observation | None) -> Timestamp:
        """From when on the order that a scan shows is valid: since the state, or the moment of a second tag."""
        if seen is not None and self.spec.order is not None and self.spec.order.source is OrderSource.DOWNLOAD:
            return min(at, seen.since)
        slot = self.spec.order.since if self.spec.order else None
        if slot is None or not self._inputs.usable(slot):
            return at
        said = self._inputs.values[slot]
        return min(said, at) if is_reading(said) and said > 0 else at

    def _meets(self, previous: Timestamp, at: Timestamp) -> bool:
        """True if two orders met between two scans: nobody can say whose the pieces are that show in the second."""
        planned = [wanted for moment, wanted in self.memory.order.planned if previous < moment < at]
        return bool(planned and planned[-1] and self.memory.order.current is not None)

    def _carry_out(self, until: Timestamp, now: Timestamp) -> None:
        """The changes of order whose time has come."""
        planned = self.memory.order.planned
        while planned and planned[0][0] <= until:
            at, wanted = planned.pop(0)
            current = self.memory.order.current
            if wanted == (current.order.id if current else ""):
                continue
            self.recorder.changed = True
            self._close_window(at, now)
            if current is not None:
                self._end_order(at, now)
            else:
                self._cut_window(at, now)
            if wanted:
                self._start_order(wanted, at, now)

    def _lead(self, wanted: str, at: Timestamp, now: Timestamp) -> None:
        """Whoever follows gets the order when the pieces have come over."""
        for follower, transit in self.followers:
            follower.change_order(wanted, at + transit, now)

    # --- windows and orders -------------------------------------------------------------------------------------

    def close_windows(self, until: Timestamp, now: Timestamp) -> None:
        """Publish the window that ends at or before `until`, and change the orders that were planned to."""
        if self.memory.order.planned:
            self._carry_out(until, now)
        self._close_window(until, now)
        if now - self._pruned >= PRUNE_INTERVAL:  # here, since states are kept of a machine that counts nothing too
            self._pruned = now
            self.history.prune(now)

    def _close_window(self, until: Timestamp, now: Timestamp) -> None:
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
            done = completed(run, self._usage.kwh(run))
            self.recorder.event(done, run.end, now, order=run.order, revision=run.revision)
            if self._kpi is not None:
                indicators = self._kpi.of_order(run)
                self.recorder.event(indicators, run.end, now, order=run.order, revision=run.revision)
            self.history.runs.put(run.end, run, run.key)

    def deadline(self) -> Timestamp | None:
        """When the next window or interval ends."""
        planned = self.memory.order.planned
        times = (self._windows.deadline(), self._usage.deadline(), planned[0][0] if planned else None)
        return min((at for at in times if at is not None), default=None)

    def _add(self, steps: Mapping[str, Step], at: Timestamp, now: Timestamp, *flags: str) -> None:
        is_late = at < self.memory.newest and at <= max(self.memory.windows.start, self.orders.changed)
        if is_late or (self.tells_past and at <= self.memory.windows.start):
            for name, step in steps.items():
                self._past().place(name, step.delta, (*step.flags, *flags), at)
            return
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
        owner = next((run for run in runs if run.order == window.order), None)
        totals = owner.totals if owner else {}
        cycle = self._kpi.cycle(owner) if self._kpi is not None else None
        past = PastWindow(window.start, window.end, owner.key if owner else None, window.order, rows=window.rows)
        for name, tally in window.tallies.items():
            past.tallies[name] = tally
            if tally.delta == 0 and not tally.flags:
                continue
            shift_total = self._shifts.count(name, tally.delta, window.end, cycle) if self._shifts else None
            past.told[name] = Told(tally.delta, totals.get(name), window.order, shift_total=shift_total, cycle=cycle)
            count = ProductionCount(
                counter=name, delta=tally.delta, order_total=totals.get(name), window_end=end, shift_total=shift_total,
                unit=self.spec.unit, flags=tuple(tally.flags),
            )  # fmt: skip
            self.recorder.event(count, window.end, now, order=window.order)
        self._usage.publish_window(window, self.spec.unit, now)
        if run is not None and run.order == window.order:
            self.recorder.event(progress(run, window), window.end, now, order=run.order)
        lots = {name: memory.lot for name, memory in self.memory.usage.materials.items()}
        past.consumed = consumptions(self.spec.usage.materials, window.tallies, window.order, lots)
        self.history.windows.put(window.end, past)

    def _wanted_order(self, seen: Observation | None) -> str | None:
        """The order that the machine says it runs, "" for none, None to leave it as it is."""
        spec, armed = self.spec.order, self.memory.order.armed
        if spec is None or spec.source in GIVEN:
            return None
        if spec.source is OrderSource.DOWNLOAD:
            return armed.order if armed is not None and seen is not None and seen.state is State.RUN else None
        assert spec.slot is not None
        if not self._inputs.usable(spec.slot):
            return None
        if spec.source is OrderSource.JOB_CONTROL:
            current = self.memory.order.current
            shown = running_order(self._inputs.values[spec.slot], spec.template, current.order.id if current else "")
            return None if shown == "" and current is None else shown
        wanted = str(self._inputs.values[spec.slot] or "").strip()
        return None if wanted == "" and self.memory.order.current is None else wanted

    def _start_order(self, order: str, at: Timestamp, now: Timestamp) -> None:
        run = self.orders.start(order, self._record.orders.get(order), at, self.orders.spec.trigger)
        run.totals = dict.fromkeys(self._counting.names, 0)
        started = OrderStarted(run=run.number, trigger=run.trigger, params=run.parameters)
        self.recorder.event(started, at, now, order=run.order)
        self._retain_order(run)
        self._lead(order, at, now)

    def _end_order(self, at: Timestamp, now: Timestamp) -> None:
        self._cut_window(at, now)
        self.orders.end(at)
        self._retain_order(None)
        self._lead("", at, now)

    def _complete_at_quantity(self, at: Timestamp, now: Timestamp) -> None:
        run, spec = self.memory.order.current, self.spec.order
        if spec is None or run is None or not spec.complete_at_quantity or run.planned is None:
            return
        if run.totals.get("good", 0) >= run.planned:
            run.is_full = True
            self._end_order(at, now)

    def _cut_window(self, at: Timestamp, now: Timestamp) -> None:
        window = self._windows.cut(at)
        if window is not None:
            self._publish_window(window, now)
        self._usage.cut(self.memory.order.current, at, now)

    def judge_supply(self, material: str, now: Timestamp) -> None:
        """More of a material is announced."""
        self._usage.judge_supply(material, self.orders.memory.current, now, now)

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
            self.history.containers.put(at, told := PastContainer(at, data=container), told.name)
            self.recorder.event(container, at, now, order=order)
