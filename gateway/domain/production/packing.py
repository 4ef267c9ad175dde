"""What is kept of the past for a day, as bytes: JSON, and where that is long, packed.

A machine that counts four times a second has 240 moments in a window of a minute: 4 kB of JSON, 1 kB packed. Thirty
such machines would have 170 MB of a day in memory, and as much in the record.
"""

import zlib
from typing import Any, Final

import msgspec

LONG: Final = 256
"""Bytes of JSON from which packing saves something."""

LEVEL: Final = 1
"""Of compression: 13 µs for a window; the best one takes twice as long and saves a seventh more."""

_PACKED: Final = b"\x78"
"""The first byte of what zlib makes (RFC 1950 §2.2), which no JSON begins with."""


def packed(item: Any) -> bytes:
    """The bytes to be kept of it."""
    blob = msgspec.json.encode(item)
    return zlib.compress(blob, LEVEL) if len(blob) >= LONG else blob


def unpacked(blob: bytes) -> bytes:
    """The JSON in what was kept. Raises `ValueError` for bytes that are not as they were packed."""
    if not blob.startswith(_PACKED):
        return blob
    try:
        return zlib.decompress(blob)
    except zlib.error as error:
        raise ValueError(f"not as it was packed: {error}") from error
