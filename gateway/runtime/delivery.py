"""The way of the outbox to one broker connection: in order, the window full, off the books when acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

import structlog

from gateway.drivers.base import Clock
from gateway.mqtt.client import Acknowledgement, BrokerLost, MqttConnection, Outgoing
from gateway.runtime.replay import Replay, ReplayToken
from gateway.runtime.sharing import Sharing
from gateway.runtime.suspicion import STRIKES, Row, Suspicion
from gateway.store.records import OutboxRow, RetainedRow
from gateway.store.schema import StoreFull
from gateway.store.store import Store

log = structlog.get_logger()

RETAINED_AT_ONCE: Final = 200
"""Retained topics read from the store at once: a window's worth."""

RETAINED_SHARE: Final = 4
"""Retained messages get one in four places of the window, so that a backlog does not hold them up, nor they it."""

REPLAY_SHARE: Final = 8
"""Events that were asked for again get one in eight: nobody waits for them as for what happens now."""

ONLINE: Final = "online"
"""Tokens of the gateway's own status messages, which are in no outbox. The token of any other is its row, or its topic
if it is in none either."""
OFFLINE: Final = "offline"

GATHER: Final = 0.01
"""Seconds in which acknowledgements gather, to be struck off in one transaction: a broker sends them one by one, and
each transaction waits for the disk. What a kill makes come twice grows by what the broker acknowledges meanwhile."""

LOOKS: Final = 5
"""How often it is looked meanwhile whether there are enough."""

ENOUGH: Final = 50
"""Acknowledgements that wait for no others: a backlog waits for the window, and the window for them. Half of a window
are enough, too: mosquitto as it is installed has one of 20."""

DISK_FULL_PAUSE: Final = 0.5
"""Seconds between two tries to strike off what a full disk does not let us strike off."""

MOST_REFUSALS: Final = 1_000
"""Topics and reasons that are remembered as said; a response topic may be any."""

OUTAGE: Final = "outage"
REPLAYED: Final = "replay"
"""What the user property `historical` says: committed before this connection, sent again on request."""


