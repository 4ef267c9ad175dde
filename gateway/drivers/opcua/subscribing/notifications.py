"""Which notifications of one subscription have come: their numbers checked, skipped ones fetched, losses counted.

What a jump of the sequence numbers skipped (trap A11), and what a broken channel swallowed, is fetched by Republish,
one notification after the other and never without end (A5). What the server does not keep any more is a gap.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import structlog
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.domain.values import Gap, Timestamp
from gateway.drivers.base import Clock, LinkLost
from gateway.drivers.opcua.secure_channel.channel import Channel, ServiceFault
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.opcua.subscribing.publications import Publication, PublicationDecoder
from gateway.drivers.opcua.subscribing.sequence import NotificationNumbers

_REPUBLISH_MOST: Final = 1_000
"""Notifications fetched after one loss (trap A5); what a server keeps beyond that is a counted gap."""
_NAMED: Final = 10
"""How many tags a gap names."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Statistics:
    """What one subscription has seen since it was created."""

    publications: int = 0
    changes: int = 0
    sequence_gaps: int = 0
    missed_notifications: int = 0
    fetched_notifications: int = 0
    repeated_notifications: int = 0
    overflows: int = 0


class Notifications:
    """The notifications of one subscription, over all channels that it lives on.

    `contact` is up to when the device has told everything, None before it said anything; `gaps` gathers what is lost
    until somebody takes it out. `is_over` says that the server has ended the subscription.
    """

    def __init__(self, channel: Channel, device: str, clock: Clock, decoder: PublicationDecoder) -> None:
        self.statistics = Statistics()
        self.contact: Timestamp | None = None
        self.gaps: list[Gap] = []
        self.is_over = False
        self.subscription_id = 0
        self.channel = channel
        self._device = device
        self._clock = clock
        self._decoder = decoder
        self._numbers = NotificationNumbers()

    def known_now(self) -> Timestamp:
        """The last contact; this moment if there was none."""
        return self._clock.now() if self.contact is None else self.contact

    def known_until(self, publication: Publication) -> Timestamp:
        """Up to when everything is told where more is still to come: no further than the newest value."""
        told = [change.source_timestamp for change in publication.changes if change.source_timestamp is not None]
        return min(self._clock.now(), max([*told, self.contact or 0]))

    def take(self, publication: Publication) -> bool:
        """Count and check one publish response; False for one that came by Republish already."""
        self._check_status(publication)
        self.statistics.publications += 1
        if not publication.is_keep_alive and self._numbers.is_known(publication.sequence_number):
            self.statistics.repeated_notifications += 1
            return False
        self._note(publication)
        return True

    async def fetch_all(self) -> AsyncIterator[Publication]:
        """After a link loss: what the server published into the broken channel, until it has no more."""
        for _ in range(_REPUBLISH_MOST):
            fetched = await self._fetch(self._numbers.expected)
            if fetched is None:
                return
            yield fetched

    async def fetch_missing(self, publication: Publication) -> AsyncIterator[Publication]:
        """Before a notification that skipped numbers: those of the skipped ones that the server says it keeps."""
        if not self._numbers.missing_before(publication.sequence_number):
            return
        for number in self._numbers.still_kept(publication.available, publication.sequence_number)[:_REPUBLISH_MOST]:
            fetched = await self._fetch(number)
            if fetched is not None:
                yield fetched

    async def _fetch(self, number: int) -> Publication | None:
        """One notification once more; None if the server does not keep it (asyncua's answers with an empty one)."""
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self.subscription_id
        request.Parameters.RetransmitSequenceNumber = number
        try:
            response = await self.channel.call(request, ua.RepublishResponse)
        except ServiceFault as fault:
            if fault.code == StatusCodes.BadMessageNotAvailable:
                return None
            raise self.end(f"does not go on with the subscription: {fault}") from None
        message = response.NotificationMessage
        if message.SequenceNumber != number or not message.NotificationData:
            return None
        publication = self._decoder.from_message(self.subscription_id, message)
        self._check_status(publication)
        self.statistics.fetched_notifications += 1
        self._note(publication)
        self._numbers.note_fetched(number)
        return publication

    def end(self, reason: str) -> LinkLost:
        """The server has ended this subscription: there is nothing to go on with. Answers with the error to raise."""
        self.is_over = True
        return self.channel.fail(reason)

    def _check_status(self, publication: Publication) -> None:
        if publication.status is not None:
            raise self.end(f"ended the subscription: {status_name(publication.status)}")

    def _note(self, publication: Publication) -> None:
        self.statistics.changes += len(publication.changes)
        if publication.overflows:
            self._note_overflows(publication)
        self._check_sequence(publication)

    def _note_overflows(self, publication: Publication) -> None:
        overflows = publication.overflows
        self.statistics.overflows += len(overflows)
        _log.warning("device queue overflowed", device=self._device, values=len(overflows))
        tag_ids = tuple(dict.fromkeys(change.tag_id for change in overflows))
        number, now = publication.sequence_number, self._clock.now()
        self.gaps.append(Gap(self.known_now(), now, "overflow", number, None, len(tag_ids), tag_ids[:_NAMED]))

    def _check_sequence(self, publication: Publication) -> None:
        number, missed = publication.sequence_number, self._numbers.missing_before(publication.sequence_number)
        if missed:
            expected = self._numbers.expected
            self.statistics.sequence_gaps += 1
            self.statistics.missed_notifications += missed
            _log.warning("notifications missed", device=self._device, expected=expected, received=number, missed=missed)
            self.gaps.append(Gap(self.known_now(), self._clock.now(), "sequence", number, missed))
        self._numbers.take(number, publication.is_keep_alive)
