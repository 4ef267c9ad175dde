"""paho's client with the seams that a gateway needs: a socket that is connected already, and a fast way for messages.

What paho does well stays paho's: the connection, keepalive, subscriptions, what arrives. Its `publish` queues each
message in memory, wakes its thread by a system call and reads each acknowledgement in three more; here a window of
messages is one write and a burst of acknowledgements one read, 80 µs a message to 15 (docs/performance.md).
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

REFUSED: Final = 128
"""Reason codes from here on mean that the broker did not do what was asked (MQTT 5 §2.4)."""

AT_ONCE: Final = 65_536
"""Bytes read from the socket at once."""

MOST_READS: Final = 16
"""Reads after which paho's loop looks at its timers and at what is to be written."""

LOOK: Final = 0.5
"""Seconds after which paho looks at its timers even if nothing comes."""

CROWDED_PAUSE: Final = 0.01
"""Seconds until it is looked again whether there is room for what the broker sends; what is to be written is, then."""

_PUBLISH: Final = 0x30
_PUBACK: Final = 0x40


class PahoClient(paho.Client):
    """Runs `converse` on its thread. `acknowledged` gets message ids with what the broker has against them.

    While `is_crowded` it reads nothing more, and the broker has to wait. `tls_failure` is what ended the connection, if
    TLS did.
    """

    def __init__(
        self,
        converse: Callable[[Callable[[], None]], None],
        acknowledged: Callable[[list[tuple[int, str | None]]], None],
        is_crowded: Callable[[], bool],
        sock: socket.socket,
        client_id: str,
        *,
        modern: bool,
        visits: bool,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if modern else visits,  # commands must not be lost while the gateway restarts
            protocol=MQTTProtocolVersion.MQTTv5 if modern else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._converse = converse
        self._tell_acknowledged = acknowledged
        self._is_crowded = is_crowded
        self._ready_socket = sock
        self.tls_failure: ssl.SSLError | None = None
        self._inbox = b""
        self._at = 0
        self._reads_left = 0

    def greet(self, host: str, port: int, keepalive: float, **options: Any) -> None:
        """Say CONNECT on the socket, with what makes paho notice a silent broker within twice the keepalive.

        It asks after one keepalive and gives up after another, each told late by up to `LOOK`: so the keepalive that
        is agreed with the broker is a second less, where that leaves one.
        """
        self.connect(host, port, keepalive=max(1, round(keepalive) - 1), **options)

    def next_mid(self) -> int:
        """A message id; paho's own packets take theirs from the same row."""
        return self._mid_generate()

    def send(self, packets: Sequence[bytes]) -> bool:
        """Have packets written, in one piece; False if there is no connection."""
        if self._sock is None:
            return False
        # To paho it is one packet of QoS 1, for which it does nothing but write it.
        self._packet_queue(_PUBLISH, b"".join(packets), 0, 1)
        return self._sock is not None

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Say PUBACK for each, in one piece: the broker then sends as many again in one, and not each by itself."""
        self.send([bytes((_PUBACK, 2)) + mid.to_bytes(2) for mid in mids])

    def loop_forever(self, timeout: float = LOOK, retry_first_connection: bool = False) -> MQTTErrorCode:
        """What `loop_start` runs on the thread."""
        self._converse(lambda: self._run_loop(timeout))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def release(self) -> None:
        """Close the socket and the pair that wakes the thread, which paho leaves to the garbage collector."""
        self._reset_sockets()

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read until there is nothing more, or the share of one round is used up."""
        self._reads_left = MOST_READS
        while True:
            self._take_acknowledgements()
            if self._sock is None:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
            if self._is_crowded():
                time.sleep(CROWDED_PAUSE)
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            outcome = self._packet_read()
            if outcome == MQTTErrorCode.MQTT_ERR_AGAIN:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            if outcome > 0:
                return self._loop_rc_handle(outcome)

    def _loop(self, timeout: float = LOOK) -> MQTTErrorCode:
        """One round. What was read and not looked at yet is in no socket, by which paho's own would wake."""
        if self._at < len(self._inbox) and self._sock is not None:
            outcome = self.loop_read()
            if outcome > 0 or self._sock is None:
                return outcome
            timeout = 0.0
        return super()._loop(timeout)

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._at >= len(self._inbox):
            if self._reads_left == 0:
                raise BlockingIOError
            self._reads_left -= 1
            self._inbox, self._at = self._receive(), 0
        data = self._inbox[self._at : self._at + bufsize]
        self._at += len(data)
        return data

    def _receive(self) -> bytes:
        """To paho every error is a lost connection; what TLS has to say is kept for whoever asks why."""
        try:
            return super()._sock_recv(AT_ONCE)
        except ssl.SSLError as error:
            self.tls_failure = error
            raise

    def _take_acknowledgements(self) -> None:
        """Those that begin where the last packet ended and have no properties; paho cuts out any other packet."""
        inbox, at = self._inbox, self._at
        if self._in_packet["command"] != 0 or at >= len(inbox) or inbox[at] != _PUBACK:
            return
        told: list[tuple[int, str | None]] = []
        while at + 4 <= len(inbox) and inbox[at] == _PUBACK:
            length = inbox[at + 1]
            if not 2 <= length <= 3 or at + 2 + length > len(inbox):
                break
            mid = inbox[at + 2] << 8 | inbox[at + 3]
            told.append((mid, _refusal(inbox[at + 4]) if length == 3 else None))
            at += 2 + length
        self._at = at
        if told:
            self._tell_acknowledged(told)

    def _handle_pubackcomp(self, cmd: str) -> MQTTErrorCode:
        """One that paho has cut out: it came in pieces, or with properties."""
        packet = self._in_packet["packet"]
        if cmd == "PUBACK" and len(packet) >= 2:
            mid = packet[0] << 8 | packet[1]
            self._tell_acknowledged([(mid, _refusal(packet[2]) if len(packet) > 2 else None)])
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _run_loop(self, timeout: float) -> None:
        super().loop_forever(timeout)

    def _create_socket_connection(self) -> socket.socket:
        return self._ready_socket


def _refusal(code: int) -> str | None:
    if code < REFUSED:
        return None
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=code))
    except KeyError:  # a code that the standard does not have
        return f"reason code {code}"
