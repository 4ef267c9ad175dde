"""Data changes as they stand on the wire, straight to `TagChange`: the hot path.

asyncua's decoder makes four objects of every value and looks up annotations for each of their fields (5.7 µs a value).
Here a value costs one table lookup by encoding mask and variant type, one precompiled `struct.Struct`, and the one
object that is kept (0.5 µs); and where all values of a notification are laid out alike, the lookup is done once for all
of them (0.15 µs). What has no fixed size and is no text (arrays, structures, node ids) is left to asyncua, value by
value. Layouts: OPC 10000-6 §5.2.2.16 (Variant), §5.2.2.17 (DataValue), OPC 10000-4 §7.25.2.
"""

import struct
import uuid
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from asyncua.common.utils import Buffer
from asyncua.ua import DataValue, UInt32
from asyncua.ua import StatusCode as UaStatusCode
from asyncua.ua.ua_binary import variant_from_binary

from gateway.domain.values import DataType, StatusCode, TagChange, TagId, Timestamp, Value
from gateway.drivers.base import Tag
from gateway.drivers.opcua.structured.field_decoder import FieldDecoder, Times
from gateway.drivers.opcua.values import (
    ValueDecoder,
    accepts,
    decode_instant,
    decode_text,
    decode_timestamp,
    timestamp_of,
)

_BAD: Final = 0x80000000
_VALUE: Final = 0x01
_REST: Final = ((0x02, "I"), (0x04, "q"), (0x10, "xx"), (0x08, "q"), (0x20, "xx"))
"""Status, source time, its picoseconds, server time, its picoseconds: the order on the wire, not that of the bits.

asyncua reads the picoseconds of the source after the server's time, and so a wrong server time."""
_KIND: Final = 0x3F
"""The bits of a variant's first byte that hold its type; the others mark arrays and matrices."""
_STRING: Final = 12
_BYTE_STRING: Final = 15

_FIXED: Final[dict[int, tuple[str, Callable[[Any], Value] | None]]] = {
    1: ("?", None), 2: ("b", None), 3: ("B", None), 4: ("h", None), 5: ("H", None), 6: ("i", None), 7: ("I", None),
    8: ("q", None), 9: ("Q", None), 10: ("f", None), 11: ("d", None), 13: ("q", decode_instant),
    14: ("16s", lambda raw: str(uuid.UUID(bytes_le=raw))), 19: ("I", None),
}  # fmt: skip
"""The builtin types of fixed size (OPC 10000-6 §5.1.2) and what makes a plain value of the unpacked one."""

_Fields = tuple[Any, ...]


def _filler(mask: int) -> Callable[[_Fields], _Fields] | None:
    """Puts Good and "no time" where the mask leaves fields out; None where nothing is left out."""
    present = [bool(mask & bit) for bit in (0x02, 0x04, 0x08)]
    if all(present):
        return None
    # The last place of the extended tuple is a 0; a field that is left out is taken from there.
    places = [1 + sum(present[: number + 1]) if there else -1 for number, there in enumerate(present)]
    return itemgetter(0, 1, *places)


class _Layout:
    """One item of one mask and variant type: handle, value, status, source time, server time."""

    __slots__ = ("convert", "fill", "size", "unpack")

    def __init__(self, mask: int, value: str, convert: Callable[[Any], Value] | None) -> None:
        layout = struct.Struct("<Ixx" + value + _rest(mask))
        self.unpack = layout.unpack_from
        self.size = layout.size
        self.fill = _filler(mask)
        self.convert = convert


def _rest(mask: int) -> str:
    return "".join(code for bit, code in _REST if mask & bit)


_LAYOUTS: Final = {
    mask | kind << 8: _Layout(mask, code, convert)
    for mask in range(0x40)
    if mask & _VALUE
    for kind, (code, convert) in _FIXED.items()
}
_ALIKE: Final = {
    mask | kind << 8: struct.Struct("<Ixx" + code + status + "qq")
    for mask, status in ((0x0D, ""), (0x0F, "4x"))
    for kind, (code, convert) in _FIXED.items()
    if convert is None
}
"""The usual items: a value with both times, its status Good or left out."""
_STATUS_FROM_END: Final = 20
_ITEM: Final = struct.Struct("<IB")
_LENGTH: Final = struct.Struct("<i")
_RESTS: Final = {mask: struct.Struct("<" + _rest(mask)) for mask in range(0x40)}

_FIRST_TICK: Final = 10
_LAST_TICK: Final = 2_650_467_743_990_000_000
_TICKS: Final = 10_000
_UNIX: Final = 11_644_473_600_000
"""From 100 ns since 1601 to milliseconds since 1970; outside of the two limits `decode_timestamp` knows more."""


