"""One connection to a broker, as an asyncio object.

It never reconnects: when it is lost, everything that waits on it ends with `BrokerLost`, and whoever supervises it
makes a new one. paho's thread does nothing but append facts to a deque and wake the loop once per burst.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

import structlog

from gateway.mqtt.inbox import Inbox
from gateway.mqtt.paho_thread import (
    Accepted,
    Acknowledged,
    Ended,
    Fact,
    Incoming,
    PahoThread,
    Refused,
    Subscribed,
    Unsubscribed,
    Will,
)
from gateway.mqtt.publish_packet import properties, publish_packet
from gateway.mqtt.refusals import refusal
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.tcp import open_socket
from gateway.mqtt.tls import Peer, peer_of, reason_of, shake_hands, tls_context

__all__ = ["Acknowledgement", "BrokerLost", "Incoming", "MqttConnection", "Outgoing", "Will"]

log = structlog.get_logger()

GOODBYE: Final = 1.0
"""Seconds given to the last packets of a connection that is closed in good order."""

MAX_TOPIC: Final = 65_535
"""Bytes that a topic may have (MQTT 5 §1.5.4)."""

MAX_PACKET: Final = 268_435_455
"""Bytes that MQTT can count (MQTT 5 §1.5.5)."""

MOST_TOPICS: Final = 10_000
"""Topics whose bytes are remembered; a response topic may be any."""


class BrokerLost(Exception):  # noqa: N818 - it says what happened, and reads so where it is caught
    """There is no connection; the text says where it was and why.

    `wrong_version`: the broker says that it does not speak this version of the protocol. `unanswered`: it says
    nothing at all, as amqtt does, for ever, when a CONNECT of MQTT 5 carries a user name.
    """

    def __init__(self, reason: str, *, wrong_version: bool = False, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.wrong_version = wrong_version
        self.unanswered = unanswered


class Outgoing(NamedTuple):
    """A message to be published. Correlation Data and `historical`, a user property, are for MQTT 5 alone."""

    token: object
    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    historical: str | None = None


class Acknowledgement(NamedTuple):
    """The broker's answer to one message: `token` is what `publish` was given, `refusal` why it was not taken."""

    token: object
    refusal: str | None


