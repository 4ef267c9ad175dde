"""One subscription: PublishRequests kept outstanding, their answers handed on in order, acknowledged when committed.

The publish loop is ours because asyncua's acknowledges a notification before anyone has stored it, keeps a single
request outstanding (trap A14), does not look at sequence numbers (A11) and repeats without end what it missed (A5).

A subscription outlives its channel. After a link loss it goes on over the next one, if the server kept the session:
what was published meanwhile is fetched by Republish, one notification after the other, before publishing goes on.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from typing import Final

import structlog
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.domain.values import Batch, ConditionChange, Drift, Gap, TagChange, Timestamp
from gateway.drivers.opcua.known_device import KnownDevice
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.server_state import ServerState
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.opcua.subscribing.backfill import Backfiller, Historized
from gateway.drivers.opcua.subscribing.conditions import conditions_item, refresh_request
from gateway.drivers.opcua.subscribing.monitored_items import MonitoredItems, WantedItem, shared_fields
from gateway.drivers.opcua.subscribing.notifications import Notifications, Statistics
from gateway.drivers.opcua.subscribing.publications import Publication, PublicationDecoder

_OUTSTANDING_REQUESTS: Final = 3
"""One answer may be in the consumer's hands, and two requests still wait at the server."""
_KEEP_ALIVES_MISSED: Final = 3
_MAX_NOTIFICATIONS: Final = 10_000
_RETRY_FIRST: Final = 5.0
_RETRY_LAST: Final = 60.0
"""Plant seconds between two tries to create what the server refused (trap A4)."""
_WATCH_LEAST: Final = 1.0
"""Seconds of wall time between two looks at the server's state, however fast a scenario is played."""

_log = structlog.get_logger(__name__)


