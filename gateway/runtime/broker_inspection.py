"""What the brokers of a plant say to a visitor: who they are, whether they let us in, and what we may do there.

The visitor comes as `<client_id>-check` with the gateway's own user: the gateway may run meanwhile. It has no will, and
leaves nothing behind: no session, no retained message, but the probes of the self-test, which consumers pass over.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec
from cryptography import x509

from gateway.config.plant import Plant
from gateway.domain.contract.event_data import Level
from gateway.domain.values import Timestamp
from gateway.drivers.opcua.secure_channel.certificate_files import read_certificate
from gateway.drivers.opcua.secure_channel.certificates import (
    EXPIRY_NOTICE,
    CertificateError,
    days_left,
    first_of_chain,
    issuer,
    subject,
)
from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.probes import SELF_TEST, Probe, State, probes
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.topics import Topics
from gateway.mqtt.visits import visiting
from gateway.runtime.self_test import TopicsUnproven, prove_topics, refused_topics

PURPOSE: Final = "check"
"""What stands behind the gateway's client id while it is looked after."""

_RIGHTS: Final = "let this user write it in the broker's rights (ACL)"


class BrokerFinding(NamedTuple):
    """One thing that was looked at, and what was found there. `problem` is empty where nothing need be done.

    `is_wrong`: the gateway could not do its work like this. Otherwise a problem is a hint, such as a certificate that
    ends soon.
    """

    broker: str
    about: str
    found: str
    problem: str = ""
    is_wrong: bool = False


class _Status(msgspec.Struct):
    state: str


async def inspect_brokers(plant: Plant, now: Timestamp) -> list[list[BrokerFinding]]:
    """All brokers of the plant, each by itself, in order of preference. `now` is wall time: certificates know no other.

    What one of them says, or does not, is among its findings; nothing is raised for it.
    """
    topics = Topics(plant.topic_root, plant.site, plant.gateway_id)
    paths = [spec.path for spec in plant.equipment]
    # One after the other: two of the list may be one broker by two names, which lets in each client id once.
    return [await _Inspection(choice, topics, plant.gateway_id, paths, now).run() for choice in plant.mqtt.choices()]


