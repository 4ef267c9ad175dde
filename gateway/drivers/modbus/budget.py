"""How many requests a device bears in a second. Pure."""


class Budget:
    """Places in time, one per request, `1 / most` seconds apart; None is no limit. Unused ones are not saved up."""

    def __init__(self, most: float | None) -> None:
        self._apart = 0.0 if most is None else 1 / most
        self._next = 0.0

    def wait(self, now: float) -> float:
        """Take the next free place; how many seconds after `now` it is. `now` is any monotonic time in seconds."""
        place = max(now, self._next)
        self._next = place + self._apart
        return place - now
