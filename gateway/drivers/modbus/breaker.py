"""When a silent unit may be asked again, so that its neighbours on the same connection hardly notice. Pure.

One request holds the connection (trap B7): a unit that does not answer costs the others its whole timeout.
"""

from typing import Final

_SHARE: Final = 20
"""A silent unit is left alone for at least this many times the time it has just cost: 5 % of the connection."""
_LONGEST: Final = 60.0
"""Seconds after which even a unit that is dead for hours is asked again, unless its share demands more."""


class Breaker:
    """Closed while the unit answers; open after `limit` silences in a row; then one probe at a time, ever more rarely.

    `now` is any monotonic wall time in seconds.
    """

    def __init__(self, limit: int) -> None:
        self.silences = 0
        self._limit = limit
        self._pause = 0.0
        self._probe_at = 0.0

    @property
    def has_tripped(self) -> bool:
        """True if so many requests in a row stayed without answer that the unit counts as dead."""
        return self.silences >= self._limit

    def is_open(self, now: float) -> bool:
        """True if the unit must not be asked now."""
        return self.has_tripped and now < self._probe_at

    def note_answer(self) -> None:
        """The unit lives, whatever it said."""
        self.silences = 0
        self._pause = 0.0

    def note_silence(self, now: float, cost: float) -> None:
        """Another request stayed without answer and held the connection for `cost` seconds."""
        self.silences += 1
        if self.has_tripped:
            share = _SHARE * cost
            self._pause = max(share, min(2 * self._pause, _LONGEST))
            self._probe_at = now + self._pause
