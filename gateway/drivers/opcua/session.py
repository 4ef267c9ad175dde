"""What one session knows of its server, and the services on its nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.opcua.node_ids import make_node_id
from gateway.drivers.opcua.secure_channel.channel import Channel, ServiceFault
from gateway.drivers.opcua.values import SelectField, ValueDecoder

_DEFAULT_NODES_PER_CALL: Final = 1_000
_OPERATION_LIMITS: Final = (
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """How many nodes go into one call: what the server allows (OPC 10000-5 §6.3.11), 1,000 where it says nothing."""

    nodes_per_read: int = _DEFAULT_NODES_PER_CALL
    nodes_per_write: int = _DEFAULT_NODES_PER_CALL
    items_per_create: int = _DEFAULT_NODES_PER_CALL
    nodes_per_history_read: int = _DEFAULT_NODES_PER_CALL


class Session:
    """One session on an open channel. Raises `LinkLost` as the channel does.

    `select` is set where tags are fields of structures.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel: Final = channel
        self.select: SelectField | None = None
        self.namespaces: list[str] = []
        self.limits = OperationLimits()

    async def open(self) -> None:
        """Read what every session must know anew: the namespaces, and the server's limits."""
        try:
            array, *limits = await self._read_first(
                [make_node_id(ObjectIds.Server_NamespaceArray), *map(make_node_id, _OPERATION_LIMITS)]
            )
        except ServiceFault as fault:
            raise self.channel.lost(str(fault)) from None
        if array.Value is None or not array.Value.Value:
            raise self.channel.lost("has no readable NamespaceArray, so no node can be told from another")
        self.namespaces = list(array.Value.Value)
        # An absent limit comes without value, and a server without limit says 0.
        self.limits = OperationLimits(
            *((limit.Value and limit.Value.Value) or _DEFAULT_NODES_PER_CALL for limit in limits)
        )

    async def _read_first(self, node_ids: Sequence[ua.NodeId]) -> list[ua.DataValue]:
        """All in one call; one by one where that is too many, for the server's limit is among what is to be read."""
        try:
            return await self.read(node_ids)
        except ServiceFault as fault:
            if fault.code != StatusCodes.BadTooManyOperations:
                raise
        self.limits = OperationLimits(nodes_per_read=1)
        return await self.read(node_ids)

    def value_decoder(self) -> ValueDecoder:
        """One that knows this session's namespaces and structures."""
        return ValueDecoder(self.namespaces, self.select)

    def namespace_index(self, uri: str) -> int:
        """The index of a namespace in this session; raises `LinkLost` that names those that exist."""
        if uri not in self.namespaces:
            raise self.channel.lost(f"has no namespace {uri!r}; it has {', '.join(self.namespaces)}")
        return self.namespaces.index(uri)

    async def read(
        self, node_ids: Sequence[ua.NodeId], attribute: AttributeIds = AttributeIds.Value
    ) -> list[ua.DataValue]:
        """One attribute of each node, the value with both timestamps, straight from the device (MaxAge 0)."""
        results: list[ua.DataValue] = []
        for chunk in chunks(node_ids, self.limits.nodes_per_read):
            request = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.NodesToRead = [
                ua.ReadValueId(NodeId=node_id, AttributeId=attribute) for node_id in chunk
            ]
            results += self.all_of(chunk, await self.channel.call(request, ua.ReadResponse))
        return results

    async def data_types(self, node_ids: Sequence[ua.NodeId]) -> list[ua.DataValue]:
        """The DataType attribute of each node; without value where the server does not tell it."""
        try:
            return await self.read(node_ids, AttributeIds.DataType)
        except ServiceFault:
            return [ua.DataValue()] * len(node_ids)

    async def write(self, values: Sequence[tuple[ua.NodeId, ua.Variant]]) -> list[int]:
        """Write the Value attribute of each node, without timestamps: S7 and Kepware refuse those (trap A16).

        A chunk that the server refuses as a whole gives that status code to all its nodes.
        """
        status_codes: list[int] = []
        for chunk in chunks(values, self.limits.nodes_per_write):
            request = ua.WriteRequest()
            request.Parameters.NodesToWrite = [
                ua.WriteValue(node_id, AttributeIds.Value, None, ua.DataValue(variant, None))
                for node_id, variant in chunk
            ]
            try:
                response = await self.channel.call(request, ua.WriteResponse)
            except ServiceFault as fault:
                status_codes += [fault.code] * len(chunk)
            else:
                status_codes += [result.value for result in self.all_of(chunk, response)]
        return status_codes

    def all_of(self, asked: Sequence[Any], response: Any) -> list[Any]:
        """The per-item results, one for each item asked; a server that answers with fewer cannot be believed."""
        results: list[Any] = response.Results
        if len(results) != len(asked):
            raise self.channel.fail(f"answered {len(results)} results to {len(asked)} items")
        return results


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in their order, at most `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
