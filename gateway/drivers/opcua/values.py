"""Values between asyncua's records and ours: one table lookup per value, in either direction."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua

from gateway.domain.values import DataType, Scalar, StatusCode, TagChange, TagId, Timestamp, Value, is_bad
from gateway.drivers.base import Tag
from gateway.drivers.opcua.node_ids import format_node
from gateway.drivers.writing import refusal

_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPC_EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)
"""DateTime zero, which a server sends where it has no time (OPC 10000-6 §5.2.2.5)."""
_MILLISECOND: Final = timedelta(milliseconds=1)
_FROM_1601: Final = (_UNIX_EPOCH - _OPC_EPOCH) // _MILLISECOND
_LAST_TICK: Final = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _OPC_EPOCH) // _MILLISECOND * 10_000
_TICKS_PER_MICROSECOND: Final = 10


SelectField = Callable[[Tag[Any], ua.DataValue], ua.DataValue]
"""Gives a tag's part of a node's value, see `Structures.select`."""


class _Unusable(Exception):  # noqa: N818 - it never leaves this module
    """This one value cannot be taken as it came; carries what stands in for it, and why."""

    def __init__(self, value: Value, status_code: int) -> None:
        self.value, self.status_code = value, status_code


class ValueDecoder:
    """Turns asyncua's `DataValue` into a `TagChange`; made per session, for NodeIds are told by namespace URI.

    `select` takes the field that a tag is out of a structure's value.
    """

    def __init__(self, namespaces: Sequence[str], select: SelectField | None = None) -> None:
        self.namespaces = namespaces
        self._select = select
        self._decode_scalar = {
            **_DECODE_SCALAR,
            ua.VariantType.NodeId: self._decode_node_id,
            ua.VariantType.ExpandedNodeId: self._decode_node_id,
        }

    def decode(self, tag_id: TagId, data_value: ua.DataValue) -> TagChange:
        """What the device said of this tag; a value that the gateway has no form for is Bad, never a guess."""
        status_code = _status(data_value)
        value: Value = None
        if not is_bad(status_code):
            value, repaired = self.decode_variant(data_value.Value)
            status_code = status_code if repaired is None else repaired
        return TagChange(
            tag_id,
            value,
            status_code,
            timestamp_of(data_value.SourceTimestamp),
            timestamp_of(data_value.ServerTimestamp),
        )

    def decode_as(self, tag: Tag[Any], data_value: ua.DataValue) -> TagChange:
        """The same for a tag whose type is known: a value of another type is Bad (trap A2)."""
        data_value = self.select(tag, data_value)
        change = self.decode(tag.tag_id, data_value)
        kind = data_value.Value.VariantType.value if data_value.Value is not None else 0
        if is_bad(change.status_code) or not kind or accepts(tag.type, kind):
            return change
        return TagChange(tag.tag_id, None, StatusCode.BAD_TYPE_MISMATCH, change.source_timestamp)

    def select(self, tag: Tag[Any], data_value: ua.DataValue) -> ua.DataValue:
        """What the tag is of this value: a field of it, or all."""
        return data_value if self._select is None else self._select(tag, data_value)

    def decode_variant(self, variant: Any) -> tuple[Value, int | None]:
        """The plain value, and the status code that it gets where it had to be repaired or cannot be used."""
        try:
            return self._decode_variant(variant), None
        except _Unusable as unusable:
            return unusable.value, unusable.status_code

    def _decode_variant(self, variant: Any) -> Value:
        if variant is None:
            return None
        decode: Callable[[Any], Scalar] = self._decode_scalar.get(variant.VariantType, _refuse)
        if variant.is_array:
            return tuple(decode(element) for element in _flatten(variant.Value))
        return decode(variant.Value)

    def _decode_node_id(self, node_id: ua.NodeId) -> str:
        return format_node(node_id, self.namespaces)


def encode(data_type: DataType, value: Value) -> ua.Variant | int:
    """The typed Variant for a write, or the status code that refuses the value: then nothing is sent.

    A tuple becomes a one-dimensional array. The type is the tag's declared one, for servers coerce nothing: an Int64
    for an Int16 is refused with BadTypeMismatch (trap A16).
    """
    elements = value if isinstance(value, tuple) else (value,)
    for element in elements:
        if refused := refusal(data_type, element):
            return refused
    variant_type, to_wire = _ENCODE[data_type]
    try:
        wire = [to_wire(element) for element in elements]
    except OverflowError:
        return StatusCode.BAD_OUT_OF_RANGE
    return ua.Variant(wire, variant_type) if isinstance(value, tuple) else ua.Variant(wire[0], variant_type)


def accepts(data_type: DataType, kind: int) -> bool:
    """True if a value of this variant type (its number, OPC 10000-6 §5.1.2) may stand for a tag of this data type.

    Structures and the like are no drift of a type: they are refused by the decoder itself.
    """
    return kind in _KINDS[data_type] or kind not in _PLAIN_KINDS


def variant_type_of(data_type: DataType) -> ua.VariantType:
    """The type with which a tag of this data type is written, and normally read."""
    return _ENCODE[data_type][0]


def decode_text(raw: bytes) -> tuple[str, int | None]:
    """The text, and Uncertain where bytes that are no UTF-8 had to be replaced by U+FFFD."""
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), StatusCode.UNCERTAIN


def decode_instant(ticks: int) -> Timestamp:
    """Milliseconds since 1970 of a DateTime on the wire: 100 ns since 1601, held within 1601 and 9999."""
    return min(max(ticks, 0), _LAST_TICK) // 10_000 - _FROM_1601


def decode_timestamp(ticks: int) -> Timestamp | None:
    """The same, but None for DateTime zero, which a server sends where it has no time (OPC 10000-6 §5.2.2.5)."""
    return None if ticks < _TICKS_PER_MICROSECOND else decode_instant(ticks)


def _status(data_value: ua.DataValue) -> int:
    # A DataValue without the field is Good (OPC 10000-6 §5.2.2.17).
    return data_value.StatusCode.value if data_value.StatusCode is not None else StatusCode.GOOD


def timestamp_of(at: datetime | None) -> Timestamp | None:
    """Milliseconds UTC; None for DateTime zero, which a server sends where it has no time."""
    return None if at is None or at <= _OPC_EPOCH else (at - _UNIX_EPOCH) // _MILLISECOND


def _as_is(value: Any) -> Scalar:
    return value  # type: ignore[no-any-return] # asyncua's codec gives exactly bool, int, float, bytes or None here


def _milliseconds(at: datetime | None) -> Scalar:
    return None if at is None else (at - _UNIX_EPOCH) // _MILLISECOND


def _text(text: str | None) -> Scalar:
    """asyncua keeps bytes that are no UTF-8 as lone surrogates, which no JSON encoder takes: they become U+FFFD."""
    if text is None or text.isascii():
        return text
    repaired = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if repaired != text:
        raise _Unusable(repaired, StatusCode.UNCERTAIN)
    return text


def _refuse(_: Any) -> Scalar:
    raise _Unusable(None, StatusCode.BAD_DECODING_ERROR)


def _flatten(elements: Any) -> list[Any]:
    """The elements of an array in wire order; asyncua nests those of a matrix, and a null array has none."""
    if elements and isinstance(elements[0], list):
        return [element for row in elements for element in _flatten(row)]
    return elements or []


_DECODE_SCALAR: Final[dict[ua.VariantType, Callable[[Any], Scalar]]] = {
    ua.VariantType.Null: _as_is,
    ua.VariantType.Boolean: _as_is,
    ua.VariantType.SByte: _as_is,
    ua.VariantType.Byte: _as_is,
    ua.VariantType.Int16: _as_is,
    ua.VariantType.UInt16: _as_is,
    ua.VariantType.Int32: _as_is,
    ua.VariantType.UInt32: _as_is,
    ua.VariantType.Int64: _as_is,
    ua.VariantType.UInt64: _as_is,
    ua.VariantType.Float: _as_is,
    ua.VariantType.Double: _as_is,
    ua.VariantType.ByteString: _as_is,
    ua.VariantType.String: _text,
    ua.VariantType.DateTime: _milliseconds,
    ua.VariantType.Guid: str,
    ua.VariantType.XmlElement: lambda element: _text(getattr(element, "Value", element)),
    ua.VariantType.StatusCode: lambda code: code.value,
    # Without its namespace index, which means nothing outside this session.
    ua.VariantType.QualifiedName: lambda name: _text(name.Name),
    ua.VariantType.LocalizedText: lambda text: _text(text.Text),
}

_KINDS: Final[dict[DataType, frozenset[int]]] = {
    DataType.BOOL: frozenset({1}), DataType.INT8: frozenset({2}), DataType.UINT8: frozenset({3}),
    DataType.INT16: frozenset({4}), DataType.UINT16: frozenset({5}), DataType.INT32: frozenset({6}),
    DataType.UINT32: frozenset({7, 19}), DataType.INT64: frozenset({8}), DataType.UINT64: frozenset({9}),
    DataType.FLOAT32: frozenset({10}), DataType.FLOAT64: frozenset({11}), DataType.DATETIME: frozenset({13}),
    DataType.BYTES: frozenset({15}), DataType.STRING: frozenset({12, 14, 16, 17, 18, 20, 21}),
}  # fmt: skip
"""Which variant types become a tag of which type; everything with a textual form is a string, a StatusCode a number."""
_PLAIN_KINDS: Final = frozenset().union(*_KINDS.values())

_ENCODE: Final[dict[DataType, tuple[ua.VariantType, Callable[[Any], Any]]]] = {
    DataType.BOOL: (ua.VariantType.Boolean, _as_is),
    DataType.INT8: (ua.VariantType.SByte, _as_is),
    DataType.UINT8: (ua.VariantType.Byte, _as_is),
    DataType.INT16: (ua.VariantType.Int16, _as_is),
    DataType.UINT16: (ua.VariantType.UInt16, _as_is),
    DataType.INT32: (ua.VariantType.Int32, _as_is),
    DataType.UINT32: (ua.VariantType.UInt32, _as_is),
    DataType.INT64: (ua.VariantType.Int64, _as_is),
    DataType.UINT64: (ua.VariantType.UInt64, _as_is),
    DataType.FLOAT32: (ua.VariantType.Float, float),
    DataType.FLOAT64: (ua.VariantType.Double, float),
    DataType.STRING: (ua.VariantType.String, _as_is),
    DataType.DATETIME: (ua.VariantType.DateTime, lambda at: _UNIX_EPOCH + at * _MILLISECOND),
    DataType.BYTES: (ua.VariantType.ByteString, _as_is),
}
