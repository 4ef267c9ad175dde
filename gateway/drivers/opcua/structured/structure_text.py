"""A whole structure as JSON text: for records of many fields, whose meaning is the domain's affair.

Objects have the fields' own names, arrays of structures are arrays, and what is not there is left out. Texts lose
their locale, times are ISO 8601 in UTC, bytes hexadecimal, 64-bit numbers stay numbers.
"""

from datetime import datetime
from typing import Any

import msgspec
from asyncua import ua

from gateway.drivers.opcua.structured.fields import TYPE_UNKNOWN, NoField
from gateway.drivers.opcua.structured.structure_codec import Absent, Group, Leaf, Node, Unknown


def structure_text(node: Node) -> str:
    """The JSON text; an absent structure is `null`. Raises `NoField` where the server explains no type."""
    return msgspec.json.encode(_plain(node)).decode()


def _plain(node: Node) -> Any:
    match node:
        case Group():
            return {name: _plain(field) for name, field in node.fields.items() if not isinstance(field, Absent)}
        case Leaf():
            return [_scalar(value) for value in node.value or ()] if node.is_array else _scalar(node.value)
        case Absent():
            return None
        case Unknown():
            text = "the server does not say what a part of it is made of; it gives no DataTypeDefinition"
            raise NoField(TYPE_UNKNOWN, text)
    return [_plain(element) for element in node]


def _scalar(value: Any) -> Any:
    match value:
        case ua.LocalizedText():
            return value.Text
        case ua.QualifiedName():
            return value.Name
        case bytes():
            return value.hex()
        case datetime() | bool() | int() | float() | str() | None:
            return value
    return str(value)
