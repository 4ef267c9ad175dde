"""Run parameters told at their own pace: only what moved, not too often, and at least every now and then.

Time is source time, so a played scenario, a backlog and a slow network all give the same rows.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.domain.values import TagId, Timestamp, Value

TellValue = Callable[[Value, int, Timestamp], None]
"""Takes value, status and source time of one tag."""

_SEVERITY = 0xC0000000


class Pace(msgspec.Struct, frozen=True):
    """When a value is told: if it moved by more than `deadband`, in its own unit; intervals in milliseconds."""

    deadband: float = 0.0
    min_interval: int = 0
    max_interval: int | None = None


class Known(Protocol):
    """Says up to when everything about a tag of a device is known."""

    def known_tag(self, device: str, tag_id: TagId) -> Timestamp: ...  # noqa: D102 - the class says it


class PacedTag:
    """What of one tag's values is told.

    Whatever is not told at once is told at the end of `min_interval`, if it still holds then: a row always says what
    the device showed at the row's time. A change of quality is told at once.
    """

    def __init__(self, pace: Pace, tell: TellValue) -> None:
        self._pace = pace
        self._tell = tell
        self._told: tuple[Value, int] | None = None
        self._told_at: Timestamp = 0
        self._newest: tuple[Value, int] = (None, 0)
        self._newest_at: Timestamp = 0
        self.due: Timestamp | None = None
        """When something is told although nothing happens; None if never."""

    def take(self, value: Value, status_code: int, at: Timestamp) -> None:
        """The device showed this value at `at`; one that comes late counts from the newest before it."""
        at = max(at, self._newest_at)
        self.settle(at - 1)
        self._newest, self._newest_at = (value, status_code), at
        if self._told is None or self._is_due(at):
            self._say(at)
        self._plan()

    def settle(self, until: Timestamp) -> None:
        """Nothing else happened up to `until`: tell what was held back, and repeat what has not been told for long."""
        if self.due is None or self.due > until:
            return
        if self._has_moved():
            self._say(self.due)
        longest = self._pace.max_interval
        if longest is not None and until - self._told_at >= longest:
            self._say(self._told_at + (until - self._told_at) // longest * longest)
        self._plan()

    def forget(self) -> None:
        """The device is in reach again: whatever it shows first is told."""
        self._told = self.due = None

    def _plan(self) -> None:
        wait = self._pace.min_interval if self._has_moved() else self._pace.max_interval
        self.due = None if wait is None else self._told_at + wait

    def _is_due(self, at: Timestamp) -> bool:
        assert self._told is not None
        if (self._told[1] ^ self._newest[1]) & _SEVERITY:
            return True
        return at - self._told_at >= self._pace.min_interval and self._has_moved()

    def _has_moved(self) -> bool:
        assert self._told is not None
        (value, status), (told, told_status) = self._newest, self._told
        if (status ^ told_status) & _SEVERITY:
            return True
        if _is_number(value) and _is_number(told):
            return bool(abs(value - told) > self._pace.deadband)  # type: ignore[operator]
        return value != told

    def _say(self, at: Timestamp) -> None:
        self._told, self._told_at = self._newest, at
        self._tell(*self._newest, at)


class PacedTags:
    """The paced tags of one equipment, each with the tags, and their devices, that it comes from."""

    def __init__(self) -> None:
        self._tags: list[tuple[PacedTag, tuple[tuple[str, TagId], ...]]] = []

    def add(self, pace: Pace, sources: tuple[tuple[str, TagId], ...], tell: TellValue) -> TellValue:
        """One more; returns where its values go instead of to `tell`."""
        tag = PacedTag(pace, tell)
        self._tags.append((tag, sources))
        return tag.take

    def settle(self, known: Known) -> None:
        """Tell what was held back or not told for long, as far as all that it comes from is known."""
        for tag, sources in self._tags:
            if tag.due is not None:
                tag.settle(min(known.known_tag(device, tag_id) for device, tag_id in sources))

    def forget(self, device: str) -> None:
        """The device is in reach again."""
        for tag, sources in self._tags:
            if any(source == device for source, _ in sources):
                tag.forget()


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
