"""The daemon: one core, one store, a link per device, a link to the broker, all under one roof."""

import asyncio
import gc
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import structlog

from gateway import __version__
from gateway.audit.folder import AuditFolder, Head
from gateway.audit.trail import AuditTrail, audit_folder
from gateway.config.plant import Plant
from gateway.domain.contract.envelope import Kept
from gateway.domain.core import CONTACTS_KEY, Core
from gateway.domain.dispatching.forgetting import KEPT
from gateway.domain.effects import GatewayIdentity
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.times import format_timestamp
from gateway.domain.uplink import BrokerName, SalvagedRecord, UplinkRequest
from gateway.domain.values import Batch
from gateway.domain.writing.locks import WriteLocks
from gateway.drivers.base import Clock
from gateway.drivers.opcua.secure_channel.certificates import Expiring
from gateway.mqtt.client import Incoming
from gateway.mqtt.contract_messages import GatewayStatus, LockedDevice
from gateway.mqtt.payloads import Refused, decode_command, decode_kept, encode_json
from gateway.mqtt.probes import probes
from gateway.mqtt.topics import Topics
from gateway.runtime.broker_link import BrokerLink
from gateway.runtime.certificate_watch import watch_certificates
from gateway.runtime.clock import SystemClock
from gateway.runtime.clock_watch import ClockWatch
from gateway.runtime.command_intake import Rubbish, answered_at, objection_to, response_objection, sender_of
from gateway.runtime.commit import Committer
from gateway.runtime.departed import clear_departed
from gateway.runtime.device_link import DeviceLink
from gateway.runtime.dry_run import DryRun
from gateway.runtime.locks import LockFile, LookingOnly, lock_file
from gateway.runtime.uplink_duties import UplinkDuties, counts
from gateway.runtime.write_gate import AUDIT_KEY, WriteGate
from gateway.store.records import StoredAnswer
from gateway.store.schema import StoreError
from gateway.store.store import Store

log = structlog.get_logger()

HOUR = 3600.0

LONGEST_NAP = 1_000
"""Milliseconds of plant time after which deadlines are looked at in any case."""

REPORT = 0.25
"""Seconds between two status reports."""

FIRST_TRY = 2.0
"""Seconds for which, after a start, commands wait at the broker for the devices that they are for.

A gateway that listens before it has looked at its machines refuses the first download for want of contact."""

LOOK_AT_LOCKS = 1.0
"""Seconds until a lock is told of, at the latest. It holds from the moment on in which it is set."""

RESPONSES = "_res"
"""The level below the site where everybody may ask to be answered, if the YAML names no other place."""

DRAIN = 5.0
"""Seconds given to the outbox at the end."""


