"""Messages from the pages of a record whose tables SQLite no longer finds (trap D7).

What SQLite reads, it finds from the first page downwards: 40 KB overwritten at the beginning, or one page in the
middle of a tree, hide everything below. The rows are there all the same, on leaves that tell nobody whose they are. So
they are known by their shape: ten values of the right kinds after the row id, and a payload that has its checksum.

A leaf that is in use no more keeps its rows, so a row may be found that was deleted, or an older copy of one. Which of
them counts is for the caller to say: `rescue` knows what else is known.
"""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import Any, Final, NamedTuple

from gateway.store.salvaging.page_cells import TABLE_LEAF, Value, cells
from gateway.store.salvaging.pages import PageFile, page_size_of
from gateway.store.schema import PAGE

_SIZES: Final = (PAGE, 4096)
"""Pages of a record of ours, and SQLite's own, which the first records had; for a file that does not say."""

_KINDS: Final = ("evt", "tel", "res")
_TALLIES: Final = frozenset({"acknowledged", "dropped", "requeued", "forgotten"})
_ROW: Final = (int, int, int, str, bytes, int, int, int)
MOST_ID: Final = 1 << 48
"""Row ids beyond it are damage: at 10,000 messages/s they last for nine hundred years."""

Row = tuple[int, int, int, str, bytes, int, int, int, int | None, str | None, bytes | None]


class Layout(NamedTuple):
    """How a file is cut into pages: bytes of one, and where the first whole one begins."""

    page_size: int
    base: int


class Carved:
    """What a file's pages hold besides messages, known by its shape. Tallies are the highest that were found."""

    def __init__(self) -> None:
        self.streams: dict[int, tuple[str, str]] = {}
        self.tallies: dict[str, int] = {}
        self.answers: dict[str, tuple[str, int, bytes, bytes | None]] = {}
        self.last_id: int | None = None
        """The last id that was given; its page is never given up, so there is no older copy of it."""


def carve(path: Path, wants: Callable[[int], bool], take: Callable[[Row], None]) -> Carved:
    """Go through all pages of the file and its log; each copy of a message that is whole goes to `take`.

    Rows of tables with an id that `wants` refuses are not looked at; that saves most of the time where few are missing.
    """
    carved = Carved()
    with PageFile(path, *layout_of(path)) as pages:
        for page in pages:
            for row_id, values in pages.rows(page, wants):
                row: Any = (row_id, *values[1:])
                if is_whole(row) and values[0] is None:
                    take(row)
                else:
                    _keep_row(carved, row_id, values)
            _keep_entries(carved, pages.entries(page))
    return carved


def is_whole(row: tuple[Any, ...]) -> bool:
    """Whether every column is of its kind and the payload has its checksum: damage may look like a row."""
    kinds = tuple(map(type, row))
    return (
        len(row) == 11
        and kinds[:8] == _ROW
        and kinds[8] in (int, NoneType)
        and kinds[9] in (str, NoneType)
        and kinds[10] in (bytes, NoneType)
        and 0 < row[0] < MOST_ID
        and row[6] in (0, 1)
        and row[7] in (0, 1, 2)
        and zlib.crc32(row[4]) == row[5]
    )


def layout_of(path: Path) -> Layout:
    """As the header has it; where it is gone, the one by which a message is found that no other would give.

    A file whose beginning is missing need not begin with a whole page; then pages end where the file does.
    """
    told, length = page_size_of(path), path.stat().st_size
    sizes = _SIZES if told is None else (told,)
    ways = [Layout(size, base) for size in sizes for base in sorted({0, length % size})]
    if len(ways) > 1:
        for layout in ways:
            with PageFile(path, *layout) as pages:
                if any(_is_surely_one(pages, page) for page in pages.own()):
                    return layout
    return ways[0]


def _is_surely_one(pages: PageFile, page: bytes) -> bool:
    """Whether it is a leaf with a message in its second half: a page of half the size has none there."""
    return any(place >= len(page) // 2 for place in cells(page, TABLE_LEAF)) and any(
        is_whole((row_id, *values[1:])) for row_id, values in pages.rows(page)
    )


def _keep_row(carved: Carved, row_id: int, values: list[Value]) -> None:
    match values:
        case [None, str(kind), str(equipment)] if kind in _KINDS:
            carved.streams[row_id] = kind, equipment
        case ["outbox", int(last)] if 0 <= last < MOST_ID:
            carved.last_id = max(last, carved.last_id or 0)


def _keep_entries(carved: Carved, entries: Iterable[list[Value]]) -> None:
    for values in entries:
        match values:
            case [str(key), int(total)] if key in _TALLIES:
                carved.tallies[key] = max(total, carved.tallies.get(key, 0))
            case [str(cmd), int(at), bytes(payload), (bytes() | None) as sender]:
                if cmd not in carved.answers or at >= carved.answers[cmd][1]:
                    carved.answers[cmd] = cmd, at, payload, sender
