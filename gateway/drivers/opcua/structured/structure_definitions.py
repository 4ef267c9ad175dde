"""What a server says of its structured types, read from its DataTypeDefinition attributes (OPC 10000-3 §5.8.4).

A value names its encoding only. From there the way leads by the inverse HasEncoding reference to the data type, from
its definition to the types of its fields, and from those that have no definition of their own, up by the inverse
HasSubtype references, to the builtin type that they are. Servers older than OPC UA 1.04 have no such attribute.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.node_ids import make_node_id
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session, chunks
from gateway.drivers.opcua.structured.standard_structures import STANDARD
from gateway.drivers.opcua.structured.structure_codec import Catalogue, Structure, StructureField

_HIGHEST_BUILTIN: Final = 25
_ABSTRACT: Final = {
    ObjectIds.Number: ua.VariantType.Variant,
    ObjectIds.Integer: ua.VariantType.Variant,
    ObjectIds.UInteger: ua.VariantType.Variant,
    ObjectIds.Enumeration: ua.VariantType.Int32,
}
"""What a field of these abstract types is on the wire (OPC 10000-6 §5.1.5, §5.2.4)."""
_MOST_TYPES: Final = 1_000
_HIGHEST_TREE: Final = 20
"""Types of one device, and supertypes above one: more is no PLC, but a server that makes them up."""
_NODES_PER_BROWSE: Final = 100
_UNIONS: Final = frozenset({ua.StructureType.Union, ua.StructureType.UnionWithSubtypedValues})
_SUBTYPED: Final = frozenset({ua.StructureType.StructureWithSubtypedValues, ua.StructureType.UnionWithSubtypedValues})


class Definitions:
    """Fills the catalogue of one server. What could not be learned is asked for once per connection, not again."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        catalogue.structures.update(STANDARD)
        self._given: dict[ua.NodeId, ua.StructureDefinition | None] = {}
        self._supertypes: dict[ua.NodeId, ua.NodeId | None] = {}
        self._named: dict[ua.NodeId, str] = {}

    async def learn(self, session: Session, data_types: Iterable[ua.NodeId] = ()) -> None:
        """Learn these data types, then those of all encodings that came and were not known.

        Raises `LinkLost` as the session does. A server that refuses to say leaves them unknown.
        """
        catalogue = self._catalogue
        await self._learn_types(session, data_types)
        missing = [encoding for encoding in catalogue.unknown if catalogue.of_encoding(encoding) is None]
        owners = await _sources(session, missing, ObjectIds.HasEncoding)
        catalogue.encodings.update({node: owner for node, owner in owners.items() if owner is not None})
        await self._learn_types(session, [owner for owner in owners.values() if owner is not None])
        catalogue.unexplained |= {encoding for encoding in missing if catalogue.of_encoding(encoding) is None}
        catalogue.unknown.clear()

    async def _learn_types(self, session: Session, data_types: Iterable[ua.NodeId]) -> None:
        """These and all that their fields are made of, level by level; then each is put together."""
        wanted = set(data_types)
        while new := [node for node in wanted if node not in self._given and not _is_known(node)]:
            await self._read(session, new[: max(0, _MOST_TYPES - len(self._given))])
            if len(self._given) >= _MOST_TYPES:
                break
            wanted = {node for data_type in new for node in _parts(self._given.get(data_type))}
        await self._find_builtins(session)
        added = {node: given for node, given in self._given.items() if given is not None and node not in self._named}
        self._named.update(await _names(session, list(added)))
        for data_type, definition in added.items():
            self._add(data_type, definition)

    async def _read(self, session: Session, data_types: Sequence[ua.NodeId]) -> None:
        try:
            told = await session.read(data_types, AttributeIds.DataTypeDefinition)
        except ServiceFault:
            told = [ua.DataValue() for _ in data_types]
        for data_type, value in zip(data_types, told, strict=True):
            content = value.Value.Value if value.Value is not None else None
            self._given[data_type] = content if isinstance(content, ua.StructureDefinition) else None

    async def _find_builtins(self, session: Session) -> None:
        """The supertypes of all that has no structure, up to a builtin type."""
        level = [node for node, definition in self._given.items() if definition is None]
        for _ in range(_HIGHEST_TREE):
            level = [node for node in level if node not in self._supertypes]
            if not level:
                return
            found = await _sources(session, level, ObjectIds.HasSubtype)
            self._supertypes.update(found)
            level = [node for node in found.values() if node is not None and not _is_known(node)]

    def _add(self, data_type: ua.NodeId, definition: ua.StructureDefinition) -> None:
        layout = definition.StructureType
        fields = [self._field(field, layout) for field in self._all_fields(definition, _HIGHEST_TREE)]
        known = tuple(field for field in fields if field is not None)
        if len(known) == len(fields):
            self._catalogue.structures[data_type] = Structure(self._named[data_type], known, layout in _UNIONS)
            self._catalogue.encodings[definition.DefaultEncodingId] = data_type

    def _all_fields(self, definition: ua.StructureDefinition, height: int) -> list[Any]:
        """Those of the supertypes first, where the server does not repeat them as OPC 10000-3 §8.48 has it."""
        own = list(definition.Fields or ())
        base = self._given.get(definition.BaseDataType)
        if base is None or not height:
            return own
        names = {field.Name for field in own}
        return [field for field in self._all_fields(base, height - 1) if field.Name not in names] + own

    def _field(self, field: Any, layout: ua.StructureType) -> StructureField | None:
        """None where what it is made of cannot be found out; then its structure cannot be read at all."""
        kind = self._kind(field.DataType)
        if kind is None:
            return None
        rank = max(0, field.ValueRank) if field.ValueRank != 0 else 1
        if layout in _SUBTYPED and field.IsOptional:  # here the flag says that a subtype may stand there
            is_structure = isinstance(kind, ua.NodeId) or kind is ua.VariantType.ExtensionObject
            kind = ua.VariantType.ExtensionObject if is_structure else ua.VariantType.Variant
            return StructureField(field.Name, kind, rank)
        return StructureField(field.Name, kind, rank, bool(field.IsOptional) and layout not in _UNIONS)

    def _kind(self, data_type: ua.NodeId | None) -> ua.VariantType | ua.NodeId | None:
        for _ in range(_HIGHEST_TREE):
            if data_type is None:
                return None
            if _is_builtin(data_type):
                number: Any = data_type.Identifier
                return _ABSTRACT[number] if number in _ABSTRACT else ua.VariantType(number)
            if data_type in STANDARD or self._given.get(data_type) is not None:
                return data_type
            data_type = self._supertypes.get(data_type)
        return None


