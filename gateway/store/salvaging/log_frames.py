"""SQLite's write-ahead log: which of its pages are committed, and where they are (its file format, §4)."""

import struct
from pathlib import Path
from typing import BinaryIO, Final

_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""First word of a log, and the order of bytes in which its checksums were made."""

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")


def page_size(log: Path) -> int | None:
    """Bytes of a page as the log has it; None if it is none."""
    with log.open("rb") as file:
        head = _head(file)
    return None if head is None else head[2]


def committed_frames(log: Path, size: int) -> dict[int, int]:
    """By page number, where in the log its newest committed version begins, for pages of that size.

    It ends at the first frame of an earlier round, or whose checksum is wrong; frames behind the last commit are left.
    """
    found: dict[int, int] = {}
    uncommitted: dict[int, int] = {}
    with log.open("rb") as file:
        head = _head(file)
        if head is None:
            return {}
        order, (salts, sums) = _ORDERS[head[0]], (head[4:6], head[6:8])
        while len(header := file.read(_FRAME.size)) == _FRAME.size:
            place = file.tell()
            page = file.read(size)
            number, is_commit, *tail = _FRAME.unpack(header)
            if tuple(tail[:2]) != salts or len(page) < size:
                break
            sums = _summed(page, _summed(header[:8], sums, order), order)
            if sums != tuple(tail[2:]):
                break
            uncommitted[number] = place
            if is_commit:
                found |= uncommitted
                uncommitted = {}
    return found


def _head(file: BinaryIO) -> tuple[int, ...] | None:
    """The eight numbers at the beginning, if their checksum fits."""
    text = file.read(_HEADER.size)
    if len(text) < _HEADER.size:
        return None
    head = _HEADER.unpack(text)
    order = _ORDERS.get(head[0])
    if order is None or _summed(text[:24], (0, 0), order) != head[6:8]:
        return None
    return head


def _summed(data: bytes, sums: tuple[int, ...], order: str) -> tuple[int, ...]:
    """The log's checksum, continued over these bytes (§4.2)."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
