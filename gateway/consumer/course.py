"""One stream of events on its way into the record, and one stream of run parameters, which is only counted."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, Final
from zlib import crc32

from gateway.consumer.asking import Inquiry
from gateway.consumer.messages import EventMessage, RunParameters
from gateway.consumer.numbers import Numbers, Place
from gateway.consumer.reports import StreamName

RECENT: Final = 256
"""Messages of a stream that are remembered as what they were. After a lost connection a gateway sends at most its
window again, and so does the broker: 200 each time. A repeat from further back comes of a replay."""

HOLD: Final = 60_000
"""Milliseconds for which events are held back for those before them: a replay takes seconds, and whoever looks after a
standing machine cannot wait longer."""


class Course:
    """Events of one stream. They come out in order, unless what is missing takes too long."""

    def __init__(self, name: StreamName, numbers: Numbers) -> None:
        self.name = name
        self.numbers = numbers
        self.inquiry = Inquiry(numbers)
        self.held: dict[int, EventMessage] = {}
        self._recent: dict[int, str] = {}
        self._told = 0
        self._order: list[int] = []
        """The numbers that are held, as a heap: thousands may wait for one."""

    def take(self, event: EventMessage, now: int) -> Place:
        """Hold it until `release`, unless it was here before or belongs before the record."""
        place = self.numbers.take(event.seq, now)
        if place not in (Place.HAD, Place.BEFORE):
            _remember(self._recent, event.seq, event.id)
            self.held[event.seq] = event
            heappush(self._order, event.seq)
        return place

    def contradicts(self, event: EventMessage) -> bool:
        """Whether that number, which was here before, was another event's."""
        return self._recent.get(event.seq, event.id) != event.id

    def release(self) -> Iterator[tuple[EventMessage, bool]]:
        """What is no longer held back, and whether it comes late."""
        barrier = self.numbers.barrier
        while self._order and self._order[0] < barrier:
            number = heappop(self._order)
            late = number < self._told
            self._told = max(self._told, number)
            yield self.held.pop(number), late

    def pass_by(self, now: int, hold: int = HOLD) -> None:
        """Hold nothing back any more for what is missing for so long."""
        for hole in self.numbers.holes:
            hole.passed = hole.passed or now - hole.found >= hold


class Telemetry:
    """Run parameters of one equipment. They have numbers but no replay, and name no epoch.

    When the numbers begin anew, an event of the new epoch says so, or a number comes twice with other content; then
    `epoch` is empty until one is told.
    """

    def __init__(self, numbers: Numbers, epoch: str = "") -> None:
        self.numbers = numbers
        self.epoch = epoch
        self._recent: dict[int, int] = {}

    def contradicts(self, message: RunParameters) -> bool:
        """Whether it cannot belong to these numbers: the number was another message's, or is too far back."""
        if not self.numbers.has(message.seq):
            return False
        if message.seq <= self.numbers.top - RECENT:
            return True
        content = crc32(message.payload)
        return self._recent.get(message.seq, content) != content

    def take(self, message: RunParameters, now: int) -> Place:
        """Count it."""
        _remember(self._recent, message.seq, crc32(message.payload))
        return self.numbers.take(message.seq, now)


def _remember(recent: dict[int, Any], seq: int, content: object) -> None:
    recent[seq] = content
    if len(recent) > RECENT:
        del recent[next(iter(recent))]
