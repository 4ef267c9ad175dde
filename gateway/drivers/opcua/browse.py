"""What an OPC UA server has: its nodes level by level, each with type, rights, value and both timestamps.

Breadth-first, in the batches that the server's limits allow (OPC 10000-4 §5.9.2, §5.9.3): a hundred thousand nodes
are a few hundred requests, and what is kept is only the next level and which nodes were seen.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from gateway.domain.values import DataType
from gateway.drivers.base import BrowsedNode, NodeFacts
from gateway.drivers.opcua.enumerations import Enumerations
from gateway.drivers.opcua.node_ids import format_node, make_node_id
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session, chunks
from gateway.drivers.opcua.values import ValueDecoder

_NODES_PER_BROWSE: Final = 100
"""Even where the server allows more: few enough for the continuation points of a small PLC."""
_REFERENCES_PER_NODE: Final = 500
"""So that no answer is longer than some 5 MB, whatever the server has."""
_BATCH: Final = 200
"""Most nodes told, and asked for their five attributes, at once: a slow server answers 1,000 of them within a timeout,
and whoever watches sees it go on."""
_OBJECTS_AND_VARIABLES: Final = int(ua.NodeClass.Object | ua.NodeClass.Variable)
_RESULT_MASK: Final = int(ua.BrowseResultMask.NodeClass | ua.BrowseResultMask.BrowseName)
_ATTRIBUTES: Final = (
    AttributeIds.Value,
    AttributeIds.DataType,
    AttributeIds.ValueRank,
    AttributeIds.AccessLevel,
    AttributeIds.UserAccessLevel,
)
_DATA_TYPE: Final = _ATTRIBUTES.index(AttributeIds.DataType)
_READ_BIT: Final = 0x01
_WRITE_BIT: Final = 0x02
"""CurrentRead and CurrentWrite (OPC 10000-3 §8.57)."""
_TOO_MUCH: Final = frozenset(
    {
        StatusCodes.BadTooManyOperations,
        StatusCodes.BadResponseTooLarge,
        StatusCodes.BadRequestTooLarge,
        StatusCodes.BadEncodingLimitsExceeded,
    }
)
"""Refusals that a request of half the size may get around."""

_DATA_TYPES: Final[dict[int, DataType]] = {
    int(ua.VariantType.Boolean): DataType.BOOL,
    int(ua.VariantType.SByte): DataType.INT8,
    int(ua.VariantType.Byte): DataType.UINT8,
    int(ua.VariantType.Int16): DataType.INT16,
    int(ua.VariantType.UInt16): DataType.UINT16,
    int(ua.VariantType.Int32): DataType.INT32,
    int(ua.VariantType.UInt32): DataType.UINT32,
    int(ua.VariantType.Int64): DataType.INT64,
    int(ua.VariantType.UInt64): DataType.UINT64,
    int(ua.VariantType.Float): DataType.FLOAT32,
    int(ua.VariantType.Double): DataType.FLOAT64,
    int(ua.VariantType.String): DataType.STRING,
    int(ua.VariantType.DateTime): DataType.DATETIME,
    int(ua.VariantType.ByteString): DataType.BYTES,
    int(ObjectIds.Enumeration): DataType.INT32,
    int(ObjectIds.Duration): DataType.FLOAT64,
    int(ObjectIds.UtcTime): DataType.DATETIME,
    int(ObjectIds.LocaleId): DataType.STRING,
}
"""Builtin types have their own number as DataType NodeId (OPC 10000-6 §5.1.2); beside them the commonest subtypes."""


class _Place(NamedTuple):
    """A node on the way: where it was found, and whether it can have a value."""

    node_id: ua.NodeId
    path: tuple[str, ...]
    is_variable: bool


class Browser:
    """Walks the address space of one open session.

    Raises `LinkLost` as the session does, and also where the server refuses to be browsed or read at all.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._decoder = ValueDecoder(session.namespaces)
        self._enumerations = Enumerations(session)
        self._nodes_per_browse = _NODES_PER_BROWSE
        self._seen: set[tuple[int, Any]] = set()

    async def walk(self, start: ua.NodeId) -> AsyncIterator[list[BrowsedNode]]:
        """All objects and variables below `start`, in batches, parents before their children, each node once.

        Below the Objects folder the Server object is left out: it is the server's own affair and large. A node that
        has two parents is told at the one that was met first.
        """
        limit = ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse
        (allowed,) = await self._ask(self._session.read, [make_node_id(limit)])
        # A server without limit says 0, and one that does not know the node gives no value.
        self._nodes_per_browse = min(_NODES_PER_BROWSE, _content(allowed) or _NODES_PER_BROWSE)
        self._seen = {_key(start)}
        if start == make_node_id(ObjectIds.ObjectsFolder):
            self._seen.add(_key(make_node_id(ObjectIds.Server)))
        waiting = deque([_Place(start, (), is_variable=False)])
        while waiting:
            parents = [waiting.popleft() for _ in range(min(self._nodes_per_browse, len(waiting)))]
            async for children in self._children(parents):
                waiting.extend(children)
                for batch in chunks(children, _BATCH):
                    yield await self._describe(batch)

    async def facts(self, node_ids: Sequence[ua.NodeId]) -> list[NodeFacts]:
        """What the server says of each variable; of one that does not exist the value is Bad and no type is known."""
        facts: list[NodeFacts] = []
        for chunk in chunks(node_ids, max(1, self._session.limits.nodes_per_read // len(_ATTRIBUTES))):
            facts += await self._ask(self._read_attributes, chunk)
        return facts

    async def _describe(self, places: Sequence[_Place]) -> list[BrowsedNode]:
        facts = iter(await self.facts([place.node_id for place in places if place.is_variable]))
        namespaces = self._session.namespaces
        return [
            BrowsedNode(place.path, format_node(place.node_id, namespaces), next(facts) if place.is_variable else None)
            for place in places
        ]

    async def _ask(self, service: Callable[[Sequence[Any]], Awaitable[list[Any]]], items: Sequence[Any]) -> list[Any]:
        """Ask for all at once; where the server says that this is too much, for each half."""
        if not items:
            return []
        try:
            return await service(items)
        except ServiceFault as fault:
            if fault.code not in _TOO_MUCH or len(items) == 1:
                raise self._session.channel.lost(str(fault)) from None
        middle = len(items) // 2
        return await self._ask(service, items[:middle]) + await self._ask(service, items[middle:])

    # --- children -----------------------------------------------------------------------------------------------

    async def _children(self, parents: Sequence[_Place]) -> AsyncIterator[list[_Place]]:
        """The children that are new, one list per answer of the server."""
        results = await self._ask(self._browse, parents)
        pending: list[tuple[_Place, bytes]] = []
        for parent, result in zip(parents, results, strict=True):
            if result.StatusCode.value == StatusCodes.BadNoContinuationPoints and len(parents) > 1:
                # The server ran out of them over the others; alone this node will get one.
                async for children in self._children([parent]):
                    yield children
        while True:
            children = [
                child
                for parent, result in zip(parents, results, strict=True)
                for child in self._new_children(parent, result.References or [])
            ]
            if children:
                yield children
            pending = [
                (parent, result.ContinuationPoint)
                for parent, result in zip(parents, results, strict=True)
                if result.ContinuationPoint
            ]
            if not pending:
                return
            parents = [parent for parent, _ in pending]
            results = await self._ask(self._browse_next, [point for _, point in pending])

    def _new_children(self, parent: _Place, references: Sequence[Any]) -> list[_Place]:
        children = []
        for reference in references:
            node_id = make_node_id(reference.NodeId.Identifier, reference.NodeId.NamespaceIndex)
            if _key(node_id) in self._seen or _is_elsewhere(reference.NodeId):
                continue
            self._seen.add(_key(node_id))
            path = (*parent.path, reference.BrowseName.Name or "")
            children.append(_Place(node_id, path, reference.NodeClass == ua.NodeClass.Variable))
        return children

    async def _browse(self, parents: Sequence[_Place]) -> list[Any]:
        request = ua.BrowseRequest()
        request.Parameters.View = ua.ViewDescription()
        request.Parameters.RequestedMaxReferencesPerNode = ua.Counter(_REFERENCES_PER_NODE)
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=parent.node_id,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=make_node_id(ObjectIds.HierarchicalReferences),
                IncludeSubtypes=True,
                NodeClassMask=ua.UInt32(_OBJECTS_AND_VARIABLES),
                ResultMask=ua.UInt32(_RESULT_MASK),
            )
            for parent in parents
        ]
        return self._session.all_of(parents, await self._session.channel.call(request, ua.BrowseResponse))

    async def _browse_next(self, points: Sequence[bytes]) -> list[Any]:
        request = ua.BrowseNextRequest()
        request.Parameters.ReleaseContinuationPoints = False
        request.Parameters.ContinuationPoints = list(points)
        response = await self._session.channel.call(request, ua.BrowseNextResponse)
        return self._session.all_of(points, response.Parameters)

    # --- attributes ---------------------------------------------------------------------------------------------

    async def _read_attributes(self, node_ids: Sequence[ua.NodeId]) -> list[NodeFacts]:
        wanted = [
            ua.ReadValueId(NodeId=node_id, AttributeId=attribute) for node_id in node_ids for attribute in _ATTRIBUTES
        ]
        results: list[Any] = []
        for chunk in chunks(wanted, self._session.limits.nodes_per_read):
            request = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.NodesToRead = list(chunk)
            results += self._session.all_of(chunk, await self._session.channel.call(request, ua.ReadResponse))
        await self._enumerations.learn(_content(told) for told in results[_DATA_TYPE :: len(_ATTRIBUTES)])
        return [self._facts_of(*results[at : at + len(_ATTRIBUTES)]) for at in range(0, len(results), len(_ATTRIBUTES))]

    def _facts_of(self, value: Any, data_type: Any, rank: Any, access: Any, user_access: Any) -> NodeFacts:
        change = self._decoder.decode("", value)
        rights = _content(user_access)
        if rights is None:
            rights = _content(access)
        declared = _content(data_type)
        kind = _data_type(declared, value)
        name = kind or (format_node(declared, self._session.namespaces) if declared is not None else "")
        # ValueRank -1 is a scalar, -2 and -3 may be one (OPC 10000-3 §5.6.2).
        is_array = (
            value.Value.is_array if value.Value is not None else _content(rank) is not None and rank.Value.Value >= 0
        )
        return NodeFacts(
            change, type=kind, type_name=str(name), is_array=bool(is_array),
            readable=None if rights is None else bool(rights & _READ_BIT),
            writable=None if rights is None else bool(rights & _WRITE_BIT),
            labels=self._enumerations.texts(declared) if kind is DataType.INT32 else {},
        )  # fmt: skip


def data_type_of(kind: ua.VariantType) -> DataType | None:
    """The type of a tag for a value of this variant type; None where no tag can have it."""
    return _DATA_TYPES.get(int(kind.value))


def _data_type(declared: ua.NodeId | None, value: Any) -> DataType | None:
    """The builtin type, by the value that is there or else by the declared type; None where no tag can have it.

    The value goes first: a vendor's own subtype or enumeration says nothing by its number.
    """
    if value.Value is not None and value.Value.VariantType is not ua.VariantType.Null:
        return data_type_of(value.Value.VariantType)
    if declared is None or declared.NamespaceIndex != 0:
        return None
    return _DATA_TYPES.get(declared.Identifier) if isinstance(declared.Identifier, int) else None


def _is_elsewhere(node_id: Any) -> bool:
    """True for a node of another server, which cannot be read here (OPC 10000-4 §7.16)."""
    return bool(getattr(node_id, "ServerIndex", 0))


def _content(result: Any) -> Any:
    """An attribute's value, None where the node has not got it."""
    return result.Value.Value if result.Value is not None else None


def _key(node_id: ua.NodeId) -> tuple[int, Any]:
    return node_id.NamespaceIndex, node_id.Identifier