class _Inspection:
    """One visit to one broker."""

    def __init__(
        self, settings: MqttSettings, topics: Topics, gateway: str, equipment: Sequence[str], now: Timestamp
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._gateway = gateway
        self._equipment = list(equipment)
        self._now = now
        self._test = uuid.uuid4().hex
        self._findings: list[BrokerFinding] = []

    async def run(self) -> list[BrokerFinding]:
        """Everything up to where the broker lets us come."""
        try:
            async with visiting(self._settings, PURPOSE) as connection:
                self._tell_certificates(connection)
                self._tell_connection(connection)
                await self._publish(connection)
                await self._try_commands(connection)
        except BrokerLost as lost:
            self._found("connection", "", str(lost).removeprefix(f"broker {self._settings.place}: "), is_wrong=True)
        return self._findings

    def _found(self, about: str, found: str, problem: str = "", *, is_wrong: bool = False) -> None:
        self._findings.append(BrokerFinding(self._settings.place, about, found, problem, is_wrong))

    # --- who is there -------------------------------------------------------------------------------------------

    def _tell_certificates(self, connection: MqttConnection) -> None:
        if self._settings.tls is None:
            self._found("TLS", "none: neither encrypted nor proven who it is")
        elif connection.peer is not None:
            try:
                its = first_of_chain(connection.peer.certificate)
            except CertificateError as error:
                self._found("TLS", connection.peer.version, str(error))
            else:
                self._tell_certificate("TLS", f"{connection.peer.version}, certificate of ", its, "at the broker")
        if self._settings.tls is not None and self._settings.tls.certificate is not None:
            try:
                ours = read_certificate(self._settings.tls.certificate)
            except CertificateError as error:
                self._found("own certificate", "", str(error))
            else:
                self._tell_certificate("own certificate", "", ours, f"in {self._settings.tls.certificate}")

    def _tell_certificate(self, about: str, before: str, certificate: x509.Certificate, place: str) -> None:
        days = days_left(certificate, self._now)
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        text = f"{before}{subject(certificate)} by {issuer(certificate)}, until {until}, {days} days"
        self._found(about, text, f"ends in {days} days; renew it {place}" if days < EXPIRY_NOTICE else "")

    def _tell_connection(self, connection: MqttConnection) -> None:
        protocol = "MQTT 5" if connection.modern else "MQTT 3.1.1"
        size = "of any size" if connection.maximum_packet is None else f"up to {connection.maximum_packet:,} bytes"
        user = f" as {self._settings.username}" if self._settings.username is not None else " without a user"
        self._found("connection", f"{protocol}{user}, {connection.window} messages at once, packets {size}")

    # --- what it lets us do -------------------------------------------------------------------------------------

    async def _publish(self, connection: MqttConnection) -> None:
        """Try the topics; some brokers answer a message that they forbid by hanging up."""
        try:
            await self._try_topics(connection)
        except BrokerLost:
            for topic in connection.unacknowledged[:1]:
                text = f"was not acknowledged before it hung up; {_RIGHTS}"
                self._found("publishing", str(topic), text, is_wrong=True)
            raise

    async def _try_topics(self, connection: MqttConnection) -> None:
        if not connection.modern and not self._settings.self_test:
            self._found(
                "publishing", "not tried: self_test: false, and MQTT 3.1.1 says of no message that it is refused"
            )
            return
        state = await self._state(connection)
        given = probes(self._topics, self._gateway, self._equipment, self._test, state or "offline")
        if state is None:
            given = [probe for probe in given if probe.topic != self._topics.status]
        refused = await self._refused(connection, given)
        left_out = "" if state else "; status was left out, for this user does not hear whether the gateway runs"
        text = f"{len(given) - len(refused)} of {len(given)} topics{left_out}"
        self._found("publishing", text, self._without(refused, connection), is_wrong=bool(refused))
        for topic, reason in refused.items():
            self._found("publishing", topic, reason, is_wrong=True)

    @staticmethod
    def _without(refused: dict[str, str], connection: MqttConnection) -> str:
        """What it would mean for the gateway not to have these topics."""
        if not refused:
            return ""
        if connection.modern:
            return "messages on the others are put aside (gateway.quarantined)"
        return "the gateway would send nothing at all here (MQTT 3.1.1)"

    async def _refused(self, connection: MqttConnection, given: Sequence[Probe]) -> dict[str, str]:
        """Topics on which what we publish is lost, and what to do about it."""
        if connection.modern:
            refused = await refused_topics(connection, given, self._settings)
            return {topic: f"refused ({reason}); {_RIGHTS}" for topic, reason in refused.items()}
        try:
            await prove_topics(connection, lambda _: given, self._settings)
        except TopicsUnproven as unproven:
            text = f"does not come back; {_RIGHTS} and read it, or write self_test: false if it may not read"
            return dict.fromkeys(unproven.topics, text)
        return {}

    async def _state(self, connection: MqttConnection) -> State | None:
        """What the retained status says of the gateway; None if this user cannot hear that.

        For a reader who takes every message on `status` at its word, a probe there must say what holds already. What
        is retained comes at the subscription, so it is here when a message of our own is, sent behind it.
        """
        heard_at = self._topics.probes(Level.GATEWAY, SELF_TEST)[0]
        made = probes(self._topics, self._gateway, [], self._test)
        own = next(probe for probe in made if probe.topic == heard_at)
        await connection.subscribe([self._topics.status, own.topic])
        if await refused_topics(connection, [own], self._settings):
            return None
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                return await self._heard_before(connection, own)
        except TimeoutError:
            return None

    async def _heard_before(self, connection: MqttConnection, own: Probe) -> State:
        state: State = "offline"
        async with aclosing(connection.messages()) as messages:
            async for incoming in messages:
                connection.acknowledge(incoming)
                if incoming.topic == self._topics.status and incoming.retain:
                    state = _state_in(incoming.payload)
                if incoming.payload == own.payload:
                    break
        return state

    async def _try_commands(self, connection: MqttConnection) -> None:
        filters = self._topics.command_filters(self._equipment)
        refused = await connection.subscribe(filters)
        problem = "commands on the others are not heard" if refused else ""
        text = f"{len(filters) - len(refused)} of {len(filters)} subscriptions agreed to"
        self._found("commands", text, problem, is_wrong=bool(refused))
        for topic, reason in refused.items():
            text = f"refused ({reason}); let this user read it in the broker's rights (ACL)"
            self._found("commands", topic, text, is_wrong=True)


def _state_in(status: bytes) -> State:
    """Online, if that is what it says."""
    try:
        return "online" if msgspec.json.decode(status, type=_Status).state == "online" else "offline"
    except msgspec.MsgspecError:
        return "offline"
