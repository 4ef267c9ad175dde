"""Seconds as this process lived through them, for tests that state a bound.

The machines that run the tests stand still for a second now and then, and share their cores. A bound in wall time
would judge the machine; here a moment in which nothing ran counts as `LONGEST_TICK` at most. What the gateway itself
waits for too long still counts in full.
"""

import threading
import time
from types import TracebackType
from typing import Final, Self

TICK: Final = 0.005
LONGEST_TICK: Final = 0.02
"""A thread that sleeps for `TICK` is back by then, unless the machine stood still."""


class Stopwatch:
    """Runs inside its `with` block; `seconds` may be read at any time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(TICK):
            now = time.monotonic()
            self.seconds += min(now - before, LONGEST_TICK)
            before = now
