"""Alarms of one equipment: from bits of words, from PackTags entries, or from OPC UA conditions, as occurrences.

An occurrence is named by the gateway (`2107@2026-03-02T07:25:02.000Z`), since the event ids of a server change at
every refresh. It is published when it lasted its on-delay, with its true start; what is shorter is only counted, and
the count told with the next occurrence. It is over when it was gone for its off-delay, with its true end; what comes
again before that is the same occurrence, and counted too: an alarm that chatters is two events.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import field

from gateway.domain.contract.events import AlarmAcked, AlarmCleared, AlarmRaised
from gateway.domain.state.alarm_sources import AlarmBit, AlarmEntries, AlarmEntry, AlarmShown, AlarmWords
from gateway.domain.tags.expressions import Inputs
from gateway.domain.times import format_timestamp, whole_seconds
from gateway.domain.values import ConditionChange, Timestamp


class AlarmText(msgspec.Struct, frozen=True):
    """What people read of a code, and the class by which the MES sorts it."""

    text: str = ""
    severity: int = 500
    alarm_class: str = "process"


class Delays(msgspec.Struct, frozen=True):
    """How long a code must be up before it is told, and gone before it is over, in milliseconds."""

    on: int = 0
    off: int = 0


class AlarmSpec(msgspec.Struct, frozen=True):
    """Where an equipment's alarms come from; `delays` of a code instead of those of all."""

    bits: tuple[AlarmBit, ...] = ()
    entries: tuple[AlarmEntry, ...] = ()
    condition_source: str | None = None
    acknowledged_at: str | None = None
    """The device at which conditions may be acknowledged; None: nowhere."""
    texts: Mapping[str, AlarmText] = field(default_factory=dict)
    all_delays: Delays = Delays()
    delays: Mapping[str, Delays] = field(default_factory=dict)


