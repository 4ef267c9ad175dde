"""The bytes of a structure, by the definition that its server gave: where each field lies, and what it holds.

Layouts: OPC 10000-6 §5.2.6 (structures), §5.2.7 (optional fields), §5.2.8 (unions). Only builtin values are left to
asyncua's codec. Its own structure decoder keeps every type in one place for the whole process, by a node id that
another PLC has for another type (trap A19); here a type is known to the connection that it was read on, and no class is
made from what a server says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary

_DEEPEST: Final = 32
"""Structures within structures: deeper is no record of a machine, and a loop that a server made."""


class StructureField(NamedTuple):
    """One field: a builtin type, or the data type of a nested structure; `rank` 0 is a scalar, 2 and more a matrix."""

    name: str
    type: ua.VariantType | ua.NodeId
    rank: int = 0
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """One structured type. Of a union at most one field is there."""

    name: str
    fields: tuple[StructureField, ...]
    is_union: bool = False

    @property
    def has_optional_fields(self) -> bool:
        """Then a mask that says which are there comes first."""
        return any(field.is_optional for field in self.fields)


@dataclass(slots=True)
class Catalogue:
    """The structures of one server: by data type, and the data type of each binary encoding.

    `unknown` gathers the encodings that came and that the server has not been asked for yet; what it did not explain
    is in `unexplained`.
    """

    structures: dict[ua.NodeId, Structure] = field(default_factory=dict)
    encodings: dict[ua.NodeId, ua.NodeId] = field(default_factory=dict)
    unknown: set[ua.NodeId] = field(default_factory=set)
    unexplained: set[ua.NodeId] = field(default_factory=set)

    def of_encoding(self, encoding: ua.NodeId) -> Structure | None:
        """The structure that is encoded so; None if that is not known (yet)."""
        structure = self.structures.get(self.encodings.get(encoding, encoding))
        if structure is None and encoding not in self.unexplained:
            self.unknown.add(encoding)
        return structure


class Leaf(NamedTuple):
    """A builtin value, or an array of them, as asyncua gives it.

    `span` is where it stands in the body; None where it cannot be replaced there. `array` is the array that an element
    was taken out of, `place` where.
    """

    kind: ua.VariantType
    value: Any
    is_array: bool = False
    span: tuple[int, int] | None = None
    array: list[Any] | None = None
    place: int = 0


class Absent(NamedTuple):
    """An optional field that is not there, or one of a union that is another one now."""


class Unknown(NamedTuple):
    """A structure whose definition is not known."""

    encoding: ua.NodeId


@dataclass(frozen=True, slots=True)
class Group:
    """A structure's fields by name."""

    name: str
    fields: Mapping[str, "Node"]


Node = Group | list["Node"] | Leaf | Absent | Unknown
"""What a field holds; a list is an array of structures."""


class BrokenBody(Exception):  # noqa: N818 - it says what is wrong, and reads so where it is caught
    """The bytes are not what the definition says."""


def decode_body(catalogue: Catalogue, structure: Structure, body: bytes) -> Group:
    """All fields; raises `BrokenBody`, also when bytes are left over: then it is another definition's body."""
    reader = _Reader(catalogue, body)
    try:
        group = reader.structure(structure, 0)
    except BrokenBody:
        raise
    except Exception as error:  # noqa: BLE001 - asyncua's decoder, fed with bytes of a stranger, raises anything
        raise BrokenBody(f"{structure.name} cannot be decoded: {error!r}") from None
    if reader.rest:
        raise BrokenBody(f"{structure.name} has {reader.rest} bytes more than its definition")
    return group


def replace_leaf(body: bytes, leaf: Leaf, value: Any) -> bytes | None:
    """The body with another value in this place, every other byte as it was; None where it cannot be replaced."""
    if leaf.span is None:
        return None
    begin, end = leaf.span
    if leaf.array is not None:
        array = [value if place == leaf.place else element for place, element in enumerate(leaf.array)]
        return body[:begin] + ua_binary.pack_uatype_array(leaf.kind, array) + body[end:]
    pack = ua_binary.pack_uatype_array if leaf.is_array else ua_binary.pack_uatype
    return body[:begin] + pack(leaf.kind, value) + body[end:]


