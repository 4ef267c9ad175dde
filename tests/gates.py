"""A gate for device links under test: no lock, and an audit that is only remembered."""

from collections.abc import Sequence

from gateway.audit.folder import Head
from gateway.audit.lines import Entry
from gateway.domain.writing.locks import WriteLocks
from gateway.drivers.base import Clock
from gateway.runtime.write_gate import WriteGate


class Remembered:
    """An audit trail in memory, and locks that a test sets."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.locks = WriteLocks()
        self.head = Head()

    def current(self) -> WriteLocks:
        return self.locks

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        self.entries += entries
        return [*range(len(self.entries) - len(entries) + 1, len(self.entries) + 1)]

    async def tell(self, entries: Sequence[Entry]) -> None:
        self.entries += entries


def open_gate(clock: Clock, remembered: Remembered | None = None) -> WriteGate:
    """A gate that lets pass whatever the device's allow-list names."""
    trail = remembered or Remembered()
    return WriteGate(trail, trail, clock)
