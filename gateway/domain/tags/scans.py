"""The values of a batch to scans in order of source time, and what to do with those that are late.

Late is what is older than the last scan of its device. A reading of a counter and the tag of an order are believed for
their own moment: the past is told anew. So is everything of a batch that was itself overtaken. A value that is older
than what its tag said since is dropped then. Anything else that seems old, in a batch that is the newest, comes from a
server with loose stamps or from a PLC whose clock was set back; it holds from the last scan on.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from gateway.domain.values import Timestamp, Value

SCAN_TOLERANCE: Final = 50
"""Milliseconds of source time that tags of one PLC cycle may lie apart."""

OVERTAKEN: Final = 600_000
"""Milliseconds by which a batch may come late. A contact that lies further back is a clock that was set back."""

Entry = tuple[Timestamp, int, Value, int]
"""Moment, slot, value and status code."""

TakeLate = Callable[[int, Value, Timestamp], bool]
"""Takes slot, value and moment of an old reading; True if there is nothing more to do about it."""


class Scans:
    """The order of time of one equipment. Slots in `dated` are believed for their own moment."""

    def __init__(self, slots: int, dated: frozenset[int], take_late: TakeLate) -> None:
        self._dated = dated
        self._take_late = take_late
        self._newest: list[Timestamp] = [0] * slots
        self._floor: dict[str, Timestamp] = {}
        self._last: dict[str, Timestamp] = {}
        self._heard: dict[str, Timestamp] = {}
        self._left: dict[str, Timestamp] = {}
        self._changed: dict[int, Timestamp] = {}

    def begin(self, device: str, at: Timestamp, left: Timestamp | None = None) -> None:
        """The device is (again) in reach, after it was last heard at `left`.

        What it says now is true from `at` on, whatever its source time.
        """
        if left is not None:
            self._left[device] = left
        self._last[device] = max(self._last.get(device, 0), at)
        self._floor[device] = self._last[device]

    def changed_away(self, slots: Collection[int]) -> Timestamp | None:
        """When one of these slots changed last while its device was out of reach; to be asked once per absence."""
        newest = max((at for slot, at in self._changed.items() if slot in slots), default=None)
        self._changed.clear()
        self._left.clear()
        return newest

    def last(self, device: str) -> Timestamp:
        """When the newest scan of the device was."""
        return self._last.get(device, 0)

    def take(self, device: str, contact: Timestamp, taken: list[Entry]) -> Iterator[tuple[Timestamp, list[Entry]]]:
        """The scans of a batch, the oldest first."""
        last, heard = self._last.get(device, 0), self._heard.get(device, 0)
        is_overtaken = heard - OVERTAKEN < contact <= heard
        self._heard[device] = heard if is_overtaken else contact
        if not taken:
            return
        if len(taken) == 1 and taken[0][0] >= last:
            at, slot, _, _ = taken[0]
            self._newest[slot] = self._last[device] = at
            yield at, taken
            return
        if min(taken, key=_time)[0] < last:
            taken = [entry for item in taken if (entry := self._put(item, device, is_overtaken)) is not None]
        pending, begin = sorted(taken, key=_time), 0
        while begin < len(pending):
            start, end = pending[begin][0], begin
            while end < len(pending) and pending[end][0] - start <= SCAN_TOLERANCE:
                self._newest[pending[end][1]] = start
                end += 1
            self._last[device] = max(last, start)
            yield start, pending[begin:end]
            begin = end

    def _put(self, entry: Entry, device: str, is_overtaken: bool) -> Entry | None:
        """The entry with the moment for which it is believed; None if it is not needed any more."""
        at, slot, value, status = entry
        last, floor = self._last.get(device, 0), self._floor.get(device, 0)
        if self._left.get(device, floor) < at < floor:
            self._changed[slot] = at
        at = max(at, floor)
        if at >= last - SCAN_TOLERANCE:
            return max(at, last), slot, value, status
        if self._take_late(slot, value, at):
            return None
        is_old = at <= self._newest[slot]
        if is_old and is_overtaken:
            return None
        is_dated = is_overtaken or slot in self._dated
        return (at if is_dated and not is_old else last), slot, value, status


def _time(entry: Entry) -> Timestamp:
    return entry[0]
