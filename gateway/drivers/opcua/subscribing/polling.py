"""Changes from a server without subscriptions: everything is read at an interval, and what differs is handed on."""

from collections.abc import AsyncIterator, Sequence

from gateway.domain.values import Batch, Drift, TagChange, TagId, Timestamp, is_bad
from gateway.drivers.opcua.known_device import KnownDevice
from gateway.drivers.opcua.server_state import ServerState
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.subscribing.monitored_items import MonitoredItems, WantedItem
from gateway.drivers.opcua.subscribing.notifications import Statistics


class Poller:
    """Stands in for a `Subscription`. Nothing of it is on the server, so after a link loss it begins anew."""

    is_over = True

    def __init__(self, session: Session, device: KnownDevice, wanted: Sequence[WantedItem]) -> None:
        self.statistics = Statistics()
        self.contact: Timestamp | None = None
        self._session = session
        self._interval = round(1000 * device.settings.poll_interval)
        self._items = MonitoredItems(session, device.name, wanted)
        self._deadbands = {tag.tag_id: _absolute(item) for item in wanted for tag in item.tags}
        self._clock = device.clock
        self._dates = device.dates
        self._dates.begin()
        self._server = ServerState()
        self._known: dict[TagId, TagChange] = {}
        self._drifts: list[Drift] = []
        self._news: list[TagChange] = []

    def announce(self, changes: Sequence[TagChange], drifts: Sequence[Drift] = ()) -> None:
        """Put these into the next batch."""
        self._news += changes
        self._drifts += drifts

    async def batches(self) -> AsyncIterator[Batch]:
        """One batch per poll, on a grid of plant time; a poll that took too long skips what it missed."""
        due = self._clock.now()
        while True:
            contact = self._clock.now()
            await self._server.look(self._session)
            read = self._server.judge(self._dates.correct(await self._items.read()))
            changes = [change for change in read if self._is_news(change)]
            self._known |= {change.tag_id: change for change in changes}
            self.statistics.publications += 1
            self.statistics.changes += len(changes)
            changes, quality = self._dates.date(changes, contact)
            changes, self._news = self._news + changes, []
            drifts, self._drifts = tuple(self._drifts), []
            self.contact = contact
            yield Batch(changes, contact, drifts=drifts, time_quality=quality, skew=self._dates.take_skew())
            now = self._clock.now()
            due += self._interval * max(1, -((due - now) // self._interval))
            await self._clock.sleep((due - now) / 1000)

    def _is_news(self, change: TagChange) -> bool:
        known = self._known.get(change.tag_id)
        if known is None or known.status_code != change.status_code:
            return True
        old, new = known.value, change.value
        if isinstance(old, int | float) and isinstance(new, int | float) and not is_bad(change.status_code):
            return abs(new - old) > self._deadbands[change.tag_id]
        return old != new

    async def close(self) -> None:
        """Nothing is left behind."""


def _absolute(item: WantedItem) -> float:
    deadband = item.tag.address.deadband
    return deadband.absolute or 0.0 if deadband is not None else 0.0