class MqttConnection:
    """Made unconnected; `async with` connects within the settings' deadline or raises `BrokerLost`.

    `modern` speaks MQTT 5, otherwise 3.1.1. After leaving without an error the broker was told goodbye; after an
    error or a cancellation the connection is cut, and the broker publishes the will. Without a will it is a visit, of
    which the broker keeps nothing, or with `keep` the session for so many seconds (before MQTT 5: for ever). `window`
    and `maximum_packet` (bytes) are what both sides agreed to; `peer` is who the broker is, where it speaks TLS.
    """

    def __init__(self, settings: MqttSettings, will: Will | None, *, modern: bool, keep: int | None = None) -> None:
        assert not settings.brokers, "a connection is to one of settings.choices()"
        self.window = settings.window
        self.maximum_packet: int | None = None
        self.peer: Peer | None = None
        self.modern = modern
        self._settings = settings
        self._will = will
        self._keep = keep
        self._facts: deque[Fact] = deque()
        self._tokens: dict[int, object] = {}
        self._topics: dict[str, bytes] = {}
        self._acknowledgements: list[Acknowledgement] = []
        self._acknowledged = asyncio.Event()
        self._inbox = Inbox(settings.keepalive / 2)  # reading less often, paho would miss the answers to its pings
        self._arrived = asyncio.Event()
        self._flood_said = False
        self._room = asyncio.Event()
        self._lost: BrokerLost | None = None
        self._loop: asyncio.AbstractEventLoop
        self._greeted: asyncio.Future[None]
        self._subscribed: asyncio.Future[list[str | None]] | None = None
        self._unsubscribed: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None]
        self._thread: PahoThread | None = None
        self._silence = "out of reach, nothing came back"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._greeted, self._ended = self._loop.create_future(), self._loop.create_future()
        seconds = self._settings.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._connect()
        except TimeoutError:
            unanswered = self._thread is not None
            self._cut()
            raise self._failed(f"{self._silence} within {seconds:g} s", unanswered=unanswered) from None
        except OSError as error:
            self._cut()
            raise self._failed(reason_of(error, self._settings)) from None
        except BaseException:
            self._cut()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._thread is not None and self._lost is None:
                self._thread.say_goodbye()
                await asyncio.wait([self._ended], timeout=GOODBYE)
        finally:
            self._cut()

    async def subscribe(self, filters: Sequence[str]) -> dict[str, str]:
        """Subscribe at QoS 1; returns which filters the broker refuses, and why. Raises `BrokerLost`."""
        if not filters:
            return {}
        self._subscribed = self._loop.create_future()
        self._connected().subscribe(filters)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                answers = await self._subscribed
        except TimeoutError:
            raise self._failed("did not answer the subscription in time") from None
        return {topic: reason for topic, reason in zip(filters, answers, strict=False) if reason is not None}

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Returns when the broker sends nothing more of them. Raises `BrokerLost`."""
        self._unsubscribed = self._loop.create_future()
        self._connected().unsubscribe(filters)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self._unsubscribed
        except TimeoutError:
            raise self._failed("did not answer the end of a subscription in time") from None

    def publish(
        self, token: object, topic: str, payload: bytes, *, retain: bool = False, correlation: bytes | None = None
    ) -> None:
        """Send one message. Raises `ValueError` for what no connection to this broker could carry, and `BrokerLost`."""
        for _, objection in self.publish_all([Outgoing(token, topic, payload, retain, correlation)]):
            raise ValueError(objection)

    def publish_all(self, messages: Sequence[Outgoing]) -> list[tuple[Outgoing, str]]:
        """Send them at QoS 1, in this order and in one piece; each acknowledgement comes under the message's token.

        Returns those that no connection to this broker could carry, and why. Raises `BrokerLost`.
        """
        thread, tokens, packets, refused = self._connected(), self._tokens, [], []
        for message in messages:
            try:
                packet, mid = self._packet(thread, message)
            except ValueError as error:
                refused.append((message, str(error)))
                continue
            packets.append(packet)
            tokens[mid] = message.token
        if packets and not thread.send(packets):
            raise self._failed("the connection is gone")
        return refused

    def _packet(self, thread: PahoThread, message: Outgoing) -> tuple[bytes, int]:
        """A PUBLISH and the id in it. MQTT 3.1.1 has no properties: they stay here. Raises `ValueError`."""
        topic = self._topic(message.topic)
        extra = properties(message.historical, message.correlation) if self.modern else b""
        mid = thread.next_mid()
        while mid in self._tokens:
            mid = thread.next_mid()
        packet = publish_packet(mid, topic, message.payload, extra, retain=message.retain)
        if self.maximum_packet is not None and len(packet) > self.maximum_packet:
            size = f"its {len(packet):,} bytes"
            raise ValueError(f"{size} exceed the broker's Maximum Packet Size of {self.maximum_packet:,}")
        if len(packet) > MAX_PACKET:
            raise ValueError(f"its {len(packet):,} bytes are more than MQTT has digits for")
        return packet, mid

    def _topic(self, topic: str) -> bytes:
        """The bytes of a topic that may be published to; those that come again and again are remembered."""
        known = self._topics.get(topic)
        if known is not None:
            return known
        raw = topic.encode()
        if not topic or len(raw) > MAX_TOPIC or any(letter in topic for letter in "+#\0"):
            raise ValueError(f"{topic[:80]!r} cannot be a topic: 1 to {MAX_TOPIC:,} bytes without +, # and NUL")
        if len(self._topics) >= MOST_TOPICS:
            self._topics.clear()
        self._topics[topic] = raw
        return raw

    @property
    def in_flight(self) -> int:
        """How many messages wait for their acknowledgement."""
        return len(self._tokens)

    @property
    def answered(self) -> int:
        """How many answers of the broker wait to be read by `acknowledgements`."""
        return len(self._acknowledgements)

    @property
    def unacknowledged(self) -> list[object]:
        """The tokens of the messages that wait for their acknowledgement, oldest first; also after the loss."""
        return list(self._tokens.values())

    async def room(self, window: int | None = None) -> int:
        """Wait until the window, or a smaller one, has room; returns for how many messages. Raises `BrokerLost`."""
        size = self.window if window is None else min(window, self.window)
        while self.in_flight >= size:
            self._connected()  # what is lost already wakes nobody any more
            self._room.clear()
            await self._room.wait()
        return size - self.in_flight

    async def acknowledgements(self) -> AsyncGenerator[list[Acknowledgement], None]:
        """What the broker answered, burst by burst; raises `BrokerLost` after the last one."""
        while True:
            await self._acknowledged.wait()
            self._acknowledged.clear()
            burst, self._acknowledgements = self._acknowledgements, []
            if burst:
                yield burst
            if self._lost is not None and not self._acknowledgements:
                raise self._lost

    async def messages(self) -> AsyncGenerator[Incoming, None]:
        """What others sent us, in the broker's order; raises `BrokerLost` after the last one."""
        while True:
            while taken := self._inbox.take(1):
                yield taken[0]
            if self._inbox.leaves:
                self._connected().say_goodbye("sent more than could be taken, and sends it again on a new connection")
            self._connected()
            self._arrived.clear()
            await self._arrived.wait()

    def waiting(self, most: int) -> list[Incoming]:
        """What has arrived behind the message that `messages` gave last: taken out of the queue, at most so many."""
        return self._inbox.take(most)

    def put_back(self, taken: Sequence[Incoming]) -> None:
        """What was taken out of the queue and is for somebody else; it comes first there."""
        self._inbox.put_back(taken)
        self._arrived.set()

    def acknowledge(self, *taken: Incoming) -> None:
        """Tell the broker that the effects of these messages are safe; until then it would send them again."""
        self._connected().acknowledge(taken)

    def hang_up(self, reason: str) -> None:
        """End it at once: it is lost for that reason, and the broker publishes the will. Raises `BrokerLost`."""
        self._connected().hang_up(reason)

    # --- opening and closing ------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        settings = self._settings
        password = settings.password()
        context = None if settings.tls is None else await asyncio.to_thread(tls_context, settings.tls)
        sock = await open_socket(settings.host, settings.port)
        if context is not None:
            self._silence = "accepted the connection but did not answer in TLS"
            sock = await shake_hands(sock, context, settings.host)
            self.peer = peer_of(sock)
        self._silence = "accepted the connection but said nothing"
        self._thread = PahoThread(
            settings, self._will, sock, self._tell, self._inbox.is_crowded, modern=self.modern, keep=self._keep
        )
        self._thread.start(password)
        await self._greeted

    def _cut(self) -> None:
        """Leave nothing behind: no thread, no socket, no pending future. Not asynchronous, so nothing interrupts it."""
        if self._thread is not None:
            self._thread.hang_up()
            self._thread.join()
            self._thread = None
        for future in (self._greeted, self._subscribed, self._unsubscribed, self._ended):
            if future is not None:
                future.cancel()

    def _connected(self) -> PahoThread:
        if self._lost is not None:
            raise self._lost
        if self._thread is None:
            raise self._failed("not connected")
        return self._thread

    def _failed(self, reason: str, *, wrong_version: bool = False, unanswered: bool = False) -> BrokerLost:
        where = f"broker {self._settings.host}:{self._settings.port}"
        return BrokerLost(f"{where}: {reason}", wrong_version=wrong_version, unanswered=unanswered)

    # --- facts --------------------------------------------------------------------------------------------------

    def _tell(self, fact: Fact) -> None:
        """From paho's thread to the loop: one wake-up per burst.

        Only a fact that finds the deque empty needs one. The length is taken after the append: taken before, the
        loop could empty the deque in between and nobody would look again.
        """
        if isinstance(fact, Incoming):
            self._inbox.announce(fact)
        self._facts.append(fact)
        if len(self._facts) == 1:
            self._loop.call_soon_threadsafe(self._take_facts)

    def _take_facts(self) -> None:
        facts = self._facts
        while facts:
            self._take(facts[0])
            facts.popleft()  # last, so that the deque counts as awake until it is empty

    def _take(self, fact: Fact) -> None:
        match fact:
            case Acknowledged(answers):
                take = self._tokens.pop
                # What is acknowledged twice, or was never sent, frees no place in anybody's window.
                self._acknowledgements += [
                    Acknowledgement(take(mid), refusal) for mid, refusal in answers if mid in self._tokens
                ]
                self._acknowledged.set()
                self._room.set()
            case Incoming():
                self._take_incoming(fact)
            case Accepted() if not self._greeted.done():
                self.window = min(self.window, fact.receive_maximum or self.window)
                self.maximum_packet = fact.maximum_packet
                self._greeted.set_result(None)
            case Refused(reason, wrong_version) if not self._greeted.done():
                lost = self._failed(refusal(reason, self._settings), wrong_version=wrong_version)
                self._greeted.set_exception(lost)
            case Subscribed(refusals) if self._subscribed is not None and not self._subscribed.done():
                self._subscribed.set_result(refusals)
            case Unsubscribed() if self._unsubscribed is not None and not self._unsubscribed.done():
                self._unsubscribed.set_result(None)
            case Ended(reason):
                self._take_end(reason)

    def _take_incoming(self, incoming: Incoming) -> None:
        if self._inbox.put(incoming):
            self._arrived.set()
        elif not self._flood_said:
            log.error("messages come faster than they can be taken; those at QoS 0 are lost", topic=incoming.topic)
            self._flood_said = True

    def _take_end(self, reason: str) -> None:
        self._lost = self._failed(reason)
        for future in (self._greeted, self._subscribed, self._unsubscribed):
            if future is not None and not future.done():
                future.set_exception(self._lost)
        if not self._ended.done():
            self._ended.set_result(None)
        for event in (self._acknowledged, self._arrived, self._room):
            event.set()