class Subscription:
    """A subscription on an open session. `batches` gives its answers one by one; asking for one commits the last.

    `lost_since` is the last contact of a subscription before this one, whose notifications the server forgot.
    """

    def __init__(
        self,
        session: Session,
        device: KnownDevice,
        wanted: Sequence[WantedItem],
        lost_since: Timestamp | None = None,
        historized: Historized = (),
    ) -> None:
        self._session = session
        self._channel = session.channel
        self._device = device.name
        self._settings = device.settings
        self._clock = device.clock
        self._items = MonitoredItems(session, device.name, wanted)
        self._decoder = PublicationDecoder(
            [item.tag for item in wanted], session.value_decoder(), shared_fields(wanted)
        )
        self._notifications = Notifications(self._channel, device.name, device.clock, self._decoder)
        self._notifications.contact = lost_since
        self._audit = device.audit
        self._dates = device.dates
        self._told = device.told
        self._known_device = device
        self._historized = historized
        self._backfiller: Backfiller | None = None
        self._server = ServerState()
        self._is_resumed = False
        self._silence = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._publishing = _OUTSTANDING_REQUESTS
        self._news: list[TagChange] = []
        self._drifts: list[Drift] = []
        # Bounded by the number of requests outstanding: none is sent before an answer was taken out.
        self._received: asyncio.Queue[tuple[Publication, Timestamp] | Exception | None] = asyncio.Queue()
        self._committed = asyncio.Semaphore(0)
        self._acknowledgements: list[ua.SubscriptionAcknowledgement] = []

    @property
    def contact(self) -> Timestamp | None:
        """Up to when the device has told everything."""
        return self._notifications.contact

    @property
    def is_over(self) -> bool:
        """True when the server has ended it: there is nothing to go on with."""
        return self._notifications.is_over

    @property
    def statistics(self) -> Statistics:
        """What was seen since it was created."""
        return self._notifications.statistics

    @property
    def _id(self) -> int:
        return self._notifications.subscription_id

    # --- beginning and going on ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Create the subscription and its items; raises `LinkLost` if the server refuses."""
        try:
            await self._create()
            self._news = await self._items.create(self._id)
            if self._settings.alarm_conditions:
                await self._listen_to_conditions()
        except ServiceFault as fault:
            raise self._channel.lost(f"no subscription: {fault}") from None
        self._dates.begin()
        if self.contact is not None:
            self._note_loss(Gap(self.contact, self._clock.now(), "session"))
        elif self._told is not None:
            self._told.begin()

    def _note_loss(self, gap: Gap) -> None:
        """The server forgot what it had for us; it may have a history instead."""
        _log.warning("device forgot the subscription", device=self._device, subscription=self._id)
        told = self._told
        if told is not None and told.is_complete:
            self._backfiller = Backfiller(self._session, self._known_device, told, self._historized, gap)
            return
        self._notifications.gaps.append(gap)
        if told is not None:
            told.begin()

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
        self._notifications.subscription_id = revised.SubscriptionId
        if revised.RevisedPublishingInterval > request.Parameters.RequestedPublishingInterval:
            what = f"publishing_interval {1000 * interval:g} became {revised.RevisedPublishingInterval:g}"
            _log.warning("device revised", device=self._device, what=what)
        # A keep-alive is a plant interval, but however fast a scenario is played, a server gets time to answer.
        keep_alive = revised.RevisedMaxKeepAliveCount * revised.RevisedPublishingInterval / 1000
        self._silence = max(_KEEP_ALIVES_MISSED * keep_alive, self._settings.request_timeout)

    async def _listen_to_conditions(self) -> None:
        """One item for all conditions of the server, and a refresh that tells of those that are up already."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = self._id
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [conditions_item(self._items.count)]
        response = await self._channel.call(request, ua.CreateMonitoredItemsResponse)
        for result in response.Results:
            if result.StatusCode.is_bad():
                reason = status_name(result.StatusCode.value)
                raise self._channel.lost(
                    f"gives no alarm conditions ({reason}); take alarm_conditions out if it has none"
                )
        refreshed = await self._channel.call(refresh_request(self._id), ua.CallResponse)
        for result in refreshed.Results:
            if result.StatusCode.is_bad():
                reason = status_name(result.StatusCode.value)
                _log.warning("device cannot refresh its alarm conditions", device=self._device, reason=reason)

    def move(self, session: Session) -> None:
        """Go on over another channel, on which the server has activated the same session."""
        self._session, self._channel = session, session.channel
        self._notifications.channel = session.channel
        self._items.move(session)
        if self._backfiller is not None:
            self._backfiller.move(session)
        self._received = asyncio.Queue()
        self._committed = asyncio.Semaphore(0)
        self._is_resumed = True

    def announce(self, changes: Sequence[TagChange], drifts: Sequence[Drift] = ()) -> None:
        """Put these into the next batch, and let it not wait for the server."""
        self._news += changes
        self._drifts += drifts
        self._received.put_nowait(None)

    # --- what the server says -----------------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[Batch]:
        """One batch per notification, for ever; the one before is committed by asking. Raises `LinkLost`."""
        notifications = self._notifications
        async for batch in self._catch_up():
            yield batch
        self._start()
        if self._news or notifications.gaps or self._drifts:
            yield self._batch(None, self._clock.now())
        while True:
            received = await self._receive()
            if received is None:
                if self._news or self._drifts:
                    yield self._batch(None, notifications.known_now())
                continue
            publication, contact = received
            async for fetched in notifications.fetch_missing(publication):
                yield self._batch(fetched, notifications.known_until(fetched))
                self._acknowledge(fetched.sequence_number)
            publication = self._strip(publication, contact)
            if notifications.take(publication):
                yield self._batch(publication, notifications.known_until(publication) if publication.more else contact)
            if not publication.is_keep_alive:
                self._acknowledge(publication.sequence_number)
            self._committed.release()

    async def _catch_up(self) -> AsyncIterator[Batch]:
        """What happened while the link was broken, as far as the server or its history still has it."""
        if self._is_resumed:
            yield Batch([], self._notifications.known_now(), resumed=True)
        if self._backfiller is not None and not self._backfiller.is_told:
            async for batch in self._fill(self._backfiller):
                yield batch
        if self._is_resumed:
            async for publication in self._notifications.fetch_all():
                yield self._batch(publication, self._notifications.known_until(publication))
                self._acknowledge(publication.sequence_number)

    async def _fill(self, backfiller: Backfiller) -> AsyncIterator[Batch]:
        """The history of the outage; a gap as ever where there is none."""
        async for batch in backfiller.batches(self._keep_alive):
            self._notifications.contact = batch.contact
            yield batch
        if not backfiller.is_told:
            self._notifications.gaps.append(backfiller.gap)
            self._backfiller = None
            if self._told is not None:
                self._told.begin()

    async def _keep_alive(self) -> None:
        """A service that names the subscription counts as a sign of life (OPC 10000-4 §5.14.1.2)."""
        request = ua.SetPublishingModeRequest()
        request.Parameters = ua.SetPublishingModeParameters(PublishingEnabled=True, SubscriptionIds=[self._id])
        with contextlib.suppress(ServiceFault):
            await self._channel.call(request, ua.SetPublishingModeResponse)

    def _strip(self, publication: Publication, contact: Timestamp) -> Publication:
        """Without what the history has told already."""
        backfiller = self._backfiller
        if backfiller is None:
            return publication
        if backfiller.is_passed:
            self._backfiller = None
        return backfiller.strip(publication, contact)

    def _batch(self, publication: Publication | None, contact: Timestamp) -> Batch:
        for tag_id, kind in self._decoder.take_mistyped().items():
            self._drifts += self._audit.note_type(tag_id, kind)
        notifications = self._notifications
        news, gaps, drifts = self._news, tuple(notifications.gaps), tuple(self._drifts)
        self._news, notifications.gaps, self._drifts = [], [], []
        notifications.contact = contact
        changes: list[TagChange] = []
        quality = self._dates.time_quality
        conditions: tuple[ConditionChange, ...] = ()
        if publication is not None:
            changes = publication.changes
            quality = quality if publication.time_quality == "source" else publication.time_quality
            conditions = self._dates.correct_conditions(publication.conditions)
        if news:
            changes = self._dates.correct(news) + changes
        if not self._server.is_running:
            changes = self._server.judge(changes)
        if self._told is not None:
            self._told.note(changes, contact, self._dates.offset or 0)
            self._told.is_complete = self._told.is_complete or (publication is not None and not publication.more)
        skew = self._dates.take_skew()
        return Batch(changes, contact, gaps, drifts, conditions=conditions, time_quality=quality, skew=skew)

    async def _receive(self) -> tuple[Publication, Timestamp] | None:
        try:
            async with asyncio.timeout(self._silence):
                received = await self._received.get()
        except TimeoutError:
            raise self._channel.fail(f"has published nothing for {self._silence:g} s, not even a keep-alive") from None
        if isinstance(received, Exception):
            raise received
        return received

    # --- publishing ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        loops: list[Awaitable[None]] = [self._publish() for _ in range(self._publishing)]
        if self._items.refused:
            loops.append(self._retry_refused())
        loops.append(self._watch_server())
        self._tasks = [asyncio.create_task(self._report(loop), name=f"subscription {self._device}") for loop in loops]

    async def _publish(self) -> None:
        """Keep one PublishRequest outstanding; the next one is sent when a batch was committed, and says so."""
        while True:
            acknowledgements, self._acknowledgements = self._acknowledgements, []
            try:
                body = await self._channel.publish(acknowledgements)
            except ServiceFault as fault:
                if fault.code == StatusCodes.BadTooManyPublishRequests and self._publishing > 1:
                    self._publishing -= 1
                    return
                raise self._notifications.end(f"stopped publishing: {fault}") from None
            contact = self._clock.now()
            self._decoder.date_by(self._dates.offset)
            publication = self._channel.decode(self._decoder.decode, body)
            changes, quality = self._dates.date(publication.changes, contact, more=publication.more)
            if quality != "source" or changes is not publication.changes:
                publication = replace(publication, changes=changes, time_quality=quality)
            if publication.subscription_id == self._id:
                self._received.put_nowait((publication, contact))
                await self._committed.acquire()

    def _acknowledge(self, number: int) -> None:
        """The consumer committed it: the next PublishRequest tells the server."""
        self._acknowledgements.append(ua.SubscriptionAcknowledgement(self._id, number))

    async def _retry_refused(self) -> None:
        delay = _RETRY_FIRST
        while self._items.refused:
            await self._clock.sleep(delay)
            delay = min(2 * delay, _RETRY_LAST)
            try:
                self.announce(await self._items.create(self._id, list(self._items.refused)))
            except ServiceFault as fault:
                raise self._notifications.end(f"no monitored items: {fault}") from None

    async def _watch_server(self) -> None:
        """Every keep-alive: is the server well, and does it answer at all? When that changed every value is news."""
        while True:
            await asyncio.sleep(max(_WATCH_LEAST, self._settings.keepalive / self._clock.rate))
            if await self._server.look(self._session):
                _log.warning("server state changed", device=self._device, state=self._server.now.name)
                self.announce(await self._items.read())

    async def _report(self, loop: Awaitable[None]) -> None:
        """Whatever ends a loop, a defect too, ends `batches`: nothing dies in silence."""
        try:
            await loop
        except Exception as error:  # noqa: BLE001 - handed over, not swallowed
            self._received.put_nowait(error)

    async def close(self) -> None:
        """Stop asking; the session's end deletes the subscription on the server."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
