"""What a device told last, for the moment in which nobody remembers it but us: there its history takes over."""

from collections import deque
from typing import Final

from gateway.domain.values import TagChange, TagId, Timestamp


class LastTold:
    """The batches of the last `span` milliseconds, over all sessions.

    `is_complete` says that every tag has been heard of since the device was last begun with anew; `tries` counts how
    often its history was asked for in vain.
    """

    def __init__(self, span: int) -> None:
        self.span: Final = span
        self.is_complete = False
        self.tries = 0
        self._batches: deque[tuple[Timestamp, list[TagChange], int]] = deque()

    def begin(self) -> None:
        """The device is begun with anew: its first values are still to come."""
        self.is_complete = False
        self._batches.clear()

    def note(self, changes: list[TagChange], contact: Timestamp, offset: int) -> None:
        """One batch, whose source times were moved by `offset`. The list is kept, its values are not looked at."""
        if changes:
            self._batches.append((contact, changes, offset))
        while self._batches and self._batches[0][0] < contact - self.span:
            self._batches.popleft()

    def newest(self) -> dict[TagId, Timestamp]:
        """The newest source time of each tag that told something, by the device's own clock."""
        newest: dict[TagId, Timestamp] = {}
        for _, changes, offset in self._batches:
            for change in changes:
                if change.source_timestamp is not None:
                    at = change.source_timestamp - offset
                    newest[change.tag_id] = max(at, newest.get(change.tag_id, at))
        return newest
