"""Counter deltas, gathered into windows that belong to one order each."""

import msgspec
from msgspec import field

from gateway.domain.contract.events import OrderRef
from gateway.domain.values import Timestamp


class Derived(msgspec.Struct, frozen=True):
    """A count that the machine does not keep: the sum of some counters less others (good = produced - scrap)."""

    name: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()


class Tally(msgspec.Struct):
    """One counter's pieces in the open window."""

    delta: int = 0
    flags: list[str] = field(default_factory=list)

    def add(self, delta: int, flags: tuple[str, ...]) -> None:
        """Add a step and remember what was special about it."""
        self.delta += delta
        self.flags.extend(flag for flag in flags if flag not in self.flags)


class WindowMemory(msgspec.Struct):
    """The open window: it ends at `end`, and everything in it belongs to `order`."""

    start: Timestamp = 0
    end: Timestamp | None = None
    order: OrderRef | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    """For each counter its steps in turn: moment, pieces, moment, pieces … so that a window can be parted later."""


class ClosedWindow(msgspec.Struct, frozen=True):
    """A window whose pieces are final."""

    start: Timestamp
    end: Timestamp
    order: OrderRef | None
    tallies: dict[str, Tally]
    rows: dict[str, list[int]]


class Windows:
    """Gathers deltas; windows end on multiples of `length` milliseconds and at every change of order."""

    def __init__(self, length: int, memory: WindowMemory) -> None:
        self.length = length
        self.memory = memory

    def add(
        self,
        counter: str,
        delta: int,
        flags: tuple[str, ...],
        order: OrderRef | None,
        at: Timestamp,
        limit: Timestamp | None = None,
    ) -> None:
        """Count pieces that showed at `at`; the window open until then must be closed if `at` lies after it.

        A window that opens here ends at `limit`, the end of the shift, at the latest.
        """
        memory = self.memory
        at = max(at, memory.start + 1)  # late pieces go to the next window: a closed one is never reopened
        if memory.end is None:
            memory.end = -(-at // self.length) * self.length
            if limit is not None and at <= limit:
                memory.end = min(memory.end, limit)
            memory.start = max(memory.start, memory.end - self.length)
            memory.order = order
        memory.tallies.setdefault(counter, Tally()).add(delta, flags)
        memory.rows.setdefault(counter, []).extend((at, delta))

    def close(self, until: Timestamp) -> ClosedWindow | None:
        """The open window, if it ends at or before `until`."""
        end = self.memory.end
        return self._cut(end) if end is not None and end <= until else None

    def cut(self, at: Timestamp) -> ClosedWindow | None:
        """The open window, ended early at `at` as the order changes there; the next one begins there in any case."""
        if self.memory.end is None:
            self.memory.start = max(self.memory.start, at)
            return None
        return self._cut(at)

    def deadline(self) -> Timestamp | None:
        """When the open window ends."""
        return self.memory.end

    def _cut(self, end: Timestamp) -> ClosedWindow:
        memory = self.memory
        closed = ClosedWindow(memory.start, end, memory.order, memory.tallies, memory.rows)
        memory.start, memory.end, memory.order, memory.tallies, memory.rows = end, None, None, {}, {}
        return closed