class Malformed(Exception):  # noqa: N818 - it never leaves the decoder
    """The bytes are not laid out as expected here; asyncua may say what they are."""


def _layout_of_all(data: bytes, position: int, count: int) -> struct.Struct | None:
    """How all items are laid out; None where they differ, or one of them is not plainly Good."""
    mask, kind = (data[position + 4], data[position + 5]) if count > 1 else (0, 0)
    layout = _ALIKE.get(mask | kind << 8)
    if layout is None or position + count * layout.size > len(data):
        return None

    def all_are(byte: int, offset: int) -> bool:
        return data[position + offset : position + count * layout.size : layout.size].count(byte) == count

    if not (all_are(mask, 4) and all_are(kind, 5)):
        return None
    status = layout.size - _STATUS_FROM_END
    return layout if mask == 0x0D or all(all_are(0, status + byte) for byte in range(4)) else None


class ChangeDecoder:
    """Decodes the items of data change notifications; the client handle of a tag is its place in `tags`.

    `overflows` gathers the changes before which the server's queue lost others (trap A13), `mistyped` the tags whose
    values came with a type that the configuration does not have, with that type: such a value is Bad, for it may
    well be another tag's (A2). Both are taken out by who reads them. Items that are structures are left to `fields`;
    `strays` are changes of their tags that came as plain values. `offset` milliseconds are added to the source
    times of a device whose clock is wrong; with None they are left out.
    """

    def __init__(self, tags: Sequence[Tag[Any]], values: ValueDecoder, fields: FieldDecoder | None = None) -> None:
        self._fields: Final = fields or FieldDecoder({}, values)
        self._structured: Final = self._fields.handles
        self.strays: list[TagChange] = []
        self._tag_ids: Final[list[TagId]] = [tag.tag_id for tag in tags]
        self._types: Final[list[DataType]] = [tag.type for tag in tags]
        # The variant type that each tag had last and that was found right: what is usual costs one comparison.
        self._kinds = [-1] * len(tags)
        self._values: Final = values
        self.offset: int | None = 0
        self.overflows: list[TagChange] = []
        self.mistyped: dict[TagId, int] = {}

    def decode(self, data: bytes, position: int, count: int) -> tuple[list[TagChange], int]:
        """`count` items from `position` on, and where they end.

        Raises `Malformed`, `IndexError` or `struct.error` when the data end too soon or a length is absurd.
        """
        alike = _layout_of_all(data, position, count)
        if alike is not None:
            end = position + count * alike.size
            return self._decode_alike(alike, data[position + 5], memoryview(data)[position:end]), end
        changes: list[TagChange] = []
        append, layouts, tag_ids, kinds = changes.append, _LAYOUTS, self._tag_ids, self._kinds
        shift, first_tick = (self.offset - _UNIX, _FIRST_TICK) if self.offset is not None else (0, _LAST_TICK)
        for _ in range(count):
            kind = data[position + 5]
            layout = layouts.get(data[position + 4] | kind << 8)
            if layout is None:
                position = self._decode_other(data, position, changes)
                continue
            fields = layout.unpack(data, position)
            position += layout.size
            if layout.fill is not None:
                fields = layout.fill((*fields, 0))
            handle, value, status, source, server = fields
            if status & _BAD:
                value = None
            else:
                if kinds[handle] != kind:
                    value, status = self._check(handle, kind, value, status)
                if layout.convert is not None and value is not None:
                    value = layout.convert(value)
            change = TagChange(
                tag_ids[handle],
                value,
                status,
                source // _TICKS + shift if first_tick <= source < _LAST_TICK else self._source_time(source),
                server // _TICKS - _UNIX if _FIRST_TICK <= server < _LAST_TICK else decode_timestamp(server),
            )
            if status & StatusCode.OVERFLOW_BITS == StatusCode.OVERFLOW_BITS:
                self.overflows.append(change)
            append(change)
        return changes, position

    def _decode_alike(self, layout: struct.Struct, kind: int, items: memoryview) -> list[TagChange]:
        """Items of one layout. Values of one PLC cycle have one time, so that is converted when it moves only."""
        changes: list[TagChange] = []
        append, tag_ids, kinds = changes.append, self._tag_ids, self._kinds
        source_ticks = server_ticks = 0
        at = told_at = decode_timestamp(0)
        for handle, value, source, server in layout.iter_unpack(items):
            if source != source_ticks:
                source_ticks, at = source, self._source_time(source)
            if server != server_ticks:
                server_ticks, told_at = server, decode_timestamp(server)
            if kinds[handle] == kind:
                append(TagChange(tag_ids[handle], value, 0, at, told_at))
            else:
                append(TagChange(tag_ids[handle], *self._check(handle, kind, value, 0), at, told_at))
        return changes

    def _decode_other(self, data: bytes, position: int, changes: list[TagChange]) -> int:
        """One item of any kind, field by field, to the `changes`; gives back where it ends."""
        handle, mask = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        mask &= 0x3F
        if handle in self._structured:
            return self._decode_structure(handle, mask, data, position, changes)
        kind, value, repaired = 0, None, None
        if mask & _VALUE:
            kind = data[position] & _KIND
            value, repaired, position = self._decode_variant(data, position)
        status, times, position = self._decode_rest(mask, data, position)
        if status & _BAD:
            value = None
        elif repaired is not None:
            status = repaired
        changes.append(self._settle(handle, kind, value, status, times))
        return position

    def _decode_rest(self, mask: int, data: bytes, position: int) -> tuple[int, Times, int]:
        """Status and times behind a value, and where they end."""
        rest = _RESTS[mask]
        told = iter(rest.unpack_from(data, position))
        status, source, server = (next(told) if mask & bit else 0 for bit in (0x02, 0x04, 0x08))
        return status, (self._source_time(source), decode_timestamp(server)), position + rest.size

    def _decode_structure(self, handle: int, mask: int, data: bytes, position: int, changes: list[TagChange]) -> int:
        """One item whose tags are fields of a structure."""
        buffer = Buffer(data, position)
        variant = variant_from_binary(buffer) if mask & _VALUE else None
        status, times, position = self._decode_rest(mask, data, buffer.cur_pos)
        changes += self._take_fields(handle, DataValue(variant, UaStatusCode(UInt32(status))), times)
        return position

    def _take_fields(self, handle: int, data_value: DataValue, times: Times) -> list[TagChange]:
        changes = self._fields.decode(handle, data_value, times)
        self.overflows += [c for c in changes if c.status_code & StatusCode.OVERFLOW_BITS == StatusCode.OVERFLOW_BITS]
        return changes

    def _decode_variant(self, data: bytes, position: int) -> tuple[Value, int | None, int]:
        """A value, the status code that a repaired or unusable one gets, and where it ends."""
        if data[position] in (_STRING, _BYTE_STRING):
            (length,) = _LENGTH.unpack_from(data, position + 1)
            begin = position + 1 + _LENGTH.size
            end = begin + max(length, 0)
            if length < -1 or end > len(data):
                raise Malformed
            raw = data[begin:end] if length >= 0 else None
            if data[position] == _BYTE_STRING or raw is None:
                return raw, None, end
            return *decode_text(raw), end
        buffer = Buffer(data, position)
        variant = variant_from_binary(buffer)
        return *self._values.decode_variant(variant), buffer.cur_pos

    def from_library(self, handle: int, data_value: Any) -> TagChange:
        """The change that asyncua's `DataValue` stands for, by the same rules."""
        told = self._values.decode(self._tag_ids[handle], data_value)
        kind = data_value.Value.VariantType.value if data_value.Value is not None else 0
        at = told.source_timestamp
        times = None if at is None or self.offset is None else at + self.offset, told.server_timestamp
        return self._settle(handle, kind, told.value, told.status_code, times)

    def _source_time(self, ticks: int) -> Timestamp | None:
        at = decode_timestamp(ticks)
        return None if at is None or self.offset is None else at + self.offset

    def all_from_library(self, handle: int, data_value: DataValue) -> list[TagChange]:
        """The same, of an item that may be a structure."""
        if handle not in self._structured:
            return [self.from_library(handle, data_value)]
        at, told_at = timestamp_of(data_value.SourceTimestamp), timestamp_of(data_value.ServerTimestamp)
        at = None if at is None or self.offset is None else at + self.offset
        return self._take_fields(handle, data_value, (at, told_at))

    def _settle(self, handle: int, kind: int, value: Value, status: int, times: Times) -> TagChange:
        if kind and not status & _BAD and self._kinds[handle] != kind:
            value, status = self._check(handle, kind, value, status)
        change = TagChange(self._tag_ids[handle], value, status, *times)
        if status & StatusCode.OVERFLOW_BITS == StatusCode.OVERFLOW_BITS:
            self.overflows.append(change)
        return change

    def _check(self, handle: int, kind: int, value: Value, status: int) -> tuple[Value, int]:
        if handle in self._structured:
            self.strays += self._fields.refuse(handle, kind)[1:]
            return None, StatusCode.BAD_TYPE_MISMATCH
        if not accepts(self._types[handle], kind):
            self.mistyped[self._tag_ids[handle]] = kind
            return None, StatusCode.BAD_TYPE_MISMATCH
        self._kinds[handle] = kind
        return value, status
