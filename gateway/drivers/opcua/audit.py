"""Is this still the server that the configuration was written for? Asked of every session before its values count.

A PLC program that is loaded again may move namespaces to other indices (trap A2) and give a node another type. Both
are found here and told once; what is found again by its URI goes on, what has another type than configured is Bad.
"""

from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.domain.values import DataType, Drift, StatusCode, TagChange, TagId
from gateway.drivers.base import Tag
from gateway.drivers.opcua.values import accepts, variant_type_of

_HIGHEST_BUILTIN: Final = 25
_WELL_KNOWN: Final[dict[int, ua.VariantType]] = {
    ObjectIds.Enumeration: ua.VariantType.Int32,
    ObjectIds.Duration: ua.VariantType.Double,
    ObjectIds.UtcTime: ua.VariantType.DateTime,
    ObjectIds.LocaleId: ua.VariantType.String,
    ObjectIds.IntegerId: ua.VariantType.UInt32,
    ObjectIds.Counter: ua.VariantType.UInt32,
}
"""Standard types that are one builtin type by another name (OPC 10000-3 §8). Of any other type, abstract or made by a
vendor, the attribute does not say what comes; the value does."""


class Audit:
    """What one device said of itself in its last session. Lives as long as the driver, over all its sessions."""

    def __init__(self, tags: Sequence[Tag[Any]]) -> None:
        self._types: Final[dict[TagId, DataType]] = {tag.tag_id: tag.type for tag in tags}
        self._namespaces: list[str] = []
        self._drifted: dict[TagId, int] = {}

    def check_namespaces(self, namespaces: Sequence[str]) -> list[Drift]:
        """The namespaces that have another index than in the session before."""
        before, self._namespaces = self._namespaces, list(namespaces)
        return [
            Drift("namespace", uri, str(before.index(uri)), str(index))
            for index, uri in enumerate(namespaces)
            if uri in before and before.index(uri) != index
        ]

    def check_types(
        self, tags: Sequence[Tag[Any]], data_types: Sequence[ua.DataValue]
    ) -> tuple[list[TagChange], list[Drift]]:
        """Hold the DataType attributes against the configuration; the tags that are Bad now, and what is news."""
        bad: list[TagChange] = []
        drifts: list[Drift] = []
        for tag, data_type in zip(tags, data_types, strict=True):
            kind = _builtin(data_type)
            if kind is None or accepts(tag.type, kind):
                self._drifted.pop(tag.tag_id, None)
                continue
            bad.append(TagChange(tag.tag_id, None, StatusCode.BAD_TYPE_MISMATCH))
            drifts += self.note_type(tag.tag_id, kind)
        return bad, drifts

    def note_type(self, tag_id: TagId, kind: int) -> list[Drift]:
        """A tag has this variant type, which it should not have: news, unless it was told already."""
        if self._drifted.get(tag_id) == kind:
            return []
        self._drifted[tag_id] = kind
        return [Drift("type", tag_id, variant_type_of(self._types[tag_id]).name, ua.VariantType(kind).name)]


def _builtin(data_type: ua.DataValue) -> int | None:
    """The variant type that a DataType attribute promises, None if it does not say."""
    node_id = data_type.Value.Value if data_type.Value is not None else None
    if not isinstance(node_id, ua.NodeId) or node_id.NamespaceIndex != 0 or not isinstance(node_id.Identifier, int):
        return None
    if 1 <= node_id.Identifier <= _HIGHEST_BUILTIN:
        return node_id.Identifier
    known = _WELL_KNOWN.get(node_id.Identifier)
    return known.value if known is not None else None
