"""Plays a line in time: one scan of every device a plant second, handshakes when they are due, links cut and mended."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from simulators.clock import PlayClock
from simulators.faults import UNREACHABLE
from simulators.models.line import Line
from simulators.scenario_parts import Fault


class Device(Protocol):
    """A server in front of machines. `publish` shows the line as it is now, all of it or nothing."""

    @property
    def name(self) -> str:
        """As faults and ports name it."""

    @property
    def url(self) -> str:
        """Where it listens."""

    async def open(self) -> None:
        """Listen; with port 0 a free port is taken, kept and told by `url`."""

    async def close(self) -> None:
        """Drop every connection and stop for good."""

    async def publish(self) -> None:
        """Show what changed since the last time. Never yields to the loop, so nobody can see half a scan."""

    async def cut(self, *, restart: bool) -> None:
        """Drop every connection and the listening socket; a restarted device also forgets its sessions."""

    async def mend(self) -> None:
        """Listen again on the same port."""


class Play:
    """One line in front of its devices, played by a clock."""

    def __init__(self, line: Line, clock: PlayClock) -> None:
        self.line = line
        self.clock = clock
        self._cut: set[str] = set()
        self._hurry = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the machines stand still, because the scenario or the play is over."""

    @property
    def is_late(self) -> bool:
        """True while a newer scan is due already: the machine that plays has stood still, or is too busy."""
        return self.clock.plant_ms() - self.line.time.ms >= 1000

    def touch(self) -> None:
        """Bring the line's time up to now because somebody writes, but not past a scan that is still to be shown."""
        next_scan = (self.line.time.ms // 1000 + 1) * 1000
        self.line.advance_to(min(self.clock.plant_ms(), next_scan - 1))
        self._hurry.set()

    async def run(self, devices: Sequence[Device]) -> None:
        """Scan for ever, the first time at once. A late scan is made up for, with its own time stamp."""
        self.line.advance_to(self.clock.plant_ms() // 1000 * 1000)
        while True:
            await self._play_faults(devices)
            for device in devices:
                await device.publish()
            if self.line.over:
                self.ended.set()
            await self._wait_for_the_next_scan()

    async def _wait_for_the_next_scan(self) -> None:
        while True:
            self._hurry.clear()
            due = self._next_ms()
            wait = self.clock.wall_seconds_until(due)
            try:
                # A timeout of 0 would not let anybody else run while the play is late.
                async with asyncio.timeout(max(wait, 0.0005)):
                    await self._hurry.wait()
            except TimeoutError:
                self.line.advance_to(due)
                return

    def _next_ms(self) -> int:
        next_scan = (self.line.time.ms // 1000 + 1) * 1000
        return min(next_scan, self.line.due_ms or next_scan)

    async def _play_faults(self, devices: Sequence[Device]) -> None:
        for device in devices:
            fault = self._fault(device.name)
            if fault is not None and device.name not in self._cut:
                self._cut.add(device.name)
                await device.cut(restart=fault.kind != "link_cut")
            elif fault is None and device.name in self._cut:
                self._cut.remove(device.name)
                await device.mend()

    def _fault(self, device: str) -> Fault | None:
        """The fault that keeps the device out of reach now."""
        at = self.line.at
        return next(
            (
                fault
                for fault in self.line.scenario.faults
                if fault.kind in UNREACHABLE and fault.device == device and fault.from_ <= at < fault.to
            ),
            None,
        )
