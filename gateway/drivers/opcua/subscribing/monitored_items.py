"""The monitored items of one subscription: what is wanted, what the server made of it, and what it refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from gateway.domain.values import TagChange
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import DataTrigger, OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session, chunks
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.opcua.structured.field_decoder import Fields

_TRIGGERS: Final[dict[DataTrigger, ua.DataChangeTrigger]] = {
    "status": ua.DataChangeTrigger.Status,
    "value": ua.DataChangeTrigger.StatusValue,
    "timestamp": ua.DataChangeTrigger.StatusValueTimestamp,
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WantedItem:
    """One tag as it is asked of the server, or all fields of one structure; intervals in milliseconds of wall time."""

    tags: tuple[Tag[OpcUaAddress], ...]
    node_id: ua.NodeId
    sampling_interval: float
    queue_size: int
    trigger: DataTrigger = "value"

    @property
    def tag(self) -> Tag[OpcUaAddress]:
        """The first of the tags, which stands for the item where people read of it."""
        return self.tags[0]


def wanted_items(
    tags: Sequence[Tag[OpcUaAddress]], node_ids: Sequence[ua.NodeId], settings: OpcUaSettings, rate: float
) -> list[WantedItem]:
    """What to ask for each tag, in wall time of a clock that runs `rate` times as fast.

    Fields of one node with the same trigger are one item: sampled as the fastest of them wants, queued as the longest.
    """
    items: list[WantedItem] = []
    places: dict[tuple[ua.NodeId, DataTrigger], int] = {}
    for tag, node_id in zip(tags, node_ids, strict=True):
        item = WantedItem(
            (tag,),
            node_id,
            1000 * (tag.address.sampling_interval or settings.sampling_interval) / rate,
            tag.address.queue_size or settings.queue_size,
            tag.address.trigger or settings.trigger,
        )
        place = places.get((node_id, item.trigger)) if tag.address.field is not None else None
        if place is not None:
            items[place] = _together(items[place], item)
            continue
        if tag.address.field is not None:
            places[node_id, item.trigger] = len(items)
        items.append(item)
    return items


def shared_fields(wanted: Sequence[WantedItem]) -> dict[int, Fields]:
    """The items that are structures, by their client handle."""
    return {
        place: Fields(item.tags, item.trigger == "timestamp")
        for place, item in enumerate(wanted)
        if item.tag.address.field is not None
    }


def _together(item: WantedItem, other: WantedItem) -> WantedItem:
    interval, queue = min(item.sampling_interval, other.sampling_interval), max(item.queue_size, other.queue_size)
    return WantedItem((*item.tags, *other.tags), item.node_id, interval, queue, item.trigger)


class MonitoredItems:
    """Creates the items in chunks that the server takes and looks at every single result (traps A4, A15).

    `refused` maps the place of each item that the server would not create to the status code it gave.
    """

    def __init__(self, session: Session, device: str, wanted: Sequence[WantedItem]) -> None:
        self._session = session
        self._device = device
        self._wanted: Final = wanted
        self._revised: dict[str, list[str]] = {}
        self.refused: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many items there are; their client handles are the numbers below."""
        return len(self._wanted)

    def move(self, session: Session) -> None:
        """The same session goes on over another channel."""
        self._session = session

    async def read(self) -> list[TagChange]:
        """What every item holds now, whether it changed or not; a server that refuses to say leaves it as it was."""
        decoder = self._session.value_decoder()
        try:
            values = await self._session.read([item.node_id for item in self._wanted])
        except ServiceFault:
            return []
        return [
            decoder.decode_as(tag, value) for item, value in zip(self._wanted, values, strict=True) for tag in item.tags
        ]

    async def create(self, subscription_id: int, places: Iterable[int] | None = None) -> list[TagChange]:
        """Create the items at these places (None: all); answers with the tags whose refusal is news."""
        places = list(range(len(self._wanted)) if places is None else places)
        news: list[TagChange] = []
        for chunk in chunks(places, self._session.limits.items_per_create):
            news += await self._create_chunk(subscription_id, chunk)
        self._report_revised()
        return news

    async def _create_chunk(self, subscription_id: int, places: Sequence[int]) -> list[TagChange]:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription_id
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [self._request_for(place) for place in places]
        response = await self._session.channel.call(request, ua.CreateMonitoredItemsResponse)
        results = self._session.all_of(places, response)
        return [
            TagChange(tag.tag_id, None, result.StatusCode.value)
            for place, result in zip(places, results, strict=True)
            if self._settle(place, result)
            for tag in self._wanted[place].tags
        ]

    def _request_for(self, place: int) -> ua.MonitoredItemCreateRequest:
        item = self._wanted[place]
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=item.node_id, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=place,
                SamplingInterval=item.sampling_interval,
                QueueSize=item.queue_size,
                Filter=_filter(item),
            ),
        )

    def _settle(self, place: int, result: Any) -> bool:
        """Take note of one result; True if it is a refusal that was not known."""
        item, status_code = self._wanted[place], result.StatusCode.value
        if result.StatusCode.is_bad():
            known = self.refused.get(place)
            self.refused[place] = status_code
            if known == status_code:
                return False
            reason = status_name(status_code)
            _log.warning("tag refused by device", device=self._device, tag=item.tag.tag_id, reason=reason)
            return True
        if self.refused.pop(place, None) is not None:
            _log.info("tag restored", device=self._device, tag=item.tag.tag_id)
        self._compare(item, result)
        return False

    def _compare(self, item: WantedItem, result: Any) -> None:
        sampling, queue = result.RevisedSamplingInterval, result.RevisedQueueSize
        if sampling > item.sampling_interval:
            self._note_revision(item, f"sampling_interval {item.sampling_interval:g} became {sampling:g}")
        if queue < item.queue_size:
            self._note_revision(item, f"queue_size {item.queue_size} became {queue}")

    def _note_revision(self, item: WantedItem, what: str) -> None:
        self._revised.setdefault(what, []).append(item.tag.tag_id)

    def _report_revised(self) -> None:
        """One line per revision for the worse, however many tags it concerns: a short queue loses values (A13)."""
        for what, tag_ids in self._revised.items():
            _log.warning("device revised", device=self._device, what=what, tags=len(tag_ids), first=tag_ids[0])
        self._revised = {}


def _filter(item: WantedItem) -> ua.DataChangeFilter | None:
    """What the server shall not tell; None is its default: every change of status or value (OPC 10000-4 §7.22.2)."""
    deadband = item.tag.address.deadband
    if deadband is None and item.trigger == "value":
        return None
    asked = ua.DataChangeFilter(Trigger=_TRIGGERS[item.trigger])
    if deadband is not None:
        asked.DeadbandType = ua.DeadbandType.Absolute if deadband.absolute is not None else ua.DeadbandType.Percent
        asked.DeadbandValue = deadband.absolute or deadband.percent
    return asked
