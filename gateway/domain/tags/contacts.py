"""How far each device has told its story: when it was last heard, and up to when a tag is known."""

from collections.abc import Mapping

from gateway.domain.values import Batch, TagId, Timestamp


class Contacts:
    """The latest contact of every device, and of the groups of tags in which some are polled.

    *Heard* is a device whenever it says anything: that is what keeps its equipment from being UNKNOWN. *Known* are its
    tags only up to when they were last asked for: a poll of the fast ones says nothing of a slow heartbeat.
    """

    def __init__(self, heard: dict[str, Timestamp], started: Timestamp) -> None:
        self.heard = heard
        self._started = started
        self._groups: dict[str, dict[frozenset[TagId], Timestamp]] = {}

    def begin(self, device: str, at: Timestamp) -> None:
        """The device is (again) in reach."""
        self.heard[device] = at
        self._groups.pop(device, None)

    def take(self, device: str, batch: Batch) -> None:
        """The device has told everything up to the batch's contact; where it is polled in groups, of those polled."""
        self.heard[device] = batch.contact
        if batch.polled:
            self._groups.setdefault(device, {}).update(dict.fromkeys(batch.polled, batch.contact))

    def move(self, by: int) -> None:
        """The clock that they were measured on was set forward."""
        self._started += by
        self.heard.update({device: at + by for device, at in self.heard.items()})
        for groups in self._groups.values():
            groups.update({polled: at + by for polled, at in groups.items()})

    def heard_of(self, tags: Mapping[str, frozenset[TagId]]) -> Timestamp:
        """When all of these devices were heard last."""
        return min((self.heard.get(device, self._started) for device in tags), default=self._started)

    def known_of(self, tags: Mapping[str, frozenset[TagId]]) -> Timestamp:
        """Up to when everything about these tags, by device, is known."""
        if len(tags) == 1 and not self._groups:  # as it nearly always is: one device, and all of it told at once
            return self.heard.get(next(iter(tags)), self._started)
        return min((self._known(device, needed) for device, needed in tags.items()), default=self._started)

    def known_tag(self, device: str, tag_id: TagId) -> Timestamp:
        """Up to when everything about this tag is known."""
        return self._known(device, frozenset((tag_id,)))

    def _known(self, device: str, needed: frozenset[TagId]) -> Timestamp:
        heard = self.heard.get(device, self._started)
        groups = self._groups.get(device)
        if groups is None:
            return heard
        return min((at for group, at in groups.items() if not group.isdisjoint(needed)), default=heard)
