"""paho and its thread, from which nothing comes but facts. The only module that imports paho.

paho's thread ends without a word when a callback or its parser raises, and still claims to be connected
(standards.md §0.3). Here every callback is wrapped, and whatever ends the thread is a fact too.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import structlog
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.mqtt.paho_client import REFUSED, PahoClient
from gateway.mqtt.publish_packet import HISTORICAL
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.tls import hung_up, reason_of

log = structlog.get_logger()

UNSUPPORTED_VERSION: Final = 132

SESSION_EXPIRY: Final = 7 * 86_400
"""Seconds for which the broker keeps commands for a gateway that is away."""

RECEIVE_MAXIMUM: Final = 200
"""Messages that the broker may send before the first of them is acknowledged (MQTT 5 §3.1.2.11.3)."""

MAXIMUM_PACKET: Final = 1_000_000
"""Bytes of the largest packet that the broker may send (MQTT 5 §3.1.2.11.4): what is larger it keeps to itself.

A command may have 256,000; up to here one that has more is still refused in words. Not less: mosquitto 2.0.11 counts
what it keeps to itself against Receive Maximum until the next connect."""

PATIENCE: Final = 2.0
"""Seconds to wait for the thread after its socket was shut down; it takes a few milliseconds."""


class Will(NamedTuple):
    """What the broker publishes, retained and at QoS 1, when the gateway is gone without a word."""

    topic: str
    payload: bytes


class Incoming(NamedTuple):
    """One message from the broker, to be acknowledged when its effects are committed.

    Before MQTT 5 there are no properties, and `historical` is None for messages that are.
    """

    topic: str
    payload: bytes
    retain: bool
    mid: int
    qos: int
    response_topic: str | None = None
    correlation_data: bytes | None = None
    historical: str | None = None


class Accepted(NamedTuple):
    """The broker lets us in, with its limits where it has any."""

    receive_maximum: int | None
    maximum_packet: int | None


class Refused(NamedTuple):
    """The broker does not let us in."""

    reason: str
    wrong_version: bool


class Acknowledged(NamedTuple):
    """The broker's answers to messages, by their ids: None for those it has, or why it does not take them."""

    answers: list[tuple[int, str | None]]


class Subscribed(NamedTuple):
    """The broker's answers to a subscription, in the order asked; None where it agreed."""

    refusals: list[str | None]


class Unsubscribed(NamedTuple):
    """The broker has ended a subscription."""


class Ended(NamedTuple):
    """The connection is over and paho's thread with it. Always the last fact, and there is always one."""

    reason: str


Fact = Accepted | Refused | Acknowledged | Subscribed | Unsubscribed | Incoming | Ended


