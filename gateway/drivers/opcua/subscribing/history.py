"""Raw history of some tags, read from the server that kept it (OPC 10000-11 §6.5.3, OPC 10000-4 §5.11.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from gateway.domain.values import TagChange, TagId, Timestamp
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session, chunks

VALUES_PER_NODE: Final = 1_000
"""Values of one node that one answer may hold, so that no answer grows beyond what we take (trap A18)."""
_NODES_PER_CALL: Final = 100
_PATIENCE: Final = 60.0
"""Seconds of wall time for one answer: a historian may have to search its disk."""
_HISTORY_READ: Final = 0x04
"""The bit of UserAccessLevel that says that this user may read a node's history (OPC 10000-3 §8.57)."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Page:
    """The next page of one tag: from a time on, or where the server's continuation point says."""

    tag: Tag[OpcUaAddress]
    node_id: ua.NodeId
    start: datetime
    continuation: bytes | None = None


class HistoryReader:
    """Reads the history of `tags` on one session. `refused` gathers the tags that have none, with the reason.

    Times are the device's own, in milliseconds UTC: nothing is put right here.
    """

    def __init__(self, session: Session, tags: Sequence[tuple[Tag[OpcUaAddress], ua.NodeId]]) -> None:
        self._session = session
        self._tags = list(tags)
        self._at_once = _NODES_PER_CALL
        self.refused: dict[TagId, int] = {}

    @property
    def readable(self) -> frozenset[TagId]:
        """The tags that have a history, as far as is known."""
        return frozenset(tag.tag_id for tag, _ in self._tags if tag.tag_id not in self.refused)

    async def open(self) -> None:
        """Ask which nodes have a history at all: asyncua's server answers for the others that nothing happened."""
        levels = await self._session.read([node_id for _, node_id in self._tags], AttributeIds.UserAccessLevel)
        for (tag, _), told in zip(self._tags, levels, strict=True):
            level = told.Value.Value if told.Value is not None else None
            if isinstance(level, int) and not level & _HISTORY_READ:
                self.refused[tag.tag_id] = StatusCodes.BadHistoryOperationUnsupported

    async def read(self, start: Timestamp, end: Timestamp) -> dict[TagId, list[TagChange]]:
        """Every value with a source time from `start` to `end`, by tag, in the order of the server.

        A value exactly at one of the two may be among them or not: servers differ.
        """
        values: dict[TagId, list[TagChange]] = {}
        tags = [(tag, node_id) for tag, node_id in self._tags if tag.tag_id not in self.refused]
        for chunk in chunks(tags, min(self._session.limits.nodes_per_history_read, _NODES_PER_CALL)):
            pages = [_Page(tag, node_id, _datetime(start)) for tag, node_id in chunk]
            while pages:
                pages = await self._read_pages(pages, _datetime(end), values)
        return {tag_id: told for tag_id, told in values.items() if tag_id not in self.refused}

    async def _read_pages(
        self, pages: Sequence[_Page], end: datetime, values: dict[TagId, list[TagChange]]
    ) -> list[_Page]:
        """One call for pages that begin where the first one does; answers with those that are still to be read.

        Those that hold a continuation point come first, for a server has few of them.
        """
        together = [page for page in pages if page.start == pages[0].start][: self._at_once]
        begun: list[_Page] = []
        rest = [page for page in pages if page not in together]
        decoder = self._session.value_decoder()
        for page, result in zip(together, await self._call(together, end), strict=True):
            code = result.StatusCode.value
            if code == StatusCodes.BadNoContinuationPoints and len(together) > 1:
                self._at_once = len(together) // 2
                rest.append(page)
                continue
            if result.StatusCode.is_bad():
                self.refused[page.tag.tag_id] = code
                continue
            told = getattr(result.HistoryData, "DataValues", None) or []
            fresh = told if page.continuation is not None else _after(page, told, values)
            values.setdefault(page.tag.tag_id, []).extend(decoder.decode_as(page.tag, value) for value in fresh)
            following = _following(page, told, fresh, result.ContinuationPoint)
            if following is not None:
                begun.append(following)
        return begun + rest

    async def _call(self, pages: Sequence[_Page], end: datetime) -> list[Any]:
        request = ua.HistoryReadRequest()
        request.Parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
            IsReadModified=False, StartTime=pages[0].start, EndTime=end, NumValuesPerNode=VALUES_PER_NODE,
            ReturnBounds=False,
        )  # fmt: skip
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ReleaseContinuationPoints = False
        request.Parameters.NodesToRead = [
            ua.HistoryReadValueId(NodeId=page.node_id, ContinuationPoint=page.continuation) for page in pages
        ]
        try:
            response = await self._session.channel.call(request, ua.HistoryReadResponse, _PATIENCE)
        except ServiceFault as fault:
            return [ua.HistoryReadResult(StatusCode=ua.StatusCode(ua.UInt32(fault.code)))] * len(pages)
        return self._session.all_of(pages, response)


def _after(page: _Page, told: list[Any], values: dict[TagId, list[TagChange]]) -> list[Any]:
    """What a page brings that is not the last value of the one before, which it begins with."""
    if page.tag.tag_id not in values:
        return told
    return [value for value in told if value.SourceTimestamp is None or value.SourceTimestamp > page.start]


def _following(page: _Page, told: list[Any], fresh: list[Any], continuation: bytes | None) -> _Page | None:
    if continuation:
        return replace(page, continuation=continuation)
    # asyncua's server cuts at the number asked for and gives no continuation point: whoever believes it loses the rest.
    if len(told) >= VALUES_PER_NODE and fresh and fresh[-1].SourceTimestamp is not None:
        return replace(page, start=fresh[-1].SourceTimestamp, continuation=None)
    return None


def _datetime(at: Timestamp) -> datetime:
    return _EPOCH + timedelta(milliseconds=at)
