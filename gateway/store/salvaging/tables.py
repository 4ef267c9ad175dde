"""The tables and indexes of a damaged record, all but its messages, as far as they can be read.

As SQLite reads them; or, where it no longer knows what there is because the first page is gone, from the pages at which
a new record has them: nothing moves them there. A record that an earlier version made has them elsewhere. Then what is
there does not fit, and nothing is believed of it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from types import NoneType
from typing import Any, Final, NamedTuple, Protocol

from gateway.store.salvaging.page_cells import Torn
from gateway.store.salvaging.pages import PageFile
from gateway.store.schema import prepare

UNREADABLE: Final = (sqlite3.Error, OverflowError, MemoryError)
"""What SQLite raises for bytes that make no sense; it believes a length of terabytes, too."""

Entry = tuple[Any, ...]


class _Shape(NamedTuple):
    """What is read, and what every row of it is like."""

    what: str
    kinds: tuple[tuple[type, ...], ...]
    sorted_by: int
    """By how many of its first columns it rises; two rows never agree in them."""
    has_row_ids: bool = False
    """Whether it is a table of rows with ids; the others are trees of entries, as an index is."""


_TEXT, _NUMBER, _BLOB, _BLOB_OR_NOT = (str,), (int,), (bytes,), (bytes, NoneType)

_SHAPES: Final = {
    "meta": _Shape("key, value FROM meta", (_TEXT, _TEXT), 1),
    "tally": _Shape("key, value FROM tally", (_TEXT, _NUMBER), 1),
    "checkpoint": _Shape("key, value, crc FROM checkpoint", (_TEXT, _BLOB, _NUMBER), 1),
    "checkpoint_of_version_3": _Shape("key, value FROM checkpoint", (_TEXT, _BLOB), 1),
    "retained": _Shape("topic, payload, version, sent_version FROM retained", (_TEXT, _BLOB, _NUMBER, _NUMBER), 1),
    "answer": _Shape("cmd, at, payload, sender FROM answer", (_TEXT, _NUMBER, _BLOB, _BLOB_OR_NOT), 1),
    "stream": _Shape("id, kind, equipment FROM stream NOT INDEXED", (_NUMBER, _TEXT, _TEXT), 1, has_row_ids=True),
    "notice": _Shape("id, key, data, taken FROM notice", (_NUMBER, _TEXT, _BLOB, _NUMBER), 1, has_row_ids=True),
    "sqlite_sequence": _Shape("rowid, name, seq FROM sqlite_sequence", (_NUMBER, _TEXT, _NUMBER), 1, has_row_ids=True),
    "outbox_queued": _Shape(
        "stream, condition, id FROM outbox INDEXED BY outbox_queued WHERE condition = 0", (_NUMBER,) * 3, 3
    ),
    "outbox_published": _Shape(
        "settled_at, condition, id FROM outbox INDEXED BY outbox_published WHERE condition = 1", (_NUMBER,) * 3, 3
    ),
    "outbox_quarantined": _Shape(
        "topic, condition, id FROM outbox INDEXED BY outbox_quarantined WHERE condition = 2",
        (_TEXT, _NUMBER, _NUMBER), 3,
    ),
    "outbox_numbered": _Shape(
        "stream, seq, critical, id FROM outbox INDEXED BY outbox_numbered WHERE critical AND seq > 0",
        (_NUMBER,) * 4, 4,
    ),
}  # fmt: skip


class Tables(Protocol):
    """Where they are read."""

    def read(self, name: str) -> Iterator[Entry]:
        """All there is of it, in order. Raises what is in `UNREADABLE`, or `Torn`, where it does not go on."""


class SqlTables:
    """As SQLite reads them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, name: str) -> Iterator[Entry]:
        """See `Tables`."""
        yield from self._connection.execute(f"SELECT {_SHAPES[name].what}")


class PageTables:
    """From the pages where a new record has them, if this one has its epoch there; otherwise it has no tables."""

    def __init__(self, pages: PageFile) -> None:
        self._pages = pages
        self._roots = _usual_roots()
        if "epoch" not in dict(all_of(self, "meta")[0]):
            self._roots = {}

    def read(self, name: str) -> Iterator[Entry]:
        """See `Tables`."""
        root = self._roots.get(name)
        if root is None:
            raise Torn(name)
        if not _SHAPES[name].has_row_ids:
            yield from map(tuple, self._pages.index(root))
            return
        for row_id, values in self._pages.table(root):  # where the id is a column, the record has NULL for it
            yield row_id, *(values if name == "sqlite_sequence" else values[1:])


def entries(tables: Tables, name: str) -> Iterator[Entry]:
    """What there is of a table or index, only what fits its shape. Raises `Torn` in the end if that is not all."""
    shape = _SHAPES[name]
    previous: Entry | None = None
    is_whole = True
    try:
        for entry in tables.read(name):
            key = entry[: shape.sorted_by]
            if _fits(entry, shape) and (previous is None or previous < key):
                previous = key
                yield entry
            else:
                is_whole = False
    except (*UNREADABLE, Torn):
        is_whole = False
    if not is_whole:
        raise Torn(name)


def all_of(tables: Tables, name: str) -> tuple[list[Entry], bool]:
    """All that can be read of it, and whether that is all there is."""
    found: list[Entry] = []
    try:
        for entry in entries(tables, name):
            found.append(entry)  # noqa: PERF402 - `extend` would keep nothing of what came before an error
    except Torn:
        return found, False
    return found, True


def roots(connection: sqlite3.Connection) -> dict[str, int]:
    """At which page each table and index begins. Raises `sqlite3.Error` where the schema cannot be read."""
    return dict(connection.execute("SELECT name, rootpage FROM sqlite_master"))


def _usual_roots() -> dict[str, int]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection, "", "")
        return roots(connection)


def _fits(entry: Entry, shape: _Shape) -> bool:
    return len(entry) == len(shape.kinds) and all(map(isinstance, entry, shape.kinds))