class PahoThread:
    """One MQTT conversation on a socket that is already connected. `tell` gets the facts, on paho's thread.

    While `is_crowded`, asked there, nothing more is read.

    Without a will it is a visit: the broker forgets the session with the connection, or, over MQTT 5, `keep` seconds
    after it.
    """

    def __init__(
        self,
        settings: MqttSettings,
        will: Will | None,
        sock: socket.socket,
        tell: Callable[[Fact], None],
        is_crowded: Callable[[], bool],
        *,
        modern: bool,
        keep: int | None = None,
    ) -> None:
        self._settings = settings
        self._socket = sock
        self._tell = tell
        self._modern = modern
        self._reason: str | None = None
        self._let_in = False
        self._ended = threading.Event()
        self._is_visitor = will is None and keep is None
        self._keep = SESSION_EXPIRY if keep is None else keep
        self._client = PahoClient(
            self._converse, self._on_acknowledged, is_crowded, sock, settings.client_id,
            modern=modern, visits=self._is_visitor,
        )  # fmt: skip
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._client.on_connect = self._guard(self._on_connect)
        self._client.on_disconnect = self._guard(self._on_disconnect)
        self._client.on_message = self._guard(self._on_message)
        self._client.on_subscribe = self._guard(self._on_subscribe)
        self._client.on_unsubscribe = self._guard(self._on_unsubscribe)

    def start(self, password: str | None) -> None:
        """Greet the broker; its answer comes as a fact."""
        if self._settings.username is not None:
            self._client.username_pw_set(self._settings.username, password)
        self._client.loop_start()

    def next_mid(self) -> int:
        """An id for a message."""
        return self._client.next_mid()

    def send(self, packets: Sequence[bytes]) -> bool:
        """Send PUBLISH packets, in this order; False if there is no connection any more."""
        return self._client.send(packets)

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe at QoS 1."""
        self._client.subscribe([(topic, 1) for topic in filters])

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """End a subscription."""
        self._client.unsubscribe(list(filters))

    def acknowledge(self, taken: Sequence[Incoming]) -> None:
        """Tell the broker that it need not send these again."""
        if mids := [incoming.mid for incoming in taken if incoming.qos > 0]:
            self._client.acknowledge(mids)

    def say_goodbye(self, reason: str | None = None) -> None:
        """Disconnect in good order, behind all that is to be sent, so that the broker does not publish the will."""
        self._reason = self._reason or reason
        self._client.disconnect()

    def hang_up(self, reason: str | None = None) -> None:
        """End the connection at once, whatever paho waits for; the broker then publishes the will."""
        self._reason = self._reason or reason
        with suppress(OSError):  # it is closed already
            # Not an SSLSocket's own: that drops its TLS first, and paho's thread would go on in clear.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def join(self) -> None:
        """See the thread end after `hang_up` and give back all its file descriptors; a matter of milliseconds."""
        if not self._ended.wait(PATIENCE):
            log.error("the MQTT client's thread does not end", seconds=PATIENCE)
            return
        self._client.loop_stop()
        self._client.release()

    # --- on paho's thread ---------------------------------------------------------------------------------------

    def _converse(self, loop: Callable[[], None]) -> None:
        """All that the thread does: connect, run paho's loop, and say how it ended."""
        options: dict[str, Any] = {}
        if self._modern:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if self._is_visitor else self._keep
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = MAXIMUM_PACKET
            options = {"clean_start": self._is_visitor, "properties": properties}
        settings = self._settings
        try:
            self._client.greet(settings.host, settings.port, settings.keepalive, **options)
            loop()
        except OSError as error:
            self._reason = self._reason or error.strerror or str(error)
        except Exception as error:  # noqa: BLE001 - paho's parser, fed with bytes of a stranger, raises anything
            self._reason = f"it sent what cannot be understood: {error!r}"
        finally:
            self._tell(Ended(self._reason or self._unsaid()))
            self._ended.set()

    def _unsaid(self) -> str:
        """How it ended when nobody said a word of MQTT; a certificate is refused after TLS 1.3 has shaken hands."""
        failure = self._client.tls_failure
        if failure is not None:
            return reason_of(failure, self._settings)
        text = "the broker closed the connection"
        return text if self._let_in else f"{text} before it let us in; {hung_up(self._settings)}"

    @staticmethod
    def _guard(callback: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception:
                log.exception("callback failed", callback=callback.__name__)

        return guarded

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            self._tell(Refused(str(reason), wrong_version=reason.value == UNSUPPORTED_VERSION))
            return
        self._let_in = True
        # paho has no attribute for a property that was not sent (standards.md §0.3).
        receive_maximum = getattr(properties, "ReceiveMaximum", None)
        self._tell(Accepted(receive_maximum, getattr(properties, "MaximumPacketSize", None)))

    def _on_disconnect(self, _: Any, __: Any, flags: Any, reason: ReasonCode, ____: Any) -> None:
        # paho has "Unspecified error" for a closed connection, and "Normal disconnection" for our own goodbye.
        if flags.is_disconnect_packet_from_server or reason.getName() == "Keep alive timeout":
            self._reason = self._reason or str(reason)

    def _on_acknowledged(self, answers: list[tuple[int, str | None]]) -> None:
        self._tell(Acknowledged(answers))

    def _on_subscribe(self, _: Any, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        self._tell(Subscribed([str(reason) if reason.value >= REFUSED else None for reason in reasons]))

    def _on_unsubscribe(self, *_: Any) -> None:
        self._tell(Unsubscribed())

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._tell(
            Incoming(
                message.topic, bytes(message.payload), message.retain, message.mid, message.qos,
                getattr(properties, "ResponseTopic", None), getattr(properties, "CorrelationData", None),
                dict(getattr(properties, "UserProperty", ())).get(HISTORICAL),
            )
        )  # fmt: skip
