"""The Modbus driver: changes by polling, reads and writes by request."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from gateway.domain.values import (
    Batch,
    CallResult,
    MethodCall,
    StatusCode,
    TagChange,
    TagId,
    TagWrite,
    Timestamp,
    WriteResult,
    is_bad,
)
from gateway.drivers.base import Clock, NodeFacts, Tag
from gateway.drivers.modbus.blocks import BlockReader, Seen
from gateway.drivers.modbus.codec import codec_for
from gateway.drivers.modbus.config import READ_ONLY_TABLES, ModbusAddress, ModbusSettings, Span, Table
from gateway.drivers.modbus.link import Link, Statistics
from gateway.drivers.modbus.writer import RegisterWriter


@dataclass(slots=True)
class _PollGroup:
    """Tags that are read together every `interval` milliseconds of plant time, next when they are `due`."""

    interval: int
    tag_ids: list[TagId]
    covered: frozenset[TagId]
    due: Timestamp

    def advance(self, now: Timestamp) -> None:
        """To the next point of the grid; what was missed is not made up."""
        self.due += self.interval * max(1, -((self.due - now) // self.interval))


class _Asking(NamedTuple):
    """What is asked to read some tags: the spans of each table, and where each tag finds its answer among them."""

    spans: dict[Table, tuple[Span, ...]]
    places: list[tuple[TagId, Table, Span]]


class ModbusDriver:
    """One unit behind a Modbus endpoint; see `Driver` for the contract.

    A poll reads all tags in blocks, a multi-register value always in one request (trap B10). `statistics` counts
    requests, timeouts, refusals and replies that were not believed.
    """

    def __init__(self, name: str, settings: ModbusSettings, tags: Sequence[Tag[ModbusAddress]], clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._tags = {tag.tag_id: tag for tag in tags}
        codecs = {tag.tag_id: codec_for(tag) for tag in tags}
        self._decoders = {tag_id: codec.decode for tag_id, codec in codecs.items()}
        self._link = Link(settings)
        self._places = {tag.tag_id: (tag.tag_id, tag.address.table, tag.address.needed) for tag in tags}
        tables = {tag.address.table for tag in tags}
        self._readers = {table: BlockReader(self._link, name, table, settings) for table in sorted(tables)}
        self._writer = RegisterWriter(self._link, name, settings, self._tags, codecs)

    @property
    def statistics(self) -> Statistics:
        """What the link has seen since the driver was made."""
        return self._link.statistics

    async def __aenter__(self) -> Self:
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.close()

    async def changes(self) -> AsyncIterator[Batch]:
        """One batch per poll: first every tag, then those whose registers or status changed.

        Polls lie on a grid of plant time that begins with the first one, so that devices are not all asked at the
        same moment. A poll that took longer than the interval skips what it missed instead of catching up. A batch's
        contact is the moment its poll began: all that happened before is in it. Tags with an interval of their own are
        polled as a group with blocks of its own; groups that are due at once share their requests. Where there are
        several, a batch names those that it speaks for.
        """
        groups = self._poll_groups(self._clock.now())
        known: dict[TagId, bytes | int] = {}
        ready: list[_PollGroup] = []
        while True:
            contact = self._clock.now()
            next_due = min(group.due for group in groups)
            before, ready = ready, [group for group in groups if group.due <= max(contact, next_due)]
            if ready != before:
                # Blocks of the last poll tell what is unchanged only if this one asks for the same.
                asking, seen = self._asking([tag_id for group in ready for tag_id in group.tag_ids]), Seen()
            answers = await self._read(asking, seen)
            changed = [tag_id for tag_id, answer in answers.items() if known.get(tag_id) != answer]
            known.update(answers)
            polled = tuple(group.covered for group in ready) if len(groups) > 1 else ()
            changes = self._decode(changed, answers)
            lag = self._clock.now() - contact
            yield Batch(changes, contact, polled=polled, time_quality="gateway", lag=lag)
            now = self._clock.now()
            for group in ready:
                group.advance(now)
            await self._clock.sleep((min(group.due for group in groups) - now) / 1000)

    def _poll_groups(self, start: Timestamp) -> list["_PollGroup"]:
        by_interval: dict[int, list[TagId]] = {}
        for tag in self._tags.values():
            interval = tag.address.poll_interval or self._settings.poll_interval
            by_interval.setdefault(round(interval * 1000), []).append(tag.tag_id)
        if not by_interval:
            by_interval[round(self._settings.poll_interval * 1000)] = []
        return [_PollGroup(interval, tag_ids, frozenset(tag_ids), start) for interval, tag_ids in by_interval.items()]

    async def read(self, tag_ids: Sequence[TagId]) -> list[TagChange]:
        """The present values, asked of the device in as few requests as its limits allow."""
        answers = await self._read(self._asking(tag_ids), Seen())
        return self._decode(tag_ids, answers)

    def _asking(self, tag_ids: Sequence[TagId]) -> _Asking:
        places = [self._places[tag_id] for tag_id in tag_ids]
        spans = {table: tuple(span for _, its_table, span in places if its_table == table) for table in self._readers}
        return _Asking(spans, places)

    async def _read(self, asking: _Asking, seen: Seen) -> dict[TagId, bytes | int]:
        """The answers of all tags but those that lie in blocks seen before, unchanged."""
        answers = {table: await self._readers[table].read(spans, seen) for table, spans in asking.spans.items()}
        if not any(answers.values()):
            return {}
        found: dict[TagId, bytes | int] = {}
        for tag_id, table, span in asking.places:
            answer = answers[table].get(span)
            if answer is not None:
                found[tag_id] = answer
        return found

    def _decode(self, tag_ids: Iterable[TagId], answers: Mapping[TagId, bytes | int]) -> list[TagChange]:
        """The changes of these tags; an answer that is a number is the status code of a tag without a value."""
        decoders = self._decoders
        return [
            TagChange(tag_id, None, answer) if isinstance(answer, int) else TagChange(tag_id, *decoders[tag_id](answer))
            for tag_id in tag_ids
            for answer in (answers[tag_id],)
        ]

    async def write(self, writes: Sequence[TagWrite]) -> list[WriteResult]:
        """Write in the order given, each request once.

        A value that does not fit is refused here, without a packet; see `RegisterWriter` for what follows a write that
        is in doubt.
        """
        return await self._writer.write(writes)

    async def call(self, calls: Sequence[MethodCall]) -> list[CallResult]:
        """Modbus has no methods: each is refused, without a packet."""
        return [CallResult(StatusCode.BAD_NOT_SUPPORTED) for _ in calls]

    async def inspect(self, tag_ids: Sequence[TagId]) -> list[NodeFacts]:
        """The value of each tag; a register tells no type, and only a try would tell if it can be written."""
        changes = await self.read(tag_ids)
        tables = [self._tags[change.tag_id].address.table for change in changes]
        return [
            NodeFacts(
                change, readable=not is_bad(change.status_code), writable=False if table in READ_ONLY_TABLES else None
            )
            for change, table in zip(changes, tables, strict=True)
        ]
