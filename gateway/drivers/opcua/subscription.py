"""One subscription: PublishRequests kept outstanding, their answers handed on in order, acknowledged when committed.

The publish loop is ours because asyncua's acknowledges a notification before anyone has stored it, keeps a single
request outstanding (trap A14) and does not look at sequence numbers (A11).
"""

import asyncio
import math
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.domain.values import Batch, TagChange, Timestamp
from gateway.drivers.base import Clock
from gateway.drivers.opcua.channel import ServiceFault
from gateway.drivers.opcua.config import OpcUaSettings
from gateway.drivers.opcua.monitored_items import MonitoredItems, WantedItem
from gateway.drivers.opcua.publications import Publication, PublicationDecoder
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.opcua.values import ValueDecoder

_OUTSTANDING_REQUESTS: Final = 3
"""One answer may be in the consumer's hands, and two requests still wait at the server."""
_KEEP_ALIVES_MISSED: Final = 3
_MAX_NOTIFICATIONS: Final = 10_000
_RETRY_FIRST: Final = 5.0
_RETRY_LAST: Final = 60.0
"""Plant seconds between two tries to create what the server refused (trap A4)."""
_SEQUENCE_NUMBERS: Final = 0xFFFFFFFF
"""So many there are, for 0 is none: 1 follows 4294967295."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Statistics:
    """What one link has seen since it was opened."""

    publications: int = 0
    changes: int = 0
    sequence_gaps: int = 0
    missed_notifications: int = 0
    overflows: int = 0


class Subscription:
    """A subscription on an open session. `next_batch` gives its answers one by one; asking for one commits the last."""

    def __init__(
        self, session: Session, device: str, settings: OpcUaSettings, wanted: Sequence[WantedItem], clock: Clock
    ) -> None:
        self.statistics = Statistics()
        self._channel = session.channel
        self._device = device
        self._settings = settings
        self._clock = clock
        self._items = MonitoredItems(session, device, wanted)
        self._decoder = PublicationDecoder([item.tag.tag_id for item in wanted], ValueDecoder(session.namespaces))
        self._id = 0
        self._silence = 0.0
        self._next_sequence_number = 1
        self._tasks: list[asyncio.Task[None]] = []
        self._publishing = _OUTSTANDING_REQUESTS
        self._refusals: list[TagChange] = []
        # Bounded by the number of requests outstanding: none is sent before an answer was taken out.
        self._received: asyncio.Queue[tuple[Publication, Timestamp] | Exception] = asyncio.Queue()
        self._committed = asyncio.Semaphore(0)
        self._uncommitted: Publication | None = None
        self._acknowledgements: list[ua.SubscriptionAcknowledgement] = []

    async def open(self) -> None:
        """Create the subscription and its items, then start publishing; raises `LinkLost` if the server refuses."""
        try:
            await self._create()
            self._refusals = await self._items.create(self._id)
        except ServiceFault as fault:
            raise self._channel.lost(f"no subscription: {fault}") from None
        loops = [self._publish() for _ in range(_OUTSTANDING_REQUESTS)]
        if self._items.refused:
            loops.append(self._retry_refused())
        self._tasks = [asyncio.create_task(self._report(loop), name=f"subscription {self._device}") for loop in loops]

    async def _create(self) -> None:
        interval = self._settings.publishing_interval / self._clock.rate
        keep_alive_count = max(1, round(self._settings.keepalive / self._settings.publishing_interval))
        request = ua.CreateSubscriptionRequest()
        request.Parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=1000 * interval,
            RequestedLifetimeCount=math.ceil(self._settings.lifetime / interval),
            RequestedMaxKeepAliveCount=keep_alive_count,
            MaxNotificationsPerPublish=_MAX_NOTIFICATIONS,
        )
        response = await self._channel.call(request, ua.CreateSubscriptionResponse)
        revised = response.Parameters
        self._id = revised.SubscriptionId
        if revised.RevisedPublishingInterval > request.Parameters.RequestedPublishingInterval:
            what = f"publishing_interval {1000 * interval:g} became {revised.RevisedPublishingInterval:g}"
            _log.warning("device revised", device=self._device, what=what)
        # A keep-alive is a plant interval, but however fast a scenario is played, a server gets time to answer.
        keep_alive = revised.RevisedMaxKeepAliveCount * revised.RevisedPublishingInterval / 1000
        self._silence = max(_KEEP_ALIVES_MISSED * keep_alive, self._settings.request_timeout)

    async def next_batch(self) -> Batch:
        """The next answer of the server, or the tags that it refused; the batch before is committed by asking."""
        self._commit()
        if self._refusals:
            refusals, self._refusals = self._refusals, []
            return Batch(refusals, self._clock.now())
        try:
            async with asyncio.timeout(self._silence):
                received = await self._received.get()
        except TimeoutError:
            raise self._channel.fail(f"has published nothing for {self._silence:g} s, not even a keep-alive") from None
        if isinstance(received, Exception):
            raise received
        publication, contact = received
        self._uncommitted = publication
        self._take_note(publication)
        return Batch(publication.changes, contact)

    def _commit(self) -> None:
        publication, self._uncommitted = self._uncommitted, None
        if publication is None:
            return
        if not publication.is_keep_alive:
            self._acknowledgements.append(ua.SubscriptionAcknowledgement(self._id, publication.sequence_number))
        self._committed.release()

    def _take_note(self, publication: Publication) -> None:
        if publication.status is not None:
            raise self._channel.fail(f"ended the subscription: {status_name(publication.status)}")
        self.statistics.publications += 1
        self.statistics.changes += len(publication.changes)
        if publication.overflows:
            self.statistics.overflows += publication.overflows
            _log.warning("device queue overflowed", device=self._device, values=publication.overflows)
        self._check_sequence(publication)

    def _check_sequence(self, publication: Publication) -> None:
        """Numbers run 1, 2, 3 … 4294967295, 1 (Part 4 §7.5); a keep-alive shows the next one without using it up."""
        number, expected = publication.sequence_number, self._next_sequence_number
        missed = (number - expected) % _SEQUENCE_NUMBERS
        if missed > _SEQUENCE_NUMBERS // 2:
            return  # a number from before: repeated, not missed
        if missed:
            self.statistics.sequence_gaps += 1
            self.statistics.missed_notifications += missed
            _log.warning("notifications missed", device=self._device, expected=expected, received=number, missed=missed)
        self._next_sequence_number = number if publication.is_keep_alive else number + 1

    async def _publish(self) -> None:
        """Keep one PublishRequest outstanding; the next one is sent when a batch was committed, and says so."""
        while True:
            try:
                body = await self._channel.publish(self._take_acknowledgements())
            except ServiceFault as fault:
                if fault.code == StatusCodes.BadTooManyPublishRequests and self._publishing > 1:
                    self._publishing -= 1
                    return
                raise self._channel.fail(f"stopped publishing: {fault}") from None
            contact = self._clock.now()
            self._received.put_nowait((self._channel.decode(self._decoder.decode, body), contact))
            await self._committed.acquire()

    def _take_acknowledgements(self) -> list[ua.SubscriptionAcknowledgement]:
        taken, self._acknowledgements = self._acknowledgements, []
        return taken

    async def _retry_refused(self) -> None:
        delay = _RETRY_FIRST
        while self._items.refused:
            await self._clock.sleep(delay)
            delay = min(2 * delay, _RETRY_LAST)
            try:
                self._refusals += await self._items.create(self._id, list(self._items.refused))
            except ServiceFault as fault:
                raise self._channel.fail(f"no monitored items: {fault}") from None

    async def _report(self, loop: Awaitable[None]) -> None:
        """Whatever ends a loop, a defect too, ends `next_batch`: nothing dies in silence."""
        try:
            await loop
        except Exception as error:  # noqa: BLE001 - handed over, not swallowed
            self._received.put_nowait(error)

    async def close(self) -> None:
        """Stop asking; the session's end deletes the subscription on the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
