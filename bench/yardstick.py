"""The plain way, for comparison: an asyncua subscription whose handler publishes one JSON message per notification.

    python -m bench.yardstick opc.tcp://127.0.0.1:4841 10000 1883

What a first gateway looks like, with everything that costs it anything left out: no mapping, no store, QoS 0.
It prints {"ready": true} when it is subscribed, and {"values": n} for each line on standard input.
"""

import asyncio
import json
import sys
from typing import Any

import paho.mqtt.client as paho
from asyncua import Client

from bench.lines import say
from bench.load_source import NAMESPACE

CHUNK = 1_000


class Handler:
    """asyncua's interface: one call per value."""

    def __init__(self, client: paho.Client, names: dict[Any, str]) -> None:
        self._client = client
        self._names = names
        self.values = 0

    def datachange_notification(self, node: Any, value: float, data: Any) -> None:
        """Publish this value."""
        name = self._names[node.nodeid]
        at = data.monitored_item.Value.SourceTimestamp
        message = {"tag": name, "value": value, "at": at.timestamp() * 1000}
        self._client.publish(f"yardstick/{name}", json.dumps(message))
        self.values += value >= 1


async def run(url: str, tags: int, port: int) -> None:
    """Subscribe all tags, and publish until standard input ends."""
    broker = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    broker.connect("127.0.0.1", port)
    broker.loop_start()
    async with Client(url, timeout=60) as client:
        namespace = await client.get_namespace_index(NAMESPACE)
        nodes = [client.get_node(f"ns={namespace};s=tag{place}") for place in range(tags)]
        handler = Handler(broker, {node.nodeid: f"t{place}" for place, node in enumerate(nodes)})
        subscription = await client.create_subscription(100, handler)
        for begin in range(0, tags, CHUNK):
            await subscription.subscribe_data_change(nodes[begin : begin + CHUNK], queuesize=10)
        say({"ready": True})
        while await asyncio.to_thread(sys.stdin.readline):
            say({"values": handler.values})
    broker.loop_stop()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
