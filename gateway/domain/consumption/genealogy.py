"""What went into what: lots of material into lots of product by counting, and serial numbers that a scanner reads."""

from typing import Final

import msgspec

from gateway.domain.contract.events import GenealogyLink
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import PlainValue, Timestamp, plain

DUPLICATE: Final = 2_000
"""Milliseconds in which the same pair read again is the same reading (a part that lingers before the scanner)."""


class OpenLink(msgspec.Struct):
    """The lots that meet at the moment, and how many pieces have gone over."""

    parent: str | None = None
    child: str | None = None
    qty: int = 0


def consume(link: OpenLink, parent: str | None, child: str | None, pieces: int) -> GenealogyLink | None:
    """Pieces of the lot `child` go into the lot `parent`; what is told of the pair that this ends."""
    told = None
    if (link.parent, link.child) != (parent, child):
        told = end_link(link)
        link.parent, link.child = parent, child
    link.qty += pieces
    return told


def end_link(link: OpenLink) -> GenealogyLink | None:
    """The pair as it is told, if anything went over between two lots that are known."""
    qty, link.qty = link.qty, 0
    if qty == 0 or link.parent is None or link.child is None:
        return None
    return GenealogyLink(parent=link.parent, child=link.child, rel="consumed", qty=qty, position=None)


class ScanSpec(msgspec.Struct, frozen=True):
    """One scanner: `trigger` changes with every reading of `child`; without `parent` that is the order's lot."""

    position: str
    trigger: int
    child: int
    parent: int | None = None
    relation: str = "assembled"
    unread: str = "NOREAD"


class ScanMemory(msgspec.Struct):
    """What survives a restart: the last reading."""

    trigger: PlainValue = None
    parent: str | None = None
    child: str = ""
    at: Timestamp = 0


def newest_scan(
    spec: ScanSpec, memory: ScanMemory, inputs: Inputs, lot: str | None, at: Timestamp
) -> GenealogyLink | None:
    """The reading that this scan of the machine reports as new; NOREAD is one, and never the same twice."""
    slots = (spec.trigger, spec.child) if spec.parent is None else (spec.trigger, spec.child, spec.parent)
    if not all(inputs.usable(slot) for slot in slots):
        return None
    previous, memory.trigger = memory.trigger, plain(inputs.values[spec.trigger])
    if previous is None or memory.trigger == previous:
        return None
    child = str(inputs.values[spec.child] or "").strip()
    parent = lot if spec.parent is None else str(inputs.values[spec.parent] or "").strip()
    again = (parent, child) == (memory.parent, memory.child) and at - memory.at <= DUPLICATE
    memory.parent, memory.child, memory.at = parent, child, at
    if child == "" or (again and child != spec.unread):
        return None
    return GenealogyLink(parent=parent, child=child, rel=spec.relation, qty=1, position=spec.position)
