"""Values that belong together: on an edge of one tag, others are read in one Read and carry its time.

Monitored items of one PLC cycle arrive together only if the server samples them together. A record (weight, torque and
serial number of one piece) must not be put together from two pieces: it is read as a whole when its trigger moves, the
trigger is read with it, first and last, and if it has moved on meanwhile, the record is lost and said so.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from asyncua import ua

from gateway.domain.values import Batch, TagChange, TagId, Value, is_bad
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import Snapshot
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session

DATA_LOST: Final = 0x809D0000
"""BadDataLost: there was a record, but it was overwritten before it could be read."""

_log = structlog.get_logger(__name__)


class _Unknown:
    """The value of a trigger that was not heard of yet: its first value is an edge, so that a record is there."""


_UNKNOWN: Final = _Unknown()


class Snapshots:
    """The snapshots of one device. `taken` and `lost` count records."""

    def __init__(self, device: str, snapshots: Sequence[Snapshot], tags: dict[TagId, Tag[Any]]) -> None:
        self.taken = 0
        self.lost = 0
        self._device = device
        self._snapshots = snapshots
        self._tags = tags
        self._last: dict[TagId, Value | _Unknown] = {}

    @property
    def read_only(self) -> frozenset[TagId]:
        """The tags that come with a snapshot and in no other way."""
        return frozenset(tag_id for snapshot in self._snapshots for tag_id in snapshot.read)

    def forget(self) -> None:
        """A subscription began anew: the next value of each trigger is an edge."""
        self._last = {}

    async def complete(self, batch: Batch, session: Session, node_ids: dict[TagId, ua.NodeId]) -> Batch:
        """The batch with the records of the edges in it, each behind its trigger's last change."""
        records: list[TagChange] = []
        for snapshot in self._snapshots:
            edges = [change for change in batch.changes if self._is_edge(snapshot, change)]
            for overwritten in edges[:-1]:
                records += self._lose(snapshot, overwritten)
            if edges:
                records += await self._take(snapshot, edges[-1], session, node_ids)
        if not records:
            return batch
        return msgspec.structs.replace(batch, changes=batch.changes + records)

    def _is_edge(self, snapshot: Snapshot, change: TagChange) -> bool:
        if change.tag_id != snapshot.trigger or is_bad(change.status_code):
            return False
        last, self._last[change.tag_id] = self._last.get(change.tag_id, _UNKNOWN), change.value
        if last is _UNKNOWN:
            return True
        if snapshot.edge == "any":
            return bool(change.value != last)
        return bool(change.value) is (snapshot.edge == "rising") and bool(last) is not bool(change.value)

    async def _take(
        self, snapshot: Snapshot, edge: TagChange, session: Session, node_ids: dict[TagId, ua.NodeId]
    ) -> list[TagChange]:
        """One Read of the trigger, the record and the trigger again."""
        asked = [snapshot.trigger, *snapshot.read, snapshot.trigger]
        decoder = session.value_decoder()
        try:
            told = await session.read([node_ids[tag_id] for tag_id in asked])
        except ServiceFault as fault:
            return [TagChange(tag_id, None, fault.code, edge.source_timestamp) for tag_id in snapshot.read]
        before, *record, after = [
            decoder.decode_as(self._tags[tag_id], value) for tag_id, value in zip(asked, told, strict=True)
        ]
        if not before.value == edge.value == after.value:
            return self._lose(snapshot, edge)
        self.taken += 1
        return [
            TagChange(item.tag_id, item.value, item.status_code, edge.source_timestamp, item.server_timestamp)
            for item in record
        ]

    def _lose(self, snapshot: Snapshot, edge: TagChange) -> list[TagChange]:
        self.lost += 1
        _log.warning("record overwritten before it was read", device=self._device, trigger=snapshot.trigger)
        return [TagChange(tag_id, None, DATA_LOST, edge.source_timestamp) for tag_id in snapshot.read]
