"""The demo broker lets in who has the password, and stands what a demo sends."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from stages import ready, simulator


@dataclass
class DemoBroker:
    port: int
    password: str


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DemoBroker]:
    file = tmp_path / "password"
    with simulator("broker", "--password-file", str(file), stderr=-1) as process:
        port = int(ready(process)["ready"]["broker"].rpartition(":")[2])
        assert process.stderr is not None
        assert process.stderr.readline().startswith("demo broker")
        yield DemoBroker(port, file.read_text().strip())


class Peer:
    """A client in its own thread; `wait` for what it should have seen."""

    def __init__(self, name: str, broker: DemoBroker, password: str | None, *, topic: str | None = None) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, name, clean_session=False, reconnect_on_failure=False)
        if password is not None:
            self.client.username_pw_set(name, password)
        self.messages: list[str] = []
        self.reasons: list[Any] = []
        self.session_present = False
        self._news = threading.Condition()
        self._topic = topic
        self.client.on_connect = self._connected
        self.client.on_message = self._came
        self.client.on_subscribe = lambda *_: self._tell(lambda: self.reasons.append("subscribed"))
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()

    def wait(self, condition: Any, seconds: float = 15) -> bool:
        with self._news:
            return bool(self._news.wait_for(condition, seconds))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _connected(self, client: mqtt.Client, _data: object, flags: Any, reason: Any, _properties: object) -> None:
        self.session_present = flags.session_present
        if not reason.is_failure and self._topic:
            client.subscribe(self._topic, qos=1)
        self._tell(lambda: self.reasons.append(str(reason)))

    def _came(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self._tell(lambda: self.messages.append(message.payload.decode()))

    def _tell(self, note: Any) -> None:
        with self._news:
            note()
            self._news.notify_all()


@pytest.mark.parametrize("password", [None, "", "guessed"])
def test_nobody_gets_in_without_the_password(broker: DemoBroker, password: str | None) -> None:
    peer = Peer("stranger", broker, password)
    try:
        assert peer.wait(lambda: peer.reasons)
        assert peer.reasons == ["Not authorized"]
    finally:
        peer.close()


def test_the_generated_password_is_for_its_owner_alone(tmp_path: Path, broker: DemoBroker) -> None:
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
    assert len(broker.password) >= 24


def test_two_thousand_messages_of_qos_1_arrive_in_order(broker: DemoBroker) -> None:
    listener = Peer("listener", broker, broker.password, topic="mfg/#")
    sender = Peer("sender", broker, broker.password)
    try:
        assert listener.wait(lambda: "subscribed" in listener.reasons)
        for number in range(2000):
            sender.client.publish("mfg/v1/n", str(number), qos=1)
        assert listener.wait(lambda: len(listener.messages) >= 2000)
        assert listener.messages == [str(number) for number in range(2000)]
    finally:
        listener.close()
        sender.close()


def test_a_persistent_session_gets_what_came_while_it_was_away(broker: DemoBroker) -> None:
    before = Peer("mes", broker, broker.password, topic="mfg/#")
    assert before.wait(lambda: "subscribed" in before.reasons)
    before.close()
    sender = Peer("sender", broker, broker.password)
    assert sender.wait(lambda: sender.reasons)
    sent = [sender.client.publish("mfg/v1/n", str(number), qos=1) for number in range(500)]
    sent[-1].wait_for_publish(10)
    after = Peer("mes", broker, broker.password)
    try:
        assert after.wait(lambda: len(after.messages) >= 500)
        assert after.session_present
        assert after.messages == [str(number) for number in range(500)]
    finally:
        after.close()
        sender.close()


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret")
    file.chmod(0o644)
    with simulator("broker", "--password-file", str(file), stderr=-1) as process:
        assert process.wait(timeout=10) == 2
        assert process.stderr is not None
        complaint = process.stderr.read()

    assert "chmod 600" in complaint
    assert "secret" not in complaint