class Delivery:
    """The way from the store to one connection.

    It begins with what is oldest, so what an earlier connection left unacknowledged is sent again. Never more than a
    window of rows is sent and not yet struck off: that is the most that a kill makes come twice.
    """

    def __init__(
        self,
        connection: MqttConnection,
        store: Store,
        clock: Clock,
        suspicion: Suspicion,
        replays: Sequence[Replay] = (),
        refusals_said: set[tuple[str, str]] | None = None,
    ) -> None:
        """`replays` may grow and shrink meanwhile; those that have ended are passed over.

        `refusals_said` are topics and reasons that are in the log already: what is retained is tried on each connection
        again, and would be refused again.
        """
        self._connection = connection
        self._store = store
        self._clock = clock
        self._suspicion = suspicion
        self._replays = replays
        self._sharing = Sharing(store)
        self._work = asyncio.Event()
        self._struck = asyncio.Event()
        self._open = 0
        self._finishing = False
        self._more_retained = True
        self._retained_up_to: str | None = ""
        self._to_tell: dict[str, bytes] = {}
        self._versions_sent: dict[str, int] = {}
        self._refusals_said = set() if refusals_said is None else refusals_said

    def wake(self) -> None:
        """Something was committed, or is to be replayed."""
        self._more_retained = True
        self._sharing.wake()
        self._work.set()

    def finish(self) -> None:
        """Let `send` come to an end when everything is acknowledged."""
        self._finishing = True
        self._work.set()

    def publish_status(self, token: str, topic: str, payload: bytes) -> None:
        """Say, retained, that the gateway is there or goes."""
        self._connection.publish(token, topic, payload, retain=True)

    def tell(self, topic: str, payload: bytes) -> None:
        """Say, retained, what the gateway counts, when the window has room; it is in no outbox, and newest wins."""
        self._to_tell[topic] = payload
        self._work.set()

    async def send(self) -> None:
        """Keep the window full; returns when everything is acknowledged after `finish`."""
        for replay in self._replays:
            replay.rewind()
        await self._send_suspects()
        await self._sharing.begin()
        while True:
            room = await self._room()
            self._work.clear()
            sent = await self._send_told()
            if sent < room:
                sent += await self._send_retained(max(1, room // RETAINED_SHARE))
            if sent < room:
                sent += await self._send_replays(max(1, room // REPLAY_SHARE) if room - sent > 1 else 0)
            if sent < room:
                sent += await self._send_rows(room - sent)
            if sent == 0:
                sent = await self._send_replays(1)  # a window of one has no share to give away
            if sent == 0:
                if self._open == 0:
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
                    await self._gather()
        except BrokerLost as lost:
            return lost
        raise AssertionError("acknowledgements end only with the connection")

    async def _gather(self) -> None:
        """Let acknowledgements gather, for a while or until there are enough."""
        enough = min(ENOUGH, self._connection.window // 2)
        for _ in range(LOOKS):
            if self._connection.answered >= enough:
                return
            await asyncio.sleep(GATHER / LOOKS)

    @property
    def _is_done(self) -> bool:
        nothing_waits = self._sharing.is_empty and not (self._more_retained or self._to_tell)
        return nothing_waits and self._open == 0 and self._store.statistics.queued == 0

    async def _room(self) -> int:
        """How many messages may leave now: within the broker's window, and within what a kill may make come twice."""
        window = 1 if self._suspicion else self._connection.window
        while self._open >= window:
            self._struck.clear()
            await self._struck.wait()
        return min(await self._connection.room(window), window - self._open)

    # --- sending ------------------------------------------------------------------------------------------------

    async def _send_suspects(self) -> None:
        """First, and one by one, what the last connection may have ended with."""
        for row in await self._store.unpublished_among(self._suspicion.rows):
            await self._room()
            await self._publish([Outgoing(row, row.topic, row.payload, False, row.correlation, OUTAGE)])
        while self._open:  # they are still in the outbox, from which the others are read
            self._struck.clear()
            await self._struck.wait()

    async def _send_told(self) -> int:
        if not self._to_tell:
            return 0
        topic, payload = self._to_tell.popitem()
        return await self._publish([Outgoing(topic, topic, payload, True)])

    async def _send_retained(self, room: int) -> int:
        rows = await self._retained_to_send(room)
        self._versions_sent |= {row.topic: row.version for row in rows}
        return await self._publish([Outgoing(row, row.topic, row.payload, True) for row in rows])

    async def _retained_to_send(self, room: int) -> list[RetainedRow]:
        """All there are, once per connection: a broker that was killed has older ones, another broker none.

        Then those that changed.
        """
        while self._retained_up_to is not None:
            rows = await self._store.retained(self._retained_up_to, room)
            self._retained_up_to = rows[-1].topic if len(rows) == room else None
            if fine := [row for row in rows if not self._suspicion.has_convicted(row)]:
                return fine
        if not self._more_retained:
            return []
        self._more_retained = False
        rows = await self._store.unsent_retained(RETAINED_AT_ONCE)
        fresh = [row for row in rows if self._versions_sent.get(row.topic) != row.version]
        if len(rows) == RETAINED_AT_ONCE or len(fresh) > room:
            self._more_retained = True
        return fresh[:room]

    async def _send_replays(self, room: int) -> int:
        for replay in tuple(self._replays):  # one that has ended leaves them while we wait
            events = [] if replay.ended.done() or not room else await replay.take(room)
            if events:  # one of which nothing is to be sent holds nobody up
                return await self._publish(
                    [
                        Outgoing(ReplayToken(replay, event.seq), event.topic, event.payload, historical=REPLAYED)
                        for event in events
                    ]
                )
        return 0

    async def _send_rows(self, room: int) -> int:
        before = self._sharing.connected_at
        rows = await self._sharing.take(room)
        return await self._publish(
            [
                Outgoing(row, row.topic, row.payload, False, row.correlation, OUTAGE if row.id <= before else None)
                for row in rows
            ]
        )

    async def _publish(self, messages: list[Outgoing]) -> int:
        """Send them, but those that are to be put aside; returns how many there were."""
        fine = messages
        if self._suspicion:
            fine = [message for message in messages if not await self._is_convicted(message.token)]
        self._open += len(fine)
        for message, objection in self._connection.publish_all(fine):
            self._open -= 1
            if isinstance(message.token, Row):
                self._suspicion.acquit(message.token)
            await self._put_aside(message.token, objection)
        return len(messages)

    async def _is_convicted(self, token: object) -> bool:
        if not (isinstance(token, Row) and self._suspicion.convicts(token)):
            return False
        await self._put_aside(token, f"{STRIKES} connections in a row ended with it")
        return True

    # --- settling -----------------------------------------------------------------------------------------------

    async def _strike_off(self, burst: Sequence[Acknowledgement]) -> None:
        rows: list[int] = []
        retained: list[tuple[str, int]] = []
        done = 0
        for token, refusal in burst:
            done += token not in (ONLINE, OFFLINE)
            if self._suspicion and isinstance(token, Row):
                self._suspicion.acquit(token)
            if refusal is not None:
                await self._put_aside(token, f"the broker refused it: {refusal}")
            elif isinstance(token, OutboxRow):
                rows.append(token.id)
            elif isinstance(token, RetainedRow):
                retained.append((token.topic, token.version))
            elif isinstance(token, ReplayToken):
                token.replay.settle(token.seq, accepted=True)
        await self._note_published(rows, retained)
        self._open -= done
        self._struck.set()
        self._work.set()

    async def _note_published(self, rows: Sequence[int], retained: Sequence[tuple[str, int]]) -> None:
        """In the record; until then nothing counts as published."""
        await self._with_room(lambda: self._store.mark_published(rows, self._clock.now()))
        await self._with_room(lambda: self._store.mark_retained_sent(retained))

    @staticmethod
    async def _with_room(work: Callable[[], Awaitable[None]]) -> None:
        """Where the disk is full this waits."""
        while True:
            try:
                return await work()
            except StoreFull:
                await asyncio.sleep(DISK_FULL_PAUSE)

    async def _put_aside(self, token: object, reason: str) -> None:
        """An outbox row goes into quarantine; of a retained topic, the next version is tried. Said once per reason."""
        if isinstance(token, ReplayToken):
            token.replay.settle(token.seq, accepted=False)
            return
        if isinstance(token, Row):
            topic, what = token.topic, "message quarantined; the next ones like it are only counted"
        else:
            topic, what = str(token), "the broker does not take what the gateway says of itself"
        if (topic, reason) not in self._refusals_said:
            if len(self._refusals_said) >= MOST_REFUSALS:
                self._refusals_said.clear()
            self._refusals_said.add((topic, reason))
            log.error(what, topic=topic, reason=reason)
        if isinstance(token, OutboxRow):
            row = token.id
            await self._with_room(lambda: self._store.quarantine(row, reason, self._clock.now()))
        elif isinstance(token, RetainedRow):
            await self._note_published([], [(token.topic, token.version)])