class Occurrence(msgspec.Struct):
    """One alarm from its raising on. `confirmed` is None where nobody has to confirm it.

    `gone` is since when it is not up, while it may still come again; `repeats` how often it did. `is_acknowledged` is
    false where the source never says so. `is_entry` is one that PackTags entries show.
    """

    code: str
    raised: Timestamp
    text: str
    severity: int
    initial: bool = False
    acked: Timestamp | None = None
    cleared: Timestamp | None = None
    is_published: bool = False
    gone: Timestamp | None = None
    repeats: int = 0
    is_acknowledged: bool = True
    is_entry: bool = False
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

    `brief` are those since their code was told last. `known` are the sources that were looked at before: what another
    one shows at first was up already, and so was what a condition says of the time before `since`. `asked` are the
    commands to acknowledge that are not answered finally, by id.
    """

    open: dict[str, Occurrence] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    suppressed: int = 0
    brief: dict[str, int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    since: Timestamp | None = None


AlarmEvent = AlarmRaised | AlarmAcked | AlarmCleared


class Alarms:
    """Turns what is shown into events with their times. All its memory is in `memory`."""

    def __init__(self, spec: AlarmSpec, memory: AlarmMemory) -> None:
        self.spec = spec
        self.memory = memory
        self._words = AlarmWords(spec.bits)
        self._entries = AlarmEntries(spec.entries)

    def begin(self, at: Timestamp) -> None:
        """A device came into reach: what its conditions say of the time before the first such moment is `initial`."""
        if self.memory.since is None:
            self.memory.since = at

    def take_scan(self, inputs: Inputs, touched: set[int], at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        """The alarms in the words and entries that a scan touched."""
        events = list(self.settle(at))
        for word, bits in self._words.shown(inputs, touched):
            initial = self._is_new(word)
            for shown in bits:
                events += self._take(shown, at, initial=initial)
        if self._entries.touched_by(touched):
            entries = self._entries.shown(inputs)
            if entries is not None:
                events += self._take_entries(entries, at)
        return events

    def take_condition(self, shown: AlarmShown, at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        """A condition shows its alarm like this from `at` on, which may be long before it was heard of."""
        return self._take(shown, at, initial=self.memory.since is not None and at < self.memory.since)

    def _take_entries(self, entries: Mapping[str, AlarmShown], at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        initial, events = self._is_new("Admin.Alarm[]"), []
        open_codes = [occurrence.code for occurrence in self.memory.open.values() if occurrence.is_entry]
        for code in (code for code in open_codes if code not in entries):
            events += self._take(AlarmShown(code, active=False), at, initial=False)
        for shown in entries.values():
            events += self._take(shown, at, initial=initial)
            if shown.code in self.memory.open:
                self.memory.open[shown.code].is_entry = True
        return events

    def _is_new(self, source: str) -> bool:
        """True at the first look at a source."""
        is_new = source not in self.memory.known
        self.memory.known.add(source)
        return is_new

    def _take(self, shown: AlarmShown, at: Timestamp, *, initial: bool) -> list[tuple[Timestamp, AlarmEvent]]:
        occurrence = self.memory.open.get(shown.code)
        if occurrence is None:
            if not shown.active:
                return []
            occurrence = self._raise(shown, at, initial=initial)
        if shown.active and occurrence.cleared is not None:  # it came again before it was acknowledged
            occurrence = self._raise(shown, at, initial=False)
        return self._update(occurrence, shown, at)

    def settle(self, until: Timestamp) -> Iterator[tuple[Timestamp, AlarmEvent]]:
        """Occurrences that lasted their on-delay by then are published, those gone for their off-delay are over."""
        for occurrence in list(self.memory.open.values()):
            due = self._due(occurrence)
            if due is None or due > until:
                continue
            if occurrence.gone is None:
                yield from self._publish(occurrence)
            else:
                yield from self._clear(occurrence, occurrence.gone)

    def deadline(self) -> Timestamp | None:
        """When the next delay ends."""
        return min((due for o in self.memory.open.values() if (due := self._due(o)) is not None), default=None)

    def _due(self, occurrence: Occurrence) -> Timestamp | None:
        """When something is told of an occurrence although nothing happens."""
        if not occurrence.is_published:
            return occurrence.raised + self._delays(occurrence.code).on
        return None if occurrence.gone is None else occurrence.gone + self._delays(occurrence.code).off

    def _update(self, occurrence: Occurrence, shown: AlarmShown, at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        events: list[tuple[Timestamp, AlarmEvent]] = []
        if shown.condition is not None:
            _note(occurrence, shown.condition)
        if not occurrence.is_published and not shown.active:
            self._suppress(occurrence)
            return []
        occurrence.is_acknowledged = shown.acked is not None
        if shown.acked and occurrence.acked is None:
            occurrence.acked = at
            if occurrence.is_published:
                events.append((at, _acked(occurrence, shown.condition)))
        if not occurrence.is_published and occurrence.raised + self._delays(occurrence.code).on <= at:
            events += self._publish(occurrence)
        if shown.active and occurrence.gone is not None:
            occurrence.gone, occurrence.repeats = None, occurrence.repeats + 1
        if not shown.active and occurrence.cleared is None and occurrence.gone is None:
            occurrence.gone = at
            if self._delays(occurrence.code).off == 0:
                events += self._clear(occurrence, at)
        self._end_if_over(occurrence)
        return events

    def _suppress(self, occurrence: Occurrence) -> None:
        """It was too short to be told."""
        self.memory.suppressed += 1
        self.memory.brief[occurrence.code] = self.memory.brief.get(occurrence.code, 0) + 1
        del self.memory.open[occurrence.code]

    def _raise(self, shown: AlarmShown, at: Timestamp, *, initial: bool) -> Occurrence:
        known = self.spec.texts.get(shown.code, AlarmText())
        occurrence = Occurrence(
            shown.code, at, shown.text or known.text, shown.severity or known.severity, initial=initial
        )
        self.memory.open[shown.code] = occurrence
        return occurrence

    def _publish(self, occurrence: Occurrence) -> list[tuple[Timestamp, AlarmEvent]]:
        occurrence.is_published = True
        known = self.spec.texts.get(occurrence.code, AlarmText())
        raised = AlarmRaised(
            code=occurrence.code, text=occurrence.text, sev=occurrence.severity, occ=occurrence.name,
            alarm_class=known.alarm_class,
            initial=occurrence.initial, suppressed=self.memory.brief.pop(occurrence.code, 0),
        )  # fmt: skip
        events: list[tuple[Timestamp, AlarmEvent]] = [(occurrence.raised, raised)]
        if occurrence.acked is not None:
            events.append((occurrence.acked, _acked(occurrence, None)))
        return events

    def _clear(self, occurrence: Occurrence, at: Timestamp) -> list[tuple[Timestamp, AlarmEvent]]:
        occurrence.cleared, occurrence.gone = at, None
        cleared = AlarmCleared(
            code=occurrence.code, occ=occurrence.name, dur_s=whole_seconds(at - occurrence.raised),
            repeats=occurrence.repeats,
        )  # fmt: skip
        self._end_if_over(occurrence)
        return [(at, cleared)]

    def _end_if_over(self, occurrence: Occurrence) -> None:
        """Over is what is cleared and acknowledged, or cleared where no acknowledgement can come."""
        is_acked = occurrence.acked is not None or not occurrence.is_acknowledged
        if occurrence.cleared is not None and is_acked and occurrence.confirmed is not False:
            self.memory.open.pop(occurrence.code, None)

    def _delays(self, code: str) -> Delays:
        return self.spec.delays.get(code, self.spec.all_delays)


def _note(occurrence: Occurrence, condition: ConditionChange) -> None:
    """What acknowledging must name; every event of a condition has an id of its own, and only the newest counts."""
    occurrence.condition, occurrence.event_id = condition.condition, condition.event_id.hex()
    occurrence.confirmed = condition.confirmed


def _acked(occurrence: Occurrence, condition: ConditionChange | None) -> AlarmAcked:
    """By whom: the one who asked the gateway, else whom the server names."""
    user, comment = (condition.user, condition.comment) if condition is not None else (None, None)
    by = occurrence.asked_by or user
    return AlarmAcked(code=occurrence.code, occ=occurrence.name, by=by, comment=comment)
