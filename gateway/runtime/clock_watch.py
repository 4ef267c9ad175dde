"""Looks whether the clock of the box was set, and tells the record before anything is judged by it."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from gateway.runtime.clock import JUMP, SystemClock
from gateway.runtime.commit import FULL_PAUSE
from gateway.store.schema import StoreFull
from gateway.store.store import Store

log = structlog.get_logger()

LOOK: Final = 0.5
"""Seconds between two looks. Until then the gateway's clock goes on as if nothing had happened."""

HOUR: Final = 3_600_000
"""Milliseconds from which what the record keeps for days goes along with the clock; less does not matter to it."""


class ClockWatch:
    """`tell(by, ahead)`, in milliseconds, is called once for each jump of the wall clock.

    One forward has been followed by then. One back is not followed: the gateway is `ahead` of the box, and it is told
    again only if that grows.
    """

    def __init__(self, clock: SystemClock, tell: Callable[[int, int], None], store: Store) -> None:
        self._clock = clock
        self._tell = tell
        self._store = store
        self._ahead = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            by = self.look()
            if by >= HOUR:
                await self._move_record(by)
            await asyncio.sleep(LOOK)

    def look(self) -> int:
        """Compare both clocks; returns by how much the wall clock was set since the last look, as far as it matters."""
        ahead = self._clock.ahead
        if ahead <= -JUMP:
            before = self._clock.now()
            self._clock.jump()
            by, self._ahead = self._clock.now() - before, 0
        elif ahead >= self._ahead + JUMP:
            by, self._ahead = self._ahead - ahead, ahead
        else:
            self._ahead = max(0, min(self._ahead, ahead))
            return 0
        log.warning("the clock of this box was set", seconds=round(by / 1000, 1), ahead=round(self._ahead / 1000, 1))
        self._tell(by, self._ahead)
        return by

    async def _move_record(self, by: int) -> None:
        while True:
            try:
                await self._store.move_times(by)
            except StoreFull:
                await asyncio.sleep(FULL_PAUSE)
            else:
                return
