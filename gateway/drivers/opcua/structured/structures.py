"""Tags that are fields of structures: taken out of the value of a node, and put into it when it is written back.

What is known of the types belongs to one connection and is learned anew with every session (trap A19).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary

from gateway.domain.values import StatusCode, TagId
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.structured.fields import TYPE_UNKNOWN, NoField, find
from gateway.drivers.opcua.structured.structure_codec import (
    Absent,
    BrokenBody,
    Catalogue,
    Leaf,
    Node,
    Unknown,
    decode_body,
    replace_leaf,
)
from gateway.drivers.opcua.structured.structure_definitions import Definitions
from gateway.drivers.opcua.structured.structure_encoder import CannotEncode, encode_body
from gateway.drivers.opcua.structured.structure_text import structure_text

_ROUNDS: Final = 4
"""Structures carried within structures are seen when those around them are known."""

_log = structlog.get_logger(__name__)


class Structures:
    """The structures of one connection. `problems` says of each tag why its field cannot be read."""

    def __init__(self, device: str) -> None:
        self.problems: dict[TagId, str] = {}
        self._device = device
        self._catalogue = Catalogue()
        self._definitions = Definitions(self._catalogue)
        self._kinds: dict[TagId, tuple[ua.VariantType, bool]] = {}
        self._last: tuple[ua.Variant | None, Node] = None, Absent()

    @property
    def has_unknown(self) -> bool:
        """True if a structure came that the server should be asked for."""
        return bool(self._catalogue.unknown)

    async def learn(self, session: Session, node_ids: Iterable[ua.NodeId] = ()) -> None:
        """Learn the types of these nodes' values, and of the structures that came and are not known."""
        nodes = list(dict.fromkeys(node_ids))
        try:
            values, types = await session.read(nodes), await session.data_types(nodes)
        except ServiceFault:
            values, types = [], []  # a node that cannot be read says so when it is read as a tag
        declared = [told.Value.Value for told in types if told.Value is not None]
        for _ in range(_ROUNDS):
            await self._definitions.learn(session, [node for node in declared if isinstance(node, ua.NodeId)])
            self._last = None, Absent()
            for value in values:
                if value.Value is not None:
                    self._try(value.Value)
            if not self.has_unknown:
                return

    def _try(self, variant: ua.Variant) -> None:
        """Decode for the sake of what is unknown in it."""
        try:
            self._tree(variant)
        except (BrokenBody, NoField):
            return

    def select(self, tag: Tag[OpcUaAddress], data_value: ua.DataValue) -> ua.DataValue:
        """The tag's field of a value, with the value's status and times; the whole where the tag is no field.

        A field that is not there is Bad: BadNotFound where the structure has none of this name, BadNoData where it is
        optional and left out, BadIndexRangeNoData where an array is shorter.
        """
        path, selected, status, problem = tag.address.field, None, data_value.StatusCode, ""
        if path is None or data_value.Value is None or (status is not None and status.is_bad()):
            return data_value
        try:
            tree = self._tree(data_value.Value)
            leaf = find(tree, path) if path else Leaf(ua.VariantType.String, structure_text(tree))
            selected = ua.Variant(leaf.value, leaf.kind, is_array=leaf.is_array)
            self._kinds[tag.tag_id] = leaf.kind, leaf.is_array
        except NoField as no:
            status = ua.StatusCode(ua.UInt32(no.status_code))
            problem = "" if no.status_code == TYPE_UNKNOWN and self.has_unknown else no.problem
        except BrokenBody as broken:
            status, problem = ua.StatusCode(ua.UInt32(StatusCode.BAD_DECODING_ERROR)), str(broken)
        self._note(tag, problem)
        return replace(data_value, Value=selected, StatusCode=status)

    def kind_of(self, tag: Tag[OpcUaAddress]) -> tuple[ua.VariantType | None, bool]:
        """The type that the tag's field had last, and whether it is an array."""
        return self._kinds.get(tag.tag_id, (None, False))

    def put(self, tag: Tag[OpcUaAddress], variant: ua.Variant, value: ua.Variant) -> ua.Variant | int:
        """The node's value with another one in the tag's field and every other byte as it was, or why not."""
        path = tag.address.field
        assert path is not None
        try:
            leaf = find(self._tree(variant), path)
        except (NoField, BrokenBody) as no:
            return getattr(no, "status_code", StatusCode.BAD_DECODING_ERROR)
        if (leaf.kind, leaf.is_array) != (value.VariantType, value.is_array):
            return StatusCode.BAD_TYPE_MISMATCH
        if variant.Dimensions:
            return StatusCode.BAD_NOT_WRITABLE  # a matrix of structures is read, and not taken apart
        place = path[0] if variant.is_array else None
        encoding, body = _raw(variant.Value if place is None else variant.Value[place])
        written = replace_leaf(body or b"", leaf, value.Value)
        if written is None:
            return StatusCode.BAD_NOT_WRITABLE
        whole = ua.ExtensionObject(encoding, ua.ByteString(written))
        if place is None:
            return ua.Variant(whole, ua.VariantType.ExtensionObject)
        elements = [whole if number == place else element for number, element in enumerate(variant.Value)]
        return ua.Variant(elements, ua.VariantType.ExtensionObject)

    async def encode(self, session: Session, data_type: ua.NodeId, fields: Mapping[str, Any]) -> ua.Variant:
        """A structure as the argument of a method; raises `CannotEncode`, and `LinkLost` as the session does."""
        if data_type not in self._catalogue.structures:
            await self._definitions.learn(session, [data_type])
        structure = self._catalogue.structures.get(data_type)
        encoding = next((key for key, owner in self._catalogue.encodings.items() if owner == data_type), None)
        if structure is None or encoding is None or encoding.is_null():
            raise CannotEncode("the server does not say what the structure is made of; it gives no DataTypeDefinition")
        body = encode_body(self._catalogue, structure, fields)
        return ua.Variant(ua.ExtensionObject(encoding, ua.ByteString(body)), ua.VariantType.ExtensionObject)

    def _tree(self, variant: ua.Variant) -> Node:
        """All fields of a value; of the last one it is known, for many tags may be fields of one."""
        if self._last[0] is not variant:
            self._last = variant, self._decode(variant)
        return self._last[1]

    def _decode(self, variant: ua.Variant) -> Node:
        if variant.VariantType is ua.VariantType.Null:
            return Absent()
        if variant.VariantType is not ua.VariantType.ExtensionObject:
            raise NoField(StatusCode.BAD_TYPE_MISMATCH, f"the node holds no structure but {variant.VariantType.name}")
        if variant.is_array:
            return [self._object(element) for element in _flat(variant.Value)]
        return self._object(variant.Value)

    def _object(self, value: Any) -> Node:
        encoding, body = _raw(value)
        if body is None:
            return Absent()
        structure = self._catalogue.of_encoding(encoding)
        return Unknown(encoding) if structure is None else decode_body(self._catalogue, structure, body)

    def _note(self, tag: Tag[OpcUaAddress], problem: str) -> None:
        """Say it once."""
        if self.problems.get(tag.tag_id, "") == problem:
            return
        self.problems[tag.tag_id] = problem
        if problem:
            _log.warning("field cannot be read", device=self._device, tag=tag.tag_id, reason=problem)
        else:
            _log.info("field restored", device=self._device, tag=tag.tag_id)


def _raw(value: Any) -> tuple[ua.NodeId, bytes | None]:
    """Encoding and body. asyncua decodes the types of the standard itself: those are encoded again."""
    if value is not None and not isinstance(value, ua.ExtensionObject):
        value = _unregistered(ua_binary.extensionobject_to_binary(value))
    return (ua.NodeId(), None) if value is None else (value.TypeId, value.Body)


def _unregistered(encoded: bytes) -> ua.ExtensionObject:
    """The type id and the body that asyncua would put on the wire; of an empty structure it leaves the body out."""
    buffer = Buffer(encoded)
    encoding, _ = ua_binary.nodeid_from_binary(buffer), buffer.read(1)
    body = ua_binary.unpack_uatype(ua.VariantType.ByteString, buffer) if len(buffer) else b""
    return ua.ExtensionObject(encoding, ua.ByteString(body))


def _flat(elements: Any) -> Sequence[Any]:
    """asyncua nests the elements of a matrix."""
    if elements and isinstance(elements[0], list):
        return [element for row in elements for element in _flat(row)]
    return elements or []
