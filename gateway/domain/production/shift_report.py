"""What is told of the shifts of an equipment: at the end a summary and indicators, both anew if pieces come late."""

from gateway.domain.contract.events import ShiftSummary
from gateway.domain.effects import Recorder
from gateway.domain.production.kpi import Kpi
from gateway.domain.state.shifts import ShiftCalendar, ShiftMemory, ShiftRecord, ShiftTracker
from gateway.domain.state.states import StateTracker
from gateway.domain.times import format_timestamp, whole_seconds
from gateway.domain.values import Timestamp


class ShiftReport:
    """The shifts of one equipment. All its memory is the tracker's."""

    def __init__(
        self,
        calendar: ShiftCalendar,
        memory: ShiftMemory,
        recorder: Recorder,
        states: StateTracker | None,
        unit: str,
        kpi: Kpi | None,
    ) -> None:
        self.tracker = ShiftTracker(calendar, memory, has_states=states is not None)
        self._recorder = recorder
        self._states = states
        self._unit = unit
        self._kpi = kpi

    def deadline(self, *, out_of_contact: bool) -> Timestamp | None:
        """When a shift ends; None as long as only the devices can say what state it ended in."""
        return self.tracker.deadline() if self._states is None or out_of_contact else None

    def settle(self, until: Timestamp, contact: Timestamp, now: Timestamp, *, out_of_contact: bool) -> None:
        """Tell of the shifts whose last state is settled, and of those that became different since."""
        current = None
        if self._states is not None:
            until = until if out_of_contact else min(until, contact)
            until = min(until, self._states.settled_until() or until)
            current = self._states.memory.current
        for record in (*self.tracker.close(until, current), *self.tracker.take_revised()):
            self._tell(record, now)

    def _tell(self, record: ShiftRecord, now: Timestamp) -> None:
        end, revision = record.shift.end, record.revision
        self._recorder.event(_summary(record, self._unit), end, now, revision=revision)
        if self._kpi is not None:
            self._recorder.event(self._kpi.of_shift(record), end, now, revision=revision)


def _summary(record: ShiftRecord, unit: str) -> ShiftSummary:
    shift = record.shift
    return ShiftSummary(
        shift=shift.name, day=shift.day, start=format_timestamp(shift.start), end=format_timestamp(shift.end),
        times_s={state: whole_seconds(spent) for state, spent in record.times.items()},
        counts=dict(record.counts), unit=unit,
    )  # fmt: skip
