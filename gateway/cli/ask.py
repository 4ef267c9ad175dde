"""A command to the running gateway, sent through the broker as a MES would send it, and the gateway's answer."""

import asyncio
import uuid
from typing import Any, Final

from gateway.config.plant import Plant
from gateway.domain.envelope import Answer
from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.payloads import decode_answer, encode_json
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.topics import Topics

PATIENCE: Final = 15.0
"""Seconds to wait for the final answer: a gateway that runs gives it in milliseconds."""


class Unanswered(Exception):  # noqa: N818 - it says what happened
    """The command did not get through, or nobody answered; the text says which and what to do."""


async def ask(plant: Plant, equipment: str, kind: str, body: dict[str, Any], patience: float = PATIENCE) -> Answer:
    """Send the command and return its final answer. Raises `Unanswered`."""
    modern = plant.mqtt.protocol != "3.1.1"
    try:
        async with asyncio.timeout(patience):
            try:
                return await _converse(plant, equipment, kind, body, modern=modern)
            except BrokerLost as lost:
                if not modern or plant.mqtt.protocol == "5" or not (lost.wrong_version or lost.unanswered):
                    raise
            return await _converse(plant, equipment, kind, body, modern=False)
    except BrokerLost as lost:
        raise Unanswered(str(lost)) from None
    except TimeoutError:
        text = f"the broker took the command, but no answer came within {patience:g} s"
        raise Unanswered(f"{text}; does the gateway {plant.gateway_id} run, and with this broker?") from None


async def _converse(plant: Plant, equipment: str, kind: str, body: dict[str, Any], *, modern: bool) -> Answer:
    topics = Topics(plant.topic_root, plant.site, plant.gateway_id)
    command = {"cmd": f"cli-{uuid.uuid4().hex[:12]}", "type": kind, **body}
    async with MqttConnection(_visitor(plant.mqtt), None, modern=modern) as connection:
        answers = [topics.answer(level, kind) for level in (equipment, None)]  # that of a lane comes at the site
        for topic, reason in (await connection.subscribe(answers)).items():
            raise Unanswered(f"the broker refuses to let us hear {topic}: {reason}")
        connection.publish(command["cmd"], topics.command(equipment, kind), encode_json(command))
        refusal = await anext(connection.acknowledgements())
        if refusal[0].refusal is not None:
            raise Unanswered(f"the broker refuses {topics.command(equipment, kind)}: {refusal[0].refusal}")
        async for incoming in connection.messages():
            connection.acknowledge(incoming)
            answer = decode_answer(incoming.payload)
            if answer.cmd == command["cmd"] and answer.final:
                return answer
    raise AssertionError("the messages of a connection end with BrokerLost")


def _visitor(settings: MqttSettings) -> MqttSettings:
    """The gateway's credentials under a client id of our own: with the gateway's, the broker would throw it out."""
    return settings.model_copy(update={"client_id": f"{settings.client_id[:50]}-cli-{uuid.uuid4().hex[:8]}"})
