"""The fake gateway behind a real broker: publishes what it is told to, and answers replays."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.brokers import Consumer
from tests.consumer.fake_gateway import FakeGateway, Sent


class Played:
    """`gateway` with a connection of its own. `silent`: it does not answer."""

    def __init__(self, gateway: FakeGateway, port: int) -> None:
        self.gateway = gateway
        self.silent = False
        self._client = Consumer(port, f"{gateway.base}/cmd/replay")

    def publish(self, *messages: Sent) -> None:
        """At QoS 1, one after another."""
        for topic, payload, historical in messages:
            properties = {"UserProperty": [("historical", historical)]} if historical else {}
            self._client.publish(topic, payload, retain=topic.endswith("/status"), **properties)

    async def _answer(self) -> None:
        answered = 0
        while True:
            await asyncio.sleep(0.01)
            commands = self._client.payloads()
            while answered < len(commands) and not self.silent:
                self.publish(*self.gateway.replay(json.loads(commands[answered])))
                answered += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Played"]:
        with self._client:
            self.publish(self.gateway.status())
            answering = asyncio.create_task(self._answer())
            try:
                yield self
            finally:
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
