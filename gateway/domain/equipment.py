"""One equipment: its inputs, state, counters, order and containers, scan by scan.

A scan is what the machine showed at one moment of source time: the changes of a batch whose source times lie within
`SCAN_TOLERANCE`. Evaluating per scan and not per value is what keeps two tags of one PLC cycle together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec
from msgspec import field

from gateway.domain.contract.events import DowntimeClosed, EquipmentState
from gateway.domain.effects import Recorder, SequenceMemory
from gateway.domain.production.attribution import Attribution, Context
from gateway.domain.production.history import History
from gateway.domain.production.kpi import Kpi, KpiMemory, KpiSpec
from gateway.domain.production.lanes import LaneMemory, Lanes, LaneSpec
from gateway.domain.production.production_spec import ProductionMemory, ProductionSpec
from gateway.domain.production.shift_report import ShiftReport
from gateway.domain.shared import SharedRecord
from gateway.domain.state.alarm_sources import AlarmShown
from gateway.domain.state.alarms import AlarmEvent, AlarmMemory, Alarms, AlarmSpec
from gateway.domain.state.shifts import ShiftCalendar, ShiftMemory
from gateway.domain.state.states import (
    STOPS,
    Cause,
    Observation,
    State,
    StateMemory,
    StateSpec,
    StateTracker,
    Transition,
    observe,
)
from gateway.domain.tags.contacts import Contacts
from gateway.domain.tags.conversion import to_engineering
from gateway.domain.tags.derived import DerivedTag, DerivedTags
from gateway.domain.tags.expressions import Inputs
from gateway.domain.tags.heartbeats import Heartbeats
from gateway.domain.tags.pacing import PacedTags, TellValue
from gateway.domain.tags.run_parameters import RunParameters
from gateway.domain.tags.scans import Entry, Scans
from gateway.domain.tags.tag_spec import TagSpec
from gateway.domain.tags.units import common_code
from gateway.domain.times import MAX_LEAD, format_timestamp, whole_seconds
from gateway.domain.values import ConditionChange, StatusCode, TagChange, TagId, Timestamp
from gateway.domain.writing.deviations import DeviationMemory, Deviations
from gateway.domain.writing.download_memory import DownloadMemory
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.job_progress import JobMemory, job_progress
from gateway.domain.writing.write_safety import WriteMemory


class EquipmentSpec(msgspec.Struct, frozen=True):
    """Everything YAML says of one equipment, resolved and checked. Durations are milliseconds."""

    path: str
    unit: str
    tags: tuple[TagSpec, ...]
    state: StateSpec | None = None
    production: ProductionSpec = ProductionSpec()
    download: DownloadSpec | None = None
    alarms: AlarmSpec | None = None
    hold: TagSpec | None = None
    """The writable bit that asks the machine to stop for quality."""
    derived: tuple[DerivedTag, ...] = ()
    """In their slots behind `tags`, each after those that it is computed of."""
    calendar: ShiftCalendar | None = None
    kpi: KpiSpec | None = None
    lanes: tuple[LaneSpec, ...] = ()

    @property
    def units(self) -> dict[str, str]:
        """The units of the run parameters that have one."""
        tags: tuple[TagSpec | DerivedTag, ...] = (*self.tags, *self.derived)
        return {tag.name: tag.unit for tag in tags if (tag.publish or tag.pace) and tag.unit is not None}

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices its tags come from."""
        return tuple(dict.fromkeys(tag.device for tag in self.tags))

    @property
    def state_tags(self) -> dict[str, frozenset[TagId]]:
        """The tags that the state rules use, by device: without these devices its state is unknown.

        A checkweigher behind another server may be away without the machine being so. Where there are no rules, all of
        its devices matter, and no tag more than others.
        """
        needed = [self.tags[slot] for slot in self.state.needs] if self.state else []
        devices = dict.fromkeys(tag.device for tag in needed) or self.devices
        return {device: frozenset(tag.tag_id for tag in needed if tag.device == device) for device in devices}