class Daemon:
    """Runs one plant until `stop` is set. Facts meet the core here, and nothing else is decided here."""

    def __init__(self, plant: Plant, clock: Clock, dry_run: BinaryIO | None = None) -> None:
        """With `dry_run`, nothing is published or written to any device: what would be published goes there."""
        self._plant = plant
        self._clock = clock
        self._dry_run = dry_run
        self._locks: WriteLocks | None = None
        self._gate: WriteGate
        self._topics = Topics(plant.topic_root, plant.site, plant.gateway_id)
        self._links: dict[str, DeviceLink] = {}
        self._timers = asyncio.Event()
        self._rubbish = Rubbish()
        own = f"{plant.topic_root}/{plant.site}/{RESPONSES}/"
        self._response_topics = plant.mqtt.response_topics or (own,)
        self._core: Core
        self._committer: Committer
        self._store: Store
        self._broker: BrokerLink | DryRun
        self._duties: UplinkDuties | None = None

    async def run(self, stop: asyncio.Event, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Open the store, run everything, and end in good order: no new facts, commit, drain, close."""
        path = Path(self._plant.store)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path.parent} cannot be made: {error}; see gateway: store: in the YAML") from error
        async with AsyncExitStack() as stack:
            self._store = await stack.enter_async_context(self._store_at(path))
            checkpoints = await self._store.checkpoints()
            known = msgspec.json.decode(checkpoints.get(AUDIT_KEY, b"{}"), type=Head)
            audit = AuditTrail(AuditFolder(audit_folder(path)), known, self._clock.now)
            await self._restore(checkpoints, await stack.enter_async_context(audit))
            async with asyncio.TaskGroup() as tasks:
                broker = tasks.create_task(self._talk_to_broker())
                commit = tasks.create_task(self._committer.run(self._operate, self._broker.wake))
                sources = [tasks.create_task(link.run()) for link in self._links.values()]
                sources.append(tasks.create_task(self._watch_deadlines()))
                sources.append(tasks.create_task(self._watch_locks()))
                sources.append(tasks.create_task(self._forget()))
                visit = self._dry_run is None
                watching = watch_certificates(self._plant, self._clock, self._expires, visit_brokers=visit)
                sources.append(tasks.create_task(watching))
                if isinstance(self._clock, SystemClock):
                    watch = ClockWatch(self._clock, self._clock_jumped, self._store)
                    sources.append(tasks.create_task(watch.run()))
                if self._duties is not None:
                    sources.append(tasks.create_task(self._duties.run()))
                if report is not None:
                    sources.append(tasks.create_task(self._report(report)))
                await stop.wait()
                log.info("stopping")
                await _cancel(sources)
                await self._commit_last()
                await self._broker.drain(DRAIN)
                await _cancel([commit, broker])
                await self._gate.tell_gathered()

    async def _commit_last(self) -> None:
        """What came until now, if there is room for it; a full disk keeps nobody from stopping the gateway."""
        try:
            async with asyncio.timeout(DRAIN):
                await self._committer.committed()
        except TimeoutError:
            log.warning("stopping without room in the record; whoever told what came last still has it")

    def _store_at(self, path: Path) -> Store:
        return Store(path, uuid.uuid4().hex[:12], self._plant.store_limit)

    async def _talk_to_broker(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TRY):
                for link in self._links.values():
                    await link.tried.wait()
        await self._broker.run()

    async def _restore(self, checkpoints: Mapping[str, bytes], audit: AuditTrail) -> None:
        if isinstance(self._clock, SystemClock):
            heard = msgspec.json.decode(checkpoints.get(CONTACTS_KEY, b"{}"), type=dict[str, int])
            self._clock.begin_after(max(heard.values(), default=0))
        now, plant = self._clock.now(), self._plant
        answers = await self._store.answers(now - KEPT)
        identity = GatewayIdentity(plant.gateway_id, plant.fingerprint, self._store.epoch, __version__)
        self._core = Core(plant.equipment, identity, checkpoints, dict(_legible(answers)), now)
        locks = LookingOnly(now) if self._dry_run is not None else LockFile(lock_file(plant.store))
        self._gate = WriteGate(locks, audit, self._clock)
        self._committer = Committer(self._core, self._store, self._topics, self._clock, self._gate)
        self._links = {
            name: DeviceLink(device, self, self._clock, self._gate) for name, device in plant.devices.items()
        }
        self._broker = self._outlet()
        if isinstance(self._broker, BrokerLink):
            counts_topic = self._topics.now("messages")
            self._duties = UplinkDuties(self._committer, self._store, self._broker, self._clock, counts_topic)
            await clear_departed(self._store, self._topics, [spec.path for spec in plant.equipment])
        self._look_at_locks()
        began = "new record" if self._store.is_new else "record restored"
        log.info(began, epoch=self._store.epoch, config=plant.fingerprint, file=str(self._store.path))
        if self._store.salvaged is not None:
            _tell_salvage(self._store.salvaged)
        self._committer.request()
        # What was made up to here lives as long as the gateway: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    def _outlet(self) -> BrokerLink | DryRun:
        if self._dry_run is not None:
            return DryRun(self._store, self._dry_run, self._clock)
        return BrokerLink(
            self._plant.mqtt, self._store, self._clock, self,
            filters=self._topics.command_filters([spec.path for spec in self._plant.equipment]),
            status=(self._topics.status, self._status("online"), self._status("offline")),
            probes=partial(probes, self._topics, self._plant.gateway_id, [spec.path for spec in self._plant.equipment]),
        )  # fmt: skip

    def _status(self, state: str) -> bytes:
        plant = self._plant
        status = GatewayStatus(
            state=state, gateway=plant.gateway_id, version=__version__, configuration=plant.fingerprint,
            epoch=self._store.epoch, equipment=[spec.path for spec in plant.equipment], in_clear=plant.in_clear,
            locks=[
                LockedDevice(device=device, reason=lock.reason, by=lock.by, since=format_timestamp(lock.at))
                for device, lock in (self._locks or WriteLocks()).shown()
            ],
        )  # fmt: skip
        return encode_json(status)

    # --- facts from devices -------------------------------------------------------------------------------------

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        """A device's link came up or went down."""
        now = self._clock.now()
        with self._committer.facts() as core:
            core.handle_link(device, up, now, now, detail, resumed)

    async def take_batch(self, device: str, batch: Batch) -> None:
        """A batch arrived; returns when it is committed."""
        with self._committer.facts() as core:
            core.handle_changes(device, batch, self._clock.now())
        await self._committer.committed()

    def operation_done(self, result: OperationResult) -> None:
        """A device operation ended; where it met a lock, the core knows of that first, and asks for no second one."""
        if result.refused is not None:
            self._look_at_locks()
        with self._committer.facts() as core:
            core.handle_operation(result, self._clock.now())
        self._timers.set()

    def _expires(self, found: Expiring) -> None:
        now = self._clock.now()
        with self._committer.facts() as core:
            is_new = core.handle_expiry(found.subject, found.thumbprint, found.valid_until, found.days_left, now)
        if is_new:
            log.warning("a certificate ends soon", subject=found.subject, days_left=found.days_left)

    def _clock_jumped(self, by: int, ahead: int) -> None:
        now = self._clock.now()
        with self._committer.facts() as core:
            core.handle_clock_jump(by, ahead, now)

    def _operate(self, operation: Operation | UplinkRequest) -> None:
        if isinstance(operation, Operation):
            self._links[operation.device].submit(operation)
        elif self._duties is not None:
            self._duties.submit(operation)

    # --- facts from the broker ----------------------------------------------------------------------------------

    def broker_connected(self, broker: BrokerName) -> None:
        """The broker is in reach."""
        now = self._clock.now()
        with self._committer.facts() as core:
            core.handle_broker(True, now, now, broker)

    def broker_lost(self, reason: str) -> None:
        """The broker is out of reach; `reason` is logged by the link."""
        now = self._clock.now()
        with self._committer.facts() as core:
            core.handle_broker(False, now, now)

    async def handle_message(self, incoming: Incoming) -> None:
        """A message came on a command topic; returns when its answer is committed."""
        topic = self._topics.parse_command(incoming.topic)
        if topic is None:
            log.warning("message on a topic that is no command topic", topic=incoming.topic)
            return
        if not incoming.payload:
            return  # how a retained message is cleared
        self._look_at_locks()
        now, known = self._clock.now(), {spec.path for spec in self._plant.equipment}
        path = answered_at(topic, known)
        command = decode_command(topic.type, incoming.payload)
        sender = sender_of(incoming, command)
        unheard = response_objection(sender, self._response_topics)
        if unheard is not None:
            sender = msgspec.structs.replace(sender, topic=None)
        objection = objection_to(incoming, command, path, known, self._topics) or unheard
        if objection is not None and not command.cmd and not self._rubbish.may_be_answered(objection, now):
            return
        with self._committer.facts() as core:
            if objection is not None:
                core.refuse_command(command.cmd, topic.type, objection, path, now, sender)
            elif not isinstance(command, Refused):
                core.handle_command(command, now, sender)
        self._timers.set()
        await self._committer.committed()

    # --- locks --------------------------------------------------------------------------------------------------

    def _look_at_locks(self) -> None:
        """Tell the core and the plant if somebody has locked or unlocked; the gate looks for itself."""
        locks = self._gate.locks.current()
        if locks == self._locks:
            return
        for device, lock in locks.shown():
            log.warning(
                "device locked" if device else "every device locked", device=device, by=lock.by, why=lock.reason
            )
        for device, _ in set((self._locks or WriteLocks()).shown()) - set(locks.shown()):
            log.warning("device unlocked" if device else "no lock on every device any more", device=device)
        self._locks = locks
        with self._committer.facts() as core:
            core.handle_locks(locks, self._clock.now())
        self._broker.tell_status(self._status("online"), self._status("offline"))

    async def _watch_locks(self) -> None:
        while True:
            self._look_at_locks()
            await asyncio.sleep(LOOK_AT_LOCKS)

    # --- time ---------------------------------------------------------------------------------------------------

    async def _watch_deadlines(self) -> None:
        while True:
            now = self._clock.now()
            with self._committer.facts() as core:
                core.handle_deadline(now)
            deadline = self._core.next_deadline()
            nap = LONGEST_NAP if deadline is None else min(LONGEST_NAP, max(1, deadline - now))
            self._timers.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(nap / 1000 / self._clock.rate):
                    await self._timers.wait()

    async def _forget(self) -> None:
        """Published events are kept for replay, and answers for commands that come again, but not for ever."""
        while True:
            now = self._clock.now()
            await self._store.forget_published(now - self._plant.keep_published)
            await self._store.forget_answers(now - KEPT)
            await asyncio.sleep(HOUR)

    async def _report(self, report: Callable[[dict[str, Any]], None]) -> None:
        while True:
            store, broker = self._store.statistics, self._broker.connected
            figures = {"published": store.published, "broker": broker, "links": self._core.links}
            report(counts(store) | figures)
            await asyncio.sleep(REPORT)


def _legible(answers: Iterable[StoredAnswer]) -> Iterator[tuple[str, Kept]]:
    """The answers by command. One that the disk has spoiled costs its command, and not every start."""
    for answer in answers:
        try:
            yield answer.cmd, decode_kept(answer.payload, answer.sender)
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
            text = "an answer in the record is not as it was kept; sent again, its command would be carried out again"
            log.error(text, cmd=answer.cmd, reason=repr(error))


def _tell_salvage(told: SalvagedRecord) -> None:
    log.error(
        "the record was damaged; what could be read goes on, and what could not is told as gateway.salvaged",
        reason=told.reason, file=told.file, messages_saved=told.rows_saved, lost_rows=list(told.lost_rows)[:20],
        memory="begun anew" if told.new_epoch else "whole",
    )  # fmt: skip


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
