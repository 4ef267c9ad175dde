"""The link to the broker, for ever: connect, empty the outbox, take commands; lose it, wait, connect again."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Final, Protocol

import structlog

from gateway.domain.uplink import BrokerName
from gateway.drivers.base import Clock
from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection, Will
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.broker_choice import BrokerChoice, Next, visit
from gateway.runtime.delivery import OFFLINE, ONLINE, Delivery
from gateway.runtime.replay import Replay, Replayed
from gateway.runtime.self_test import Probes, prove_topics
from gateway.runtime.supervisor import Backoff
from gateway.runtime.suspicion import Suspicion
from gateway.store.store import Store

log = structlog.get_logger()


GATHERED: Final = 200
"""Messages that are taken in at once, to be answered by one transaction: a flood does not make it larger."""

LEAVING: Final = 5.0
"""Seconds given to what is in flight when we move to another broker; otherwise it is sent again there."""


class Listener(Protocol):
    """What the link tells; the daemon implements it."""

    def broker_connected(self, broker: BrokerName) -> None:
        """That broker is in reach; told of each connection, so also after a move from another broker."""
        ...

    def broker_lost(self, reason: str) -> None:
        """No broker is in reach: a connection was lost, or the first round of tries failed at all of them."""
        ...

    async def handle_message(self, incoming: Incoming) -> None:
        """Returns when the message's effects are committed; only then is it acknowledged.

        What waits together is told at once, in order: whatever must keep that order is done before the first await.
        """
        ...


class BrokerLink:
    """Owns the reconnection to the broker and the way from the outbox to it."""

    def __init__(  # noqa: PLR0913 - what is the gateway's own stands by name
        self,
        settings: MqttSettings,
        store: Store,
        clock: Clock,
        listener: Listener,
        *,
        filters: Sequence[str],
        status: tuple[str, bytes, bytes],
        probes: Probes | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`status` is the gateway's status topic with its payloads for online and offline.

        `probes` are those of the self-test over MQTT 3.1.1; without, there is none.
        """
        self._choice = BrokerChoice(settings)
        self._probes = probes
        self._store = store
        self._clock = clock
        self._listener = listener
        self._filters = filters
        self._status_topic, self._online, self._offline = status
        self._backoff = Backoff(jitter)
        self._suspicion = Suspicion()
        self._replays: list[Replay] = []
        self._refusals_said: set[tuple[str, str]] = set()
        self._delivery: Delivery | None = None
        self._listening: asyncio.Task[None] | None = None
        self._draining = False
        self._moving = False
        self._ended = asyncio.Event()
        self._said: set[str] = set()
        self._out_of_reach = False

    @property
    def connected(self) -> bool:
        """True while the broker is in reach."""
        return self._delivery is not None

    def tell_status(self, online: bytes, offline: bytes) -> None:
        """What the status topic says from now on; the last will of a connection that stands is as it was."""
        self._online, self._offline = online, offline
        self.tell(self._status_topic, online)  # without a connection, the next one begins with it

    def tell(self, topic: str, payload: bytes) -> None:
        """Say, retained, what is in no outbox. Without a connection it is not said, nor on the next one by itself."""
        if self._delivery is not None:
            self._delivery.tell(topic, payload)

    def wake(self) -> None:
        """Something was committed to the outbox."""
        if self._delivery is not None:
            self._delivery.wake()

    async def replay(self, equipment: str | None, epoch: str, first: int, last: int) -> Replayed:
        """Send these events again, whatever connections it takes; returns when the broker has them all.

        `equipment` is a path, None for the events of no equipment; `first` and `last` are numbers, ends included.
        """
        replay = Replay(self._store, equipment, epoch, first, last)
        self._replays.append(replay)
        self.wake()
        try:
            return await replay.ended
        finally:
            self._replays.remove(replay)

    async def retry(self, topic: str | None) -> int:
        """Queue quarantined messages again, behind all others: of one topic, or of all. Returns how many."""
        count = await self._store.requeue(topic)
        self.wake()
        return count

    async def run(self) -> None:
        """Supervise the connection until cancelled, or until `drain` has done what it can."""
        while True:
            try:
                await self._live()
                if self._draining or not self._moving:
                    break
                self._choice.move()
            except BrokerLost as lost:
                if self._draining:
                    break
                following = self._choice.lost(lost)
                if following is not Next.AGAIN:
                    self._lost(str(lost), out_of_reach=following is Next.WAIT)
                if following is Next.WAIT:
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
                async with asyncio.timeout(seconds):
                    await self._ended.wait()
        if queued := self._store.statistics.queued:
            log.warning("stopping with messages in the outbox; they are sent after the next start", messages=queued)

    # --- one connection -----------------------------------------------------------------------------------------

    async def _live(self) -> None:
        """One connection, from greeting to goodbye. Raises `BrokerLost` if it ends otherwise."""
        self._moving = False
        settings, modern = self._choice.settings, self._choice.modern
        will = Will(self._status_topic, self._offline)
        async with MqttConnection(settings, will, modern=modern) as connection:
            if self._probes is not None and settings.self_test and not modern:
                await prove_topics(connection, self._probes, settings)
            for topic, reason in (await connection.subscribe(self._filters)).items():
                log.error("the broker refuses a subscription; commands are not heard", topic=topic, reason=reason)
            delivery = Delivery(
                connection, self._store, self._clock, self._suspicion, self._replays, self._refusals_said
            )
            delivery.publish_status(ONLINE, self._status_topic, self._online)
            self._found(delivery)
            try:
                await self._converse(connection, delivery)
            finally:
                self._delivery = self._listening = None

    async def _converse(self, connection: MqttConnection, delivery: Delivery) -> None:
        """Send, settle and listen side by side until the connection is lost or left, or the outbox is drained.

        `settle` comes to an end by itself in both cases, and last: no acknowledgement is left unread.
        """
        async with asyncio.TaskGroup() as tasks:
            self._listening = tasks.create_task(self._listen(connection))
            sending = tasks.create_task(self._send(delivery))
            side = [self._listening, sending]
            if self._choice.better:
                side.append(tasks.create_task(self._look_for_better(connection, [*side])))
            lost = await delivery.settle()
            for task in side:
                task.cancel()
        if lost is not None:
            self._suspicion.connection_lost(connection.unacknowledged)
            raise lost

    async def _send(self, delivery: Delivery) -> None:
        with suppress(BrokerLost):  # `settle` tells
            await delivery.send()
            delivery.publish_status(OFFLINE, self._status_topic, self._offline)

    async def _listen(self, connection: MqttConnection) -> None:
        with suppress(BrokerLost):  # `settle` tells
            async with aclosing(connection.messages()) as messages:
                async for first in messages:
                    # One at a time, each command would wait for the disk by itself; tasks begin in the order made.
                    gathered = [first, *connection.waiting(GATHERED - 1)]
                    async with asyncio.TaskGroup() as tasks:
                        for incoming in gathered:
                            tasks.create_task(self._listener.handle_message(incoming))
                    connection.acknowledge(*gathered)

    async def _look_for_better(self, connection: MqttConnection, conversation: Sequence[asyncio.Task[None]]) -> None:
        """At a broker of second choice: when a better one lets us in again, leave this one in good order."""
        said: set[str] = set()
        while not self._moving:
            await self._clock.sleep(self._choice.pause)
            if self._draining:
                return
            for better in self._choice.better:
                reason = await visit(better)
                if reason is None:
                    log.info("a preferred broker is back; moving over", broker=better.place)
                    self._moving = True
                    break
                if reason not in said:
                    log.info("the preferred broker is not back yet", reason=reason)
                    said.add(reason)
        for task in conversation:
            task.cancel()
        await self._leave(connection)

    async def _leave(self, connection: MqttConnection) -> None:
        """Say offline behind all that is in flight; `settle` ends when the broker has acknowledged that, or is lost."""
        self._delivery = self._listening = None
        with suppress(BrokerLost):  # `settle` tells
            try:
                async with asyncio.timeout(LEAVING):
                    await connection.room()
                    connection.publish(OFFLINE, self._status_topic, self._offline, retain=True)
                    await connection.room(1)
            except TimeoutError:
                connection.hang_up("it acknowledges nothing more, and a preferred broker is back")

    # --- transitions --------------------------------------------------------------------------------------------

    def _found(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._said.clear()
        self._out_of_reach = False
        self._backoff.reset()
        broker = self._choice.name
        instead = {"instead_of": self._choice.better[0].place} if self._choice.better else {}
        log.info("broker connected", broker=broker.broker, protocol=broker.protocol, **instead)
        self._choice.accepted()
        self._listener.broker_connected(broker)

    def _lost(self, reason: str, *, out_of_reach: bool) -> None:
        """Say it once per transition, and again only if there is a reason not heard before."""
        if out_of_reach and not self._out_of_reach:
            self._out_of_reach = True
            self._listener.broker_lost(reason)
        if reason not in self._said:
            log.warning("broker lost; messages are kept", reason=reason)
        self._said.add(reason)
