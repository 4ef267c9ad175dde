"""Pieces over time as a closed form, so that a shift is as quick to ask as a second."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

Window = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Run:
    """`[start, end)` seconds in which every second yields the same number of pieces, all of one order and fate."""

    start: int
    end: int
    order: str | None
    rejected: bool = False


def within(second: int, windows: Iterable[Window]) -> bool:
    """True if the second lies in one of the windows `[from, to)`."""
    return any(start <= second < end for start, end in windows)


def sort_out(runs: Iterable[Run], windows: Sequence[Window]) -> Iterator[Run]:
    """The same runs, split where a window begins or ends; those inside a window are rejected."""
    edges = sorted({edge for window in windows for edge in window})
    for run in runs:
        cuts = [run.start, *(edge for edge in edges if run.start < edge < run.end), run.end]
        for start, end in pairwise(cuts):
            yield replace(run, start=start, end=end, rejected=within(start, windows))


class Stretch(Protocol):
    """A stretch of time that may belong to an order."""

    @property
    def start(self) -> int:
        """Its first second."""

    @property
    def end(self) -> int:
        """The second after its last."""

    @property
    def order(self) -> str | None:
        """Whose it is."""


def order_windows(stretches: Iterable[Stretch]) -> dict[str, tuple[int, int]]:
    """When each order ran, in order of their start: from its first stretch to the end of its last."""
    windows: dict[str, tuple[int, int]] = {}
    for stretch in stretches:
        if stretch.order:
            start, _ = windows.get(stretch.order, (stretch.start, 0))
            windows[stretch.order] = (start, stretch.end)
    return windows


class Flow:
    """How many pieces a counter has seen: those of second *k* show from *k* + 1 on.

    `runs` follow each other in time and do not overlap; every second of a run yields `rate` pieces.
    """

    def __init__(self, runs: Iterable[Run], rate: int) -> None:
        self.runs = list(runs)
        self.rate = rate
        self._starts = [run.start for run in self.runs]
        self._ends = [run.end for run in self.runs]
        self._before = [0]
        for run in self.runs:
            self._before.append(self._before[-1] + (run.end - run.start) * rate)

    @property
    def total(self) -> int:
        """All pieces there will ever be."""
        return self._before[-1]

    def made(self, second: int) -> int:
        """Pieces that the counter shows at that second."""
        index = bisect_right(self._starts, second) - 1
        if index < 0:
            return 0
        run = self.runs[index]
        return self._before[index] + (min(second, run.end) - run.start) * self.rate

    def shows(self, pieces: int) -> int:
        """The first second at which the counter shows that many pieces (1 ≤ pieces ≤ total)."""
        index = bisect_right(self._before, pieces - 1) - 1
        return self.runs[index].start + -(-(pieces - self._before[index]) // self.rate)

    def at(self, second: int) -> Run | None:
        """The run that the second belongs to."""
        index = bisect_right(self._starts, second) - 1
        return self.runs[index] if index >= 0 and second < self._ends[index] else None

    def only(self, wanted: Callable[[Run], bool]) -> "Flow":
        """The flow of those runs alone."""
        return Flow((run for run in self.runs if wanted(run)), self.rate)

    def of(self, order: str) -> "Flow":
        """The flow of one order."""
        return self.only(lambda run: run.order == order)
