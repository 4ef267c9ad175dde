"""A structure to bytes, by the definition that its server gave: the way back of `structure_codec`.

A structure that a method takes is written here field by field; what is not given is left out where it is optional,
and empty where it is not (OPC 10000-6 §5.2.6, §5.2.7).
"""

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua
from asyncua.ua import ua_binary

from gateway.domain.values import Argument
from gateway.drivers.opcua.structured.structure_codec import Catalogue, Structure, StructureField
from gateway.drivers.opcua.values import encode

_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY: Final[Mapping[ua.VariantType, Any]] = {
    ua.VariantType.Boolean: False,
    ua.VariantType.String: None,
    ua.VariantType.ByteString: None,
    ua.VariantType.LocalizedText: ua.LocalizedText(),
    ua.VariantType.QualifiedName: ua.QualifiedName(),
    ua.VariantType.NodeId: ua.NodeId(),
    ua.VariantType.DateTime: datetime(1601, 1, 1, tzinfo=UTC),
    ua.VariantType.Variant: ua.Variant(),
}
"""What stands for a value that is not given; of every other builtin type that is 0."""


class CannotEncode(Exception):  # noqa: N818 - it says what is wrong, and reads so where it is caught
    """These fields do not fit the server's definition; the text says which, and why."""


def encode_body(catalogue: Catalogue, structure: Structure, fields: Mapping[str, Any]) -> bytes:
    """The structure's body; nested structures are mappings, arrays are sequences, times milliseconds UTC.

    Raises `CannotEncode`: the definition has no such field, or its type cannot hold the value.
    """
    if structure.is_union:
        raise CannotEncode(f"{structure.name} is a union, which the gateway does not write")
    if unknown := fields.keys() - {field.name for field in structure.fields}:
        known = ", ".join(field.name for field in structure.fields)
        raise CannotEncode(f"{structure.name} has no field {', '.join(sorted(unknown))}; its fields are: {known}")
    present = [field for field in structure.fields if not field.is_optional or fields.get(field.name) is not None]
    body = b""
    if structure.has_optional_fields:
        optional = [field for field in structure.fields if field.is_optional]
        mask = sum(1 << bit for bit, field in enumerate(optional) if field in present)
        body = struct.pack("<I", mask)
    return body + b"".join(_field(catalogue, structure, field, fields.get(field.name)) for field in present)


def _field(catalogue: Catalogue, structure: Structure, field: StructureField, value: Any) -> bytes:
    try:
        if not field.rank:
            return _element(catalogue, field, value)
        return _array(catalogue, field, value)
    except (struct.error, OverflowError, TypeError, AttributeError, ValueError) as error:
        raise CannotEncode(f"{structure.name}.{field.name} cannot hold {value!r}: {error}") from None


def _array(catalogue: Catalogue, field: StructureField, elements: Sequence[Any] | None) -> bytes:
    if field.rank > 1:
        raise CannotEncode(f"{field.name} is a matrix, which the gateway does not write")
    if elements is None:
        return struct.pack("<i", -1)
    return struct.pack("<i", len(elements)) + b"".join(_element(catalogue, field, one) for one in elements)


def _element(catalogue: Catalogue, field: StructureField, value: Any) -> bytes:
    if isinstance(field.type, ua.NodeId):
        nested = catalogue.structures.get(field.type)
        if nested is None:
            raise CannotEncode(f"the server does not say what {field.name} is made of; it gives no DataTypeDefinition")
        return encode_body(catalogue, nested, value or {})
    return bytes(ua_binary.pack_uatype(field.type, _builtin(field.type, value)))


def _builtin(kind: ua.VariantType, value: Any) -> Any:
    """The value as asyncua's codec takes it."""
    if value is None:
        return _EMPTY.get(kind, 0)
    if kind is ua.VariantType.LocalizedText:
        return ua.LocalizedText(value)
    if kind is ua.VariantType.DateTime:
        return _UNIX_EPOCH + timedelta(milliseconds=value)
    if kind is not ua.VariantType.Variant:
        return value
    if not isinstance(value, Argument):
        raise TypeError("a value of any type must say which it has")
    variant = encode(value.type, value.value)
    if isinstance(variant, int):
        raise ValueError(f"{value.value!r} is no {value.type}")
    return variant
