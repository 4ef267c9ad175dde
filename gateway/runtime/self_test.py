"""The test before anything leaves over MQTT 3.1.1, which cannot say that it refuses a message (trap C2).

A broker whose rights forbid a topic acknowledges what is published there all the same, and drops it. So one probe goes
out on every topic class of every equipment, and must come back by a subscription of our own.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from typing import Final

from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection
from gateway.mqtt.probes import Probe
from gateway.mqtt.settings import MqttSettings

SHOWN: Final = 5
"""Topics that an error names; the others are counted."""

Probes = Callable[[str], Sequence[Probe]]
"""Makes the probes of one test; what it is given is in each of them, so that those of an earlier test do not count."""


async def prove_topics(connection: MqttConnection, probes: Probes, settings: MqttSettings) -> None:
    """Raises `BrokerLost` that names the topics on which nothing came back.

    The connect deadline (wall time) begins anew with everything that does come back: many machines behind a slow link
    take their time. To be called on a fresh connection; commands that come meanwhile wait for whoever listens next.
    """
    await _SelfTest(connection, probes(uuid.uuid4().hex), settings).run()


class _SelfTest:
    def __init__(self, connection: MqttConnection, probes: Sequence[Probe], settings: MqttSettings) -> None:
        self._connection = connection
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
                await self._send()
                await self._hear()
                await self._connection.unsubscribe(topics)
        except TimeoutError:
            text = f"{len(self._missing)} of {len(topics)} probes did not come back"
            raise self._failure(f"{text} within {self._settings.connect_timeout:g} s") from None
        except BrokerLost as lost:
            raise self._failure(f"it hung up during the self-test ({lost})") from None
        self._connection.put_back(self._others)

    def _go_on(self) -> None:
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._settings.connect_timeout)

    async def _send(self) -> None:
        """Publish all, and see every one acknowledged: whoever reads acknowledgements next knows nothing of probes."""
        for topic, payload in self._sent.items():
            await self._connection.room()
            self._go_on()
            self._connection.publish("probe", topic, payload)
        left = len(self._sent)
        async with aclosing(self._connection.acknowledgements()) as bursts:
            async for burst in bursts:
                self._go_on()
                left -= len(burst)
                if left == 0:
                    return

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

    def _failure(self, text: str) -> BrokerLost:
        topics = sorted(self._missing)
        shown = ", ".join(topics[:SHOWN]) + (f" and {len(topics) - SHOWN} more" if len(topics) > SHOWN else "")
        rights = "its rights (ACL) must let this user write and read them"
        if self._refused:
            rights = f"it refuses to let this user read them; {rights}"
        return BrokerLost(
            f"broker {self._settings.place}: {text}; nothing is sent, or it could be lost unnoticed (MQTT 3.1.1): "
            f"{shown}: {rights}; self_test: false if the gateway may write but not read"
        )
