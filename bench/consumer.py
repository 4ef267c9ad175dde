"""What arrives behind the broker: counted, checked tag by tag, and timed from the source's own stamp.

    python -m bench.consumer 1883 mfg/v1/#

It prints {"ready": true}; then `report` on standard input asks for what came since the start or the last `reset`:

    {"initial": first values of tags, "values": …, "missing": …, "disordered": …, "messages": …, "p50": ms, "p99": ms}
"""

import sys
import threading
import time
from datetime import datetime
from typing import Any

import msgspec
import paho.mqtt.client as paho

from bench.lines import say


class Rows(msgspec.Struct):
    """A `tel` message, as far as it is looked at; it names its tags `t<number in the source>`."""

    t0: str
    names: list[str]
    rows: list[tuple[int, int, float]]


class Single(msgspec.Struct):
    """A message of the yardstick: one value."""

    tag: str
    value: float
    at: float


class Ledger:
    """Per tag the number that came last, and everything that was not its successor."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._lock = threading.Lock()
        self.reset()
        self._rows = msgspec.json.Decoder(Rows)
        self._single = msgspec.json.Decoder(Single)

    def reset(self) -> None:
        """Count from here on; what each tag had last is still known."""
        self.initial = self.values = self.missing = self.disordered = self.messages = 0
        self._latencies: dict[int, int] = {}

    def take(self, topic: str, payload: bytes) -> None:
        """One message; whatever is neither rows nor single is none of the load."""
        now = time.time() * 1000
        with self._lock:
            if topic.endswith("/tel"):
                message = self._rows.decode(payload)
                started = datetime.fromisoformat(message.t0).timestamp() * 1000
                for offset, index, value in message.rows:
                    self._note(message.names[index], value, now - started - offset)
                self.messages += 1
            elif topic.startswith("yardstick/"):
                single = self._single.decode(payload)
                self._note(single.tag, single.value, now - single.at)
                self.messages += 1

    def _note(self, tag: str, value: float, latency: float) -> None:
        number = int(value)
        if number == 0:
            self.initial += 1
            return
        missing = number - self._last.get(tag, 0) - 1
        self._last[tag] = number
        self.values += 1
        if missing > 0:
            self.missing += missing
        elif missing < 0:
            self.disordered += 1
        rounded = int(latency)
        self._latencies[rounded] = self._latencies.get(rounded, 0) + 1

    def report(self) -> dict[str, Any]:
        """Everything since the last `reset`."""
        with self._lock:
            return {
                "initial": self.initial, "values": self.values, "missing": self.missing,
                "disordered": self.disordered, "messages": self.messages,
                "p50": self._share(0.5), "p99": self._share(0.99),
            }  # fmt: skip

    def _share(self, share: float) -> int | None:
        """The latency, in whole milliseconds, that this share of the values did not exceed."""
        rest = share * sum(self._latencies.values())
        for latency in sorted(self._latencies):
            rest -= self._latencies[latency]
            if rest <= 0:
                return latency
        return None


def main(port: int, topic: str) -> None:
    """Listen until standard input ends."""
    ledger = Ledger()
    subscribed = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = lambda _, __, message: ledger.take(message.topic, message.payload)
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    subscribed.wait(10)
    say({"ready": True})
    for line in sys.stdin:
        if line.strip() == "reset":
            ledger.reset()
        say(ledger.report())
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
