"""The one source of time. Everything else is given one of these."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.domain.values import Timestamp

JUMP: Final = 2_000
"""Milliseconds from which a difference is a jump: smaller ones are what a time service sets right without a word."""

SLOWER: Final = 100
"""Ahead of the wall, the clock loses one millisecond in so many: two hours in eight days, 0.6 s in each minute."""


class SystemClock:
    """The time of this box, for a record in which nothing may happen before what happened earlier.

    It follows the wall clock, but never goes back: set back, or begun with a time that the record is ahead of, it runs
    a hundredth slower until the wall has come up. Set forward, it goes on as before until `jump` is called, so that
    whoever counts seconds on it can be told first.
    """

    rate = 1.0

    def __init__(
        self, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Both in nanoseconds."""
        self.jumped = 0
        self._wall = wall
        self._monotonic = monotonic
        self._last = wall() // 1_000_000, monotonic()

    def now(self) -> Timestamp:
        """Milliseconds UTC."""
        wall, monotonic = self._wall() // 1_000_000, self._monotonic()
        last, since = self._last
        elapsed = (monotonic - since) // 1_000_000
        expected = last + elapsed
        if wall >= expected:
            now = wall if wall - expected < JUMP else expected
        else:
            now = max(wall, expected - elapsed // SLOWER)
        if elapsed >= SLOWER or now != expected:  # whole hundredths, or nothing would ever be lost
            self._last = now, since + elapsed * 1_000_000
        return now

    @property
    def ahead(self) -> int:
        """Milliseconds by which this clock is ahead of the wall; negative after the wall was set forward."""
        return self.now() - self._wall() // 1_000_000

    def jump(self) -> None:
        """Go forward to where the wall clock is."""
        before = self.now()
        after = max(before, self._wall() // 1_000_000)
        self._last = after, self._monotonic()
        self.jumped += after - before

    def begin_after(self, at: Timestamp) -> None:
        """Never tell a time before this one: the record has it already."""
        if at > self.now():
            self._last = at, self._monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep that many seconds."""
        await asyncio.sleep(seconds)


class PlayClock:
    """The clock of a played scenario: plant time `start` was at wall time `epoch`, and runs `rate` times as fast."""

    jumped = 0

    def __init__(self, start: Timestamp, epoch: Timestamp, rate: float) -> None:
        self.rate = rate
        self._start = start
        self._epoch = epoch

    def now(self) -> Timestamp:
        """Plant time in milliseconds UTC."""
        return self._start + int((time.time_ns() / 1_000_000 - self._epoch) * self.rate)

    async def sleep(self, seconds: float) -> None:
        """Sleep that many seconds of plant time."""
        await asyncio.sleep(seconds / self.rate)
