"""What is on one page of a SQLite file: cells and records, after its file format, §1.6 and §2.1.

Nothing that is read is believed: every length and place is held against the page before it is used.
"""

from typing import Any, Final

TABLE_LEAF: Final = 0x0D
TABLE_INTERIOR: Final = 0x05
INDEX_LEAF: Final = 0x0A
INDEX_INTERIOR: Final = 0x02
_INTERIOR: Final = (TABLE_INTERIOR, INDEX_INTERIOR)

_BYTES_OF_NUMBER: Final = (0, 1, 2, 3, 4, 6, 8)
"""By serial type: NULL and the integers. 7, a number with a fraction, is in no record of ours."""

Value = int | str | bytes | None


class Torn(ValueError):  # noqa: N818 - it says what it is
    """These bytes are not what SQLite wrote, or end too early."""


def cells(page: bytes, kind: int) -> list[int]:
    """Where the cells of a page of that kind begin: those it points to, so none that was deleted.

    Empty for a page of another kind; a pointer to beyond the page is left out.
    """
    if len(page) < 12 or page[0] != kind:
        return []
    start = 12 if kind in _INTERIOR else 8
    end = start + 2 * cell_count(page)
    if end > len(page):
        return []
    places = (page[at] << 8 | page[at + 1] for at in range(start, end, 2))
    return [place for place in places if end <= place < len(page)]


def cell_count(page: bytes) -> int:
    """How many cells the page says it has."""
    return page[3] << 8 | page[4]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends. Raises IndexError if the bytes do."""
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


def decoded(record: bytes) -> list[Value]:
    """The values of a record that has exactly these bytes. Raises `Torn`, IndexError or UnicodeDecodeError if none."""
    end, at = varint(record, 0)
    place = end
    values: list[Value] = []
    while at < end:
        kind = record[at]
        at += 1
        if kind >= 0x80:
            kind, at = varint(record, at - 1)
        value, size = _value(record, place, kind)
        values.append(value)
        place += size
    if at != end or place != len(record):
        raise Torn
    return values


def _value(record: bytes, at: int, kind: int) -> tuple[Any, int]:
    """What is at that place, and its bytes (§2.1)."""
    if kind >= 12:
        size = kind - 12 >> 1
        data = record[at : at + size]
        return (data.decode() if kind & 1 else data), size
    if kind == 0:
        return None, 0
    if kind <= 6:
        size = _BYTES_OF_NUMBER[kind]
        return int.from_bytes(record[at : at + size], "big", signed=True), size
    if kind in (8, 9):
        return kind - 8, 0
    raise Torn
