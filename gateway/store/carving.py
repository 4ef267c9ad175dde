"""Messages from the pages of a record whose tables SQLite no longer finds (trap D7).

What SQLite reads, it finds from the first page downwards: 40 KB overwritten at the beginning, or one page in the
middle of a tree, hide everything below. The rows are there all the same, on leaves that tell nobody whose they are. So
they are known by their shape: ten values of the right kinds after the row id, and a payload that has its checksum.

A leaf that is in use no more keeps its rows, so a row may be found that was deleted, or an older copy of one. A row
goes from queued to published or put aside, and never back under the same id: of two copies the settled one is the
newer. Where a queued copy is the only one, it is believed: a message that comes twice has a known id, and one that
never comes is lost.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from gateway.store.pages import PageFile, Value, page_size_of
from gateway.store.schema import PAGE

_SIZES: Final = (PAGE, 4096)
"""Pages of a record of ours, and SQLite's own, which the first records had; for a file that does not say."""

_KINDS: Final = ("evt", "tel", "res")
_TALLIES: Final = frozenset({"acknowledged", "dropped", "requeued", "forgotten"})
MOST_ID: Final = 1 << 48
"""Row ids beyond it are damage: at 10,000 messages/s they last for nine hundred years."""

Row = tuple[int, int, int, str, bytes, int, int, int, int | None, str | None, bytes | None]


class Carved:
    """What a file's pages hold besides messages, known by its shape. Tallies are the highest that were found."""

    def __init__(self) -> None:
        self.streams: dict[int, tuple[str, str]] = {}
        self.tallies: dict[str, int] = {}
        self.answers: dict[str, tuple[str, int, bytes, bytes | None]] = {}
        self.last_id: int | None = None
        """The last id that was given; its page is never given up, so there is no older copy of it."""


def carve(path: Path, take: Callable[[Row], None]) -> Carved:
    """Go through all pages of the file and its log; each copy of a message that is whole goes to `take`."""
    carved = Carved()
    for page_size, base in _ways_to_read(path):
        with PageFile(path, page_size, base) as pages:
            for page in pages:
                for row_id, values in pages.rows(page):
                    if is_whole(row := (row_id, *values[1:])) and values[0] is None:
                        take(row)  # type: ignore[arg-type]
                    elif _is_stream(values):
                        carved.streams[row_id] = values[1], values[2]  # type: ignore[assignment]
                    elif _is_sequence(values):
                        carved.last_id = max(int(str(values[1])), carved.last_id or 0)
                _keep_entries(carved, pages.entries(page))
    return carved


def is_whole(row: Any) -> bool:
    """Whether every column is of its kind and the payload has its checksum: damage may look like a row."""
    return (
        len(row) == 11
        and 0 < row[0] < MOST_ID
        and _are(row, (int, int, int, str, bytes, int, int, int))
        and all(isinstance(value, kind | None) for value, kind in zip(row[8:], (int, str, bytes), strict=True))
        and row[6] in (0, 1)
        and row[7] in (0, 1, 2)
        and zlib.crc32(row[4]) == row[5]
    )


def _ways_to_read(path: Path) -> Iterator[tuple[int, int]]:
    """Page sizes and where the first page begins. A wrong way gives nothing, for no checksum fits."""
    size = page_size_of(path)
    for page_size in _SIZES if size is None else (size,):
        yield page_size, 0
        rest = path.stat().st_size % page_size
        if rest:  # the beginning is missing, and not of whole pages: then pages end where the file does
            yield page_size, rest


def _keep_entries(carved: Carved, entries: Iterable[list[Value]]) -> None:
    for values in entries:
        if len(values) == 2 and values[0] in _TALLIES and isinstance(values[1], int):
            key = str(values[0])
            carved.tallies[key] = max(values[1], carved.tallies.get(key, 0))
        elif _is_answer(values):
            cmd, at, payload, sender = values
            if cmd not in carved.answers or at >= carved.answers[cmd][1]:  # type: ignore[operator]
                carved.answers[cmd] = cmd, at, payload, sender  # type: ignore[index, assignment]


def _is_stream(values: list[Value]) -> bool:
    return len(values) == 3 and values[0] is None and values[1] in _KINDS and isinstance(values[2], str)


def _is_sequence(values: list[Value]) -> bool:
    return len(values) == 2 and values[0] == "outbox" and isinstance(values[1], int) and 0 <= values[1] < MOST_ID


def _is_answer(values: list[Value]) -> bool:
    return len(values) == 4 and _are(values, (str, int, bytes)) and (values[3] is None or isinstance(values[3], bytes))


def _are(values: Any, kinds: tuple[type, ...]) -> bool:
    return all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=False))
