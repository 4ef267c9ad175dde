"""Writes in the order given: plain values as they are, fields of structures by reading, changing and writing the whole.

A server takes a structure only as a whole (OPC 10000-4 §5.11.4), so what the device itself changes between our read
and our write is overwritten. That is why the YAML must permit it at each such tag (`rewrite: true`).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from asyncua import ua

from gateway.domain.values import StatusCode, Value
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.structured.structures import Structures
from gateway.drivers.opcua.values import encode

PlacedWrite = tuple[Tag[OpcUaAddress], ua.NodeId, Value]


async def write_in_order(session: Session, structures: Structures, writes: Sequence[PlacedWrite]) -> list[int]:
    """One status code per write; raises `LinkLost` as the session does.

    A value that does not fit its type is refused here, without a packet. Fields of one node that follow each other are
    written together.
    """
    codes: list[int] = []
    for node_id, group in groupby(writes, key=lambda write: write[1] if write[0].address.field is not None else None):
        together = list(group)
        if node_id is None:
            codes += await _write_plain(session, together)
        else:
            codes += await _rewrite(session, structures, node_id, together)
    return codes


async def _write_plain(session: Session, writes: Sequence[PlacedWrite]) -> list[int]:
    encoded = [encode(tag.type, value) for tag, _, value in writes]
    to_send = [
        (node_id, variant)
        for (_, node_id, _), variant in zip(writes, encoded, strict=True)
        if isinstance(variant, ua.Variant)
    ]
    answers = iter(await session.write(to_send))
    return [next(answers) if isinstance(variant, ua.Variant) else variant for variant in encoded]


async def _rewrite(
    session: Session, structures: Structures, node_id: ua.NodeId, writes: Sequence[PlacedWrite]
) -> list[int]:
    """Nothing is written if one of the fields cannot be: a record that is half new is another record."""
    try:
        (told,) = await session.read([node_id])
    except ServiceFault as fault:
        return [fault.code] * len(writes)
    if told.Value is None or (told.StatusCode is not None and told.StatusCode.is_bad()):
        return [told.StatusCode.value if told.StatusCode is not None else StatusCode.BAD] * len(writes)
    whole, codes = told.Value, []
    for changed in _changed(structures, whole, writes):
        codes.append(changed if isinstance(changed, int) else StatusCode.GOOD)
        whole = whole if isinstance(changed, int) else changed
    if any(codes):
        return [code or StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT for code in codes]
    return await session.write([(node_id, whole)]) * len(writes)


def _changed(structures: Structures, whole: ua.Variant, writes: Sequence[PlacedWrite]) -> Iterator[ua.Variant | int]:
    """The whole after each write, or why that write cannot be."""
    for tag, _, value in writes:
        variant = encode(tag.type, value)
        if not tag.address.rewrite:
            yield StatusCode.BAD_NOT_WRITABLE
        elif isinstance(variant, int):
            yield variant
        else:
            changed = structures.put(tag, whole, variant)
            whole = whole if isinstance(changed, int) else changed
            yield changed
