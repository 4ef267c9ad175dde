"""Clocks for tests: one that follows the wall, one that moves only when told."""

import asyncio
import time

from gateway.domain.values import Timestamp


class PlantClock:
    """Plant time that runs `rate` times as fast as the wall, from a fixed start."""

    START: Timestamp = 1_772_431_200_000  # 2026-03-02T06:00:00Z

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self.jumped = 0
        self._began = time.monotonic()

    def now(self) -> Timestamp:
        return self.START + round((time.monotonic() - self._began) * self.rate * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)


class ManualClock:
    """Plant time that stands still until `advance`; sleepers wake up in order of their time."""

    rate = 1.0
    jumped = 0

    def __init__(self, now: Timestamp = PlantClock.START) -> None:
        self._now = now
        self._sleepers: list[tuple[Timestamp, asyncio.Event]] = []
        self.asked: list[float] = []

    def now(self) -> Timestamp:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        woken = asyncio.Event()
        self._sleepers.append((self._now + round(seconds * 1000), woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Let the time pass once somebody sleeps, and wake up whose time has come."""
        async with asyncio.timeout(5):
            while not self._sleepers:
                await asyncio.sleep(0.001)
        self._now += round(seconds * 1000)
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, woken in sorted(due, key=lambda sleeper: sleeper[0]):
            woken.set()
