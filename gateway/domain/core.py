"""All mutable state of the gateway's record. Facts go in by `handle_*`, effects come out by `take_effects`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import field

from gateway.domain.backfill import is_covered
from gateway.domain.checkpoints import past_records, with_departed
from gateway.domain.clock_jump import move_timers
from gateway.domain.commands.intake import Commands
from gateway.domain.commands.uplink_requests import Ranges
from gateway.domain.contract.envelope import NOBODY, Kept, Sender
from gateway.domain.contract.event_data import Report
from gateway.domain.contract.gateway_events import (
    GatewayCertificate,
    GatewayClock,
    GatewayConnection,
    GatewayLock,
    GatewayOutage,
    GatewayRestarted,
)
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import Command
from gateway.domain.effects import Effects, GatewayIdentity, Recorder, SequenceMemory
from gateway.domain.equipment import Equipment, EquipmentMemory, EquipmentSpec
from gateway.domain.losses import losses
from gateway.domain.operations import OperationResult
from gateway.domain.shared import SharedRecord
from gateway.domain.state.states import Cause
from gateway.domain.tags.contacts import Contacts
from gateway.domain.times import format_timestamp
from gateway.domain.uplink import BrokerName, NumberedNotice
from gateway.domain.uplink_reports import births, reports
from gateway.domain.values import Backfill, Batch, Timestamp
from gateway.domain.writing.locks import WriteLocks

GATEWAY_KEY = "gateway"
CONTACTS_KEY = "contacts"
TELEMETRY_KEY = "telemetry"
"""The number of each equipment's last `tel` message: one short checkpoint, for nearly every commit has one."""

GRACE = 5_000
"""Milliseconds after which a moment of source time counts as passed although its device did not say so."""

CONTACT_INTERVAL = 1_000
"""How often the times of contact are saved when nothing else is."""


_Memory = TypeVar("_Memory")


class GatewayMemory(msgspec.Struct):
    """What survives a restart, besides the equipment."""

    sequence: SequenceMemory = field(default_factory=SequenceMemory)
    record: SharedRecord = field(default_factory=SharedRecord)
    links: dict[str, bool] = field(default_factory=dict)
    broker_lost: Timestamp | None = None
    buffered: int = 0
    expiries: dict[str, str] = field(default_factory=dict)
    """Thumbprints of certificates that end soon, with the day on which that was told last."""


