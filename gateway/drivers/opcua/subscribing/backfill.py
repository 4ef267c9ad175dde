"""Fills the hole of an outage in which the server forgot our session, from the history that it kept.

What was handed on last, tag by tag, is where the history takes over; what the tags show now is where it ends, for the
subscription, which exists by then, tells all that comes after. So nothing is told twice, and nothing is lost at either
seam.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import structlog
from asyncua import ua

from gateway.domain.values import Backfill, Batch, Gap, TagChange, TagId, Timestamp
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.known_device import KnownDevice
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.opcua.subscribing.history import HistoryReader
from gateway.drivers.opcua.subscribing.last_told import LastTold
from gateway.drivers.opcua.subscribing.publications import Publication

_FIRST_SLICE: Final = 10_000
_LONGEST_SLICE: Final = 3_600_000
"""Milliseconds of history read at a time: the first, and the most where so little happened that slices may grow."""
_VALUES_PER_SLICE: Final = 10_000
_CAUGHT_UP: Final = 2_000
_PASSES: Final = 3
"""Milliseconds of wall time behind the present at which what is left is read in one; and how often the present is
tried to be reached at all, for a slow historian never gets so near."""
_TRIES: Final = 5
_PAUSE: Final = 0.2
"""How often, and after how many seconds of wall time, a historian is asked that lags behind its own server."""
_VAIN_TRIES: Final = 3
"""Links that may break while the history is being asked for: then the hole stays, so that the machine is seen."""
_NAMED: Final = 10

_log = structlog.get_logger(__name__)

Historized = Sequence[tuple[Tag[OpcUaAddress], ua.NodeId]]


class Backfiller:
    """One hole, filled over as many links as it takes. Times inside are the device's own until they are handed on.

    `is_told` says that the whole hole was told of, `is_passed` that no live value can lie before the seam any more.
    """

    def __init__(self, session: Session, device: KnownDevice, told: LastTold, tags: Historized, gap: Gap) -> None:
        self.gap: Final = gap
        self.is_told = False
        self.is_passed = False
        self._session = session
        self._device = device
        self._last: Final = told
        self._tags: Final = tags
        self._newest = told.newest()
        self._contact = gap.start
        self._begin = self._next = gap.start - self._offset - told.span // 2
        self._length = _FIRST_SLICE
        self._filled = 0
        self._shown: dict[TagId, TagChange] = {}
        self._lagging: frozenset[TagId] = frozenset()
        self._reader = HistoryReader(session, tags)

    @property
    def _offset(self) -> int:
        return self._device.dates.offset or 0

    def move(self, session: Session) -> None:
        """The same session goes on over another channel."""
        before, self._session, self._reader = self._reader, session, HistoryReader(session, self._tags)
        if self.is_told:  # nobody asks again which tags have a history, and live values are stripped by that
            self._reader.refused |= before.refused

    async def batches(self, keep_alive: Callable[[], Awaitable[None]]) -> AsyncIterator[Batch]:
        """The history in order of time, and a last batch that tells of the hole; none if there is no history.

        `keep_alive` is awaited in between, so that the server keeps the subscription that is not asked yet.
        """
        if not await self._begins():
            return
        yield Batch([], self._contact, resumed=True, backfill=self._backfill(), time_quality="history")
        passes = 0
        while passes < _PASSES and (behind := self._now() - self._next) > _CAUGHT_UP * self._device.clock.rate:
            passes += behind <= self._length
            changes = await self._read_slice()
            await keep_alive()
            if changes:
                yield self._batch(changes)
        changes = await self._read_rest()
        if changes:
            yield self._batch(changes)
        yield self._last_batch()

    async def _begins(self) -> bool:
        """Is there a history? Asked with the first few milliseconds of it; said once if not."""
        self._last.tries += 1
        if self._last.tries <= _VAIN_TRIES:
            await self._reader.open()
            await self._reader.read(self._next, self._next + 1)
            self._last.tries = 0
        if self._reader.readable and not self._last.tries:
            return True
        reasons = {status_name(code) for code in self._reader.refused.values()} or {"the link broke over it"}
        _log.warning("device gives no history; the gap stays", device=self._device.name, reason=", ".join(reasons))
        self._last.tries = 0
        return False

    # --- reading ----------------------------------------------------------------------------------------------------

    def _now(self) -> Timestamp:
        return self._device.clock.now() - self._offset

    async def _read_slice(self) -> list[TagChange]:
        end = min(self._next + self._length, self._now())
        values = await self._reader.read(self._next, end)
        changes = self._fresh(values)
        self._next = end
        if len(changes) > _VALUES_PER_SLICE:
            self._length = max(1, self._length // 2)
        elif len(changes) < _VALUES_PER_SLICE // 4:
            self._length = min(2 * self._length, _LONGEST_SLICE)
        return changes

    async def _read_rest(self) -> list[TagChange]:
        """What is left up to what the tags show now. A historian that has not got there yet is given a little time."""
        self._shown = await self._read_shown()
        stamps = [change.source_timestamp for change in self._shown.values() if change.source_timestamp is not None]
        end = max([self._next, *stamps]) + 1
        for _ in range(_TRIES):
            values = await self._reader.read(self._next, end)
            self._lagging = frozenset(tag_id for tag_id in self._reader.readable if self._is_behind(tag_id, values))
            if not self._lagging:
                break
            await asyncio.sleep(_PAUSE)
        else:
            _log.warning("history lags", device=self._device.name, tags=len(self._lagging), first=min(self._lagging))
        return self._fresh({tag_id: self._until_shown(tag_id, told) for tag_id, told in values.items()})

    async def _read_shown(self) -> dict[TagId, TagChange]:
        decoder = self._session.value_decoder()
        try:
            values = await self._session.read([node_id for _, node_id in self._tags])
        except ServiceFault:
            return {}
        pairs = zip(self._tags, values, strict=True)
        return {tag.tag_id: decoder.decode_as(tag, value) for (tag, _), value in pairs}

    def _is_behind(self, tag_id: TagId, values: Mapping[TagId, Sequence[TagChange]]) -> bool:
        shown = self._shown[tag_id].source_timestamp if tag_id in self._shown else None
        known = [change.source_timestamp or 0 for change in values.get(tag_id, ())]
        return shown is not None and shown > max([self._newest.get(tag_id, self._begin), *known])

    def _until_shown(self, tag_id: TagId, told: Sequence[TagChange]) -> list[TagChange]:
        shown = self._shown[tag_id].source_timestamp if tag_id in self._shown else None
        return [change for change in told if shown is None or (change.source_timestamp or 0) <= shown]

    def _fresh(self, values: Mapping[TagId, Sequence[TagChange]]) -> list[TagChange]:
        """What was not told yet, in order of time; a value without a time of its own has no place in a history."""
        fresh: list[tuple[Timestamp, TagChange]] = []
        for tag_id, told in values.items():
            known = self._newest.get(tag_id, self._begin)
            after = [(at, change) for change in told if (at := change.source_timestamp) is not None and at > known]
            if after:
                self._newest[tag_id] = max(at for at, _ in after)
                fresh += after
        fresh.sort(key=lambda dated: dated[0])
        return [change for _, change in fresh]

    # --- telling ----------------------------------------------------------------------------------------------------

    def _backfill(self, *, is_last: bool = False) -> Backfill:
        return Backfill(self._reader.readable - self._lagging, is_last)

    def _batch(self, changes: list[TagChange]) -> Batch:
        """Up to the newest of its values everything is told that the history has, and no further."""
        newest = (changes[-1].source_timestamp or 0) + self._offset
        self._contact = max(self._contact, min(newest, self._device.clock.now()))
        self._filled += len(changes)
        dated = self._device.dates.correct(changes)
        self._last.note(dated, self._contact, self._offset)
        return Batch(dated, self._contact, backfill=self._backfill(), time_quality="history")

    def _last_batch(self) -> Batch:
        told = self._backfill(is_last=True)
        missing = [tag.tag_id for tag, _ in self._tags if tag.tag_id not in told.covered]
        first = tuple(missing[:_NAMED])
        gap = msgspec.structs.replace(self.gap, filled=self._filled, tags=len(missing), first=first)
        self.is_told = True
        _log.info("gap filled from history", device=self._device.name, values=self._filled, without=len(missing))
        return Batch([], self._contact, (gap,), backfill=told, time_quality="history")

    # --- the seam to the live values --------------------------------------------------------------------------------

    def strip(self, publication: Publication, receipt: Timestamp) -> Publication:
        """A live publication without what the history has told already, a loss of that included."""
        if receipt > self.gap.end + self._last.span and not publication.more:
            self.is_passed = True
        changes = [change for change in publication.changes if not self._is_known(change)]
        overflows = [change for change in publication.overflows if not self._is_known(change)]
        return replace(publication, changes=changes, overflows=overflows)

    def _is_known(self, change: TagChange) -> bool:
        shown = self._shown.get(change.tag_id)
        at = change.source_timestamp
        if shown is None or at is None or shown.source_timestamp is None or change.tag_id not in self._covered:
            return False
        at -= self._offset
        same = (change.value, change.status_code) == (shown.value, shown.status_code)
        return at < shown.source_timestamp or (at == shown.source_timestamp and same)

    @property
    def _covered(self) -> frozenset[TagId]:
        return self._reader.readable - self._lagging
