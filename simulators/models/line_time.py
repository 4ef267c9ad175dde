"""The one time of a line, which its machines look at."""

from dataclasses import dataclass

Written = bool | int | float | str
"""A value that a client can write to a machine."""


@dataclass(slots=True)
class LineTime:
    """Plant time since the scenario's start, and the moment from which the machines stand still.

    `ms` goes on for ever, as a PLC's own clock, heartbeat and handshakes do; `second` is where production is, and
    stops at `until_s`.
    """

    until_s: int
    ms: int = 0

    @property
    def second(self) -> int:
        """The last whole second that production has reached."""
        return min(self.ms // 1000, self.until_s)

    @property
    def heartbeat(self) -> bool:
        """A bit that toggles every plant second."""
        return self.ms // 1000 % 2 == 1
