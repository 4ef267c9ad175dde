"""A broker that is a list, under the real `MqttConnection`: packets take time to arrive, and it answers when told to.

Only paho's thread and the socket are left out. The test decides what arrives, what is answered, and when it is cut.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from gateway.mqtt.client import MqttConnection, Outgoing
from gateway.mqtt.paho_thread import Acknowledged, Ended
from gateway.mqtt.settings import MqttSettings
from gateway.store.records import OutboxRow


class Published(NamedTuple):
    """One PUBLISH as it arrived; `token` is the gateway's own, which no broker sees."""

    mid: int
    topic: str
    payload: bytes
    historical: str | None
    token: object


class Wire:
    """In the place of paho's thread: takes packets, and never says anything by itself."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self._mid = 0

    def next_mid(self) -> int:
        self._mid = self._mid % 65_535 + 1
        return self._mid

    def send(self, packets: Sequence[bytes]) -> bool:
        self.packets += packets
        return True


class ModelConnection(MqttConnection):
    """One connection to the model broker; made inside the event loop, connected from the beginning."""

    def __init__(self, window: int, maximum_packet: int | None) -> None:
        super().__init__(MqttSettings(client_id="edge-01", port=1, window=window), None, modern=True)
        self._loop = asyncio.get_running_loop()
        self._greeted, self._ended = self._loop.create_future(), self._loop.create_future()
        self._wire = self._thread = Wire()
        self._greeted.set_result(None)
        self.maximum_packet = maximum_packet
        self.rows: set[int] = set()
        """Outbox rows that were sent on it."""
        self.unanswered: dict[int, Published] = {}
        """What has arrived, by packet id."""

    def publish_all(self, messages: Sequence[Outgoing]) -> list[tuple[Outgoing, str]]:
        """As the connection does; and no row comes twice on it, nor more than the window has places for."""
        ids = [message.token.id for message in messages if isinstance(message.token, OutboxRow)]
        assert len(self.rows | set(ids)) == len(self.rows) + len(ids), "a row is handed out once per connection"
        refused = super().publish_all(messages)
        self.rows |= set(ids)
        assert self.in_flight <= self.window, "no more than a window is under way"
        return refused

    def arrive(self, count: int) -> list[Published]:
        """So many more packets reach the broker, in their order; the others are lost if it is cut now."""
        arriving, self._wire.packets = self._wire.packets[:count], self._wire.packets[count:]
        arrived = [self._read(packet) for packet in arriving]
        self.unanswered |= {one.mid: one for one in arrived}
        return arrived

    def answer(self, answers: list[tuple[int, str | None]]) -> None:
        """One burst of PUBACKs, whatever ids are in it."""
        for mid, _ in answers:
            self.unanswered.pop(mid, None)
        self._tell(Acknowledged(answers))

    def cut(self) -> None:
        """The connection is gone; what was answered before is still read."""
        if self._lost is None:
            self._tell(Ended("cut"))

    def _read(self, packet: bytes) -> Published:
        place = 1
        while packet[place] & 128:
            place += 1
        place += 1
        length = int.from_bytes(packet[place : place + 2])
        topic = packet[place + 2 : place + 2 + length].decode()
        place += 2 + length
        mid = int.from_bytes(packet[place : place + 2])
        extra = packet[place + 3 : place + 3 + packet[place + 2]]
        historical = next((one for one in ("outage", "replay") if one.encode() in extra), None)
        return Published(mid, topic, packet[place + 3 + len(extra) :], historical, self._tokens[mid])
