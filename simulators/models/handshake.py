"""The sequence-number handshake of a parameter download, as the machine plays it.

The client writes the parameters, then `CmdSeq = AckSeq + 1`. The machine answers in its next scan with AckSeq and
status busy or rejected, and with done when the parameters are active. It compares levels, not edges: a command that
arrives while another is busy waits for its turn, and a repeated one changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class Status(IntEnum):
    """What the machine says of the last command."""

    IDLE = 0
    BUSY = 1
    DONE = 2
    REJECTED = 3


class Refusal(IntEnum):
    """Why a command was rejected."""

    NONE = 0
    NOT_REMOTE = 1
    BAD_DATA = 2


@dataclass(frozen=True, slots=True)
class Interference:
    """What goes wrong between a command and its answer: heard late, not at all, or rejected with `error` above 0."""

    late_ms: int = 0
    is_deaf: bool = False
    error: int = 0


class Handshake:
    """One command interface. `check` says whether the written set may be taken; `take` makes it the active one.

    After the sequence number `last` (65535 in a Modbus register, 2147483647 in an Int32) comes 1: 0 means none yet.
    """

    def __init__(self, duration_s: float, last: int, check: Callable[[], Refusal], take: Callable[[int], None]) -> None:
        self.command = 0
        self.acknowledged = 0
        self.status = Status.IDLE
        self.error: int = Refusal.NONE
        self.interference = Interference()
        self._heard_ms: int | None = None
        self._duration_ms = round(duration_s * 1000)
        self._last = last
        self._check = check
        self._take = take
        self.due_ms: int | None = None
        """When the running command will be done, or None."""

    def request(self, sequence: int, now_ms: int) -> None:
        """The client wrote CmdSeq."""
        self.command = sequence
        if self.interference.is_deaf:
            return
        if self.interference.late_ms:
            self._heard_ms = now_ms + self.interference.late_ms
            return
        self._look(now_ms)

    def advance(self, now_ms: int) -> None:
        """Finish what is due by then, and hear what was to be heard late."""
        if self._heard_ms is not None and self._heard_ms <= now_ms:
            heard_ms, self._heard_ms = self._heard_ms, None
            self._look(heard_ms)
        while self.due_ms is not None and self.due_ms <= now_ms:
            done_ms, self.due_ms = self.due_ms, None
            self._take(done_ms)
            self.status = Status.DONE
            self._look(done_ms)

    def _look(self, now_ms: int) -> None:
        if self.due_ms is not None or self.command != self.acknowledged % self._last + 1:
            return
        self.acknowledged = self.command
        self.error = self.interference.error or self._check()
        if self.error != Refusal.NONE:
            self.status = Status.REJECTED
            return
        self.status = Status.BUSY
        self.due_ms = now_ms + self._duration_ms
