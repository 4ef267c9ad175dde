"""The link to the broker, for ever: connect, empty the outbox, take commands; lose it, wait, connect again."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Final, Protocol

import structlog

from gateway.drivers.base import Clock
from gateway.mqtt.client import Acknowledgement, BrokerLost, Incoming, MqttConnection, Will
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.supervisor import Backoff
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


class Listener(Protocol):
    """What the link tells; the daemon implements it."""

    def broker_connected(self) -> None:
        """The broker is in reach."""
        ...

    def broker_lost(self, reason: str) -> None:
        """The broker is out of reach, from the first failed try on."""
        ...

    async def handle_message(self, incoming: Incoming) -> None:
        """Returns when the message's effects are committed; only then is it acknowledged."""
        ...


class BrokerLink:
    """Owns the reconnection to the broker and the way from the outbox to it."""

    def __init__(
        self,
        settings: MqttSettings,
        store: Store,
        clock: Clock,
        listener: Listener,
        *,
        filters: Sequence[str],
        status: tuple[str, bytes, bytes],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`status` is the gateway's status topic with its payloads for online and offline."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._listener = listener
        self._filters = filters
        self._status_topic, self._online, self._offline = status
        self._modern = settings.protocol != "3.1.1"
        self._backoff = Backoff(jitter)
        self._suspicion = _Suspicion()
        self._delivery: _Delivery | None = None
        self._listening: asyncio.Task[None] | None = None
        self._draining = False
        self._ended = asyncio.Event()
        self._said: set[str] = set()

    @property
    def connected(self) -> bool:
        """True while the broker is in reach."""
        return self._delivery is not None

    def wake(self) -> None:
        """Something was committed to the outbox."""
        if self._delivery is not None:
            self._delivery.wake()

    async def run(self) -> None:
        """Supervise the connection until cancelled, or until `drain` has done what it can."""
        while True:
            try:
                await self._live()
                break
            except BrokerLost as lost:
                if self._draining:
                    break
                if not self._speak_older(lost):
                    self._lost(str(lost))
                    await self._clock.sleep(self._backoff.next())
        self._ended.set()

    async def drain(self, seconds: float) -> None:
        """Give the outbox that long (wall time) to reach the broker, then say offline and disconnect.

        No more commands are taken; the broker keeps them for the next start. Without a connection it returns at once.
        """
        if self._delivery is not None and self._listening is not None:
            self._draining = True
            self._listening.cancel()
            self._delivery.finish()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)
        if queued := self._store.statistics.queued:
            log.warning("stopping with messages in the outbox; they are sent after the next start", messages=queued)

    # --- one connection -----------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """One connection, from greeting to goodbye. Raises `BrokerLost` if it ends otherwise."""
        will = Will(self._status_topic, self._offline)
        async with MqttConnection(self._settings, will, modern=self._modern) as connection:
            for topic, reason in (await connection.subscribe(self._filters)).items():
                log.error("the broker refuses a subscription; commands are not heard", topic=topic, reason=reason)
            delivery = _Delivery(connection, self._store, self._clock, self._suspicion)
            delivery.publish_status(ONLINE, self._status_topic, self._online)
            self._found(delivery)
            try:
                await self._converse(connection, delivery)
            finally:
                self._delivery = self._listening = None

    async def _converse(self, connection: MqttConnection, delivery: "_Delivery") -> None:
        """Send, settle and listen side by side until the connection is lost or the outbox is drained.

        `settle` comes to an end by itself in both cases, and last: no acknowledgement is left unread.
        """
        async with asyncio.TaskGroup() as tasks:
            self._listening = tasks.create_task(self._listen(connection))
            sending = tasks.create_task(self._send(delivery))
            lost = await delivery.settle()
            self._listening.cancel()
            sending.cancel()
        if lost is not None:
            self._suspicion.connection_lost(connection.unacknowledged)
            raise lost

    async def _send(self, delivery: "_Delivery") -> None:
        with suppress(BrokerLost):  # `settle` tells
            await delivery.send()
            delivery.publish_status(OFFLINE, self._status_topic, self._offline)

    async def _listen(self, connection: MqttConnection) -> None:
        with suppress(BrokerLost):  # `settle` tells
            async with aclosing(connection.messages()) as messages:
                async for incoming in messages:
                    await self._listener.handle_message(incoming)
                    connection.acknowledge(incoming)

    # --- transitions --------------------------------------------------------------------------------------------

    def _found(self, delivery: "_Delivery") -> None:
        self._delivery = delivery
        self._said.clear()
        self._backoff.reset()
        where = f"{self._settings.host}:{self._settings.port}"
        log.info("broker connected", broker=where, protocol="MQTT 5" if self._modern else "MQTT 3.1.1")
        self._modern = self._settings.protocol != "3.1.1"  # the next outage may end with another broker there
        self._listener.broker_connected()

    def _lost(self, reason: str) -> None:
        """Say it once per transition, and again only if there is a reason not heard before."""
        if not self._said:
            self._listener.broker_lost(reason)
        if reason not in self._said:
            log.warning("broker lost; messages are kept", reason=reason)
        self._said.add(reason)

    def _speak_older(self, lost: BrokerLost) -> bool:
        """With `protocol: auto`: MQTT 3.1.1 next, at once where 5 is refused and in turns where nothing is said."""
        if self._settings.protocol != "auto" or not (lost.wrong_version or lost.unanswered):
            return False
        was_modern, self._modern = self._modern, not self._modern
        return was_modern and lost.wrong_version


class _Suspicion:
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


def _identity(row: _Row) -> _Identity:
    return row.id if isinstance(row, OutboxRow) else row.topic


class _Delivery:
    """The way from the store to one connection: in order, window full, off the books when acknowledged.

    It begins with the oldest row, so what an earlier connection left unacknowledged is sent again.
    """

    def __init__(self, connection: MqttConnection, store: Store, clock: Clock, suspicion: _Suspicion) -> None:
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
            self._connection.publish(row, row.topic, row.payload, retain=retain)
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
            await self._store.quarantine(row.id, reason)
        else:
            await self._store.mark_retained_sent([(row.topic, row.version)])
