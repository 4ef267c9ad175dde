"""One connection to a broker, as an asyncio object around paho. The only importer of paho.

It never reconnects: when it is lost, its iterators end with `BrokerLost` and whoever supervises it makes a new one.
paho's thread does nothing but append to a deque and wake the loop once per burst.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.mqtt.settings import MqttSettings

log = structlog.get_logger()

REFUSED: Final = 128
"""Reason codes from here on mean that the broker did not take the message (MQTT 5 §2.4)."""

SESSION_EXPIRY: Final = 7 * 86_400
"""Seconds for which the broker keeps commands for a gateway that is away."""

MAX_INCOMING: Final = 1_000
UNSUPPORTED_VERSION: Final = "Unsupported protocol version"


class BrokerLost(Exception):  # noqa: N818 - it says what happened, and reads so where it is caught
    """There is no connection; the text says where it was and why.

    `unanswered`: the broker was there but did not accept our greeting. Perhaps it does not speak this version of the
    protocol: some brokers say so, some close, and some (amqtt with MQTT 5 and a password) say nothing at all.
    """

    def __init__(self, reason: str, *, unanswered: bool = False) -> None:
        super().__init__(reason)
        self.unanswered = unanswered


class Acknowledgement(NamedTuple):
    """The broker's answer to one message; `token` is what `publish` was given."""

    token: object
    reason: str
    refused: bool


class Incoming(NamedTuple):
    """One message from the broker, to be acknowledged when its effects are committed."""

    topic: str
    payload: bytes
    retain: bool
    mid: int
    qos: int
    response_topic: str | None = None
    correlation_data: bytes | None = None


class Will(NamedTuple):
    """What the broker publishes, retained, when the gateway is gone without a word."""

    topic: str
    payload: bytes


