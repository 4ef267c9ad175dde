"""Which blocks to read for the values wanted: as few requests as the device's limits allow. Pure."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from gateway.drivers.modbus.config import Span


class Block(NamedTuple):
    """One read request and the values it brings."""

    span: Span
    members: tuple[Span, ...]


def plan_blocks(
    wanted: Iterable[Span],
    max_count: int,
    max_gap: int,
    forbidden: Collection[Span] = (),
    off_limits: Collection[Span] = (),
) -> list[Block]:
    """The fewest blocks of at most `max_count` addresses that hold every wanted span whole.

    Spans more than `max_gap` addresses apart are not bridged, no block with several members covers one of the
    `forbidden` spans, for the device refused those, and none touches a span that is `off_limits`. Taking the spans from
    the lowest and filling each block as far as it goes is the best there is, for the next block can only begin at the
    first span left over.
    """
    blocks: list[Block] = []
    members: list[Span] = []
    for span in sorted(set(wanted)):
        if members and not _fits(enclose(members), span, max_count, max_gap, forbidden, off_limits):
            blocks.append(block_of(members))
            members = []
        members.append(span)
    if members:
        blocks.append(block_of(members))
    return blocks


def _fits(
    block: Span,
    span: Span,
    max_count: int,
    max_gap: int,
    forbidden: Collection[Span],
    off_limits: Collection[Span],
) -> bool:
    grown = enclose([block, span])
    if grown.size > max_count or span.first - block.end > max_gap:
        return False
    if any(grown.overlaps(range_) for range_ in off_limits):
        return False
    return not any(grown.covers(refused) for refused in forbidden)


def block_of(members: Iterable[Span]) -> Block:
    """The request that brings these members."""
    members = tuple(members)
    return Block(enclose(members), members)


def enclose(spans: Iterable[Span]) -> Span:
    """The smallest span that covers all of them."""
    spans = list(spans)
    first = min(span.first for span in spans)
    return Span(first, max(span.end for span in spans) - first)


def bridge(left: Span, right: Span) -> Span:
    """What a block covers exactly when it joins these two: the last address of one to the first of the other."""
    return Span(left.end - 1, right.first - left.end + 2)
