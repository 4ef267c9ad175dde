"""Alarms of one equipment: from bits of words, from PackTags entries, or from OPC UA conditions, as occurrences.

An occurrence is named by the gateway (`2107@2026-03-02T07:25:02.000Z`), since the event ids of a server change at
every refresh. It is published when it lasted its on-delay, with its true start; what is shorter is only counted.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import field

from gateway.domain.events import AlarmAcked, AlarmCleared, AlarmRaised
from gateway.domain.expressions import Inputs
from gateway.domain.times import format_timestamp, whole_seconds
from gateway.domain.values import ConditionChange, Timestamp


class AlarmText(msgspec.Struct, frozen=True):
    """What people read of a code."""

    text: str = ""
    severity: int = 500


class AlarmBit(msgspec.Struct, frozen=True):
    """One bit of an alarm word, and the bit of the acknowledged word that belongs to it."""

    code: str
    slot: int
    bit: int
    acked_slot: int | None = None


class AlarmEntry(msgspec.Struct, frozen=True):
    """One PackTags `Admin.Alarm[n]`: slots of Trigger, ID, Message, Category and AckDateTime."""

    trigger: int
    code: int
    message: int | None = None
    severity: int | None = None
    acknowledged: int | None = None


class AlarmSpec(msgspec.Struct, frozen=True):
    """Where an equipment's alarms come from; `on_delay` in milliseconds, `delays` per code instead of it."""

    bits: tuple[AlarmBit, ...] = ()
    entries: tuple[AlarmEntry, ...] = ()
    condition_source: str | None = None
    acknowledged_at: str | None = None
    """The device at which conditions may be acknowledged; None: nowhere."""
    texts: Mapping[str, AlarmText] = field(default_factory=dict)
    on_delay: int = 0
    delays: Mapping[str, int] = field(default_factory=dict)


class AlarmShown(msgspec.Struct, frozen=True):
    """What a source shows of one code at one moment."""

    code: str
    active: bool
    acked: bool = False
    text: str | None = None
    severity: int | None = None
    condition: ConditionChange | None = None
    """Where a condition shows it."""


class Occurrence(msgspec.Struct):
    """One alarm from its raising on. `confirmed` is None where nobody has to confirm it."""

    code: str
    raised: Timestamp
    text: str
    severity: int
    initial: bool = False
    acked: Timestamp | None = None
    cleared: Timestamp | None = None
    is_published: bool = False
    confirmed: bool | None = None
    condition: str = ""
    event_id: str = ""
    """Of the condition that shows it and of its newest event, in hexadecimal: what acknowledging it names."""
    asked_by: str | None = None
    """Who had the gateway acknowledge it."""

    @property
    def name(self) -> str:
        """`code@time`, the occurrence's name in messages."""
        return f"{self.code}@{format_timestamp(self.raised)}"


class Asked(msgspec.Struct, frozen=True):
    """A command to acknowledge or confirm an occurrence that is under way."""

    type: str
    occ: str
    user: str
    confirm: bool


class AlarmMemory(msgspec.Struct):
    """What survives a restart: the occurrences that are not over, and how many were too short to tell.

    `asked` are the commands to acknowledge that are not answered finally, by id.
    """

    open: dict[str, Occurrence] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    suppressed: int = 0
    is_known: bool = False


AlarmEvent = AlarmRaised | AlarmAcked | AlarmCleared