class MqttConnection:
    """Made unconnected; `async with` connects within the settings' deadline or raises `BrokerLost`.

    `modern` speaks MQTT 5, otherwise 3.1.1. `window` and `maximum_packet` are what both sides agreed to.
    """

    def __init__(self, settings: MqttSettings, will: Will, *, modern: bool) -> None:
        self.settings = settings
        self.window = settings.window
        self.maximum_packet: int | None = None
        self._version = MQTTProtocolVersion.MQTTv5 if modern else MQTTProtocolVersion.MQTTv311
        self._tokens: dict[int, object] = {}
        self._inbox: deque[tuple[str, Any]] = deque()
        self._acknowledgements: list[Acknowledgement] = []
        self._incoming: deque[Incoming] = deque()
        self._changed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._subscribed: asyncio.Future[None] | None = None
        self._up: asyncio.Future[None]
        self._lost: BrokerLost | None = None
        self._loop: asyncio.AbstractEventLoop
        self._client = self._make(will)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._up = self._loop.create_future()
        settings = self.settings
        try:
            if settings.username is not None:
                self._client.username_pw_set(settings.username, settings.password())
            await asyncio.to_thread(self._connect)
            self._client.loop_start()
            await asyncio.wait_for(asyncio.shield(self._up), settings.connect_timeout)
        except TimeoutError:
            await self._close()
            seconds = f"{settings.connect_timeout:g} s"
            text = f"{self._where}: accepted the connection but did not answer within {seconds}"
            raise BrokerLost(text, unanswered=True) from None
        except OSError as error:
            await self._close()
            raise BrokerLost(f"{self._where}: {error.strerror or error}") from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe at QoS 1; a filter that the broker refuses is logged by name."""
        self._subscribed = self._loop.create_future()
        self._client.user_data_set(list(filters))
        self._client.subscribe([(topic, 1) for topic in filters])
        try:
            await asyncio.wait_for(asyncio.shield(self._subscribed), self.settings.connect_timeout)
        except TimeoutError:
            raise BrokerLost(f"{self._where}: did not answer the subscription in time") from None

    def publish(self, token: object, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send at QoS 1; its acknowledgement comes under `token`. Raises `BrokerLost`."""
        if self._lost is not None:
            raise self._lost
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc is MQTTErrorCode.MQTT_ERR_NO_CONN:
            raise BrokerLost(f"{self._where}: the connection is gone")
        self._tokens[info.mid] = token

    async def acknowledged(self) -> list[Acknowledgement]:
        """What was acknowledged since the last call, at once; raises `BrokerLost` when nothing can come any more."""
        taken, self._acknowledgements = self._acknowledgements, []
        if not taken and self._lost is not None:
            raise self._lost
        return taken

    def on_change(self) -> asyncio.Event:
        """Set whenever something was acknowledged or the connection was lost."""
        return self._changed

    async def next_message(self) -> Incoming:
        """The next incoming message; raises `BrokerLost` when nothing can come any more."""
        while not self._incoming:
            if self._lost is not None:
                raise self._lost
            self._arrived.clear()
            await self._arrived.wait()
        return self._incoming.popleft()

    def acknowledge(self, incoming: Incoming) -> None:
        """Tell the broker that the message's effects are safe; until then it would send it again."""
        self._client.ack(incoming.mid, incoming.qos)

    # --- paho's side --------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"broker {self.settings.host}:{self.settings.port}"

    def _make(self, will: Will) -> paho.Client:
        modern = self._version is MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.settings.client_id,
            clean_session=None if modern else False,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = self.settings.connect_timeout
        client.max_inflight_messages_set(self.window)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_socket_open = _without_delay
        client.on_connect = self._guard(self._on_connect)
        client.on_disconnect = self._guard(self._on_disconnect)
        client.on_publish = self._guard(self._on_publish)
        client.on_message = self._guard(self._on_message)
        client.on_subscribe = self._guard(self._on_subscribe)
        return client

    def _connect(self) -> None:
        settings = self.settings
        options: dict[str, Any] = {}
        if self._version is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY
            options = {"clean_start": False, "properties": properties}
        self._client.connect(settings.host, settings.port, keepalive=round(settings.keepalive), **options)

    async def _close(self) -> None:
        """Disconnect and join paho's thread, in bounded time."""

        def close() -> None:
            self._client.disconnect()
            self._client.loop_stop()
            sock = self._client.socket()
            if sock is not None:
                sock.close()

        await asyncio.to_thread(close)

    @staticmethod
    def _guard(callback: Callable[..., None]) -> Callable[..., None]:
        """An exception in a callback would end paho's thread while it still claims to be connected."""

        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception:
                log.exception("callback failed", callback=callback.__name__)

        return guarded

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, properties: Properties | None) -> None:
        self._hand_over("connect", (reason, properties))

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        self._hand_over("disconnect", str(reason))

    def _on_publish(self, _: Any, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        self._hand_over("publish", (mid, reason))

    def _on_subscribe(self, _: Any, filters: list[str], __: int, reasons: list[ReasonCode], ___: Any) -> None:
        refused = [topic for topic, reason in zip(filters, reasons, strict=False) if reason.value >= REFUSED]
        self._hand_over("subscribe", refused)

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        incoming = Incoming(
            message.topic, bytes(message.payload), message.retain, message.mid, message.qos,
            getattr(properties, "ResponseTopic", None), getattr(properties, "CorrelationData", None),
        )  # fmt: skip
        self._hand_over("message", incoming)

    def _hand_over(self, kind: str, fact: Any) -> None:
        """From paho's thread to the loop: one wake-up per burst, since only an empty inbox needs one."""
        asleep = not self._inbox
        self._inbox.append((kind, fact))
        if asleep:
            self._loop.call_soon_threadsafe(self._take_over)

    # --- the loop's side ----------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        inbox = self._inbox
        while inbox:
            kind, fact = inbox[0]
            match kind:
                case "publish":
                    self._take_acknowledgement(*fact)
                case "message":
                    self._take_message(fact)
                case "connect":
                    self._take_connected(*fact)
                case "disconnect":
                    self._take_lost(BrokerLost(f"{self._where}: connection lost ({fact})"))
                case "subscribe":
                    self._take_subscribed(fact)
            inbox.popleft()  # last, so that paho's thread sees the inbox as awake until it is empty

    def _take_acknowledgement(self, mid: int, reason: ReasonCode) -> None:
        token = self._tokens.pop(mid, None)
        if token is not None:
            self._acknowledgements.append(Acknowledgement(token, str(reason), reason.value >= REFUSED))
            self._changed.set()

    def _take_message(self, incoming: Incoming) -> None:
        if len(self._incoming) >= MAX_INCOMING:
            log.error("incoming message dropped, too many wait; the broker sends it again", topic=incoming.topic)
            return
        self._incoming.append(incoming)
        self._arrived.set()

    def _take_connected(self, reason: ReasonCode, properties: Properties | None) -> None:
        if self._up.done():
            return
        if reason.is_failure:
            wrong = str(reason) == UNSUPPORTED_VERSION
            self._up.set_exception(BrokerLost(f"{self._where}: refused the connection ({reason})", unanswered=wrong))
            return
        self.window = min(self.window, getattr(properties, "ReceiveMaximum", self.window))
        self.maximum_packet = getattr(properties, "MaximumPacketSize", None)
        self._up.set_result(None)

    def _take_lost(self, lost: BrokerLost) -> None:
        self._lost = lost
        if not self._up.done():
            self._up.set_exception(BrokerLost(str(lost), unanswered=True))
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_exception(lost)
        self._changed.set()
        self._arrived.set()

    def _take_subscribed(self, refused: list[str]) -> None:
        for topic in refused:
            log.error("the broker refuses the subscription; commands there will not be heard", topic=topic)
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_result(None)


def _without_delay(_: Any, __: Any, sock: Any) -> None:
    """Without TCP_NODELAY on both ends a command's answer waits some 40 ms for an acknowledgement of TCP."""
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
