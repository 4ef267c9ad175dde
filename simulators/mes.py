"""`python -m simulators mes`: the MES around the gateway, a plain MQTT client that sends commands and keeps what comes.

It subscribes to everything with QoS 1 and a persistent session, so that the broker keeps for it what it misses, and
writes each message down before it is acknowledged. It knows nothing of the gateway but the contract.
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulators import options, passwords
from simulators.clock import PlayClock
from simulators.mes_commands import ROOT, messages
from simulators.options import UsageError
from simulators.scenario import Scenario

_SESSION_S: Final = 7 * 24 * 3600
_KEEPALIVE_S: Final = 10
_ANSWER_S: Final = 2.0
_RETRY_S: Final = 0.2
_LOOK_S: Final = 0.05
_SLOWEST_RETRY_S: Final = 5
_MQTT_PORT: Final = 1883


class Broker:
    """Where the broker is and how to get in, from `mqtt://user@host:port` and a password file."""

    def __init__(self, url: str, password_file: Path | None) -> None:
        parts = urlsplit(url)
        if parts.password:
            raise UsageError("--broker must not hold a password, others can see it; put it into --password-file")
        try:
            port = parts.port or _MQTT_PORT
        except ValueError:
            port = 0
        if parts.scheme != "mqtt" or not parts.hostname or not port:
            raise UsageError(f"--broker {url} is no broker; write mqtt://user@host:port")
        self.host: Final = parts.hostname
        self.port: Final = port
        self.user: Final = parts.username
        self.password: Final = passwords.read(password_file) if password_file else None


class Stop:
    """Somebody asks to stop: a signal, or the network thread because it cannot go on (`reason` says why)."""

    def __init__(self) -> None:
        self.reason = ""
        # Unlike an Event, a simple queue may be filled from a signal handler at any moment.
        self._asked: SimpleQueue[None] = SimpleQueue()

    def ask(self, reason: str = "") -> None:
        """End the wait of whoever waits."""
        self.reason = self.reason or reason
        self._asked.put(None)

    def asked_within(self, seconds: float | None) -> bool:
        """Wait that long, or for ever; True as soon as somebody asked."""
        try:
            self._asked.get(timeout=seconds)
        except Empty:
            return False
        return True


class Record:
    """Writes down every message in order of arrival, one JSON object a line."""

    def __init__(self, outputs: list[TextIO], stop: Stop) -> None:
        self._outputs = outputs
        self._stop = stop
        self.gateway_seen = threading.Event()
        """Set once a gateway said that it is online: from then on it hears commands."""

    def keep(self, message: mqtt.MQTTMessage) -> None:
        """Write one message and flush it: after that it may be acknowledged."""
        row = {
            "topic": message.topic,
            "payload": _payload(message.payload),
            "retain": bool(message.retain),
            "t_rx": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if "/_gw/" in message.topic and message.topic.endswith("/status") and b'"online"' in message.payload:
            self.gateway_seen.set()
        line = json.dumps(row, separators=(",", ":")) + "\n"
        try:
            for output in self._outputs:
                output.write(line)
                output.flush()
        except OSError as error:
            # A record with a hole is worse than none. Raising keeps the message from being acknowledged.
            self._stop.ask(f"cannot write down what came: {error}")
            raise


def _payload(raw: bytes | bytearray) -> Any:
    """What the message says; one that is no JSON is kept as hexadecimal."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return {"undecodable": raw.hex()}


def declare(parser: argparse.ArgumentParser, _command: str) -> None:
    """The options of the command."""
    options.add_play(parser)
    parser.add_argument("--broker", required=True, help="mqtt://user@host:port")
    parser.add_argument("--password-file", type=Path, help="the broker's password, mode 0600")
    parser.add_argument("--client-id", default="mes", help="names the persistent session")
    parser.add_argument("--capture", type=Path, help="append every message to this file, one JSON object a line")
    parser.add_argument("--wait-for-gateway", action="store_true", help="send nothing before a gateway is online")
    parser.add_argument("--print", action="store_true", help="write the same lines to stdout")


