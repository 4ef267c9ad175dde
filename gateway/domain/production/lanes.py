"""Lanes: parts of an equipment that count and have orders of their own, in the one state of the machine.

A lane speaks as `{unit}.{lane}`: its events have that path, their own sequence and their own topics. What is true of
the state of the machine (durations, interruptions) is true of the orders of every lane.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import field

from gateway.domain.contract.events import OrderInterrupted, OrderResumed
from gateway.domain.effects import SequenceMemory
from gateway.domain.production.attribution import Attribution, Context
from gateway.domain.production.history import History, PastState
from gateway.domain.production.production_spec import ProductionMemory, ProductionSpec
from gateway.domain.state.states import Observation, State, StateTracker
from gateway.domain.values import Timestamp, Value


class LaneSpec(msgspec.Struct, frozen=True):
    """One lane, and what it counts."""

    name: str
    production: ProductionSpec


class LaneMemory(msgspec.Struct):
    """What survives a restart."""

    sequence: SequenceMemory = field(default_factory=SequenceMemory)
    production: ProductionMemory = field(default_factory=ProductionMemory)


class Lanes:
    """All that counts in an equipment: the machine as a whole, and its lanes."""

    def __init__(
        self, own: Attribution, context: Context, lanes: Iterable[LaneSpec], memory: dict[str, LaneMemory],
        kept: Mapping[str, bytes],
    ) -> None:  # fmt: skip
        self.by_unit = {context.unit: own}
        self._kinds = {context.unit: ""}
        for lane in lanes:
            unit, mine = f"{context.unit}.{lane.name}", memory.setdefault(lane.name, LaneMemory())
            self._kinds[unit] = kind = f"lane {lane.name}|"
            records = {name.removeprefix(kind): blob for name, blob in kept.items() if name.startswith(kind)}
            part = msgspec.structs.replace(
                context, unit=unit, recorder=context.recorder.of_lane(lane.name, mine.sequence),
                history=History(records), shifts=None, kpi=None,
            )  # fmt: skip
            self.by_unit[unit] = Attribution(lane.production, mine.production, part)
        self.all = tuple(self.by_unit.values())
        self.recorders = tuple(item.recorder for item in self.all)
        self.lag = 0
        """Milliseconds by which the values of the batch in hand may be younger than its contact."""

    @property
    def dated(self) -> frozenset[int]:
        """Slots whose values are believed for their own moment."""
        return frozenset().union(*(item.spec.dated for item in self.all))

    def take_scan(self, touched: set[int], seen: Observation | None, at: Timestamp, now: Timestamp) -> None:
        """Attribute what the scan shows, in every lane."""
        for item in self.all:
            item.recorder.time_quality = self.recorders[0].time_quality
            item.tells_past = self.all[0].tells_past
            item.lag = self.lag
            item.take_scan(touched, seen, at, now)

    def take_late(self, slot: int, value: Value, at: Timestamp) -> bool:
        """An old reading; True if it is that of a counter."""
        taken = [item.take_late(slot, value, at) for item in self.all]
        return any(taken)

    def tell_revision(self, now: Timestamp) -> None:
        """Tell what late data has changed."""
        for item in self.all:
            item.tell_revision(now)

    def settle(self, until: Timestamp, states: StateTracker | None, now: Timestamp) -> None:
        """Close what ends at or before `until`."""
        for item in self.all:
            item.close_windows(until, now)
            item.finish_orders(states, now)

    def finish_orders(self, states: StateTracker | None, now: Timestamp) -> None:
        """Publish the totals of the orders whose last state is settled."""
        for item in self.all:
            item.finish_orders(states, now)

    def deadline(self) -> Timestamp | None:
        """When the next window or interval ends."""
        return min((at for item in self.all if (at := item.deadline()) is not None), default=None)

    def end_state(self, before: Observation, at: Timestamp, now: Timestamp) -> None:
        """A state is over: its time is that of the orders that ran, and the end of a hold resumes them."""
        for item in self.all:
            item.orders.add_state_time(before.state, before.since, at)
            item.history.states.put(at, PastState(before.state, before.since, at))
            run = item.orders.run_at(at)
            if run is not None and run.interrupted and before.state is State.HELD:
                run.interrupted = False
                item.recorder.event(OrderResumed(run=run.number), at, now, order=run.order)

    def interrupt(self, held: Observation, now: Timestamp) -> None:
        """The machine is held, and with it whatever it runs."""
        for item in self.all:
            run = item.orders.run_at(held.since)
            if run is not None:
                run.interrupted = True
                told = OrderInterrupted(run=run.number, cause=held.reason)
                item.recorder.event(told, held.since, now, order=run.order)

    def gather(self) -> None:
        """What changed in a lane changed the equipment: they have one checkpoint."""
        for recorder in self.recorders[1:]:
            self.recorders[0].changed |= recorder.changed
            recorder.changed = False

    def take_records(self) -> dict[str, bytes | None]:
        """The records of the past that changed, None for what is gone."""
        if len(self.all) == 1:  # as it nearly always is: nothing to rename
            return self.all[0].history.take_changes()
        return {
            self._kinds[unit] + name: blob
            for unit, item in self.by_unit.items()
            for name, blob in item.history.take_changes().items()
        }