class EquipmentMemory(msgspec.Struct):
    """All that changes about one equipment, as one checkpoint."""

    sequence: SequenceMemory = field(default_factory=SequenceMemory)
    state: StateMemory = field(default_factory=StateMemory)
    production: ProductionMemory = field(default_factory=ProductionMemory)
    download: DownloadMemory | None = None
    alarms: AlarmMemory = field(default_factory=AlarmMemory)
    shifts: ShiftMemory = field(default_factory=ShiftMemory)
    kpi: KpiMemory = field(default_factory=KpiMemory)
    deviations: DeviationMemory = field(default_factory=DeviationMemory)
    writes: WriteMemory = field(default_factory=WriteMemory)
    lanes: dict[str, LaneMemory] = field(default_factory=dict)
    jobs: JobMemory = field(default_factory=JobMemory)


class Equipment:
    """Takes in changes, gives events. Its whole memory is `memory`; `recorder` numbers what it says."""

    def __init__(
        self,
        spec: EquipmentSpec,
        memory: EquipmentMemory,
        recorder: Recorder,
        record: SharedRecord,
        kept: Mapping[str, bytes],
    ) -> None:
        self.spec = spec
        self.memory = memory
        self.recorder = recorder
        tags: tuple[TagSpec | DerivedTag, ...] = (*spec.tags, *spec.derived)
        self.inputs = Inputs([tag.name for tag in tags])
        self._states = StateTracker(spec.state, memory.state) if spec.state else None
        self.kpi = Kpi(spec.kpi, memory.kpi, spec.production.names) if spec.kpi else None
        self._shifts: ShiftReport | None = None
        if spec.calendar is not None:
            self._shifts = ShiftReport(
                spec.calendar, memory.shifts, recorder, self._states, spec.production.unit, self.kpi
            )
        shifts = self._shifts.tracker if self._shifts else None
        context = Context(spec.unit, recorder, record, self.inputs, memory.state, History(kept), shifts, self.kpi)
        self.attribution = Attribution(spec.production, memory.production, context)
        self.lanes = Lanes(self.attribution, context, spec.lanes, memory.lanes, kept)
        self.orders = self.attribution.orders
        self.jobs = job_progress(spec.download, memory.jobs, recorder, self.inputs)
        self.deviations = Deviations(spec.download, {tag.tag_id: tag.slot for tag in spec.tags}, memory.deviations)
        self._alarms = Alarms(spec.alarms, memory.alarms) if spec.alarms else None
        self.parameters = RunParameters(spec.path)
        self._tags = {tag.tag_id: tag for tag in spec.tags}
        self._derived = DerivedTags(spec.derived, self.inputs)
        self.paced = PacedTags()
        self._tells = {tag.slot: tell for tag in tags if (tell := self._tell_of(tag)) is not None}
        self._arrived: list[TagChange] = []
        self._pending: list[Entry] = []
        self._scans = Scans(len(tags), self.lanes.dated, self.lanes.take_late)
        self._needs = frozenset(spec.state.watched) if spec.state else frozenset[int]()
        self._heartbeats = Heartbeats((tag.heartbeat for tag in spec.tags if tag.heartbeat is not None), self.inputs)
        self._is_back = False
        self.is_blind = False  # True while a device tells of its past, and its states are not in it

    @property
    def state(self) -> State | None:
        """What the machine shows now: the candidate if one is being debounced."""
        shown = self.memory.state.candidate or self.memory.state.current
        return shown.state if shown else None

    def begin_contact(
        self, device: str, at: Timestamp, left: Timestamp | None = None, known: frozenset[TagId] = frozenset()
    ) -> None:
        """In reach again, last heard at `left`: what it says is true from `at` on, but for tags `known` by history."""
        if self.is_blind or not known:
            self._scans.begin(device, at, left)
            self._is_back = left is not None
        awaited = [tag for tag in self.spec.tags if tag.device == device and tag.tag_id not in known]
        for tag in awaited:
            self.inputs.statuses[tag.slot] = StatusCode.BAD_WAITING_FOR_INITIAL_DATA
            self._heartbeats.begin(tag.slot, at)
        self._derived.forget({tag.slot for tag in awaited})
        self.paced.forget(device)
        if self._alarms is not None:
            self._alarms.begin(at)

    def tell_units(self) -> None:
        """Say once, retained, what the numbers of the run parameters are measured in."""
        if units := self.spec.units:
            told = {name: {"unit": unit, "code": common_code(unit)} for name, unit in units.items()}
            self.recorder.retain("units", {"tags": told})

    def sink(self, tag: TagSpec) -> Callable[[TagChange], None]:
        """Where the values of a tag go until their batch ends."""
        if tag.is_plain:
            return self.parameters.sink(tag.tag_id, tag.name)
        return self._arrived.append

    def end_batch(self, contact: Timestamp) -> None:
        """All values of a batch are in their sinks; they take effect when their scan is run."""
        self.parameters.end_batch(contact)
        for change in self._arrived:
            self._take(self._tags[change.tag_id], change, contact)
        self._arrived.clear()

    def _take(self, tag: TagSpec, change: TagChange, contact: Timestamp) -> None:
        value, status = change.value, change.status_code
        if tag.conversion is not None:
            value, status = to_engineering(change, tag.conversion)
        at = change.source_timestamp
        if at is None or at > contact + MAX_LEAD:
            at = contact
        if tag.publish:
            self.parameters.add(tag.name, value, status, at)
        elif tag.pace is not None:
            self._tells[tag.slot](value, status, at)
        if tag.is_input:
            self._pending.append((at, tag.slot, value, status))

    def run_scans(self, device: str, contact: Timestamp, now: Timestamp) -> None:
        """Evaluate what was taken in from a device, in order of source time."""
        taken, self._pending = self._pending, []
        for at, entries in self._scans.take(device, contact, taken):
            self._scan(at, entries, now)
        self.lanes.tell_revision(now)

    def settle(self, until: Timestamp, contact: Timestamp, now: Timestamp) -> None:
        """Everything up to `until` is known, or will never be: close what ends there. Known it is up to `contact`."""
        if self._states is not None:
            self._apply(self._states.settle(until), now)
        if self._alarms is not None:
            self._tell_alarms(list(self._alarms.settle(until)), now)
        self.lanes.settle(until, self._states, now)
        if self._shifts is not None:
            self._shifts.settle(until, contact, now, out_of_contact=self.out_of_contact)

    def take_condition(self, condition: ConditionChange, contact: Timestamp, now: Timestamp) -> None:
        """A condition of an OPC UA server changed, or was told again by a refresh."""
        if self._alarms is None:
            return
        shown = AlarmShown(
            condition.code, condition.active, condition.acked, condition.text, condition.severity, condition
        )
        at = condition.at if condition.at is not None and condition.at <= contact + MAX_LEAD else contact
        self.recorder.changed = True
        self._tell_alarms(self._alarms.take_condition(shown, at), now)

    def _tell_alarms(self, events: Iterable[tuple[Timestamp, AlarmEvent]], now: Timestamp) -> None:
        for at, event in events:
            self.recorder.event(event, at, now, order=self.orders.owner(at))

    def regain_contact(self, at: Timestamp, now: Timestamp) -> None:
        """The device speaks again on a link that never broke: what was last heard holds from `at` on."""
        seen = self._observe(at) if self.out_of_contact else None
        if self._states is not None and seen is not None:
            self.recorder.changed = True
            self._apply(self._states.see(seen), now)

    @property
    def out_of_contact(self) -> bool:
        """True while the state is UNKNOWN because nothing is heard."""
        current = self.memory.state.current
        return current is not None and current.cause in (Cause.NO_CONTACT, Cause.GATEWAY_DOWN)

    def lose_contact(self, last_contact: Timestamp, cause: Cause, now: Timestamp) -> None:
        """No contact for longer than `stale_after`: the state is UNKNOWN since the last one."""
        if self._states is not None:
            self._apply(self._states.lose_contact(last_contact, cause), now)
        self.lanes.finish_orders(self._states, now)

    def deadline(self) -> Timestamp | None:
        """The next moment of source time at which something closes by itself.

        A missed heartbeat is none: it is seen when the device is next heard of, for only then it was missed.
        """
        times = (
            self.lanes.deadline(),
            self._states.deadline() if self._states else None,
            self._alarms.deadline() if self._alarms else None,
            self._shifts.deadline(out_of_contact=self.out_of_contact) if self._shifts else None,
        )
        return min((at for at in times if at is not None), default=None)

    def take_records(self) -> dict[str, bytes | None]:
        """The records of the past that changed, as checkpoints; None for what is gone."""
        return {f"{self.spec.path}|{name}": blob for name, blob in self.lanes.take_records().items()}

    # --- one scan -----------------------------------------------------------------------------------------------

    def _scan(self, at: Timestamp, entries: Iterable[Entry], now: Timestamp) -> None:
        self.recorder.changed = True
        touched = set()
        for _, slot, value, status in entries:
            self.inputs.values[slot] = value
            self.inputs.statuses[slot] = status
            touched.add(slot)
        for slot in self._derived.compute(touched):
            if (tell := self._tells.get(slot)) is not None:
                tell(self.inputs.values[slot], self.inputs.statuses[slot], at)
        self._heartbeats.take(touched, at)
        seen = None if self.is_blind or self._needs.isdisjoint(touched) else self._observe(at)
        if seen is not None and self._is_back:
            self._date_back(seen)
        self.lanes.take_scan(touched, seen, at, now)
        if self.jobs is not None:
            self.jobs.take_scan(touched, self.attribution, at, now)
        if self.memory.download is None:
            for found in self.deviations.take_scan(touched, self.inputs):
                self.recorder.event(found, at, now, order=self.orders.owner(at))
        if self._alarms is not None:
            self._tell_alarms(self._alarms.take_scan(self.inputs, touched, at), now)
        if self._states is not None and seen is not None:
            self._apply(self._states.see(seen), now)

    def _date_back(self, seen: Observation) -> None:
        """The first state after an absence holds since the newest change of its tags, if that was meanwhile.

        An older stamp, or a heartbeat's, does not prove that nothing happened; then it holds since the contact.
        """
        self._is_back = False
        changed = self._scans.changed_away(self._needs - self._heartbeats.slots)
        current = self.memory.state.current
        if changed is not None:
            seen.since = max(changed, current.since if current else 0)

    def _tell_of(self, tag: TagSpec | DerivedTag) -> TellValue | None:
        """Where a value of the tag goes as a run parameter; None if it is told nowhere."""
        tell = partial(self.parameters.add, tag.name)
        if tag.pace is not None:
            return self.paced.add(tag.pace, tag.sources, tell)
        return tell if tag.publish else None

    def _observe(self, at: Timestamp) -> Observation | None:
        """What the rules say, as soon as every tag they use was heard of since the device came into reach."""
        spec, waiting = self.spec.state, StatusCode.BAD_WAITING_FOR_INITIAL_DATA
        if spec is None or any(self.inputs.statuses[slot] == waiting for slot in spec.needs):
            return None
        current, candidate = self.memory.state.current, self.memory.state.candidate
        since = max(at, current.since if current else 0, candidate.since if candidate else 0)
        return observe(spec, self.inputs, since)  # what comes late cannot change what was before the last change

    def check_heartbeats(self, contacts: Contacts, now: Timestamp) -> None:
        """A heartbeat is missed when its own tag is known to have stood still for three periods."""
        missed = self._heartbeats.miss(contacts)
        if missed is not None and self._states is not None:
            seen = self._observe(max(missed, *(self._scans.last(device) for device in self.spec.state_tags)))
            if seen is not None:
                seen.cause = Cause.STALE_HEARTBEAT if seen.state is State.UNKNOWN else seen.cause
                self._apply(self._states.see(seen), now)

    # --- states -------------------------------------------------------------------------------------------------

    def _apply(self, transitions: Sequence[Transition], now: Timestamp) -> None:
        for transition in transitions:
            before, after, at = transition.before, transition.after, transition.at
            if transition.revision == 1 and before is not None:
                self._close_state(before, at, now)
            self.recorder.event(
                EquipmentState(
                    from_state=before.state if before else None, to=after.state, reason=after.reason,
                    cause=after.cause, raw=after.raw, initial=before is None,
                ),
                at, now, order=self.orders.owner(at), revision=transition.revision,
            )  # fmt: skip
            self.recorder.retain(
                "state",
                {"state": after.state, "since": format_timestamp(at), "reason": after.reason, "cause": after.cause},
            )
            if after.state is State.HELD and transition.revision == 1:
                self.lanes.interrupt(after, now)

    def _close_state(self, before: Observation, at: Timestamp, now: Timestamp) -> None:
        self.lanes.end_state(before, at, now)
        if self._shifts is not None:
            self._shifts.tracker.add_state_time(before.state, before.since, at)
        if before.state in STOPS:
            duration = at - before.since
            micro = self.spec.state is not None and duration < self.spec.state.micro_stop
            stop = DowntimeClosed(
                state=before.state, reason=before.reason, start=format_timestamp(before.since),
                dur_s=whole_seconds(duration), micro=micro,
            )  # fmt: skip
            self.recorder.event(stop, at, now, order=self.orders.owner(before.since))
