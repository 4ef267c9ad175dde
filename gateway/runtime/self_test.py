"""The test before anything leaves over MQTT 3.1.1, which cannot say that it refuses a message (trap C2).

A broker whose rights forbid a topic acknowledges what is published there all the same, and drops it. So one probe goes
out on every topic class of every equipment, and must come back by a subscription of our own.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing

from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection
from gateway.mqtt.probes import Probe
from gateway.mqtt.settings import MqttSettings

SHOWN = 5
"""Topics that an error names; the others are counted."""

Probes = Callable[[str], Sequence[Probe]]
"""Makes the probes of one test; what it is given is in each of them, so that those of an earlier test do not count."""


async def prove_topics(connection: MqttConnection, probes: Probes, settings: MqttSettings) -> None:
    """Raises `BrokerLost` that names the topics on which nothing came back within the connect deadline (wall time).

    To be called on a fresh connection. Commands that come meanwhile wait for whoever listens next.
    """
    sent = {probe.topic: probe.payload for probe in probes(uuid.uuid4().hex)}
    missing, others = set(sent), list[Incoming]()
    refused: Collection[str] = ()
    try:
        async with asyncio.timeout(settings.connect_timeout):
            refused = await connection.subscribe(list(sent))
            await _send(connection, sent)
            await _hear(connection, sent, missing, others)
            await connection.unsubscribe(list(sent))
    except TimeoutError:
        text = f"{len(missing)} of {len(sent)} probes did not come back within {settings.connect_timeout:g} s"
        raise _failure(settings, text, missing, refused) from None
    except BrokerLost as lost:
        raise _failure(settings, f"it hung up during the self-test ({lost})", missing, ()) from None
    connection.put_back(others)


async def _send(connection: MqttConnection, sent: Mapping[str, bytes]) -> None:
    """Publish all, and see every one acknowledged: whoever reads acknowledgements next knows nothing of probes."""
    for topic, payload in sent.items():
        await connection.room()
        connection.publish("probe", topic, payload)
    left = len(sent)
    async with aclosing(connection.acknowledgements()) as bursts:
        async for burst in bursts:
            left -= len(burst)
            if left == 0:
                return


async def _hear(
    connection: MqttConnection, sent: Mapping[str, bytes], missing: set[str], others: list[Incoming]
) -> None:
    """Take out of `missing` what comes back, until it is empty. A retained status or an old probe is neither."""
    async with aclosing(connection.messages()) as messages:
        async for incoming in messages:
            if incoming.topic not in sent:
                others.append(incoming)
                continue
            connection.acknowledge(incoming)
            if incoming.payload == sent[incoming.topic]:
                missing.discard(incoming.topic)
            if not missing:
                return


def _failure(settings: MqttSettings, text: str, missing: Collection[str], refused: Collection[str]) -> BrokerLost:
    topics = sorted(missing)
    shown = ", ".join(topics[:SHOWN]) + (f" and {len(topics) - SHOWN} more" if len(topics) > SHOWN else "")
    rights = "its rights (ACL) must let this user write and read them"
    if refused:
        rights = f"it refuses to let this user read them; {rights}"
    return BrokerLost(
        f"broker {settings.place}: {text}; nothing is sent, or it could be lost unnoticed (MQTT 3.1.1): {shown}: "
        f"{rights}; self_test: false if the gateway may write but not read"
    )
