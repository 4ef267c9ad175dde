"""The one source of time. Everything else is given one of these."""

import asyncio
import time

from gateway.domain.values import Timestamp


class SystemClock:
    """The wall clock, as on a real box."""

    rate = 1.0

    def now(self) -> Timestamp:
        """Milliseconds UTC."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Sleep that many seconds."""
        await asyncio.sleep(seconds)


class PlayClock:
    """The clock of a played scenario: plant time `start` was at wall time `epoch`, and runs `rate` times as fast."""

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
