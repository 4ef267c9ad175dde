"""The pages of a SQLite file, read without SQLite: for a file that it no longer understands.

After "Database File Format" (sqlite.org/fileformat2.html): §1.5 and §1.6 pages and cells, §2.1 records, §4 the log.
Nothing that is read is believed: every length and place is held against the page or the file before it is used.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from gateway.store.integrity import log_of

TABLE_LEAF: Final = 0x0D
INDEX_LEAF: Final = 0x0A

_MAGIC: Final = b"SQLite format 3\0"
_LOG_MAGIC: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""First word of a log, and the order of bytes in which its checksums were made (§4.1)."""

_FRAME_HEADER: Final = struct.Struct(">6I")
_LOG_HEADER: Final = struct.Struct(">8I")
_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_LONGEST: Final = 1 << 28
"""Bytes of a record that is believed: MQTT cannot carry a longer message."""

Value = int | str | bytes | None


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

    def __enter__(self) -> "PageFile":
        self._file = self._open(self._path)
        self._count = (os.fstat(self._file).st_size - self._base) // self.page_size
        log = log_of(self._path)
        if log.exists():
            self._log = self._open(log)
            self._logged = committed_frames(log, self.page_size)
        return self

    def __exit__(self, *_: object) -> None:
        self._to_close.close()

    def __iter__(self) -> Iterator[bytes]:
        for number in sorted({*range(1, self._count + 1), *self._logged}):
            yield self.page(number)

    def page(self, number: int) -> bytes:
        """One page, numbered from 1; empty if there is none of that number."""
        if number in self._logged:
            return os.pread(self._log, self.page_size, self._logged[number])
        if not 0 < number <= self._count:
            return b""
        return os.pread(self._file, self.page_size, self._base + (number - 1) * self.page_size)

    def rows(self, page: bytes) -> Iterator[tuple[int, list[Value]]]:
        """The rows of a leaf of a table with their row ids, deleted ones left out; only what is a record whole."""
        for cell in _cells(page, TABLE_LEAF):
            try:
                length, at = _varint(page, cell)
                row_id, at = _varint(page, at)
                values = self._record(page, at, length, self.page_size - 35)
            except (IndexError, ValueError):
                continue
            if row_id > 0:
                yield row_id, values

    def entries(self, page: bytes) -> Iterator[list[Value]]:
        """The entries of a leaf of an index, or of a table WITHOUT ROWID, which is one."""
        for cell in _cells(page, INDEX_LEAF):
            try:
                length, at = _varint(page, cell)
                yield self._record(page, at, length, (self.page_size - 12) * 64 // 255 - 23)
            except (IndexError, ValueError):
                continue

    def _record(self, page: bytes, at: int, length: int, most: int) -> list[Value]:
        """The record of a cell, `most` bytes of which are on the page itself (§1.6). Raises if it is none."""
        if length <= most:
            return decoded(page[at : at + length], length)
        if length > _LONGEST:
            raise ValueError
        least = (self.page_size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.page_size - 4)
        local = local if local <= most else least
        text = bytearray(page[at : at + local])
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        while len(text) < length:  # each page adds to it, so a ring of them ends as well
            overflow = self.page(following)
            if not overflow:
                raise ValueError
            following = int.from_bytes(overflow[:4], "big")
            text += overflow[4:]
        return decoded(bytes(text[:length]), length)

    def _open(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        self._to_close.callback(os.close, descriptor)
        return descriptor


def page_size_of(path: Path) -> int | None:
    """Bytes of a page as the header of the file or of its log has it (§1.3.2, §4.1); None if neither can be read."""
    with path.open("rb") as file:
        head = file.read(18)
    if head[:16] == _MAGIC and (size := _size(int.from_bytes(head[16:18], "big"))):
        return size
    log = log_of(path)
    if log.exists():
        with log.open("rb") as file:
            head = file.read(12)
        if int.from_bytes(head[:4], "big") in _LOG_MAGIC:
            return _size(int.from_bytes(head[8:12], "big"))
    return None


def _size(told: int) -> int | None:
    size = 65_536 if told == 1 else told
    return size if 512 <= size <= 65_536 and size & (size - 1) == 0 else None


def committed_frames(log: Path, page_size: int) -> dict[int, int]:
    """By page number, where in the log its newest committed version begins (§4.3).

    It ends at the first frame of an earlier round, or whose checksum is wrong; frames behind the last commit are left.
    """
    found: dict[int, int] = {}
    uncommitted: dict[int, int] = {}
    with log.open("rb") as file:
        head = file.read(_LOG_HEADER.size)
        if len(head) < _LOG_HEADER.size:
            return {}
        magic, _, size, _, *salts_and_sums = _LOG_HEADER.unpack(head)
        order = _LOG_MAGIC.get(magic)
        if order is None or size != page_size:
            return {}
        sums = _summed(head[:24], (0, 0), order)
        if sums != tuple(salts_and_sums[2:]):
            return {}
        while len(header := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
            place = file.tell()
            page = file.read(page_size)
            number, is_commit, *salts, first, second = _FRAME_HEADER.unpack(header)
            if salts != salts_and_sums[:2] or len(page) < page_size:
                break
            sums = _summed(page, _summed(header[:8], sums, order), order)
            if sums != (first, second):
                break
            uncommitted[number] = place
            if is_commit:
                found |= uncommitted
                uncommitted = {}
    return found


def _summed(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """The log's checksum, continued over these bytes (§4.2)."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _cells(page: bytes, kind: int) -> Iterator[int]:
    """Where on the page the cells of a leaf of that kind begin: those it points to, so none that was deleted."""
    if len(page) < 8 or page[0] != kind:
        return
    count = int.from_bytes(page[3:5], "big")
    end = 8 + 2 * count
    if end > len(page):
        return
    for at in range(8, end, 2):
        cell = int.from_bytes(page[at : at + 2], "big")
        if end <= cell < len(page):
            yield cell


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends (§1.6). Raises IndexError if the bytes do."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for place in range(at + 1, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


def decoded(text: bytes, length: int) -> list[Value]:
    """The values of a record (§2.1) that has exactly so many bytes. Raises ValueError or IndexError if it is none."""
    body, at = _varint(text, 0)
    end = body
    if len(text) != length or not at <= body <= length:
        raise ValueError
    values: list[Value] = []
    while at < end:
        kind, at = _varint(text, at)
        value, size = _value(text, body, kind)
        values.append(value)
        body += size
    if at != end or body != length:
        raise ValueError
    return values


def _value(text: bytes, at: int, kind: int) -> tuple[Any, int]:
    """What is at that place, and its bytes. A number with a fraction is in no record of ours."""
    if kind >= 12:
        size = (kind - 12) // 2
        data = text[at : at + size]
        return (data.decode() if kind % 2 else data), size
    if kind in _INTEGER_BYTES:
        size = _INTEGER_BYTES[kind]
        return int.from_bytes(text[at : at + size], "big", signed=True), size
    if kind in (8, 9):
        return kind - 8, 0
    if kind == 0:
        return None, 0
    raise ValueError
