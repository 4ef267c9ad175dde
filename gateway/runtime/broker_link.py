"""The link to the broker, for ever: connect, empty the outbox, take commands; lose it, wait, connect again."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from gateway.drivers.base import Clock
from gateway.mqtt.client import Acknowledgement, BrokerLost, Incoming, MqttConnection, Will
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.supervisor import Backoff
from gateway.store.records import OutboxRow, RetainedRow
from gateway.store.store import Store

log = structlog.get_logger()

OVERHEAD: Final = 32
"""Bytes that a PUBLISH packet has beside topic and payload, with room to spare."""

STATUS: Final = "status"
"""Token of the gateway's own status message, which is in no outbox."""


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
    ) -> None:
        """`status` is the gateway's status topic with its payloads for online and offline."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._listener = listener
        self._filters = filters
        self._status_topic, self._online, self._offline = status
        self._modern = settings.protocol != "3.1.1"
        self._proven = False
        self._backoff = Backoff()
        self._connection: MqttConnection | None = None
        self._outbox = _Outbox(store, clock)
        self._idle = asyncio.Event()
        self._said: str | None = None

    @property
    def connected(self) -> bool:
        """True while the broker is in reach."""
        return self._connection is not None

    def wake(self) -> None:
        """Something was committed to the outbox."""
        self._idle.clear()
        self._outbox.more = True
        if self._connection is not None:
            self._connection.on_change().set()

    async def run(self) -> None:
        """Supervise the connection until cancelled."""
        while True:
            try:
                await self._live()
            except BrokerLost as lost:
                self._lost(str(lost))
                if lost.unanswered and self._settings.protocol == "auto" and not self._proven:
                    self._modern = not self._modern
            await self._clock.sleep(self._backoff.next())

    async def drain(self, seconds: float) -> None:
        """Give the outbox that long to reach the broker; at once if there is no connection."""
        if self._connection is None:
            return
        self.wake()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
            self._connection.publish(STATUS, self._status_topic, self._offline, retain=True)
            await asyncio.wait_for(self._connection.on_change().wait(), 1)
        except (TimeoutError, BrokerLost):
            log.warning("stopped with messages in the outbox; they are sent after the next start")

    async def _live(self) -> None:
        will = Will(self._status_topic, self._offline)
        async with MqttConnection(self._settings, will, modern=self._modern) as connection:
            await connection.subscribe(self._filters)
            self._found(connection)
            tasks = [asyncio.create_task(self._listen(connection)), asyncio.create_task(self._pump(connection))]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:
                self._connection = None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, connection: MqttConnection) -> None:
        while True:
            incoming = await connection.next_message()
            await self._listener.handle_message(incoming)
            connection.acknowledge(incoming)

    async def _pump(self, connection: MqttConnection) -> None:
        connection.publish(STATUS, self._status_topic, self._online, retain=True)
        outbox = self._outbox
        outbox.begin(connection)
        changed = connection.on_change()
        while True:
            changed.clear()
            await outbox.settle(await connection.acknowledged())
            await outbox.send()
            if outbox.is_empty:
                self._idle.set()
            if not outbox.can_send:
                await changed.wait()

    def _found(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._said = None
        self._proven = True
        self._backoff.reset()
        where = f"{self._settings.host}:{self._settings.port}"
        log.info("broker connected", broker=where, protocol="MQTT 5" if self._modern else "MQTT 3.1.1")
        self._listener.broker_connected()

    def _lost(self, reason: str) -> None:
        """Say it once per transition, and again only if the reason is another one."""
        if self._said is None:
            self._listener.broker_lost(reason)
        if reason != self._said:
            log.warning("broker lost; messages are kept", reason=reason)
        self._said = reason


class _Outbox:
    """The way from the store to one connection: in order, window full, off the books when acknowledged."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.more = True
        self._store = store
        self._clock = clock
        self._connection: MqttConnection
        self._in_flight: set[object] = set()
        self._last_id = 0

    def begin(self, connection: MqttConnection) -> None:
        """A new connection: what the last one left unacknowledged is sent again, from the oldest on."""
        self._connection = connection
        self._in_flight.clear()
        self._last_id = 0
        self.more = True

    @property
    def is_empty(self) -> bool:
        """True if nothing waits and nothing is on its way."""
        return not self.more and not self._in_flight

    @property
    def can_send(self) -> bool:
        """True if there may be more and the window has room."""
        return self.more and len(self._in_flight) < self._connection.window

    async def send(self) -> None:
        """Fill the window: the outbox in order, then what is retained."""
        room = self._connection.window - len(self._in_flight)
        if not self.more or room <= 0:
            return
        self.more = False
        rows = await self._store.unpublished(self._last_id, room)
        for row in rows:
            self._last_id = row.id
            await self._send_row(row)
        retained = await self._store.unsent_retained(room) if len(rows) < room else []
        for entry in retained:
            self._send_retained(entry)
        if len(rows) + len(retained) >= room:
            self.more = True

    async def settle(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Strike off what the broker has; what it refused is put aside and said aloud."""
        published, retained = [], []
        for token, reason, refused in acknowledgements:
            self._in_flight.discard(token)
            match token:
                case int() as row_id if refused:
                    await self._put_aside(row_id, f"the broker refused it: {reason}")
                case int() as row_id:
                    published.append(row_id)
                case (str() as topic, int() as version):
                    retained.append((topic, version))
                    if refused:
                        log.error("the broker refuses a retained message", topic=topic, reason=reason)
        await self._store.mark_published(published, self._clock.now())
        if retained:
            await self._store.mark_retained_sent(retained)

    async def _send_row(self, row: OutboxRow) -> None:
        size, limit = len(row.topic) + len(row.payload) + OVERHEAD, self._connection.maximum_packet
        if limit is not None and size > limit:
            await self._put_aside(row.id, f"its {size} bytes exceed the broker's limit of {limit}")
            return
        self._connection.publish(row.id, row.topic, row.payload)
        self._in_flight.add(row.id)

    def _send_retained(self, row: RetainedRow) -> None:
        token = (row.topic, row.version)
        if token not in self._in_flight:
            self._connection.publish(token, row.topic, row.payload, retain=True)
            self._in_flight.add(token)

    async def _put_aside(self, row_id: int, reason: str) -> None:
        log.error("message quarantined", row=row_id, reason=reason)
        await self._store.quarantine(row_id, reason)
