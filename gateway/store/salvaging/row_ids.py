"""Sets of row ids, most of which are neighbours: a million of them in an eighth of a megabyte."""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, Literal

_BLOCK: Final = 16
"""Bits of a number within its block: 65,536 numbers, for which a block has 8 kB."""
_WITHIN: Final = (1 << _BLOCK) - 1
_ORDER: Final[Literal["little"]] = "little"
_RUN: Final = re.compile("1+")

Ranges = list[tuple[int, int]]
"""First and last, rising, something missing between any two."""


class RowIds:
    """A set of whole numbers, none below 0."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        """Put it in, if it is not there."""
        block = self._blocks.get(number >> _BLOCK)
        if block is None:
            block = self._blocks[number >> _BLOCK] = bytearray(1 << _BLOCK - 3)
        block[(number & _WITHIN) >> 3] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        block = self._blocks.get(number >> _BLOCK)
        return block is not None and block[(number & _WITHIN) >> 3] >> (number & 7) & 1 == 1

    def __len__(self) -> int:
        return sum(_bits(block).bit_count() for block in self._blocks.values())

    def __or__(self, other: "RowIds") -> "RowIds":
        both = RowIds()
        for number in self._blocks.keys() | other._blocks.keys():
            both._put(number, _bits(self._blocks.get(number, b"")) | _bits(other._blocks.get(number, b"")))
        return both

    def __sub__(self, other: "RowIds") -> "RowIds":
        rest = RowIds()
        for number, block in self._blocks.items():
            rest._put(number, _bits(block) & ~_bits(other._blocks.get(number, b"")))
        return rest

    @property
    def highest(self) -> int:
        """The highest of them, 0 if there is none."""
        number = max(self._blocks, default=0)
        return (number << _BLOCK) + max(0, _bits(self._blocks.get(number, b"")).bit_length() - 1)

    def ranges(self) -> Ranges:
        """All of it, neighbours together."""
        return joined(
            ((number << _BLOCK) + run.start(), (number << _BLOCK) + run.end() - 1)
            for number, block in sorted(self._blocks.items())
            for run in _RUN.finditer(f"{_bits(block):b}"[::-1])
        )

    def _put(self, number: int, bits: int) -> None:
        if bits:
            self._blocks[number] = bytearray(bits.to_bytes(1 << _BLOCK - 3, _ORDER))


def joined(parts: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges that rise, those together that meet."""
    whole: Ranges = []
    for first, last in parts:
        if whole and first <= whole[-1][1] + 1:
            whole[-1] = whole[-1][0], max(last, whole[-1][1])
        else:
            whole.append((first, last))
    return whole


def holes(parts: Ranges, first: int, last: int) -> Ranges:
    """What of `first` to `last` is in none of these ranges, which rise."""
    edges = [(first, first - 1), *(part for part in parts if part[0] <= last and part[1] >= first), (last + 1, last)]
    return [(before[1] + 1, after[0] - 1) for before, after in pairwise(edges) if after[0] > before[1] + 1]


def count(parts: Iterable[tuple[int, int]]) -> int:
    """How many numbers there are in ranges that do not meet."""
    return sum(last - first + 1 for first, last in parts)


def _bits(block: bytes | bytearray) -> int:
    return int.from_bytes(block, _ORDER)
