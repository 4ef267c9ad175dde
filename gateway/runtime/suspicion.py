"""Which message makes a broker hang up: before MQTT 5 a broker cannot say that one is too large for it."""

from collections.abc import Sequence
from typing import Final

from gateway.store.records import OutboxRow, RetainedRow

STRIKES: Final = 3
"""Connections in a row that may end on the same message before it is put aside (trap C5)."""

Row = OutboxRow | RetainedRow
_Identity = int | str
"""What is the same over connections: a row's id, a retained topic."""


class Suspicion:
    """Finds the message that makes a broker hang up (trap C5).

    Whatever was unacknowledged when a connection broke goes one by one on the next. A broker that was only restarted
    takes it all. A message that ends the next connection too, and then one more, is convicted.
    """

    def __init__(self) -> None:
        self._suspects: set[_Identity] = set()
        self._strikes = 0
        self._convicted: set[tuple[str, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._suspects)

    @property
    def rows(self) -> list[int]:
        """The suspects in the outbox. They go first, so that they cannot hide behind a backlog."""
        return sorted(one for one in self._suspects if isinstance(one, int))

    def connection_lost(self, unacknowledged: Sequence[object]) -> None:
        """Note what a connection ended with."""
        found = {_identity(token) for token in unacknowledged if isinstance(token, Row)}
        again = len(found) == 1 and found <= self._suspects
        self._strikes = self._strikes + 1 if again else 1
        self._suspects = found

    def convicts(self, row: Row) -> bool:
        """True if this message has ended too many connections; it is a suspect no more."""
        guilty = self._strikes >= STRIKES and _identity(row) in self._suspects
        if guilty:
            self._suspects.clear()
            if isinstance(row, RetainedRow):
                self._convicted.add((row.topic, row.version))
        return guilty

    def has_convicted(self, row: RetainedRow) -> bool:
        """True for what holds now but ended too many connections, on this one or an earlier one."""
        return (row.topic, row.version) in self._convicted

    def acquit(self, row: Row) -> None:
        """The broker answered to this message."""
        self._suspects.discard(_identity(row))

    def drop(self) -> None:
        """Nothing is left to be sent, so no suspect either."""
        self._suspects.clear()


def _identity(row: Row) -> _Identity:
    return row.id if isinstance(row, OutboxRow) else row.topic
