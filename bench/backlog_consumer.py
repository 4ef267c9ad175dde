"""Behind the broker while a backlog drains: counts the old events, times what happens now.

    python -m bench.backlog_consumer 1883 mfg/v1/BENCH/SITE

A client that reads a burst in one go, since paho would be slower than what is measured. It starts an order on the
machine LIVE ten times a second, and times the event, the retained topic and the answer that come of it. `report` on
standard input asks for everything since the last `report` or the start:

    {"old": events, "disordered": …, "first": time of the first one, "last": …, "values": …, "bytes": …,
     "p99": {"telemetry": ms, "event": ms, "now": ms, "answer": ms}, "longest": {…}}
"""

import socket
import sys
import threading
import time
from datetime import datetime
from typing import Any, Final

import msgspec

from bench.lines import say

PERIOD: Final = 0.1
"""Seconds between two orders."""


class Rows(msgspec.Struct):
    """A `tel` message, as far as it is looked at."""

    t0: str
    rows: list[tuple[int, int, float]]


class Told(msgspec.Struct):
    """What names the order in an event, a retained topic and an answer."""

    seq: int = 0
    cmd: str | None = None
    order: Any = None


class Ledger:
    """What arrived."""

    def __init__(self, base: str) -> None:
        self._old = f"{base}/OLD/".encode()
        self._live = f"{base}/NOW/L/LIVE/".encode()
        self._lock = threading.Lock()
        self._sequences: dict[bytes, int] = {}
        self._rows = msgspec.json.Decoder(Rows)
        self._told = msgspec.json.Decoder(Told)
        self.sent: dict[str, float] = {}
        self._reset()

    def _reset(self) -> None:
        self._counts: dict[str, Any] = {"old": 0, "disordered": 0, "first": None, "last": None, "values": 0, "bytes": 0}
        self._latencies: dict[str, list[float]] = {"telemetry": [], "event": [], "now": [], "answer": []}

    def take(self, topic: bytes, payload: bytes, size: int) -> None:
        """One message; `size` is that of its packet."""
        now, counts = time.time(), self._counts
        if topic.startswith(self._old):
            at = payload.index(b'"seq":') + 6
            number = int(payload[at : payload.index(b",", at)])
            counts["disordered"] += number != self._sequences.get(topic, 0) + 1
            self._sequences[topic] = number
            counts["old"] += 1
            counts["first"], counts["last"] = counts["first"] or now, now
        elif topic.endswith(b"/tel"):
            message = self._rows.decode(payload)
            offset, _, value = message.rows[-1]
            if value >= 1:  # what a tag had when it was subscribed is as old as the server
                self._latencies["telemetry"].append(
                    now - datetime.fromisoformat(message.t0).timestamp() - offset / 1000
                )
                counts["values"] += len(message.rows)
                counts["bytes"] += size
        elif topic.startswith(self._live):
            self._take_live(topic, self._told.decode(payload), now)

    def _take_live(self, topic: bytes, told: Told, now: float) -> None:
        order = told.order["id"] if isinstance(told.order, dict) else told.cmd
        kind = {b"evt/order.started": "event", b"now/order": "now", b"res/order.start": "answer"}
        what = kind.get(topic.removeprefix(self._live))
        if what is not None and order in self.sent:
            self._latencies[what].append(now - self.sent[order])

    def report(self) -> dict[str, Any]:
        """Everything since the last one, times in milliseconds."""
        with self._lock:
            counts, latencies = self._counts, {what: sorted(times) for what, times in self._latencies.items()}
            self._reset()
        p99 = {w: round(t[len(t) * 99 // 100] * 1000, 1) if t else None for w, t in latencies.items()}
        longest = {what: round(times[-1] * 1000, 1) if times else None for what, times in latencies.items()}
        return counts | {"p99": p99, "longest": longest, "orders": len(latencies["answer"])}


class Client:
    """As much of MQTT 3.1.1 as is needed: QoS 0, no keepalive."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = b"\x00\x07backlog"
        self._send(0x10, b"\x00\x04MQTT\x04\x02\x00\x00" + name)

    def subscribe(self, topic: bytes) -> None:
        """At QoS 0."""
        self._send(0x82, b"\x00\x01" + len(topic).to_bytes(2) + topic + b"\x00")

    def publish(self, topic: bytes, payload: bytes) -> None:
        """At QoS 0."""
        self._send(0x30, len(topic).to_bytes(2) + topic + payload)

    def read(self, ledger: Ledger) -> None:
        """Hand on what arrives, until the connection ends."""
        inbox = b""
        while data := self._socket.recv(1 << 20):
            inbox = self._cut(inbox + data, ledger)

    @staticmethod
    def _cut(inbox: bytes, ledger: Ledger) -> bytes:
        """All whole packets to the ledger; returns the rest."""
        at, end = 0, len(inbox)
        while at + 2 <= end:
            length = shift = 0
            place = at + 1
            while place < end:
                byte = inbox[place]
                place += 1
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            else:
                break
            if place + length > end:
                break
            if inbox[at] & 0xF0 == 0x30:
                text = place + 2 + int.from_bytes(inbox[place : place + 2])
                ledger.take(inbox[place + 2 : text], inbox[text : place + length], place + length - at)
            at = place + length
        return inbox[at:]

    def _send(self, kind: int, body: bytes) -> None:
        length, digits = len(body), b""
        while length > 127:
            digits += bytes((length & 127 | 128,))
            length >>= 7
        self._socket.sendall(bytes((kind,)) + digits + bytes((length,)) + body)


def main(port: int, base: str) -> None:
    """Listen until standard input ends."""
    ledger, client = Ledger(base), Client(port)
    client.subscribe(b"#")
    threading.Thread(target=client.read, args=(ledger,), daemon=True).start()
    threading.Thread(target=order, args=(client, ledger, base), daemon=True).start()
    say({"ready": True})
    for _ in sys.stdin:
        say(ledger.report())


def order(client: Client, ledger: Ledger, base: str) -> None:
    """One after another."""
    for number in range(1_000_000):
        name = f"O{number}"
        ledger.sent[name] = time.time()
        command = msgspec.json.encode({"cmd": name, "eq": "LIVE", "order": name})
        client.publish(f"{base}/NOW/L/LIVE/cmd/order.start".encode(), command)
        time.sleep(PERIOD)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
