"""What is done for messages beside sending them: commands about them carried out, what befell them told and counted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from gateway.domain.times import format_timestamp
from gateway.domain.uplink import DroppedMessages, ReplayRequest, RetryRequest, UplinkRequest
from gateway.drivers.base import Clock
from gateway.mqtt.contract_messages import MessageCounts
from gateway.mqtt.payloads import encode_json
from gateway.runtime.broker_link import BrokerLink
from gateway.runtime.commit import Committer
from gateway.store.records import Statistics
from gateway.store.schema import StoreFull
from gateway.store.store import Store

log = structlog.get_logger()

LOOK: Final = 0.5
"""Seconds (wall time) between two looks whether the store has something to tell."""

TELL_AGAIN: Final = 60.0
"""Seconds (wall time) in which the store gathers what follows, after it was told once: a record that stays full for
hours becomes one event a minute, and not one for each message that had to go."""

COUNT_AGAIN: Final = 10.0
"""Seconds (wall time) between two tellings of what became of all messages."""

FULL_PAUSE: Final = 0.5
"""Seconds until a full record is asked again for what it cannot do without room."""

COUNTED: Final = ("ingested", "acknowledged", "queued", "dropped", "quarantined", "file_bytes")

_Result = TypeVar("_Result")


def counts(statistics: Statistics) -> dict[str, int]:
    """What became of every message, and how large the record is: the figures of `MessageCounts`."""
    return {name: getattr(statistics, name) for name in COUNTED}


class UplinkDuties:
    """Beside the broker's link, for as long as the gateway runs.

    What a command asked for is in the core's record until it is done, so whatever is cancelled here by the end of the
    gateway begins anew with the next start.
    """

    def __init__(self, committer: Committer, store: Store, link: BrokerLink, clock: Clock, counts_topic: str) -> None:
        """What became of all messages is told on `counts_topic`."""
        self._counts_topic = counts_topic
        self._told: dict[str, int] = {}
        self._committer = committer
        self._store = store
        self._link = link
        self._clock = clock
        self._asked: asyncio.Queue[UplinkRequest] = asyncio.Queue()

    def submit(self, request: UplinkRequest) -> None:
        """A request was committed: see to it."""
        self._asked.put_nowait(request)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_notices())
            tasks.create_task(self._tell_counts())
            while True:
                tasks.create_task(self._serve(await self._asked.get()))

    async def _serve(self, request: UplinkRequest) -> None:
        match request:
            case ReplayRequest(cmd, equipment, epoch, first, last):
                log.info("replay begins", cmd=cmd, equipment=equipment, from_seq=first, to_seq=last)
                done = await self._link.replay(equipment, epoch, first, last)
                with self._committer.facts() as core:
                    core.handle_replayed(cmd, done.sent, done.missing, self._clock.now())
            case RetryRequest(cmd, topic):
                queued = await self._with_room(lambda: self._link.retry(topic))
                with self._committer.facts() as core:
                    core.handle_retried(cmd, queued, self._clock.now())

    async def _tell_notices(self) -> None:
        while True:
            if not self._store.has_notices:
                await asyncio.sleep(LOOK)
                continue
            notices = await self._with_room(self._store.take_notices)
            if dropped := sum(one.notice.messages for one in notices if isinstance(one.notice, DroppedMessages)):
                log.warning("run parameters dropped, the record is full", messages=dropped)
            with self._committer.facts() as core:
                core.handle_notices(notices, self._clock.now())
            await asyncio.sleep(TELL_AGAIN)

    async def _tell_counts(self) -> None:
        """Whenever they have changed. They are told beside the outbox: in it, each telling would change them.

        What is told without a connection is lost. The next connect makes a birth, which changes them.
        """
        while True:
            now = counts(await self._store.account())
            if now != self._told:
                self._told = now
                message = MessageCounts(**now, at=format_timestamp(self._clock.now()))
                self._link.tell(self._counts_topic, encode_json(message))
            await asyncio.sleep(COUNT_AGAIN)

    @staticmethod
    async def _with_room(work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Whatever the store may have no room for just now; nothing was changed then."""
        while True:
            try:
                return await work()
            except StoreFull:
                await asyncio.sleep(FULL_PAUSE)
