"""The way of the outbox to one broker connection: in order, the window full, off the books when acknowledged."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import structlog

from gateway.drivers.base import Clock
from gateway.mqtt.client import Acknowledgement, BrokerLost, MqttConnection
from gateway.store.records import OutboxRow, RetainedRow
from gateway.store.store import Store

log = structlog.get_logger()

READ_AHEAD: Final = 200
"""Rows taken from the store at once: a window's worth."""

RETAINED_SHARE: Final = 4
"""Retained messages get one in four places of the window, so that a backlog does not hold them up, nor they it."""

STRIKES: Final = 3
"""Connections in a row that may end on the same message before it is put aside (trap C5)."""

ONLINE: Final = "online"
"""Tokens of the gateway's own status messages, which are in no outbox. The token of any other is its row."""
OFFLINE: Final = "offline"

GATHER: Final = 0.01
"""Seconds in which acknowledgements gather, to be struck off in one transaction: a broker sends them one by one, and
each transaction waits for the disk. What a kill makes come twice grows by what the broker acknowledges meanwhile."""

_Row = OutboxRow | RetainedRow
_Identity = int | str
"""What is the same over connections: a row's id, a retained topic."""


class Suspicion:
    """Finds the message that makes a broker hang up (trap C5): before MQTT 5 a broker cannot say that one is too large.

    Whatever was unacknowledged when a connection broke goes one by one on the next. A broker that was only restarted
    takes it all. A message that ends the next connection too, and then one more, is convicted.
    """

    def __init__(self) -> None:
        self._suspects: set[_Identity] = set()
        self._strikes = 0

    def __bool__(self) -> bool:
        return bool(self._suspects)

    def connection_lost(self, unacknowledged: Sequence[object]) -> None:
        """Note what a connection ended with."""
        found = {_identity(token) for token in unacknowledged if isinstance(token, _Row)}
        again = len(found) == 1 and found <= self._suspects
        self._strikes = self._strikes + 1 if again else 1
        self._suspects = found

    def convicts(self, row: _Row) -> bool:
        """True if this message has ended too many connections; it is a suspect no more."""
        guilty = self._strikes >= STRIKES and _identity(row) in self._suspects
        if guilty:
            self._suspects.clear()
        return guilty

    def acquit(self, row: _Row) -> None:
        """The broker answered to this message."""
        self._suspects.discard(_identity(row))

    def drop(self) -> None:
        """Nothing is left to be sent, so no suspect either."""
        self._suspects.clear()


class Delivery:
    """The way from the store to one connection: in order, window full, off the books when acknowledged.

    It begins with the oldest row, so what an earlier connection left unacknowledged is sent again.
    """

    def __init__(self, connection: MqttConnection, store: Store, clock: Clock, suspicion: Suspicion) -> None:
        self._connection = connection
        self._store = store
        self._clock = clock
        self._suspicion = suspicion
        self._work = asyncio.Event()
        self._finishing = False
        self._rows: deque[OutboxRow] = deque()
        self._more_rows = True
        self._last_id = 0
        self._more_retained = True
        self._versions_sent: dict[str, int] = {}
        self._refusals_said: set[tuple[str, str]] = set()

    def wake(self) -> None:
        """Something was committed."""
        self._more_rows = self._more_retained = True
        self._work.set()

    def finish(self) -> None:
        """Let `send` come to an end when everything is acknowledged."""
        self._finishing = True
        self._work.set()

    def publish_status(self, token: str, topic: str, payload: bytes) -> None:
        """Say, retained, that the gateway is there or goes."""
        self._connection.publish(token, topic, payload, retain=True)

    async def send(self) -> None:
        """Keep the window full; returns when everything is acknowledged after `finish`."""
        while True:
            room = await self._connection.room(1 if self._suspicion else None)
            self._work.clear()
            sent = await self._send_retained(max(1, room // RETAINED_SHARE))
            if sent < room:
                sent += await self._send_rows(room - sent)
            if sent == 0:
                if self._connection.in_flight == 0:
                    self._suspicion.drop()
                if self._finishing and self._is_done:
                    return
                await self._work.wait()

    async def settle(self) -> BrokerLost | None:
        """Strike off what the broker has, until the connection is lost (returns how) or `OFFLINE` is acknowledged."""
        try:
            async with aclosing(self._connection.acknowledgements()) as bursts:
                async for burst in bursts:
                    await self._strike_off(burst)
                    if any(token == OFFLINE for token, _ in burst):
                        return None
                    await asyncio.sleep(GATHER)
        except BrokerLost as lost:
            return lost
        raise AssertionError("acknowledgements end only with the connection")

    @property
    def _is_done(self) -> bool:
        nothing_waits = not (self._rows or self._more_rows or self._more_retained)
        return nothing_waits and self._connection.in_flight == 0 and self._store.statistics.queued == 0

    async def _send_retained(self, room: int) -> int:
        if not self._more_retained:
            return 0
        self._more_retained = False
        rows = await self._store.unsent_retained(READ_AHEAD)
        fresh = [row for row in rows if self._versions_sent.get(row.topic) != row.version]
        for row in fresh[:room]:
            self._versions_sent[row.topic] = row.version
            await self._send(row, retain=True)
        if len(rows) == READ_AHEAD or len(fresh) > room:
            self._more_retained = True
        return min(len(fresh), room)

    async def _send_rows(self, room: int) -> int:
        if not self._rows and self._more_rows:
            self._more_rows = False
            self._rows.extend(await self._store.unpublished(self._last_id, READ_AHEAD))
            if len(self._rows) == READ_AHEAD:
                self._more_rows = True
            if self._rows:
                self._last_id = self._rows[-1].id
        count = min(room, len(self._rows))
        for _ in range(count):
            await self._send(self._rows.popleft())
        return count

    async def _send(self, row: _Row, *, retain: bool = False) -> None:
        if self._suspicion.convicts(row):
            await self._put_aside(row, f"{STRIKES} connections in a row ended with it")
            return
        try:
            correlation = row.correlation if isinstance(row, OutboxRow) else None
            self._connection.publish(row, row.topic, row.payload, retain=retain, correlation=correlation)
        except ValueError as error:
            await self._put_aside(row, str(error))

    async def _strike_off(self, burst: Sequence[Acknowledgement]) -> None:
        rows: list[int] = []
        retained: list[tuple[str, int]] = []
        for token, refusal in burst:
            if not isinstance(token, _Row):
                continue
            self._suspicion.acquit(token)
            if refusal is not None:
                await self._put_aside(token, f"the broker refused it: {refusal}")
            elif isinstance(token, OutboxRow):
                rows.append(token.id)
            else:
                retained.append((token.topic, token.version))
        await self._store.mark_published(rows, self._clock.now())
        await self._store.mark_retained_sent(retained)
        self._work.set()

    async def _put_aside(self, row: _Row, reason: str) -> None:
        """An outbox row goes into quarantine; of a retained topic, the next version is tried. Said once per reason."""
        if (row.topic, reason) not in self._refusals_said:
            self._refusals_said.add((row.topic, reason))
            log.error("message quarantined; the next ones like it are only counted", topic=row.topic, reason=reason)
        if isinstance(row, OutboxRow):
            await self._store.quarantine(row.id, reason, self._clock.now())
        else:
            await self._store.mark_retained_sent([(row.topic, row.version)])


def _identity(row: _Row) -> _Identity:
    return row.id if isinstance(row, OutboxRow) else row.topic
