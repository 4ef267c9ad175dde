"""A command to the running gateway, sent through the broker as a MES would send it, and the gateway's answer."""

import asyncio
import uuid
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec

from gateway.config.plant import Plant
from gateway.domain.contract.envelope import Answer
from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.payloads import decode_answer, encode_json
from gateway.mqtt.topics import Topics
from gateway.mqtt.visits import visiting

PATIENCE: Final = 15.0
"""Seconds to wait for the final answer: a gateway that runs gives it in milliseconds."""

LOOK: Final = 2.0
"""Seconds to wait for the gateway's status at one of several brokers; retained, it comes with the subscription."""


class _Status(msgspec.Struct):
    state: str


class Unanswered(Exception):  # noqa: N818 - it says what happened
    """The command did not get through, or nobody answered; the text says which and what to do."""


async def ask(plant: Plant, equipment: str, kind: str, body: dict[str, Any], patience: float = PATIENCE) -> Answer:
    """Send the command and return its final answer, in `patience` seconds. Raises `Unanswered`.

    Where there are several brokers it goes to the one at which the gateway is.
    """
    command = {"cmd": f"cli-{uuid.uuid4().hex[:12]}", "type": kind, **body}
    brokers, elsewhere = plant.mqtt.choices(), list[str]()
    try:
        async with asyncio.timeout(patience):
            for broker in brokers:
                try:
                    async with visiting(broker, f"cli-{uuid.uuid4().hex[:8]}") as connection:
                        if len(brokers) == 1 or await _is_here(plant, connection):
                            return await _converse(plant, connection, equipment, command)
                    elsewhere.append(f"broker {broker.place}: the gateway {plant.gateway_id} is not there")
                except BrokerLost as lost:
                    elsewhere.append(str(lost))
    except TimeoutError:
        text = f"the broker took the command, but no answer came within {patience:g} s"
        raise Unanswered(f"{text}; does the gateway {plant.gateway_id} run, and with this broker?") from None
    raise Unanswered("; ".join(elsewhere))


async def _is_here(plant: Plant, connection: MqttConnection) -> bool:
    """True if the gateway's status, retained at each broker, says online at this one."""
    topic = Topics(plant.topic_root, plant.site, plant.gateway_id).status
    await connection.subscribe([topic])
    with suppress(TimeoutError, msgspec.DecodeError):
        async with asyncio.timeout(LOOK), aclosing(connection.messages()) as messages:
            async for incoming in messages:
                connection.acknowledge(incoming)
                return msgspec.json.decode(incoming.payload, type=_Status).state == "online"
    return False


async def _converse(plant: Plant, connection: MqttConnection, equipment: str, command: dict[str, Any]) -> Answer:
    topics, kind = Topics(plant.topic_root, plant.site, plant.gateway_id), command["type"]
    answers = [topics.answer(level, kind) for level in (equipment, None)]  # that of a lane comes at the site
    for topic, reason in (await connection.subscribe(answers)).items():
        raise Unanswered(f"the broker refuses to let us hear {topic}: {reason}")
    connection.publish(command["cmd"], topics.command(equipment, kind), encode_json(command))
    refusal = await anext(connection.acknowledgements())
    if refusal[0].refusal is not None:
        raise Unanswered(f"the broker refuses {topics.command(equipment, kind)}: {refusal[0].refusal}")
    async for incoming in connection.messages():
        connection.acknowledge(incoming)
        if incoming.topic not in answers:
            continue
        answer = decode_answer(incoming.payload)
        if answer.cmd == command["cmd"] and answer.final:
            return answer
    raise AssertionError("the messages of a connection end with BrokerLost")
