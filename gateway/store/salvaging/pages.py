"""The pages of a SQLite file, read without SQLite: for a file that it no longer understands.

After "Database File Format" (sqlite.org/fileformat2.html): §1.5 and §1.6 pages and trees, §4 the log.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeVar

from gateway.store.salvaging.integrity import log_of
from gateway.store.salvaging.log_frames import committed_frames
from gateway.store.salvaging.log_frames import page_size as page_size_of_log
from gateway.store.salvaging.page_cells import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Torn,
    Value,
    cell_count,
    cells,
    decoded,
    varint,
)

_MAGIC: Final = b"SQLite format 3\0"
_DEEPEST: Final = 20
"""Levels of a tree; a page has two children at least."""

_Read = TypeVar("_Read")


class PageFile:
    """A file by its pages, the newest committed version of each: that of its log, if the log has one.

    `base` is where the first whole page begins: a file whose beginning was cut off need not begin with one. Use it in a
    `with`; it reads page by page and holds none.
    """

    def __init__(self, path: Path, page_size: int, base: int = 0) -> None:
        self.page_size = page_size
        self._base = base
        self._path = path
        self._to_close = ExitStack()
        self._file = self._log = -1
        self._logged: dict[int, int] = {}
        self._count = 0
        self._is_numbered = False
        """Whether the file surely begins with its first page; otherwise pages may be missing before what is there."""

    def __enter__(self) -> "PageFile":
        self._file = self._open(self._path)
        self._count = (os.fstat(self._file).st_size - self._base) // self.page_size
        self._is_numbered = os.pread(self._file, len(_MAGIC), 0) == _MAGIC
        log = log_of(self._path)
        if log.exists():
            self._log = self._open(log)
            self._logged = committed_frames(log, self.page_size)
        return self

    def __exit__(self, *_: object) -> None:
        self._to_close.close()

    def __iter__(self) -> Iterator[bytes]:
        """All pages. Where their numbers are not sure, the log's version does not take the place of the file's."""
        for number, page in enumerate(self.own(), 1):
            if not (self._is_numbered and number in self._logged):
                yield page
        for place in self._logged.values():
            yield os.pread(self._log, self.page_size, place)

    def own(self) -> Iterator[bytes]:
        """All pages of the file, none of its log."""
        return (self._of_file(number) for number in range(1, self._count + 1))

    def page(self, number: int) -> bytes:
        """One page, numbered from 1; empty if there is none of that number."""
        if number in self._logged:
            return os.pread(self._log, self.page_size, self._logged[number])
        return self._of_file(number) if 0 < number <= self._count else b""

    def rows(self, page: bytes, wants: Callable[[int], bool] = bool) -> Iterator[tuple[int, list[Value]]]:
        """The rows of a leaf of a table whose ids are wanted; what is no record is left out, and what was deleted."""
        for cell in cells(page, TABLE_LEAF):
            try:
                row_id = varint(page, varint(page, cell)[1])[0]
                if row_id > 0 and wants(row_id):
                    yield self._row(page, cell)
            except (IndexError, ValueError):
                continue

    def entries(self, page: bytes) -> Iterator[list[Value]]:
        """The entries of a leaf of an index, or of a table WITHOUT ROWID, which is one; what is no record is left out.

        Only where the first is one that begins with a text: all of a page are of one tree, and no index of numbers
        is looked for by its shape.
        """
        for place, cell in enumerate(cells(page, INDEX_LEAF)):
            try:
                entry = self._entry(page, cell)
            except (IndexError, ValueError):
                continue
            if place == 0 and not (entry and isinstance(entry[0], str)):
                return
            yield entry

    def table(self, root: int) -> Iterator[tuple[int, list[Value]]]:
        """All rows of the table whose tree begins at that page, by row id. Raises `Torn` where it does not go on."""
        for page, cell, is_leaf in self._tree(root, TABLE_LEAF, TABLE_INTERIOR):
            if is_leaf:
                yield _whole(self._row, page, cell)

    def index(self, root: int) -> Iterator[list[Value]]:
        """All entries of the index whose tree begins at that page, in order. Raises `Torn` where it does not go on."""
        for page, cell, is_leaf in self._tree(root, INDEX_LEAF, INDEX_INTERIOR):
            yield _whole(self._entry, page, cell if is_leaf else cell + 4)

    def _tree(self, number: int, leaf: int, interior: int, depth: int = 0) -> Iterator[tuple[bytes, int, bool]]:
        """The cells of a tree in order: page, place, whether on a leaf (§1.6)."""
        page = self.page(number)
        kind = page[0] if page else None
        places = [] if kind is None else cells(page, kind)
        if kind not in (leaf, interior) or len(places) != cell_count(page) or depth > _DEEPEST:
            raise Torn(f"page {number}")
        for place in places:
            if kind == interior:
                yield from self._tree(_number(page, place), leaf, interior, depth + 1)
            yield page, place, kind == leaf
        if kind == interior:
            yield from self._tree(_number(page, 8), leaf, interior, depth + 1)

    def _row(self, page: bytes, cell: int) -> tuple[int, list[Value]]:
        length, at = varint(page, cell)
        row_id, at = varint(page, at)
        return row_id, self._record(page, at, length, self.page_size - 35)

    def _entry(self, page: bytes, cell: int) -> list[Value]:
        length, at = varint(page, cell)
        return self._record(page, at, length, (self.page_size - 12) * 64 // 255 - 23)

    def _record(self, page: bytes, at: int, length: int, most: int) -> list[Value]:
        """The record of a cell, `most` bytes of which are on the page itself (§1.6)."""
        if length <= most:
            return decoded(page[at : at + length])
        if length > (self._count + len(self._logged)) * self.page_size:
            raise Torn
        least = (self.page_size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.page_size - 4)
        local = local if local <= most else least
        text = bytearray(page[at : at + local])
        following = _number(page, at + local)
        while len(text) < length:  # each page adds to it, so a ring of them ends as well
            overflow = self.page(following)
            if not overflow:
                raise Torn
            following = _number(overflow, 0)
            text += overflow[4:]
        return decoded(bytes(text[:length]))

    def _of_file(self, number: int) -> bytes:
        return os.pread(self._file, self.page_size, self._base + (number - 1) * self.page_size)

    def _open(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        self._to_close.callback(os.close, descriptor)
        return descriptor


def page_size_of(path: Path) -> int | None:
    """Bytes of a page as the header of the file or of its log has it (§1.3.2, §4.1); None if neither can be read."""
    with path.open("rb") as file:
        head = file.read(18)
    told = int.from_bytes(head[16:18], "big") if head[:16] == _MAGIC else None
    if (told is None or not _is_size(told)) and log_of(path).exists():
        told = page_size_of_log(log_of(path))
    return told if told is not None and _is_size(told) else None


def _is_size(told: int) -> bool:
    """A power of two; 65,536, which the header cannot hold, is none of ours."""
    return 512 <= told <= 32_768 and told & (told - 1) == 0


def _whole(read: Callable[[bytes, int], _Read], page: bytes, cell: int) -> _Read:
    try:
        return read(page, cell)
    except (IndexError, ValueError) as error:
        raise Torn(str(error)) from error


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")
