"""From effects to one transaction, again and again: what arrives during a commit forms the next one."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import structlog

from gateway.domain.core import Core
from gateway.domain.effects import Effects
from gateway.domain.operations import CommandEnd, Operation
from gateway.domain.uplink import UplinkRequest
from gateway.drivers.base import Clock
from gateway.mqtt import payloads
from gateway.mqtt.topics import Topics
from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store

log = structlog.get_logger()

FULL_PAUSE: Final = 0.5
"""Seconds until a record that is full is tried again."""


class CommandAudit(Protocol):
    """Where the end of a command that writes is told before its answer is committed."""

    async def tell_ends(self, ends: Sequence[CommandEnd]) -> None:
        """Returns when they are on the disk, or owed to one that takes nothing."""
        ...

    def checkpoint(self) -> dict[str, bytes]:
        """How far the audit goes, for the record to know: who cuts it off afterwards is found."""
        ...


class Committer:
    """Takes the core's effects, commits them, and only then lets operations start and the broker link look.

    Facts reach the core through `facts` alone, so that what one of them left half done is never committed.
    """

    def __init__(
        self, core: Core, store: Store, topics: Topics, clock: Clock, audit: CommandAudit | None = None
    ) -> None:
        """`audit` is told how commands ended; without one nothing is to be written to any device."""
        self._audit = audit
        self._core = core
        self._store = store
        self._topics = topics
        self._clock = clock
        self._wanted = asyncio.Event()
        self._waiting: asyncio.Future[None] | None = None
        self._failed = False

    @contextmanager
    def facts(self) -> Iterator[Core]:
        """The core, to be told facts; what comes of them is committed soon.

        A core that raises may have taken a fact in by half. Nothing is committed from then on, so that the next
        start goes on from what was right last; the error itself ends the daemon.
        """
        try:
            yield self._core
        except BaseException:
            self._failed = True
            raise
        self._wanted.set()

    def request(self) -> None:
        """Something may have happened: commit it soon."""
        self._wanted.set()

    async def committed(self) -> None:
        """Wait until everything that the core knows by now is committed."""
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        self._wanted.set()
        await asyncio.shield(self._waiting)

    async def run(self, operate: Callable[[Operation | UplinkRequest], None], wake: Callable[[], None]) -> None:
        """Commit until cancelled; a failing store ends the daemon, since nothing could be promised any more."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._failed:
                return
            waiting, self._waiting = self._waiting, None
            effects = self._core.take_effects(self._clock.now())
            if effects is not None:
                if self._audit is not None:
                    await self._audit.tell_ends(effects.ends)
                    effects.checkpoints |= self._audit.checkpoint()
                await self._store_all(self.transaction(effects))
                _log_answers(effects)
                for operation in (*effects.operations, *effects.uplink):
                    operate(operation)
                wake()
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def _store_all(self, transaction: Transaction) -> None:
        """Commit it, however long that takes: while the record is full nothing more is taken in from anywhere.

        Whoever waits for `committed` waits on, so the devices keep their values in their own queues.
        """
        told = False
        while True:
            try:
                await self._store.commit(transaction)
            except StoreFull as error:
                if not told:
                    log.error(
                        "intake waits for room in the record", reason=str(error), queued=self._store.statistics.queued
                    )
                told = True
                await asyncio.sleep(FULL_PAUSE)
            else:
                break
        if told:
            log.info("the record has room again")

    def transaction(self, effects: Effects) -> Transaction:
        """The effects as the store takes them."""
        topics = self._topics
        messages = [
            OutboxMessage(topics.event(e.equipment, e.type), payloads.encode_event(e), "evt", e.equipment, e.seq)
            for e in effects.events
        ]
        messages += [
            OutboxMessage(topics.telemetry(t.equipment), payloads.encode_telemetry(t), "tel", t.equipment, t.seq)
            for t in effects.telemetry
        ]
        for path, answer, sender in effects.answers:
            payload = payloads.encode_answer(answer)
            messages.append(OutboxMessage(topics.answer(path, answer.type), payload, "res", None, 0))
            if sender.topic is not None:
                messages.append(OutboxMessage(sender.topic, payload, "res", None, 0, sender.correlation))
        return Transaction(
            messages=messages,
            retained={
                topics.retained(path, kind): payloads.encode_json(payload)
                for (path, kind), payload in effects.retained.items()
            },
            checkpoints=effects.checkpoints,
            notices_told=effects.notices_told,
            at=self._clock.now(),
            answers=[
                StoredAnswer(
                    cmd, kept.answer.at, payloads.encode_answer(kept.answer), payloads.encode_json(kept.sender)
                )
                for cmd, kept in effects.kept.items()
            ],
        )


def _log_answers(effects: Effects) -> None:
    """One line for each command that has come to its end, for whoever stands at the box."""
    for answer in (kept.answer for kept in effects.kept.values() if kept.answer.final):
        why = {"codes": list(answer.codes), "detail": list(answer.detail)} if answer.codes else {}
        log.info("command answered", cmd=answer.cmd, type=answer.type, answer=answer.answer, **why)