def run(args: argparse.Namespace) -> int:
    """Send what is due and keep what comes, until SIGTERM or SIGINT. What is overdue is sent at once."""
    scenario = options.scenario(args)
    clock = PlayClock(scenario, options.epoch(args, time.time()), args.speed)
    broker = Broker(args.broker, args.password_file)
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.ask())
    try:
        with _record(args, stop) as record:
            protocol = _protocol(broker, stop)
            if protocol is not None:
                wait_for = record.gateway_seen if args.wait_for_gateway else None
                _play(scenario, clock, _client(broker, args.client_id, record, protocol), stop, wait_for)
    except OSError as error:
        stop.ask(f"cannot write down what came: {error}")
    if stop.reason:
        raise UsageError(f"mes: {stop.reason}")
    return 0


def _play(
    scenario: Scenario, clock: PlayClock, client: mqtt.Client, stop: Stop, wait_for: threading.Event | None
) -> None:
    client.loop_start()
    try:
        while wait_for is not None and not wait_for.is_set():
            if stop.asked_within(_LOOK_S):
                return
        for message in messages(scenario):
            if stop.asked_within(max(clock.wall_seconds_until(message.at * 1000), 0)):
                return
            # Offline, paho keeps it and sends it when the broker is back.
            client.publish(message.topic, json.dumps(message.body, ensure_ascii=False), qos=1)
        stop.asked_within(None)
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def _record(args: argparse.Namespace, stop: Stop) -> Iterator[Record]:
    outputs: list[TextIO] = [sys.stdout] if args.print else []
    if args.capture is None:
        yield Record(outputs, stop)
        return
    with args.capture.open("a", encoding="utf-8") as file:
        yield Record([file, *outputs], stop)


def _client(broker: Broker, client_id: str, record: Record, protocol: MQTTProtocolVersion) -> mqtt.Client:
    """A client that subscribes whenever it is connected, keeps every message and comes back by itself."""
    clean = False if protocol == MQTTProtocolVersion.MQTTv311 else None
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean, protocol=protocol)
    client.username_pw_set(broker.user, broker.password)
    client.reconnect_delay_set(min_delay=1, max_delay=_SLOWEST_RETRY_S)
    client.on_connect = _on_connect
    client.on_disconnect = _on_disconnect
    client.on_message = lambda _client, _userdata, message: record.keep(message)
    if protocol == MQTTProtocolVersion.MQTTv5:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no hints here
        session.SessionExpiryInterval = _SESSION_S
        client.connect_async(broker.host, broker.port, _KEEPALIVE_S, clean_start=False, properties=session)
    else:
        client.connect_async(broker.host, broker.port, _KEEPALIVE_S)
    return client


def _protocol(broker: Broker, stop: Stop) -> MQTTProtocolVersion | None:
    """MQTT 5 if the broker takes it, else 3.1.1. A broker that is not there yet is waited for; None if that was
    stopped."""
    while True:
        try:
            return MQTTProtocolVersion.MQTTv5 if _takes_mqtt5(broker) else MQTTProtocolVersion.MQTTv311
        except OSError:
            if stop.asked_within(_RETRY_S):
                return None


def _takes_mqtt5(broker: Broker) -> bool:
    """Knock once and see; raises `OSError` if nobody listens.

    It knocks without a name: a refusal in MQTT 5 is answer enough, and amqtt waits for ever for the rest of a CONNECT
    of MQTT 5 that carries a user name, because it reads it as one of 3.1.1.
    """
    answers: list[ReasonCode] = []
    probe = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    probe.on_connect = lambda _client, _userdata, _flags, reason, _properties: answers.append(reason)
    probe.connect(broker.host, broker.port, _KEEPALIVE_S)
    deadline = time.monotonic() + _ANSWER_S
    while not answers and time.monotonic() < deadline and probe.loop(_RETRY_S) == mqtt.MQTT_ERR_SUCCESS:
        pass
    probe.disconnect()
    return bool(answers) and answers[0] != "Unsupported protocol version"


def _on_connect(
    client: mqtt.Client, _userdata: object, flags: mqtt.ConnectFlags, reason: ReasonCode, _properties: object
) -> None:
    if reason.is_failure:
        _say(f"the broker refused: {reason}")
        return
    if not flags.session_present:  # else the broker remembers, and would only send retained messages again
        client.subscribe(f"{ROOT}/#", qos=1)
    _say("connected")


def _on_disconnect(
    _client: mqtt.Client, _userdata: object, _flags: object, reason: ReasonCode, _properties: object
) -> None:
    _say(f"disconnected: {reason}")


def _say(what: str) -> None:
    print(f"mes: {what}", file=sys.stderr)  # noqa: T201 - a command line tells its transitions on stderr
