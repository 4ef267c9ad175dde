"""Who commands is answered: on `res`, where MQTT 5 says, with what it gave to find its answer again; and never twice."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.mqtt.client import Incoming
from gateway.mqtt.payloads import decode_command
from gateway.runtime.command_intake import BURST, INTERVAL, Rubbish, response_objection, sender_of
from tests.brokers import Mosquitto, eventually, until
from tests.drivers.modbus_devices import Device, device
from tests.runtime.pressed import LONG, UNIT, gateway

OWN = "mfg/v1/ACME/HZ/_res/mes-1"


class Asker:
    """An MES client that speaks MQTT 5 and listens on its own response topic only."""

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[bytes | None, dict[str, Any]]] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = self._hear
        self._ready: list[bool] = []
        self._client.on_subscribe = lambda *_: self._ready.append(True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"{OWN}/#", qos=1)
        until(lambda: bool(self._ready), "the asker is subscribed")

    def _hear(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        self.answers.append((correlation, json.loads(message.payload)))

    def ask(self, cmd: str, number: bytes, *, response: str = f"{OWN}/answers", **body: Any) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic, properties.CorrelationData = response, number
        items = [{"name": "force", "value": body.pop("force", 450)}]
        payload = {"cmd": cmd, "eq": "PRESS", "set": "S", "rev": "A", "items": items, **body}
        topic = f"{UNIT}/cmd/params.download"
        self._client.publish(topic, json.dumps(payload), qos=1, properties=properties).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


@contextmanager
def asker(port: int) -> Iterator[Asker]:
    made = Asker(port)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def ready() -> AsyncIterator[Device]:
    """A press that may be written to from the first look on."""
    async with device() as press:
        await press.set(0, 1)
        yield press


def told(asked: Asker) -> list[tuple[bytes | None, str, str]]:
    return [(number, answer["cmd"], answer["answer"]) for number, answer in asked.answers]


async def test_every_answer_goes_to_the_response_topic_with_its_correlation_data_and_to_res(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with ready() as press, gateway(tmp_path, mosquitto.port, press.port) as mes:
        with asker(mosquitto.port) as asked:
            asked.ask("C1", b"\x00\xff-1", corr="MES-7")
            await eventually(lambda: len(asked.answers) == 2, "both answers", LONG)
        assert told(asked) == [(b"\x00\xff-1", "C1", "accepted"), (b"\x00\xff-1", "C1", "done")]
        assert {answer["corr"] for _, answer in asked.answers} == {"MES-7"}
        assert [answer for _, answer in asked.answers] == [a for a in mes.told(f"{UNIT}/res/") if a["cmd"] == "C1"]


async def test_s04_the_same_id_again_is_answered_to_whoever_asks_now_also_after_a_restart_and_nothing_is_done(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    async with ready() as press:
        with asker(mosquitto.port) as asked:
            async with gateway(tmp_path, mosquitto.port, press.port):
                asked.ask("C1", b"1")
                await eventually(lambda: len(asked.answers) == 2, "both answers", LONG)
                written = list(press.writes)
                asked.ask("C1", b"2")
                await eventually(lambda: len(asked.answers) == 3, "the stored answer", LONG)
            async with gateway(tmp_path, mosquitto.port, press.port):
                asked.ask("C1", b"3")
                asked.ask("C1", b"4", force=451)
                asked.ask("C2", b"5", valid_until="2026-01-01T00:00:00Z")
                await eventually(lambda: len(asked.answers) == 6, "three more", LONG)
        assert told(asked)[2:] == [
            (b"2", "C1", "done"), (b"3", "C1", "done"), (b"4", "C1", "rejected"), (b"5", "C2", "rejected"),
        ]  # fmt: skip
        assert [answer["codes"] for _, answer in asked.answers[4:]] == [["id_reused"], ["expired"]]
        assert press.writes == written
    record_property("figure", "the same id 3 times, once behind a restart: 1 write; other content: id_reused; expired")


@pytest.mark.case("C10")
async def test_s04_a_retained_command_is_refused(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with device() as press, gateway(tmp_path, mosquitto.port, press.port) as mes:
        body = {"cmd": "C1", "eq": "PRESS", "set": "S", "rev": "A", "items": [{"name": "force", "value": 1}]}
        mes.consumer.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode(), retain=True)
    async with device() as press, gateway(tmp_path, mosquitto.port, press.port) as mes:
        await eventually(lambda: any(a["codes"] == ["retained"] for a in mes.told(f"{UNIT}/res/")), "no", LONG)
        mes.consumer.publish(f"{UNIT}/cmd/params.download", b"", retain=True)
        assert press.writes == []


@pytest.mark.parametrize(
    "topic",
    ["mfg/v1/ACME/HZ/A/L1/PRESS/cmd/params.download", "mfg/v1/ACME/HZ/_gw/edge-01/status", "elsewhere", f"{OWN}/#"],
)
async def test_nobody_makes_the_gateway_publish_anywhere_by_asking_for_an_answer_there(
    mosquitto: Mosquitto, tmp_path: Path, topic: str
) -> None:
    sender = sender_of(Incoming("t", b"", False, 1, 1, topic, b"1"), decode_command("x", b"{}"))
    objection = response_objection(sender, ("mfg/v1/ACME/HZ/_res/",))
    assert objection is not None
    assert objection.code == "response_topic"
    assert "is not below mfg/v1/ACME/HZ/_res/; mqtt: response_topics: in the YAML names others" in objection.detail


async def test_a_response_topic_outside_is_refused_on_res_alone(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with device() as press, gateway(tmp_path, mosquitto.port, press.port) as mes:
        with asker(mosquitto.port) as asked:
            asked.ask("C1", b"1", response="other/place")
            answer = await mes.final("C1")
        assert (answer["answer"], answer["codes"]) == ("rejected", ["response_topic"])
        assert (press.writes, mes.told("other/place")) == ([], [])


async def test_r23_rubbish_is_answered_a_few_times_and_then_counted_and_a_command_still_gets_through(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    async with ready() as press, gateway(tmp_path, mosquitto.port, press.port) as mes:
        for number in range(BURST + 150):
            mes.consumer.publish(f"{UNIT}/cmd/params.download", b'{"no": "command"' if number % 2 else b"\xff" * 50)
        assert (await mes.download("C1", force=450))["answer"] == "done"
        refused = [answer for answer in mes.told(f"{UNIT}/res/") if answer["codes"] == ["malformed"]]
    assert len(refused) == BURST
    record_property(
        "figure", f"{BURST + 150} messages of rubbish: {BURST} answered, the rest counted; then a download done"
    )


def test_rubbish_is_answered_again_in_the_next_interval_also_where_the_clock_was_set_back() -> None:
    rubbish, objection = Rubbish(), decode_command("x", b"rubbish").objection
    for start in (1_000_000, 1_000_000 + INTERVAL, 5_000):
        answered = [rubbish.may_be_answered(objection, start) for _ in range(BURST + 5)]
        assert answered.count(True) == BURST


async def test_r23_a_command_during_an_outage_is_refused_at_once_and_not_carried_out_later(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    async with ready() as press:
        port = press.port
        async with gateway(tmp_path, mosquitto.port, port) as mes:
            await press._server.shutdown()
            await eventually(lambda: any(not e["data"]["up"] for e in connections(mes)), "the loss", LONG)
            asked = time.monotonic()
            answer = await mes.download("C1", force=450)
            waited = time.monotonic() - asked
            assert answer["codes"] == ["no_contact"] or "no_contact" in answer["codes"]
    assert press.writes == []
    record_property("figure", f"a command without contact: rejected after {1000 * waited:.0f} ms, 0 writes")


def connections(mes: Any) -> list[Any]:
    return [e for e in mes.told("mfg/v1/ACME/HZ/_gw/edge-01/evt/gateway.connection") if e["data"]["device"] == "PRESS"]
