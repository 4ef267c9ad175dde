"""The OPC UA driver: changes by subscription, reads and writes by service call."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import msgspec
from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.domain.values import (
    Batch,
    CallResult,
    Drift,
    MethodCall,
    TagChange,
    TagId,
    TagWrite,
    Timestamp,
    WriteResult,
)
from gateway.drivers.base import BrowsedNode, Clock, LinkLost, NodeFacts, Tag
from gateway.drivers.opcua.browse import Browser, data_type_of
from gateway.drivers.opcua.components import find_components
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings, wants_history
from gateway.drivers.opcua.known_device import KnownDevice
from gateway.drivers.opcua.methods import call_methods
from gateway.drivers.opcua.node_ids import make_node_id, parse_node
from gateway.drivers.opcua.secure_channel.channel import Channel, ServiceFault
from gateway.drivers.opcua.secure_channel.resumption import Ticket
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.structured.field_writes import write_in_order
from gateway.drivers.opcua.structured.fields import TYPE_UNKNOWN
from gateway.drivers.opcua.structured.structures import Structures
from gateway.drivers.opcua.subscribing.monitored_items import wanted_items
from gateway.drivers.opcua.subscribing.notifications import Statistics
from gateway.drivers.opcua.subscribing.polling import Poller
from gateway.drivers.opcua.subscribing.snapshots import Snapshots
from gateway.drivers.opcua.subscribing.subscription import Subscription


class OpcUaDriver:
    """One OPC UA server; see `Driver` for the contract.

    One driver serves a device for all its connections: entered again after a lost link, it goes on with session and
    subscription where the server kept them, else it begins anew and says since when nothing is known. Every session
    is audited: namespace URIs are resolved anew, so a server restarted with other namespaces can never give one tag's
    value for another's (trap A2); a namespace that is missing is a lost link, a node that is missing or has another
    type is a Bad tag. `statistics` counts what was seen since the subscription began.
    """

    def __init__(self, name: str, settings: OpcUaSettings, tags: Sequence[Tag[OpcUaAddress]], clock: Clock) -> None:
        self.statistics = Statistics()
        self._name = name
        self._settings = settings
        self._tags = list(tags)
        self._clock = clock
        self._device = KnownDevice.with_tags(name, settings, tags, clock)
        self._audit = self._device.audit
        self._drifts: list[Drift] = []
        self._ticket: Ticket | None = None
        self._lost_since: Timestamp | None = None
        self._subscription: Subscription | Poller | None = None
        self._node_ids: dict[TagId, ua.NodeId] = {}
        self._by_id = {tag.tag_id: tag for tag in tags}
        self._snapshots = Snapshots(name, settings.snapshots, self._by_id)
        self._structures = Structures(name)
        self._new_channel()

    def _new_channel(self) -> None:
        settings = self._settings
        self._channel = Channel(settings.url, settings.request_timeout, settings.lifetime, settings)
        self._session = Session(self._channel)
        self._session.select = self._structures.select

    async def __aenter__(self) -> Self:
        self._new_channel()
        try:
            resumed = await self._channel.open(self._ticket)
            self._ticket = None
            if not resumed:
                self._subscription = None
            await self._audit_session(resumed)
        except BaseException:
            # The link may have broken once more before the session could go on: the next try goes on with it.
            self._ticket = self._channel.ticket or self._ticket
            await self._channel.close()
            raise
        if isinstance(self._subscription, Subscription):
            self._subscription.move(self._session)
        return self

    async def _audit_session(self, resumed: bool) -> None:
        await self._session.open()
        moved = self._audit.check_namespaces(self._session.namespaces)
        self._drifts += moved
        if resumed and moved:
            raise self._channel.lost("moved its namespaces under a session; the next one begins anew")
        self._node_ids = {tag.tag_id: self._resolve(tag) for tag in self._tags}
        await self._find_components()
        if not resumed:
            await self._learn_structures()

    async def _find_components(self) -> None:
        """The tags that are parts of an object; one that the object has not got stays at no node, and is Bad."""
        parts = [(tag, tag.address.component) for tag in self._tags if tag.address.component is not None]
        for _, name in parts:
            self._session.namespace_index(name.namespace)
        wanted = [(self._node_ids[tag.tag_id], name) for tag, name in parts]
        for (tag, _), node in zip(parts, await find_components(self._session, wanted), strict=True):
            self._node_ids[tag.tag_id] = node or ua.NodeId()

    async def _learn_structures(self) -> None:
        """Another session may be one with another program, and then no type is what it was."""
        self._structures = Structures(self._name)
        self._session.select = self._structures.select
        nodes = [self._node_ids[tag.tag_id] for tag in self._tags if tag.address.field is not None]
        if nodes:
            await self._structures.learn(self._session, nodes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subscription = self._subscription
        if subscription is not None:
            self._ticket = self._channel.ticket if isinstance(error, LinkLost) and not subscription.is_over else None
            self._lost_since = subscription.contact
            await subscription.close()
        await self._channel.close()

    def _resolve(self, tag: Tag[OpcUaAddress]) -> ua.NodeId:
        node = tag.address.node
        uri = node.namespace if node.namespace is not None else self._settings.namespace
        if uri is None:
            raise ValueError(f"{tag.tag_id}: the node has no namespace; check_opcua_tag refuses such a configuration")
        return make_node_id(node.identifier, self._session.namespace_index(uri))

    async def changes(self) -> AsyncIterator[Batch]:
        """One batch per publish response, a keep-alive's without changes; see `Driver`. To be iterated once."""
        if self._subscription is None:
            self._subscription = await self._subscribe()
            self.statistics = self._subscription.statistics
            self._snapshots.forget()
        async for batch in self._subscription.batches():
            if batch.backfill is not None:
                yield batch
                continue
            batch = await self._snapshots.complete(batch, self._session, self._node_ids)  # noqa: PLW2901
            yield await self._learn_from(batch) if self._structures.has_unknown else batch

    async def _learn_from(self, batch: Batch) -> Batch:
        """A structure came that no value was of before: ask what it is, and read its tags again."""
        unread = [change.tag_id for change in batch.changes if change.status_code == TYPE_UNKNOWN]
        read = {change.tag_id: change for change in self._device.dates.correct(await self.read(unread))}
        changes = [read.get(change.tag_id, change) for change in batch.changes]
        return msgspec.structs.replace(batch, changes=changes)

    async def _subscribe(self) -> Subscription | Poller:
        """Begin anew: audit the types, then ask for every tag that does not come with a snapshot."""
        tags = [tag for tag in self._tags if tag.tag_id not in self._snapshots.read_only]
        node_ids = [self._node_ids[tag.tag_id] for tag in tags]
        wanted = wanted_items(tags, node_ids, self._settings, self._clock.rate)
        subscription: Subscription | Poller
        if self._settings.mode == "poll":
            subscription = Poller(self._session, self._device, wanted)
        else:
            triggers = {snapshot.trigger for snapshot in self._settings.snapshots}
            # A record that was overwritten long ago is in no history, so its trigger is not looked for either.
            historized = [
                (tag, node_id)
                for tag, node_id in zip(tags, node_ids, strict=True)
                if wants_history(self._settings, tag) and tag.tag_id not in triggers
            ]
            subscription = Subscription(self._session, self._device, wanted, self._lost_since, historized)
            await subscription.open()
        bad, drifts = self._audit.check_types(tags, await self._session.data_types(node_ids))
        subscription.announce(bad, [*self._drifts, *drifts])
        self._drifts = []
        return subscription

    async def read(self, tag_ids: Sequence[TagId]) -> list[TagChange]:
        """The present values, asked of the device in as few requests as its limits allow."""
        decoder = self._session.value_decoder()
        nodes = list(dict.fromkeys(self._node_ids[tag_id] for tag_id in tag_ids))
        try:
            results = dict(zip(nodes, await self._session.read(nodes), strict=True))
        except ServiceFault as fault:
            return [TagChange(tag_id, None, fault.code) for tag_id in tag_ids]
        told = [(self._by_id[tag_id], results[self._node_ids[tag_id]]) for tag_id in tag_ids]
        changes = [decoder.decode_as(tag, result) for tag, result in told]
        if self._structures.has_unknown:
            await self._structures.learn(self._session)
            changes = [decoder.decode_as(tag, result) for tag, result in told]
        return changes

    async def write(self, writes: Sequence[TagWrite]) -> list[WriteResult]:
        """Write in the order given; a value that does not fit its type is refused here, without a packet."""
        placed = [(self._by_id[write.tag_id], self._node_ids[write.tag_id], write.value) for write in writes]
        codes = await write_in_order(self._session, self._structures, placed)
        return [WriteResult(write.tag_id, code) for write, code in zip(writes, codes, strict=True)]

    async def call(self, calls: Sequence[MethodCall]) -> list[CallResult]:
        """Call methods, one after the other until one is refused; see `call_methods`."""
        return await call_methods(self._session, self._structures, calls, self._settings.namespace)

    async def inspect(self, tag_ids: Sequence[TagId]) -> list[NodeFacts]:
        """Value, type and rights of each tag's node, as the server gives them to this session's user."""
        facts = await Browser(self._session).facts([self._node_ids[tag_id] for tag_id in tag_ids])
        fields = [tag_id for tag_id in tag_ids if self._by_id[tag_id].address.field is not None]
        read = {change.tag_id: change for change in await self.read(fields)}
        return [
            self._field_facts(read[tag_id], node) if tag_id in read else node
            for tag_id, node in zip(tag_ids, facts, strict=True)
        ]

    def _field_facts(self, change: TagChange, node: NodeFacts) -> NodeFacts:
        """Value and type of a field; its rights are its node's."""
        tag = self._by_id[change.tag_id]
        kind, is_array = self._structures.kind_of(tag)
        known = data_type_of(kind) if kind is not None else None
        problem = self._structures.problems.get(tag.tag_id, "")
        name = known or (kind.name if kind is not None else "")
        return replace(node, change=change, type=known, type_name=name, is_array=is_array, problem=problem)

    async def browse(self, start: str | None = None) -> AsyncIterator[list[BrowsedNode]]:
        """Every object and variable below a node (`nsu=…;s=…`; default: the Objects folder), see `Browser.walk`."""
        name = parse_node(start if start is not None else f"i={ObjectIds.ObjectsFolder}")
        index = self._session.namespace_index(name.namespace) if name.namespace is not None else 0
        async for batch in Browser(self._session).walk(make_node_id(name.identifier, index)):
            yield batch
