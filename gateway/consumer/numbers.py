"""The numbers of one stream: which came, which are missing, which are known to be gone. Reads no clock."""

import math
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Final

import msgspec

MOST_RANGES: Final = 1_000
"""Ranges that are remembered of a kind; whoever loses every second message for hours is told of the oldest no more."""


class Hole(msgspec.Struct):
    """Numbers that are missing, ends included, noticed at `found` (milliseconds).

    `passed`: what comes behind them is no longer held back for them.
    """

    first: int
    last: int
    found: int
    passed: bool = False


class Gone(msgspec.Struct, frozen=True):
    """Numbers that nobody waits for any more, and why. They are taken if they come after all."""

    first: int
    last: int
    reason: str


class Place(Enum):
    """Where a number stands to what came before it."""

    NEXT = auto()
    """Higher than all that came."""
    FILLS = auto()
    """One that was missing."""
    LATE = auto()
    """One that nobody waited for any more."""
    HAD = auto()
    """It was here before."""
    BEFORE = auto()
    """From before this record began."""


class Numbers(msgspec.Struct):
    """What is known of the numbers of one stream.

    The record begins with `begin`, None until something came. `top` is the highest number that came; `told` is up to
    where numbers were given out, as a `gateway.birth` said at `told_at`, None if none did. Missing is what stands in
    `holes` and, until more comes, what lies between `top` and `told`.
    """

    begin: int | None = None
    top: int = 0
    told: int | None = None
    told_at: int = 0
    holes: list[Hole] = []
    gone: list[Gone] = []
    announced: list[Gone] = []
    """Numbers that the gateway itself said are lost, whether or not they are missed here."""
    found: int = 0
    filled: int = 0
    """How many numbers were ever in a hole, and how many of them came after all."""

    def take(self, number: int, now: int) -> Place:
        """Note that it came."""
        if self.begin is None:
            # What was given out after the birth that told of the stream must have come since.
            self.begin = self.told + 1 if self.told is not None and number > self.told else number
            self.top = self.begin - 1
        if number < self.begin:
            return Place.BEFORE
        if number > self.top:
            self._miss(self.top + 1, number - 1, now)
            self.top = number
            return Place.NEXT
        if self._fill(number):
            self.filled += 1
            return Place.FILLS
        if self._come_late(number):
            self.filled += 1
            return Place.LATE
        return Place.HAD

    def has(self, number: int) -> bool:
        """Whether it was here."""
        if self.begin is None or not self.begin <= number <= self.top:
            return False
        holes = any(hole.first <= number <= hole.last for hole in self.holes)
        return not holes and not any(gone.first <= number <= gone.last for gone in self.gone)

    def hear(self, last: int, now: int) -> None:
        """A birth says that numbers up to this one were given out."""
        if self.told is None or last > self.told:
            if self.begin is None and self.told is not None:
                self.begin = self.told + 1  # nothing of this stream came between two births
                self.top = self.told
            self.told, self.told_at = last, now

    def expect_tail(self, found: int) -> None:
        """What was told and did not come is a hole, as if it had been found then."""
        if self.tail:
            assert self.told is not None
            self._miss(self.top + 1, self.told, found)
            self.top = self.told

    @property
    def tail(self) -> int:
        """How many numbers were told that are higher than all that came."""
        return 0 if self.begin is None or self.told is None else max(0, self.told - self.top)

    @property
    def missing(self) -> int:
        """How many numbers may yet come."""
        return self.tail + sum(hole.last - hole.first + 1 for hole in self.holes)

    @property
    def left(self) -> int:
        """How many numbers are not here: those that may yet come, and those that nobody waits for any more."""
        return self.found - self.filled + self.tail

    @property
    def barrier(self) -> float:
        """The first missing number behind which everything is held back; infinity where there is none."""
        return min((hole.first for hole in self.holes if not hole.passed), default=math.inf)

    def missing_within(self, first: int, last: int) -> list[tuple[int, int]]:
        """The holes of a range, cut to it."""
        cut = ((max(hole.first, first), min(hole.last, last)) for hole in self.holes)
        return [(start, end) for start, end in cut if start <= end]

    def missing_in(self, first: int, last: int) -> int:
        """How many of a range are in holes."""
        return sum(end - start + 1 for start, end in self.missing_within(first, last))

    def announce(self, first: int, last: int, reason: str) -> None:
        """The gateway says that these are lost; it may do so before they are missed."""
        self.announced = [*self.announced, Gone(first, last, reason)][-MOST_RANGES:]

    def settle_announced(self) -> list[Gone]:
        """What is missing and was said to be lost is gone; returns it."""
        if not self.holes:
            return []
        return [gone for one in self.announced for gone in self.give_up(one.first, one.last, one.reason)]

    def give_up(self, first: int, last: int, reason: str) -> list[Gone]:
        """Wait for what is missing of this range no longer; returns what that is."""
        lost = [Gone(start, end, reason) for start, end in self.missing_within(first, last)]
        if lost:
            self.holes = [rest for hole in self.holes for rest in _without(hole, first, last)]
            self.gone = sorted([*self.gone, *lost], key=lambda gone: gone.first)[-MOST_RANGES:]
        return lost

    def without(self, numbers: Iterable[int]) -> "Numbers":
        """The same as if these, which came, were missing."""
        copy = msgspec.json.decode(msgspec.json.encode(self), type=Numbers)
        for number in sorted(numbers):
            copy.found += 1
            if copy.holes and copy.holes[-1].last == number - 1:
                copy.holes[-1].last = number
            else:
                copy.holes.append(Hole(number, number, 0))
        return copy

    def _miss(self, first: int, last: int, now: int) -> None:
        if first <= last:
            self.found += last - first + 1
            self.holes.append(Hole(first, last, now))

    def _fill(self, number: int) -> bool:
        for place, hole in enumerate(self.holes):
            if hole.first <= number <= hole.last:
                self.holes[place : place + 1] = _without(hole, number, number)
                return True
        return False

    def _come_late(self, number: int) -> bool:
        for place, gone in enumerate(self.gone):
            if gone.first <= number <= gone.last:
                rest = ((gone.first, number - 1), (number + 1, gone.last))
                self.gone[place : place + 1] = [Gone(a, b, gone.reason) for a, b in rest if a <= b]
                return True
        return False


def _without(hole: Hole, first: int, last: int) -> Iterator[Hole]:
    """What is left of a hole without a range."""
    if hole.first < first:
        yield Hole(hole.first, min(hole.last, first - 1), hole.found, hole.passed)
    if hole.last > last:
        yield Hole(max(hole.first, last + 1), hole.last, hole.found, hole.passed)