async def _sources(session: Session, nodes: Sequence[ua.NodeId], reference: int) -> dict[ua.NodeId, ua.NodeId | None]:
    """The node from which such a reference leads to each of these; None where there is none."""
    found: dict[ua.NodeId, ua.NodeId | None] = {}
    for chunk in chunks(nodes, _NODES_PER_BROWSE):
        request = ua.BrowseRequest()
        request.Parameters.View = ua.ViewDescription()
        request.Parameters.RequestedMaxReferencesPerNode = ua.Counter(1)
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node, BrowseDirection=ua.BrowseDirection.Inverse, ReferenceTypeId=make_node_id(reference),
                IncludeSubtypes=True, NodeClassMask=ua.UInt32(ua.NodeClass.DataType), ResultMask=ua.UInt32(0),
            )
            for node in chunk
        ]  # fmt: skip
        try:
            results = session.all_of(chunk, await session.channel.call(request, ua.BrowseResponse))
        except ServiceFault:
            results = [ua.BrowseResult() for _ in chunk]
        for node, result in zip(chunk, results, strict=True):
            ends = [make_node_id(end.NodeId.Identifier, end.NodeId.NamespaceIndex) for end in result.References or ()]
            found[node] = ends[0] if ends else None
    return found


async def _names(session: Session, data_types: Sequence[ua.NodeId]) -> dict[ua.NodeId, str]:
    """For people: the types' browse names."""
    try:
        told = await session.read(data_types, AttributeIds.BrowseName)
    except ServiceFault:
        told = [ua.DataValue() for _ in data_types]
    return {
        node: str(value.Value.Value.Name) if value.Value is not None else node.to_string()
        for node, value in zip(data_types, told, strict=True)
    }


def _is_known(node: ua.NodeId) -> bool:
    """True for what no server need be asked about."""
    return _is_builtin(node) or node in STANDARD


def _is_builtin(node: ua.NodeId) -> bool:
    """Builtin and abstract basic types have their numbers as node ids (OPC 10000-6 §5.1.2)."""
    return node.NamespaceIndex == 0 and (
        node.Identifier in _ABSTRACT or (isinstance(node.Identifier, int) and node.Identifier <= _HIGHEST_BUILTIN)
    )


def _parts(definition: ua.StructureDefinition | None) -> Collection[ua.NodeId]:
    if definition is None:
        return ()
    return {definition.BaseDataType, *(field.DataType for field in definition.Fields or ())}
