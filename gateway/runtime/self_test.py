"""The test before anything leaves over MQTT 3.1.1, which cannot say that it refuses a message (trap C2).

A broker whose rights forbid a topic acknowledges what is published there all the same, and drops it. So one probe goes
out on every topic class of every equipment, and must come back by a subscription of our own. Over MQTT 5 the broker's
answers tell (`refused_topics`); there nobody asks before each message, only `gateway check --connect`.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection
from gateway.mqtt.probes import Probe
from gateway.mqtt.settings import MqttSettings

SHOWN: Final = 5
"""Topics that an error names; the others are counted."""

Probes = Callable[[str], Sequence[Probe]]
"""Makes the probes of one test; what it is given is in each of them, so that those of an earlier test do not count."""


class TopicsUnproven(BrokerLost):
    """The self-test failed; `topics` are those on which nothing came back."""

    def __init__(self, reason: str, topics: Sequence[str]) -> None:
        super().__init__(reason)
        self.topics = topics


async def prove_topics(connection: MqttConnection, probes: Probes, settings: MqttSettings) -> None:
    """Raises `TopicsUnproven`, which names the topics on which nothing came back.

    The connect deadline (wall time) begins anew with everything that does come back: many machines behind a slow link
    take their time. To be called on a fresh connection; commands that come meanwhile wait for whoever listens next.
    """
    await _SelfTest(connection, probes(uuid.uuid4().hex), settings).run()


async def refused_topics(
    connection: MqttConnection, probes: Sequence[Probe], settings: MqttSettings
) -> Mapping[str, str]:
    """Publish all over MQTT 5; returns the topics that the broker does not take, and why. Raises `BrokerLost`.

    To be called on a connection on which nothing is in flight.
    """
    deadline = asyncio.timeout(settings.connect_timeout)
    try:
        async with deadline:
            return await _publish(connection, probes, lambda: _put_off(deadline, settings))
    except TimeoutError:
        text = f"acknowledged nothing within {settings.connect_timeout:g} s"
        raise BrokerLost(f"broker {settings.place}: {text}") from None


def _put_off(deadline: asyncio.Timeout, settings: MqttSettings) -> None:
    """The connect deadline (wall time) begins anew."""
    deadline.reschedule(asyncio.get_running_loop().time() + settings.connect_timeout)


async def _publish(connection: MqttConnection, probes: Sequence[Probe], go_on: Callable[[], None]) -> Mapping[str, str]:
    """Publish all, and see every one acknowledged: whoever reads acknowledgements next knows nothing of probes.

    `go_on` is called at every step. Returns the topics that were refused, as a broker of MQTT 5 can, and why.
    """
    refused: dict[str, str] = {}
    for topic, payload in probes:
        await connection.room()
        go_on()
        try:
            connection.publish(topic, topic, payload)
        except ValueError as objection:
            refused[topic] = str(objection)
    left = len(probes) - len(refused)
    async with aclosing(connection.acknowledgements()) as bursts:
        while left:
            burst = await anext(bursts)
            go_on()
            refused |= {str(topic): refusal for topic, refusal in burst if refusal is not None}
            left -= len(burst)
    return refused


class _SelfTest:
    def __init__(self, connection: MqttConnection, probes: Sequence[Probe], settings: MqttSettings) -> None:
        self._connection = connection
        self._probes = probes
        self._sent = {probe.topic: probe.payload for probe in probes}
        self._settings = settings
        self._missing = set(self._sent)
        self._refused: Collection[str] = ()
        self._others: list[Incoming] = []
        self._deadline = asyncio.timeout(settings.connect_timeout)

    async def run(self) -> None:
        topics = list(self._sent)
        try:
            async with self._deadline:
                self._refused = await self._connection.subscribe(topics)
                await _publish(self._connection, self._probes, self._go_on)
                await self._hear()
                await self._connection.unsubscribe(topics)
        except TimeoutError:
            text = f"{len(self._missing)} of {len(topics)} probes did not come back"
            raise self._failure(f"{text} within {self._settings.connect_timeout:g} s") from None
        except BrokerLost as lost:
            raise self._failure(f"it hung up during the self-test ({lost})") from None
        self._connection.put_back(self._others)

    def _go_on(self) -> None:
        _put_off(self._deadline, self._settings)

    async def _hear(self) -> None:
        """Until none is missing. A retained status, or the probe of an earlier test, is not what was sent."""
        async with aclosing(self._connection.messages()) as messages:
            async for incoming in messages:
                if incoming.topic not in self._sent:
                    self._others.append(incoming)
                    continue
                self._connection.acknowledge(incoming)
                if incoming.payload == self._sent[incoming.topic]:
                    self._missing.discard(incoming.topic)
                    self._go_on()
                if not self._missing:
                    return

    def _failure(self, text: str) -> TopicsUnproven:
        topics = sorted(self._missing)
        shown = ", ".join(topics[:SHOWN]) + (f" and {len(topics) - SHOWN} more" if len(topics) > SHOWN else "")
        rights = "its rights (ACL) must let this user write and read them"
        if self._refused:
            rights = f"it refuses to let this user read them; {rights}"
        return TopicsUnproven(
            f"broker {self._settings.place}: {text}; nothing is sent, or it could be lost unnoticed (MQTT 3.1.1): "
            f"{shown}: {rights}; self_test: false if the gateway may write but not read",
            topics,
        )
