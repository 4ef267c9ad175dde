"""Heartbeats: a link may be up while the program behind it stands still."""

from collections.abc import Iterable

import msgspec

from gateway.domain.tags.contacts import Contacts
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import TagId, Timestamp

MISSED_PERIODS = 3
"""A tag that did not move for so many periods has missed its beat."""


class Heartbeat(msgspec.Struct, frozen=True):
    """A tag that moves at least once in `period` milliseconds while its program runs."""

    slot: int
    period: int
    device: str
    tag_id: TagId


class Heartbeats:
    """When each heartbeat of an equipment beat last; what stands still is marked stale in the inputs."""

    def __init__(self, beats: Iterable[Heartbeat], inputs: Inputs) -> None:
        self._beats = {beat.slot: beat for beat in beats}
        self._inputs = inputs
        self._last: dict[int, Timestamp] = {}
        self.slots = frozenset(self._beats)

    def begin(self, slot: int, at: Timestamp) -> None:
        """The device of the tag came into reach."""
        if slot in self.slots:
            self._last[slot] = at
            self._inputs.stale[slot] = False

    def take(self, touched: set[int], at: Timestamp) -> None:
        """Those that were touched have beaten."""
        if self.slots.isdisjoint(touched):
            return
        for slot in self.slots & touched:
            self._last[slot] = max(at, self._last.get(slot, 0))
            self._inputs.stale[slot] = False

    def miss(self, contacts: Contacts) -> Timestamp | None:
        """Mark what is known to have stood still for too long; the newest beat of those, None if there is none."""
        if not self._last:
            return None
        stale = self._inputs.stale
        late = [slot for slot, at in self._last.items() if not stale[slot] and self._is_late(slot, at, contacts)]
        for slot in late:
            stale[slot] = True
        return max((self._last[slot] for slot in late), default=None)

    def _is_late(self, slot: int, at: Timestamp, contacts: Contacts) -> bool:
        beat = self._beats[slot]
        return contacts.known_tag(beat.device, beat.tag_id) - at > MISSED_PERIODS * beat.period
