"""Shifts: when they are, what was counted in them, and in which states their time was spent.

The calendar is a rule and not a table: the daemon runs for months, and a table would end. The zone it takes is read
once, with the configuration; from then on a shift is a pure function of the day. Its boundaries are wall times, so in
the night when the clocks change the shift that holds the change has an hour more or less (a fold's first moment
counts, PEP 495), and shifts that meet on the wall meet in UTC too.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import field

from gateway.domain.state.states import Observation, State
from gateway.domain.values import Timestamp

DAY: Final = 1440
"""Minutes of a day on the wall."""

LOOK_AHEAD: Final = 14
"""Days in which the next shift is looked for; in a longer break it is looked for again."""

MISSED: Final = 31 * 86_400_000
"""Milliseconds of absence after which shifts are no longer told one by one."""


KEPT: Final = 3
"""Shifts that can still be told anew: a day of them, as long as the windows of counting are kept."""


class ShiftPattern(msgspec.Struct, frozen=True):
    """One shift: minutes of the day on which it begins, and those weekdays (Monday is 0).

    `end` is above `start`; above 1440 it lies on the next day.
    """

    name: str
    start: int
    end: int
    days: frozenset[int] = frozenset(range(7))


class Shift(msgspec.Struct, frozen=True):
    """One shift of one day, `[start, end)` in UTC. `day` is the date on which it begins where the plant is."""

    name: str
    day: str
    start: Timestamp
    end: Timestamp


class ShiftCalendar(msgspec.Struct, frozen=True):
    """Shifts of a plant. `exceptions` says by date which shifts begin on it instead of the usual ones."""

    zone: ZoneInfo
    patterns: tuple[ShiftPattern, ...]
    exceptions: Mapping[date, tuple[str, ...]] = field(default_factory=dict)

    def on(self, day: date) -> list[ShiftPattern]:
        """What begins on that day."""
        names = self.exceptions.get(day)
        if names is None:
            return [pattern for pattern in self.patterns if day.weekday() in pattern.days]
        return [pattern for pattern in self.patterns if pattern.name in names]

    def between(self, start: Timestamp, end: Timestamp) -> list[Shift]:
        """The shifts that have a part in `[start, end)`, in order."""
        day, last = self._date(start) - timedelta(1), self._date(end)
        shifts = []
        while day <= last:
            found = [self._shift(pattern, day) for pattern in self.on(day)]
            shifts += [shift for shift in found if shift.start < end and shift.end > start]
            day += timedelta(1)
        return sorted(shifts, key=_start)

    def boundary_after(self, moment: Timestamp) -> Timestamp:
        """The next begin or end of a shift; where none is in sight, a moment at which to look again."""
        for days in (1, LOOK_AHEAD):  # nearly always it is within a day
            horizon = moment + days * 86_400_000
            bounds = [bound for shift in self.between(moment, horizon) for bound in (shift.start, shift.end)]
            found = min((bound for bound in bounds if bound > moment), default=None)
            if found is not None:
                return found
        return horizon

    def _shift(self, pattern: ShiftPattern, day: date) -> Shift:
        return Shift(pattern.name, day.isoformat(), self._moment(day, pattern.start), self._moment(day, pattern.end))

    def _moment(self, day: date, minutes: int) -> Timestamp:
        days, rest = divmod(minutes, DAY)
        wall = datetime.combine(day + timedelta(days), time(*divmod(rest, 60)), self.zone)
        return round(wall.timestamp() * 1000)

    def _date(self, moment: Timestamp) -> date:
        return datetime.fromtimestamp(moment / 1000, UTC).astimezone(self.zone).date()


class ShiftRecord(msgspec.Struct):
    """A shift that is not closed yet: pieces per counter, milliseconds per state.

    `plans` has the pieces by the milliseconds that were planned for one, as text; "" where nothing was planned.
    """

    shift: Shift
    counts: dict[str, int] = field(default_factory=dict)
    plans: dict[str, dict[str, int]] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    revision: int = 1
    tail: tuple[str, Timestamp] | None = None
    """The state that lasted when it was told, and since when: so long it was taken to last to the end."""
    is_changed: bool = False
    """True if it became different after it was told."""

    def holds(self, window_end: Timestamp) -> bool:
        """True for a window of counting of this shift; what is counted at the end was made before it."""
        return self.shift.start < window_end <= self.shift.end

    def add_pieces(self, counter: str, delta: int, cycle: float | None) -> int:
        """Pieces, and what was planned for one; the new total."""
        planned = self.plans.setdefault("" if cycle is None else repr(cycle), {})
        planned[counter] = planned.get(counter, 0) + delta
        self.counts[counter] = self.counts.get(counter, 0) + delta
        return self.counts[counter]

    def correct_tail(self, state: str, start: Timestamp, end: Timestamp) -> None:
        """After it was told: the last state did not last to the end, because that was not known yet."""
        if self.tail is None or (state, start) == self.tail:
            return
        taken_for, since = self.tail
        share = min(end, self.shift.end) - max(start, since)
        if share > 0 and state != taken_for:
            self.add_time(state, max(start, since), end)
            self.times[taken_for] -= share
            if self.times[taken_for] == 0:
                del self.times[taken_for]
            self.is_changed = True

    def add_time(self, state: str, start: Timestamp, end: Timestamp) -> None:
        """The share of an interval that lies in this shift."""
        share = min(end, self.shift.end) - max(start, self.shift.start)
        if share > 0:
            self.times[state] = self.times.get(state, 0) + share


class ShiftMemory(msgspec.Struct):
    """What survives a restart. Everything before `settled` is told; before `began` no state was ever known."""

    records: list[ShiftRecord] = field(default_factory=list)
    told: list[ShiftRecord] = field(default_factory=list)
    """The last `KEPT` that were told, for pieces that come late."""
    settled: Timestamp | None = None
    began: Timestamp | None = None


class ShiftTracker:
    """Gathers the shifts of one equipment; a shift is open until everything up to its end is known.

    For a while two may be open: the last seconds of one are still being debounced when the next has begun.
    """

    def __init__(self, calendar: ShiftCalendar, memory: ShiftMemory, *, has_states: bool) -> None:
        self.memory = memory
        self._calendar = calendar
        self._has_states = has_states
        self._due: Timestamp = 0
        self._may_have_changed = True
        self._section: tuple[Timestamp, Timestamp] = (0, 0)

    def limit(self, at: Timestamp) -> Timestamp:
        """When a window of counting that takes in pieces seen at `at` ends at the latest.

        Pieces seen at a boundary were made before it.
        """
        begin, end = self._section
        if not begin <= at - 1 < end:
            self._section = (at - 1, self._calendar.boundary_after(at - 1))
        return self._section[1]

    def count(self, counter: str, delta: int, window_end: Timestamp, cycle: float | None = None) -> int | None:
        """Add the pieces of a closed window; the shift's total, None outside of shifts.

        `cycle` is what was planned for one piece, in milliseconds. A shift that was told already is told again.
        """
        self._open(window_end)
        for record in (*self.memory.records, *self.memory.told):
            if record.holds(window_end):
                record.is_changed = record.is_changed or record in self.memory.told
                self._may_have_changed = self._may_have_changed or record.is_changed
                return record.add_pieces(counter, delta, cycle)
        return None

    def take_revised(self) -> list[ShiftRecord]:
        """The shifts that became different after they were told."""
        if not self._may_have_changed:
            return []
        self._may_have_changed = False
        changed = [record for record in self.memory.told if record.is_changed]
        for record in changed:
            record.is_changed, record.revision = False, record.revision + 1
        return changed

    def add_state_time(self, state: str, start: Timestamp, end: Timestamp) -> None:
        """An interval of a state is final."""
        self._begin(start)
        self._open(end)
        for record in self.memory.records:
            record.add_time(state, start, end)
        for record in self.memory.told:
            record.correct_tail(state, start, end)
            self._may_have_changed = self._may_have_changed or record.is_changed

    def close(self, until: Timestamp, current: Observation | None) -> list[ShiftRecord]:
        """The shifts that ended at or before `until`, where everything is known; `current` lasts at least so long."""
        if current is not None and self.memory.told:
            self._correct_last(self.memory.told[-1], until, current)
        if until < self._due:
            return []
        self._open(until)
        if current is not None:
            self._begin(current.since)
        ended = [record for record in self.memory.records if record.shift.end <= until]
        for record in ended:
            if self._has_states:
                self._add_last_times(record, current)
            self.memory.records.remove(record)
            self.memory.told = [*self.memory.told, record][-KEPT:]
            self.memory.settled = record.shift.end
        records = self.memory.records
        self._due = records[0].shift.end if records else self._calendar.boundary_after(until)
        return ended

    def deadline(self) -> Timestamp:
        """When the oldest open shift ends, or the next one begins."""
        return self._due

    def _add_last_times(self, record: ShiftRecord, current: Observation | None) -> None:
        """The state that still lasts; and before the first state ever, none was known."""
        began = record.shift.end if self.memory.began is None else self.memory.began
        record.add_time(State.UNKNOWN, record.shift.start, began)
        if current is not None:
            record.add_time(current.state, current.since, record.shift.end)
            record.tail = (current.state, current.since)

    def _correct_last(self, record: ShiftRecord, until: Timestamp, current: Observation) -> None:
        """What lasts now began in the shift that was told last, which did not know it (a device told of an outage)."""
        lasting = (current.state, current.since)
        if record.tail is not None and record.tail != lasting and current.since < record.shift.end <= until:
            record.correct_tail(current.state, current.since, record.shift.end)
            record.tail = lasting
            self._may_have_changed = self._may_have_changed or record.is_changed

    def _begin(self, at: Timestamp) -> None:
        if self.memory.began is None:
            self.memory.began = at

    def _open(self, until: Timestamp) -> None:
        """A record for every shift that began before `until` and is not told yet."""
        memory = self.memory
        if memory.records and until <= memory.records[-1].shift.end:
            return
        if memory.settled is None:
            running = self._calendar.between(until, until + 1)
            memory.settled = running[0].start if running else until
        known = memory.records[-1].shift.end if memory.records else max(memory.settled, until - MISSED)
        fresh = (shift for shift in self._calendar.between(known, until) if shift.start >= known)
        memory.records += [ShiftRecord(shift) for shift in fresh]


def _start(shift: Shift) -> Timestamp:
    return shift.start
