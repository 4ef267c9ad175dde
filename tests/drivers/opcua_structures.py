"""Structured types on a real server. Their values are encoded here, byte by byte from the specification, and nothing is
registered in asyncua: server and gateway share a process, and its one registry would decode for both (trap A19).
"""

import struct
from typing import Any

from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

INT16, INT32, FLOAT, DOUBLE = ua.VariantType.Int16, ua.VariantType.Int32, ua.VariantType.Float, ua.VariantType.Double
STRING, BOOL = ua.VariantType.String, ua.VariantType.Boolean


class Type:
    """A structured type as the server has it."""

    def __init__(self, node: Any, encoding: Any) -> None:
        self.node, self.encoding = node, encoding.nodeid

    def value(self, *parts: bytes) -> ua.ExtensionObject:
        return ua.ExtensionObject(self.encoding, b"".join(parts))


async def define(server: Any, name: str, *fields: Any, is_union: bool = False) -> Type:
    """Fields are (name, type), (name, type, "array") or (name, type, "optional")."""
    made = [
        new_struct_field(key, getattr(kind, "node", kind), array="array" in how, optional="optional" in how)
        for key, kind, *how in fields
    ]
    node, (encoding,) = await new_struct(server.server, server.index, name, made, is_union)
    server._nodes += [node, encoding]
    return Type(node, encoding)


async def define_enum(server: Any, name: str, *texts: str) -> Any:
    node = await new_enum(server.server, server.index, name, list(texts))
    server._nodes.append(node)
    return node


async def explain_units(server: Any) -> None:
    """asyncua's own server does not say what the structures of the standard are made of."""
    text_type = ua.VariantType.LocalizedText
    fields = [("NamespaceUri", STRING), ("UnitId", INT32), ("DisplayName", text_type), ("Description", text_type)]
    definition = ua.StructureDefinition(
        ua.NodeId(ua.ObjectIds.EUInformation_Encoding_DefaultBinary), ua.NodeId(ua.ObjectIds.Structure),
        ua.StructureType.Structure, [new_struct_field(*field) for field in fields],
    )  # fmt: skip
    node = server.server.get_node(ua.NodeId(ua.ObjectIds.EUInformation))
    await node.write_data_type_definition(definition)


async def place(server: Any, name: str, value: Any, data_type: Type | None = None) -> Any:
    """A variable with this structure, or array of structures; its DataType says no more than Structure by default."""
    declared = ua.NodeId(ua.ObjectIds.Structure) if data_type is None else data_type.node.nodeid
    node_id, kind = ua.NodeId(name, server.index), ua.VariantType.ExtensionObject
    node = await server.server.nodes.objects.add_variable(node_id, name, value, kind, datatype=declared)
    await node.set_writable()
    server._nodes.append(node)
    return node


def text(words: str) -> bytes:
    raw = words.encode()
    return struct.pack("<i", len(raw)) + raw


def array(*elements: bytes) -> bytes:
    return struct.pack("<i", len(elements)) + b"".join(elements)


def i16(number: int) -> bytes:
    return struct.pack("<h", number)


def i32(number: int) -> bytes:
    return struct.pack("<i", number)


def f32(number: float) -> bytes:
    return struct.pack("<f", number)


async def recipe(server: Any) -> Type:
    """Recipe{Name, Head{Speed, Nozzles[]}, Items[]{Id, Value}, Note?}: what the tests are about."""
    head = await define(server, "Head", ("Speed", FLOAT), ("Nozzles", INT16, "array"))
    item = await define(server, "Item", ("Id", INT32), ("Value", STRING))
    fields = (("Name", STRING), ("Head", head), ("Items", item, "array"), ("Note", STRING, "optional"))
    return await define(server, "Recipe", *fields)


def recipe_body(name: str = "P-500", speed: float = 120.5, note: str | None = None, third: str = "c") -> list[bytes]:
    """The mask of optional fields comes first (OPC 10000-6 §5.2.7)."""
    items = [i32(1) + text("a"), i32(2) + text("b"), i32(3) + text(third)]
    there = [] if note is None else [text(note)]
    head = f32(speed) + array(i16(7), i16(-8))
    return [struct.pack("<I", bool(there)), text(name), head, array(*items), *there]