class _Reader:
    """Reads one body from its first byte to its last. `is_inner` is a body within a body: its length stands before it,
    so nothing in it can be replaced alone.
    """

    def __init__(self, catalogue: Catalogue, body: bytes, *, is_inner: bool = False) -> None:
        self._catalogue = catalogue
        self._buffer = Buffer(body)
        self._is_inner = is_inner

    @property
    def rest(self) -> int:
        return len(self._buffer)

    def structure(self, structure: Structure, depth: int) -> Group:
        if depth > _DEEPEST:
            raise BrokenBody(f"{structure.name} holds structures more than {_DEEPEST} deep")
        if structure.is_union:
            chosen = self._read(ua.VariantType.UInt32)
            present = {field: number == chosen for number, field in enumerate(structure.fields, 1)}
        else:
            present = self._present(structure)
        fields: dict[str, Node] = {
            field.name: self._field(field, depth) if present[field] else Absent() for field in structure.fields
        }
        return Group(structure.name, fields)

    def _present(self, structure: Structure) -> dict[StructureField, bool]:
        """The bits of the mask belong to the optional fields in their order, from the lowest on."""
        mask = self._read(ua.VariantType.UInt32) if structure.has_optional_fields else 0
        present = {}
        for one in structure.fields:
            present[one] = not one.is_optional or bool(mask & 1)
            mask >>= int(one.is_optional)
        return present

    def _field(self, field: StructureField, depth: int) -> Node:
        if isinstance(field.type, ua.NodeId):
            return self._nested(field, field.type, depth)
        begin = self._position
        if field.type is ua.VariantType.ExtensionObject:
            objects = [self._object(depth) for _ in range(self._length(field.rank))]
            return objects if field.rank else objects[0]
        if field.type is ua.VariantType.Variant and not field.rank:
            variant = self._read(ua.VariantType.Variant)
            return Leaf(variant.VariantType, variant.Value, bool(variant.is_array))
        if field.rank > 1:
            count = self._length(field.rank)
            return Leaf(field.type, [self._read(field.type) for _ in range(count)], is_array=True)
        if field.rank:
            return Leaf(field.type, self._read_array(field.type), is_array=True, span=self._span(begin))
        return Leaf(field.type, self._read(field.type), span=self._span(begin))

    def _nested(self, field: StructureField, data_type: ua.NodeId, depth: int) -> Node:
        structure = self._catalogue.structures.get(data_type)
        if structure is None:
            raise BrokenBody(f"the type of the field {field.name} is not known")
        if not field.rank:
            return self.structure(structure, depth + 1)
        return [self.structure(structure, depth + 1) for _ in range(self._length(field.rank))]

    def _object(self, depth: int) -> Node:
        """A structure with its type before it (OPC 10000-6 §5.2.2.15)."""
        encoding = self._read(ua.VariantType.NodeId)
        body = self._read(ua.VariantType.ByteString) if self._buffer.read(1)[0] & 1 else None
        if body is None:
            return Absent()
        structure = self._catalogue.of_encoding(encoding)
        if structure is None:
            return Unknown(encoding)
        return _Reader(self._catalogue, body, is_inner=True).structure(structure, depth + 1)

    def _length(self, rank: int) -> int:
        """How many elements follow: 1 of a scalar, of an array its length, of a matrix the product of its dimensions.

        An element has at least one byte; a server that claims more is not to fill the memory.
        """
        if not rank:
            return 1
        count = 1
        for length in [self._read(ua.VariantType.Int32)] if rank == 1 else self._read_array(ua.VariantType.Int32):
            count *= max(length, 0)
        if count > self.rest:
            raise BrokenBody(f"an array claims {count} elements in {self.rest} bytes")
        return count

    @property
    def _position(self) -> int:
        return int(self._buffer.cur_pos)

    def _span(self, begin: int) -> tuple[int, int] | None:
        return None if self._is_inner else (begin, self._position)

    def _read(self, kind: ua.VariantType) -> Any:
        return ua_binary.unpack_uatype(kind, self._buffer)

    def _read_array(self, kind: ua.VariantType) -> list[Any]:
        if (length := int.from_bytes(self._buffer.copy(4).read(4), "little", signed=True)) > self.rest:
            raise BrokenBody(f"an array claims {length} elements in {self.rest} bytes")
        return ua_binary.unpack_uatype_array(kind, self._buffer) or []