class Alarms:
    """Turns what is shown into events with their times. All its memory is in `memory`."""

    def __init__(self, spec: AlarmSpec, memory: AlarmMemory) -> None:
        self.spec = spec
        self.memory = memory

    def take_scan(self, inputs: Inputs, at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        """The alarms in words and entries, as a scan shows them."""
        events = list(self.settle(at))
        first, self.memory.is_known = not self.memory.is_known, True
        for shown in self._shown(inputs):
            events += self.take(shown, at, initial=first)
        return events

    def take(self, shown: AlarmShown, at: Timestamp, *, initial: bool = False) -> list[tuple[Timestamp, AlarmEvent]]:
        """One code is shown like this from `at` on."""
        occurrence = self.memory.open.get(shown.code)
        if occurrence is None:
            if not shown.active:
                return []
            occurrence = self._raise(shown, at, initial=initial)
        if shown.active and occurrence.cleared is not None:  # it came again before it was acknowledged
            done = self._end(occurrence)
            return [*done, *self._update(self._raise(shown, at, initial=False), shown, at)]
        return self._update(occurrence, shown, at)

    def settle(self, until: Timestamp) -> Iterator[tuple[Timestamp, AlarmEvent]]:
        """Occurrences that lasted their on-delay by then are published."""
        for occurrence in list(self.memory.open.values()):
            if not occurrence.is_published and occurrence.raised + self._delay(occurrence.code) <= until:
                yield from self._publish(occurrence)

    def deadline(self) -> Timestamp | None:
        """When the next on-delay ends."""
        waiting = [o.raised + self._delay(o.code) for o in self.memory.open.values() if not o.is_published]
        return min(waiting, default=None)

    def _update(self, occurrence: Occurrence, shown: AlarmShown, at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        events: list[tuple[Timestamp, AlarmEvent]] = []
        if shown.condition is not None:
            _note(occurrence, shown.condition)
        if not occurrence.is_published:
            if not shown.active:
                self.memory.suppressed += 1
                del self.memory.open[occurrence.code]
                return []
            if occurrence.raised + self._delay(occurrence.code) > at:
                return []
            events += self._publish(occurrence)
        if shown.acked and occurrence.acked is None:
            occurrence.acked = at
            events.append((at, _acked(occurrence, shown.condition)))
        if not shown.active and occurrence.cleared is None:
            occurrence.cleared = at
            duration = whole_seconds(at - occurrence.raised)
            events.append((at, AlarmCleared(code=occurrence.code, occ=occurrence.name, dur_s=duration)))
        if occurrence.cleared is not None and occurrence.acked is not None and occurrence.confirmed is not False:
            self._end(occurrence)
        return events

    def _raise(self, shown: AlarmShown, at: Timestamp, *, initial: bool) -> Occurrence:
        known = self.spec.texts.get(shown.code, AlarmText())
        occurrence = Occurrence(
            shown.code, at, shown.text or known.text, shown.severity or known.severity, initial=initial
        )
        self.memory.open[shown.code] = occurrence
        return occurrence

    def _publish(self, occurrence: Occurrence) -> list[tuple[Timestamp, AlarmEvent]]:
        occurrence.is_published = True
        raised = AlarmRaised(
            code=occurrence.code, text=occurrence.text, sev=occurrence.severity, occ=occurrence.name,
            initial=occurrence.initial,
        )  # fmt: skip
        return [(occurrence.raised, raised)]

    def _end(self, occurrence: Occurrence) -> list[tuple[Timestamp, AlarmEvent]]:
        self.memory.open.pop(occurrence.code, None)
        return []

    def _delay(self, code: str) -> int:
        return self.spec.delays.get(code, self.spec.on_delay)

    def _shown(self, inputs: Inputs) -> Iterator[AlarmShown]:
        for bit in self.spec.bits:
            word = inputs.values[bit.slot]
            if inputs.usable(bit.slot) and isinstance(word, int):
                yield AlarmShown(bit.code, bool(word >> bit.bit & 1), self._bit_acked(inputs, bit))
        for entry in self.spec.entries:
            code = inputs.values[entry.code]
            if inputs.usable(entry.trigger) and inputs.usable(entry.code) and code:
                yield self._shown_entry(inputs, entry, str(code))

    @staticmethod
    def _bit_acked(inputs: Inputs, bit: AlarmBit) -> bool:
        if bit.acked_slot is None or not inputs.usable(bit.acked_slot):
            return False
        word = inputs.values[bit.acked_slot]
        return isinstance(word, int) and bool(word >> bit.bit & 1)

    @staticmethod
    def _shown_entry(inputs: Inputs, entry: AlarmEntry, code: str) -> AlarmShown:
        message = inputs.values[entry.message] if entry.message is not None else None
        severity = inputs.values[entry.severity] if entry.severity is not None else None
        acked = inputs.values[entry.acknowledged] if entry.acknowledged is not None else None
        return AlarmShown(
            code,
            active=bool(inputs.values[entry.trigger]),
            acked=isinstance(acked, int) and acked > 0,
            text=message if isinstance(message, str) else None,
            severity=severity if isinstance(severity, int) else None,
        )


def _note(occurrence: Occurrence, condition: ConditionChange) -> None:
    """What acknowledging must name; every event of a condition has an id of its own, and only the newest counts."""
    occurrence.condition, occurrence.event_id = condition.condition, condition.event_id.hex()
    occurrence.confirmed = condition.confirmed


def _acked(occurrence: Occurrence, condition: ConditionChange | None) -> AlarmAcked:
    """By whom: the one who asked the gateway, else whom the server names."""
    user, comment = (condition.user, condition.comment) if condition is not None else (None, None)
    by = occurrence.asked_by or user
    return AlarmAcked(code=occurrence.code, occ=occurrence.name, by=by, comment=comment)
