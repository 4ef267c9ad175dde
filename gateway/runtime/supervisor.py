"""Backoff between tries: 1 s, doubling to 30 s, with jitter so that fifty devices do not come back in one instant."""

import random
from collections.abc import Callable

FIRST = 1.0
LONGEST = 30.0


class Backoff:
    """How long to wait before the next try. `jitter` gives a number in [0, 1)."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._next = FIRST

    def reset(self) -> None:
        """The last try succeeded."""
        self._next = FIRST

    def next(self) -> float:
        """Seconds to wait now: between half of the step and all of it."""
        step, self._next = self._next, min(LONGEST, self._next * 2)
        return step * (0.5 + self._jitter() / 2)
