"""Events that a consumer asked for again, on their way to the broker for the second time."""

import asyncio
from collections import deque
from typing import Final

import msgspec

from gateway.store.records import StoredEvent
from gateway.store.schema import PUBLISHED
from gateway.store.store import Store

CHUNK: Final = 100
"""Events read at once."""

Ranges = list[tuple[int, int]]


class Replayed(msgspec.Struct, frozen=True):
    """What came of a replay: how many events the broker acknowledged, and the numbers that are not to be had.

    What is still queued is in neither: it comes by itself.
    """

    sent: int
    missing: Ranges


class ReplayToken(msgspec.Struct, frozen=True):
    """The token of a message that is sent again."""

    replay: "Replay"
    seq: int


class _Envelope(msgspec.Struct):
    epoch: str


class Replay:
    """One request: the events `first` to `last` of a stream, of one epoch of the record.

    It outlives connections: what was not acknowledged on one goes again on the next. `ended` has what came of it.
    """

    def __init__(self, store: Store, equipment: str | None, epoch: str, first: int, last: int) -> None:
        self.ended: asyncio.Future[Replayed] = asyncio.get_running_loop().create_future()
        self._store = store
        self._equipment = equipment
        self._epoch = epoch
        self._next = first
        self._last = last
        self._ready: deque[StoredEvent] = deque()
        self._in_flight: dict[int, StoredEvent] = {}
        """By number: what this connection has and the broker has not acknowledged."""
        self._missing: Ranges = []
        self._sent = 0

    async def take(self, room: int) -> list[StoredEvent]:
        """Up to so many events to be sent now."""
        while not self._ready and self._next <= self._last:
            await self._read()
        events = [self._ready.popleft() for _ in range(min(room, len(self._ready)))]
        self._in_flight |= {event.seq: event for event in events}
        self._look_for_end()
        return events

    def settle(self, seq: int, *, accepted: bool) -> None:
        """The broker's word on one of them, or that none could take it."""
        if self._in_flight.pop(seq, None) is None:
            return  # of an earlier connection: it is on its way once more
        if accepted:
            self._sent += 1
        else:
            self._miss(seq, seq)
        self._look_for_end()

    def rewind(self) -> None:
        """The connection is new: what was under way on the last one goes again, and nothing else."""
        self._ready.extendleft(self._in_flight[seq] for seq in sorted(self._in_flight, reverse=True))
        self._in_flight.clear()

    async def _read(self) -> None:
        found = await self._store.events(self._equipment, self._next, self._last, CHUNK)
        reached, expected = self._last, self._next
        if len(found) == CHUNK:
            reached = found[-1].seq - 1  # its own number may be there once more, behind this chunk
            found = [event for event in found if event.seq <= reached]
        for event in found:
            if _decoder.decode(event.payload).epoch != self._epoch:
                continue  # after a salvage numbers may be there twice
            self._miss(expected, event.seq - 1)
            expected = event.seq + 1
            if event.condition == PUBLISHED:
                self._ready.append(event)
            elif event.condition != 0:
                self._miss(event.seq, event.seq)
        self._miss(expected, reached)
        self._next = reached + 1

    def _miss(self, first: int, last: int) -> None:
        if first > last:
            return
        if self._missing and self._missing[-1][1] == first - 1:
            first = self._missing.pop()[0]
        self._missing.append((first, last))

    def _look_for_end(self) -> None:
        if self._next > self._last and not (self._ready or self._in_flight or self.ended.done()):
            self.ended.set_result(Replayed(self._sent, sorted(self._missing)))


_decoder = msgspec.json.Decoder(_Envelope)