class Core:
    """The record of one gateway. It dispatches; what things mean is in the modules beside it."""

    def __init__(
        self,
        equipment: Sequence[EquipmentSpec],
        identity: GatewayIdentity,
        checkpoints: Mapping[str, bytes],
        answers: Mapping[str, Kept],
        now: Timestamp,
    ) -> None:
        self.effects = Effects()
        self.memory = _restore(checkpoints.get(GATEWAY_KEY), GatewayMemory)
        self._saved_contacts = now
        heard: dict[str, Timestamp] = {}
        if CONTACTS_KEY in checkpoints:
            heard = msgspec.json.decode(checkpoints[CONTACTS_KEY], type=dict[str, Timestamp])
        self._contacts = Contacts(heard, now)
        self._identity = identity
        self._started = now
        self._links: dict[str, bool] = {}
        self._backfilled: set[str] = set()
        self._site = Recorder(identity, None, self.memory.sequence, self.effects)
        self.equipment: dict[str, Equipment] = {}
        kept = past_records(checkpoints)
        for spec in equipment:
            memory = _restore(checkpoints.get(spec.path), EquipmentMemory)
            recorder = self._site.of_equipment(spec.path, memory.sequence)
            self.equipment[spec.path] = Equipment(spec, memory, recorder, self.memory.record, kept.get(spec.path, {}))
        self._sinks = {tag.tag_id: item.sink(tag) for item in self.equipment.values() for tag in item.spec.tags}
        self._messages: dict[str, int] = {}
        if TELEMETRY_KEY in checkpoints:
            self._messages = msgspec.json.decode(checkpoints[TELEMETRY_KEY], type=dict[str, int])
        self._state_tags = {path: item.spec.state_tags for path, item in self.equipment.items()}
        self._on_device: dict[str, list[Equipment]] = {}
        for item in self.equipment.values():
            item.tell_units()
            for device in item.spec.devices:
                self._on_device.setdefault(device, []).append(item)
        by_unit = {unit: lane for item in self.equipment.values() for unit, lane in item.lanes.by_unit.items()}
        for attribution in by_unit.values():
            attribution.follow(by_unit)
        self._recorders: dict[str | None, Recorder] = {None: self._site}
        self._recorders |= {one.path: one for item in self.equipment.values() for one in item.lanes.recorders}
        streams = with_departed(self._recorders, checkpoints)
        self._commands = Commands(self.memory.record, self.equipment, streams, answers, self._links, now)
        if checkpoints:
            last = max(self._contacts.heard.values(), default=None)
            restarted = GatewayRestarted(
                version=identity.version, last_alive=format_timestamp(last) if last is not None else None
            )
            self._site.event(restarted, now, now, time_quality="gateway")

    @property
    def links(self) -> Mapping[str, bool]:
        """Which devices are in reach."""
        return self._links

    # --- facts --------------------------------------------------------------------------------------------------

    def handle_changes(self, device: str, batch: Batch, now: Timestamp) -> None:
        """One publish response or poll; an empty one says that nothing else happened up to its contact time."""
        if batch.backfill is not None:
            self._take_backfill(device, batch, batch.backfill, now)
            return
        sinks, contact = self._sinks, batch.contact
        if batch.gaps or batch.drifts or batch.skew is not None:
            self._report(losses(device, batch), now)
        for change in batch.changes:
            sinks[change.tag_id](change)
        self._contacts.take(device, batch)
        if batch.conditions:
            self._take_conditions(device, batch, now)
        for equipment in self._on_device.get(device, ()):
            equipment.recorder.time_quality = batch.time_quality
            equipment.lanes.lag = batch.lag
            equipment.end_batch(contact)
            if equipment.out_of_contact and not batch.changes:
                equipment.regain_contact(contact, now)
            equipment.run_scans(device, contact, now)
            equipment.check_heartbeats(self._contacts, now)
            equipment.paced.settle(self._contacts)
            known = self._contacts.known_of(self._state_tags[equipment.spec.path])
            equipment.settle(known, known, now)
            self._commands.handle_scan(equipment.spec.path, now)

    def _take_backfill(self, device: str, batch: Batch, told: Backfill, now: Timestamp) -> None:
        """What happened in an outage, from the device's history: in order of time, and nothing after its contact yet.

        An equipment whose states are not in the history stays UNKNOWN; its counts find their order and minute all the
        same. While it lasts no clock overrules the device, and no heartbeat counts as missed.
        """
        if batch.gaps:
            self._report(losses(device, batch), now)
        for change in batch.changes:
            self._sinks[change.tag_id](change)
        last, begins = self._contacts.heard.get(device, batch.contact), device not in self._backfilled
        self._contacts.take(device, batch)
        self._backfilled.add(device)
        for equipment in self._on_device.get(device, ()):
            state = equipment.spec.state
            equipment.recorder.time_quality = batch.time_quality
            equipment.is_blind = not is_covered(equipment.spec, device, told.covered)
            equipment.attribution.tells_past = True
            if equipment.is_blind and begins and state is not None and now - last > state.stale_after:
                self._lose(equipment, last, now)
            elif equipment.out_of_contact and not equipment.is_blind:
                equipment.regain_contact(last, now)
            equipment.end_batch(batch.contact)
            equipment.run_scans(device, batch.contact, now)
            known = self._contacts.known_of(self._state_tags[equipment.spec.path])
            equipment.settle(known, known, now)
            if told.is_last:
                equipment.begin_contact(device, now, known=told.covered)
        if told.is_last:
            self._end_backfill(device)

    def _end_backfill(self, device: str) -> None:
        self._backfilled.discard(device)
        for equipment in self._on_device.get(device, ()):
            equipment.is_blind = equipment.attribution.tells_past = False

    def handle_link(
        self, device: str, up: bool, at: Timestamp, now: Timestamp, detail: str | None = None, resumed: bool = False
    ) -> None:
        """The link to a device came up or went down at `at`.

        A resumed link goes on where the last one broke: what happened meanwhile is still to come, with its own
        times, and what did not change holds.
        """
        self._links[device] = up
        if device in self._backfilled:
            self._end_backfill(device)
        last = self._contacts.heard.get(device)
        if up and resumed:
            self._commands.handle_link_up(device, now)
        elif up:
            self._close_gap(device, last, at, now)
            self._contacts.begin(device, at)
            for equipment in self._on_device.get(device, ()):
                equipment.begin_contact(device, at, last)
            self._commands.handle_link_up(device, now)
        known = self.memory.links.get(device)
        if known is up or (known is None and not up):
            return
        self.memory.links[device] = up
        self._site.changed = True
        if known is not None:
            moment = at if up or last is None else last
            since = last if last is not None else at
            connection = GatewayConnection(device=device, up=up, since=format_timestamp(since), detail=detail)
            self._site.event(connection, moment, now, time_quality="gateway")

    def handle_broker(self, up: bool, at: Timestamp, now: Timestamp, to: BrokerName | None = None) -> None:
        """The broker was lost or is back. A broker with a name is told what there is."""
        if not up:
            if self.memory.broker_lost is None:
                self.memory.broker_lost, self.memory.buffered = at, 0
                self._site.changed = True
        elif self.memory.broker_lost is not None:
            lost, buffered = self.memory.broker_lost, self.memory.buffered
            self.memory.broker_lost = None
            outage = GatewayOutage(start=format_timestamp(lost), end=format_timestamp(at), buffered_discrete=buffered)
            self._site.event(outage, at, now, time_quality="gateway")
        if to is not None:
            self._report(births(to, at, self._identity, self._recorders, self._messages), now)

    def handle_clock_jump(self, by: int, ahead: int, now: Timestamp) -> None:
        """The clock of the gateway's box was set by so many milliseconds; it is `ahead` of the box then.

        Set forward, it was followed: `now` is behind the jump, and what was measured before it is moved along.
        """
        if by > 0:
            self._contacts.move(by)
            self._started += by
            self._saved_contacts += by
            for memory in (self.memory.record, *(equipment.memory for equipment in self.equipment.values())):
                move_timers(memory, by)
        clock = GatewayClock(jump_s=by / 1000, ahead_s=max(0, ahead) / 1000)
        self._site.event(clock, now, now, time_quality="gateway")

    def handle_notices(self, notices: Sequence[NumberedNotice], now: Timestamp) -> None:
        """What the store noted of messages in its care; it may forget that once the effects are committed."""
        self.effects.notices_told += [notice.number for notice in notices]
        self._report(reports(notices), now)

    def handle_replayed(self, cmd: str, sent: int, missing: Ranges, now: Timestamp) -> None:
        """So many events of a replay were sent again; those with the missing numbers are no longer kept."""
        self._commands.uplink.end_replay(cmd, sent, missing, now)

    def handle_retried(self, cmd: str, queued: int, now: Timestamp) -> None:
        """So many quarantined messages are queued again."""
        self._commands.uplink.end_retry(cmd, queued, now)

    def handle_expiry(
        self, subject: str, thumbprint: str, valid_until: Timestamp, days_left: int, now: Timestamp
    ) -> bool:
        """A certificate ends within days; told once a day, also over a restart. True if it was told now."""
        day = format_timestamp(now)[:10]
        if self.memory.expiries.get(thumbprint) == day:
            return False
        self.memory.expiries[thumbprint] = day
        ends = GatewayCertificate(
            subject=subject, thumbprint=thumbprint, valid_until=format_timestamp(valid_until), days_left=days_left,
            day=day,
        )  # fmt: skip
        self._site.event(ends, now, now, time_quality="gateway")
        return True

    def handle_locks(self, locks: WriteLocks, now: Timestamp) -> None:
        """The write locks are these now; what changed since the last time, also over a restart, is told."""
        known, self.memory.record.locks = self.memory.record.locks, locks
        before, after = set(known.shown()), set(locks.shown())
        for is_locked, changed in ((False, before - after), (True, after - before)):
            for device, lock in sorted(changed, key=str):
                told = GatewayLock(
                    device=device, locked=is_locked, reason=lock.reason, by=lock.by, since=format_timestamp(lock.at)
                )
                self._site.event(told, now, now, time_quality="gateway")

    def handle_command(self, command: Command, now: Timestamp, sender: Sender = NOBODY) -> None:
        """A well-formed command arrived."""
        self._commands.handle(command, now, sender)

    def refuse_command(
        self, cmd: str, kind: str, objection: Objection, path: str | None, now: Timestamp, sender: Sender = NOBODY
    ) -> None:
        """A command arrived that cannot be understood or may not be taken."""
        self._commands.refuse(cmd, kind, objection, path, now, sender)

    def handle_operation(self, result: OperationResult, now: Timestamp) -> None:
        """A device operation ended."""
        self._commands.handle_result(result, now)

    def handle_deadline(self, now: Timestamp) -> None:
        """Time passed: lost contact, moments that no device confirmed, timers of downloads."""
        for equipment in self._judged_by_clock():
            state, tags = equipment.spec.state, self._state_tags[equipment.spec.path]
            heard = self._contacts.heard_of(tags)
            if state is not None and not equipment.out_of_contact and now - heard > state.stale_after:
                self._lose(equipment, heard, now)
            deadline = equipment.deadline()
            if deadline is not None and deadline + GRACE <= now:
                known = self._contacts.known_of(tags)
                equipment.settle(max(known, now - GRACE), known, now)
        self._commands.handle_timer(now)

    def next_deadline(self) -> Timestamp | None:
        """When `handle_deadline` wants to be called at the latest."""
        times = [self._commands.next_timer()]
        for equipment in self._judged_by_clock():
            deadline, state = equipment.deadline(), equipment.spec.state
            times.append(None if deadline is None else deadline + GRACE)
            if state is not None and not equipment.out_of_contact:
                heard = self._contacts.heard_of(self._state_tags[equipment.spec.path])
                times.append(heard + state.stale_after + 1)
        return min((at for at in times if at is not None), default=None)

    def _judged_by_clock(self) -> list[Equipment]:
        """The equipment whose devices are not telling of their past at the moment."""
        told = self._backfilled
        return [item for item in self.equipment.values() if not told or told.isdisjoint(item.spec.devices)]

    # --- effects ------------------------------------------------------------------------------------------------

    def take_effects(self, now: Timestamp) -> Effects | None:
        """Everything since the last call, with the checkpoints that belong to it; None if there is nothing."""
        effects = self.effects
        for path, equipment in self.equipment.items():
            if not equipment.parameters.is_empty:
                number = self._messages[path] = self._messages.get(path, 0) + 1
                effects.telemetry.append(equipment.parameters.close(number, equipment.orders.owner(now)))
            equipment.lanes.gather()
            if equipment.recorder.changed:
                equipment.recorder.changed = False
                effects.checkpoints[path] = msgspec.json.encode(equipment.memory)
                effects.checkpoints.update(equipment.take_records())
        if effects.telemetry:
            effects.checkpoints[TELEMETRY_KEY] = msgspec.json.encode(self._messages)
        if self.memory.broker_lost is not None and effects.events:
            self.memory.buffered += len(effects.events)
            self._site.changed = True
        if self._site.changed:
            self._site.changed = False
            effects.checkpoints[GATEWAY_KEY] = msgspec.json.encode(self.memory)
        if effects.checkpoints or now - self._saved_contacts >= CONTACT_INTERVAL:
            self._saved_contacts = now
            effects.checkpoints[CONTACTS_KEY] = msgspec.json.encode(self._contacts.heard)
        if effects.is_empty:
            return None
        self.effects = Effects()
        for recorder in self._recorders.values():
            recorder.effects = self.effects
        return effects

    def _take_conditions(self, device: str, batch: Batch, now: Timestamp) -> None:
        """Alarm conditions go to the equipment whose configuration names their source."""
        for equipment in self._on_device.get(device, ()):
            alarms = equipment.spec.alarms
            for condition in batch.conditions:
                if alarms is not None and alarms.condition_source == condition.source:
                    equipment.recorder.time_quality = batch.time_quality
                    equipment.take_condition(condition, batch.contact, now)

    def _close_gap(self, device: str, last: Timestamp | None, at: Timestamp, now: Timestamp) -> None:
        for equipment in self._on_device.get(device, ()):
            state = equipment.spec.state
            if state is None or last is None or equipment.out_of_contact or at - last <= state.stale_after:
                continue
            if device not in self._state_tags[equipment.spec.path]:
                continue
            self._lose(equipment, last, now)

    def _report(self, told: Iterable[Report], now: Timestamp) -> None:
        """Events of the gateway itself, dated by its own clock."""
        for data, at in told:
            self._site.event(data, at, now, time_quality="gateway")

    def _lose(self, equipment: Equipment, last: Timestamp, now: Timestamp) -> None:
        """Nothing was heard since `last`: if that was before this start, it was the gateway that was away."""
        cause = Cause.GATEWAY_DOWN if last < self._started else Cause.NO_CONTACT
        equipment.lose_contact(last, cause, now)


def _restore(blob: bytes | None, kind: type[_Memory]) -> _Memory:
    return kind() if blob is None else msgspec.json.decode(blob, type=kind)
