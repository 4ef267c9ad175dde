"""What is kept of the past, so that late data and back-dated changes can be told as revisions.

Attribution goes forward: a window that is closed is published. But a buffered device tells of minutes that are over,
and an operator scans an order twenty minutes after its first piece. For a day (`KEPT`) every closed window of counting
is kept with the moments of its pieces, every interval of energy, of a state and of an order, and every container and
sample. Each record has a checkpoint of its own, written once: the checkpoint of every commit stays small.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType, field

from gateway.domain.contract.events import ContainerCompleted, OrderRef, QualitySample
from gateway.domain.production.orders import Run
from gateway.domain.production.packing import packed, unpacked
from gateway.domain.production.windows import Tally
from gateway.domain.values import Timestamp

KEPT: Final = 86_400_000
"""Milliseconds for which the past can be told anew. What is older than that is counted where it arrives, as `late`."""


def row_pairs(rows: list[int]) -> Iterator[tuple[Timestamp, int]]:
    """Rows as they are kept, moment and pieces in turn in one flat list, as pairs."""
    return zip(rows[::2], rows[1::2], strict=True)


class Told(msgspec.Struct):
    """What was last said of one counter in one window."""

    delta: int
    total: int | None
    order: OrderRef | None
    revision: int = 1
    shift_total: int | None = None
    cycle: float | UnsetType | None = UNSET
    """Milliseconds that were planned for a piece, by which its shift has it; unset in records of older gateways."""


class Consumed(msgspec.Struct):
    """What was last said of one material in one window, for one order."""

    qty: int
    lot: str | None
    order: OrderRef | None
    revision: int = 1


class PastWindow(msgspec.Struct):
    """A closed window of counting. `rows` has for each counter its steps in turn: moment, pieces, moment, pieces …"""

    start: Timestamp
    end: Timestamp
    run: str | None
    order: OrderRef | None
    tallies: dict[str, Tally] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    consumed: dict[str, Consumed] = field(default_factory=dict)

    def split(self, at: Timestamp) -> "PastWindow":
        """Take out what it held up to `at`, as a window of its own."""
        first = PastWindow(self.start, at, self.run, self.order)
        self.start = at
        for name, rows in self.rows.items():
            before = [number for row in row_pairs(rows) if row[0] <= at for number in row]
            tally = self.tallies[name]
            first.tallies[name] = Tally(sum(before[1::2]), list(tally.flags))
            first.rows[name] = before
            self.rows[name] = rows[len(before) :]
            tally.delta -= first.tallies[name].delta
        return first


class PastEnergy(msgspec.Struct):
    """A closed interval of energy, in counts of the meter; `rows` as in a window. Revision 0 is not yet told."""

    start: Timestamp
    end: Timestamp
    run: str | None
    order: OrderRef | None
    counts: int
    rows: list[int] = field(default_factory=list)
    revision: int = 1


class PastState(msgspec.Struct, frozen=True):
    """An interval of a state that is over."""

    state: str
    start: Timestamp
    end: Timestamp


class PastContainer(msgspec.Struct):
    """A container as it was last told."""

    at: Timestamp
    data: ContainerCompleted
    revision: int = 1

    @property
    def name(self) -> str:
        """Which one of its moment."""
        return self.data.sscc

    def of(self, order: OrderRef | None) -> ContainerCompleted:
        """What it is as part of that order."""
        return msgspec.structs.replace(self.data, lot=order.lot if order else None)


class PastSample(msgspec.Struct):
    """A sample as it was last told."""

    at: Timestamp
    data: QualitySample
    revision: int = 1

    @property
    def name(self) -> str:
        """Which one of its moment."""
        return f"{self.data.char} {self.data.subgroup}"


_Item = TypeVar("_Item")


class Shelf(Generic[_Item]):
    """Records of one kind by name, encoded. A name begins with a moment, so that names are in order of time."""

    def __init__(
        self, kind: str, item: type[_Item], kept: Mapping[str, bytes], changes: dict[str, bytes | None]
    ) -> None:
        self._prefix = f"{kind}|"
        self._decoder = msgspec.json.Decoder(item)
        self._changes = changes
        self._blobs = {
            name.removeprefix(self._prefix): blob for name, blob in kept.items() if name.startswith(self._prefix)
        }

    def put(self, moment: Timestamp, item: _Item, suffix: str = "") -> None:
        """Keep a record, in place of the one with the same moment and suffix."""
        name = f"{moment:013}{suffix}"
        self._blobs[name] = self._changes[self._prefix + name] = packed(item)

    def drop(self, moment: Timestamp, suffix: str = "") -> None:
        """Forget a record, if there is one."""
        self._forget(f"{moment:013}{suffix}")

    def after(self, moment: Timestamp) -> Iterator[_Item]:
        """The records whose moment lies after this one, in order of time."""
        for name in sorted(name for name in self._blobs if int(name[:13]) > moment):
            yield self._decoder.decode(unpacked(self._blobs[name]))

    def prune(self, until: Timestamp) -> None:
        """Forget what is older."""
        for name in [name for name in self._blobs if int(name[:13]) <= until]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        if self._blobs.pop(name, None) is not None:
            self._changes[self._prefix + name] = None


class History:
    """The past of one equipment or lane. `kept` are its records from the last checkpoints, by kind and name."""

    def __init__(self, kept: Mapping[str, bytes]) -> None:
        self._changes: dict[str, bytes | None] = {}
        self.windows = Shelf("window", PastWindow, kept, self._changes)
        self.energy = Shelf("energy", PastEnergy, kept, self._changes)
        self.states = Shelf("state", PastState, kept, self._changes)
        self.runs = Shelf("run", Run, kept, self._changes)
        self.containers = Shelf("container", PastContainer, kept, self._changes)
        self.samples = Shelf("sample", PastSample, kept, self._changes)

    def prune(self, now: Timestamp) -> None:
        """Forget what is older than `KEPT`."""
        for shelf in (self.windows, self.energy, self.states, self.runs, self.containers, self.samples):
            shelf.prune(now - KEPT)

    def take_changes(self) -> dict[str, bytes | None]:
        """The records that changed since the last call, None for those that are gone."""
        if not self._changes:
            return {}
        changes = dict(self._changes)
        self._changes.clear()
        return changes
