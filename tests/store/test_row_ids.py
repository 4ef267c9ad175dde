"""Sets of row ids: as Python's own, in a fraction of the memory."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.salvaging.row_ids import RowIds, count, holes, joined

numbers = st.sets(st.one_of(st.integers(0, 300), st.integers(65_000, 66_000), st.integers(0, 1 << 48)), max_size=60)


def ids(of: set[int]) -> RowIds:
    made = RowIds()
    for number in of:
        made.add(number)
    return made


def members(of: RowIds) -> set[int]:
    return {number for first, last in of.ranges() for number in range(first, last + 1)}


@settings(max_examples=50)
@given(numbers, numbers)
def test_they_are_as_sets_are(some: set[int], others: set[int]) -> None:
    mine, theirs = ids(some), ids(others)
    assert members(mine) == some
    assert (len(mine), mine.highest) == (len(some), max(some, default=0))
    assert members(mine | theirs) == some | others
    assert members(mine - theirs) == some - others
    assert all((number in mine) == (number in some) for number in some | others)
    assert bool(mine) == bool(some)


@settings(max_examples=50)
@given(numbers, st.integers(0, 400), st.integers(0, 70_000))
def test_holes_are_what_is_not_there(some: set[int], first: int, length: int) -> None:
    last = first + length
    absent = holes(ids(some).ranges(), first, last)
    assert {number for start, end in absent for number in range(start, end + 1)} == set(range(first, last + 1)) - some
    assert count(absent) == length + 1 - len([number for number in some if first <= number <= last])


def test_ranges_that_meet_or_overlap_are_one() -> None:
    assert joined([(1, 3), (2, 2), (4, 6), (8, 9)]) == [(1, 6), (8, 9)]


def test_a_million_neighbours_take_less_than_half_a_megabyte() -> None:
    tracemalloc.start()
    try:
        ids(set()).add(1)
        before, _ = tracemalloc.get_traced_memory()
        made = RowIds()
        for number in range(0, 1_000_000, 7):
            made.add(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 142_858
    assert after - before < 500_000
