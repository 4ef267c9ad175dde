"""The block planner: the fewest requests that a device's limits allow, and never a register that must not be read."""

from collections.abc import Collection, Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from gateway.drivers.modbus.config import Span
from gateway.drivers.modbus.planner import Block, bridge, enclose, plan_blocks


class Device(NamedTuple):
    """What is wanted of a device, and what it bears: `refused` it has answered with exception 2 before."""

    wanted: tuple[Span, ...]
    max_count: int
    max_gap: int
    refused: tuple[Span, ...] = ()
    off_limits: tuple[Span, ...] = ()

    def plan(self) -> list[Block]:
        return plan_blocks(self.wanted, self.max_count, self.max_gap, self.refused, self.off_limits)


SPANS = st.builds(Span, st.integers(0, 60), st.integers(1, 4))


@st.composite
def devices(draw, most: int) -> Device:
    """Up to `most` values within 64 registers, close to each other, with everything that forbids to join them."""
    off_limits = draw(st.lists(SPANS, max_size=3))
    wanted = draw(st.sets(SPANS, min_size=1, max_size=most))
    free = [span for span in sorted(wanted) if not any(span.overlaps(taboo) for taboo in off_limits)]
    apart = [bridge(left, right) for left, right in pairwise(free) if left.end <= right.first]
    # A device that gave a value whole did not refuse registers of it.
    apart = [between for between in apart if not any(span.covers(between) for span in free)]
    refused = draw(st.lists(st.sampled_from(apart), max_size=3)) if apart else []
    return Device(tuple(free), draw(st.integers(4, 30)), draw(st.integers(0, 20)), tuple(refused), tuple(off_limits))


@given(devices(most=25))
def test_every_value_is_read_whole_within_the_limits_and_no_register_that_must_not_be(device):
    blocks = device.plan()
    assert sorted(span for block in blocks for span in block.members) == sorted(device.wanted), "each exactly once"
    for block in blocks:
        assert all(block.span.covers(span) for span in block.members), "no value is torn"
        assert may_be_asked(device, block.members)
        assert block.span == enclose(block.members), "and nothing beyond what is wanted"


def may_be_asked(device: Device, members: Collection[Span]) -> bool:
    """True if one request may bring these values; said register by register, unlike the planner says it."""
    registers = range(min(span.first for span in members), max(span.end for span in members))
    wanted = {register for span in members for register in range(span.first, span.end)}
    gaps = "".join(" " if register in wanted else "x" for register in registers).split()
    return (
        len(registers) <= device.max_count
        and all(len(gap) <= device.max_gap for gap in gaps)
        and not any(register in registers for taboo in device.off_limits for register in range(taboo.first, taboo.end))
        and not (len(members) > 1 and any(enclose(members).covers(refused) for refused in device.refused))
    )


@given(devices(most=8))
def test_there_is_no_way_to_part_the_values_into_fewer_requests(device):
    assert len(device.plan()) == fewest_requests(device)


def fewest_requests(device: Device) -> int:
    """By dynamic programming over all subsets of the values, neighbours or not: 3 to the power of their number."""

    @cache
    def fewest(left: int) -> int:
        if not left:
            return 0
        return min(1 + fewest(left & ~chosen) for chosen in subsets_with_lowest(left) if may_be_chosen(chosen))

    @cache
    def may_be_chosen(chosen: int) -> bool:
        return may_be_asked(device, [span for at, span in enumerate(device.wanted) if chosen >> at & 1])

    return fewest((1 << len(device.wanted)) - 1)


def subsets_with_lowest(whole: int) -> Iterator[int]:
    """All parts of a bit set that hold its lowest bit: some request has to bring that value."""
    lowest = whole & -whole
    rest = part = whole & ~lowest
    yield lowest | part
    while part:
        part = part - 1 & rest
        yield lowest | part


def test_500_tags_scattered_over_2000_registers_take_16_requests():
    wanted = [Span(4 * number, 1) for number in range(500)]
    assert len(plan_blocks(wanted, max_count=125, max_gap=10)) == 16


def test_a_forbidden_range_is_never_touched_however_small_the_gap():
    wanted = [Span(0, 2), Span(4, 2), Span(8, 1)]
    blocks = plan_blocks(wanted, 125, 124, off_limits=[Span(3, 1)])
    assert [block.span for block in blocks] == [Span(0, 2), Span(4, 5)]
