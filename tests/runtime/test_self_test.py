"""Trap C2: MQTT 3.1.1 cannot say that it refuses a message, so before anything leaves every class of topics is tried."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.mqtt.client import MqttConnection
from gateway.mqtt.probes import SELF_TEST, probes
from gateway.mqtt.topics import Topics
from tests.brokers import Consumer, Gate, Mosquitto, eventually, speaking_broker
from tests.contract import the_contract
from tests.runtime.test_broker_link import STATUS, numbers, uplink
from tests.runtime.test_broker_link_outages import demo_broker

MACHINES = ["ACME/HZ/PACK/L1/FIL01", "ACME/HZ/PACK/L1/LBL01"]
TOPICS = Topics("mfg/v1", "ACME/HZ", "edge")
FIL01, OWN = "mfg/v1/ACME/HZ/PACK/L1/FIL01", "mfg/v1/ACME/HZ/_gw/edge"


def own_probes(test: str) -> list:
    return probes(TOPICS, "edge", MACHINES, test)


def rights(mosquitto: Mosquitto, folder: Path, *lines: str) -> None:
    (folder / "acl").write_text("\n".join(lines) + "\n")
    mosquitto.restart(f"acl_file {folder / 'acl'}")


def reasons(logs: list) -> list[str]:
    return [line["reason"] for line in logs if line["event"].startswith("broker lost")]


async def test_a_probe_goes_out_on_every_class_of_topics_before_anything_else_and_none_is_kept(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes) as up:
            await up.commit(100)
            await up.is_empty()
            await eventually(lambda: 99 in numbers(consumer), "all arrived")
        sent = [message.topic for message in consumer.messages]
    assert sorted(sent[:14]) == sorted(
        [f"mfg/v1/{path}/{name}" for path in MACHINES for name in (f"evt/{SELF_TEST}", f"res/{SELF_TEST}", f"now/{SELF_TEST}", "tel")]
        + [f"mfg/v1/ACME/HZ/{name}/{SELF_TEST}" for name in ("evt", "res")]
        + [f"{OWN}/{name}" for name in (f"evt/{SELF_TEST}", f"res/{SELF_TEST}", f"now/{SELF_TEST}", "status")]
    )  # fmt: skip
    assert sent[14] == STATUS, "then it says online, and only then the outbox is emptied"
    assert all(topic.startswith("evt/") for topic in sent[15:115])
    with Consumer(mosquitto.port) as late:
        assert [message.topic for message in late.messages if message.topic != STATUS] == []


async def test_a_probe_says_what_it_is_to_whoever_reads_it_as_something_else(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Consumer(mosquitto.port, "mfg/v1/#") as consumer:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes) as up:
            await up.is_told("connected")
        for message in consumer.messages:
            the_contract().check(message.topic, json.loads(message.payload))
    heard = {message.topic: json.loads(message.payload) for message in consumer.messages}
    assert {body["type"] for body in heard.values()} == {SELF_TEST}
    assert len({body["test"] for body in heard.values()}) == 1
    assert heard[f"{FIL01}/tel"] | {"test": ""} == {
        "type": SELF_TEST, "v": 1, "gw": "edge", "eq": MACHINES[0], "test": "", "state": "offline", "names": [], "rows": [],
    }  # fmt: skip
    assert (heard[f"{OWN}/status"]["state"], heard[f"{OWN}/status"]["eq"]) == ("offline", None)


@pytest.mark.case("C2")
async def test_a_topic_that_the_broker_drops_unsaid_is_named_and_nothing_leaves_until_it_is_mended(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    rights(mosquitto, tmp_path, "topic readwrite #", f"topic deny {FIL01}/tel", f"topic deny {OWN}/evt/#")
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes, connect_timeout="300ms") as up:
            await up.commit(10)
            await up.is_told("lost")
            await eventually(lambda: len(consumer.payloads("mfg/")) > 12, "it is tried again")
            await eventually(lambda: any("2 of 14" in reason for reason in reasons(logs)), "it is said")
            assert not up.link.connected
            assert numbers(consumer) == []
            assert up.store.statistics.queued == 10
            consumer.close()
            rights(mosquitto, tmp_path, "topic readwrite #")
            consumer.open()
            await up.is_told("lost", "connected")
            await up.is_empty()
            await eventually(lambda: 9 in numbers(consumer), "all arrived")
    said = next(reason for reason in reasons(logs) if "2 of 14" in reason)  # a machine that stands still may miss more
    assert said.startswith(f"broker 127.0.0.1:{mosquitto.port}: 2 of 14 probes did not come back within 0.3 s;")
    assert f": {FIL01}/tel, {OWN}/evt/{SELF_TEST}: its rights (ACL) must let this user write and read them;" in said
    assert said.endswith("self_test: false if the gateway may write but not read")


@pytest.mark.parametrize(("protocol", "self_test"), [("3.1.1", False), ("5", True)])
async def test_without_the_test_and_over_mqtt_5_no_probe_is_sent(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str, self_test: bool
) -> None:
    with Consumer(mosquitto.port, "mfg/v1/#") as consumer:
        async with uplink(tmp_path, mosquitto.port, protocol=protocol, self_test=self_test, probes=own_probes) as up:
            await up.commit(10)
            await up.is_empty()
    assert consumer.messages == []


async def test_a_command_that_comes_during_the_test_is_taken_after_it(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The broker keeps it for us, and sends it in the moment in which we are in."""
    with Consumer(mosquitto.port, "nothing") as mes:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes) as up:
            await up.is_told("connected")
        for number in range(3):
            mes.publish("cmd/a", b"%d" % number)
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes) as up:
            await eventually(lambda: len(up.listener.taken) == 3, "they are taken")
            mes.publish("cmd/a", b"3")
            await eventually(lambda: len(up.listener.taken) == 4, "and the next one")
    assert up.listener.taken == [b"0", b"1", b"2", b"3"]


async def test_what_we_publish_does_not_come_back_any_more_when_the_test_is_over(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Consumer(mosquitto.port, "nothing") as other:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes) as up:
            await up.is_told("connected")
            other.publish(f"{FIL01}/tel", b"a batch")
            other.publish("cmd/a", b"behind it")
            await eventually(lambda: b"behind it" in up.listener.taken, "it came")
            assert up.listener.taken == [b"behind it"]


async def test_the_probe_of_an_earlier_test_proves_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """A topic that may be read but not written, and on it what another gateway, or another test, once left."""
    with Consumer(mosquitto.port, "nothing") as other:
        for probe in own_probes("of yesterday"):
            other.publish(probe.topic, probe.payload, retain=True)
    levels = ("evt", "res", "now", "tel", "status")
    writable = [
        f"topic readwrite mfg/v1/{path}/{level}/#"
        for path in (*MACHINES, "ACME/HZ", "ACME/HZ/_gw/edge")
        for level in levels
    ]
    writable.remove(f"topic readwrite {FIL01}/tel/#")
    rights(mosquitto, tmp_path, *writable, f"topic read {FIL01}/tel")
    with capture_logs() as logs:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=own_probes, connect_timeout="300ms") as up:
            await eventually(lambda: any("1 of 14 probes" in reason for reason in reasons(logs)), "it is not fooled")
            assert not up.link.connected


async def test_the_demos_broker_passes(tmp_path: Path) -> None:
    """amqtt, which speaks nothing but MQTT 3.1.1."""
    secret = tmp_path / "secret"
    async with (
        demo_broker(secret) as port,
        uplink(tmp_path, port, protocol="3.1.1", probes=own_probes, username="edge", password_file=secret) as up,
    ):
        await up.commit(100)
        await up.is_empty()
        assert up.listener.told == ["connected"]


async def test_a_hundred_machines_are_more_than_a_window_and_are_tested_too(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither are more probes under way than may be, nor is one that came back left for the broker to send again."""
    mosquitto.restart("max_inflight_messages 20")
    publish, under_way = MqttConnection.publish, []

    def noted(connection: MqttConnection, *message: object, **more: object) -> None:
        publish(connection, *message, **more)  # type: ignore[arg-type]
        under_way.append(connection.in_flight)

    monkeypatch.setattr(MqttConnection, "publish", noted)
    machines = [f"ACME/HZ/PACK/L1/M{number}" for number in range(100)]
    given = partial(probes, TOPICS, "edge", machines)
    async with uplink(tmp_path, mosquitto.port, protocol="3.1.1", probes=given, window=10) as up:
        await up.is_told("connected")
    assert len(under_way) >= 406
    assert max(under_way) <= 10


class SlowGate(Gate):
    """A long way to the broker: 10 ms for whatever is on it."""

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await asyncio.sleep(0.01)
                writer.write(data)
        finally:
            writer.close()


async def test_a_slow_link_may_take_longer_than_the_deadline_as_long_as_something_comes_back(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gate, machines = SlowGate(mosquitto.port), [f"ACME/HZ/PACK/L1/M{number}" for number in range(5)]
    await gate.open()
    given = partial(probes, TOPICS, "edge", machines)
    async with uplink(
        tmp_path, gate.port, protocol="3.1.1", probes=given, window=1, connect_timeout="300ms"
    ) as up:  # 26 probes, one after the other, each there and back: a second
        await eventually(lambda: up.link.connected, "the test is passed")
    await gate.close()


async def test_a_broker_that_hangs_up_on_a_forbidden_topic_is_told_as_what_it_is(tmp_path: Path) -> None:
    """Some brokers do, instead of dropping the message unsaid. This one refuses the subscription, too."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"\x20\x02\x00\x00", b"\x90\x10\x00\x01" + b"\x80" * 14, b""):  # CONNECT, SUBSCRIBE, PUBLISH
            await reader.read(65_536)
            writer.write(answer)
        writer.close()

    with capture_logs() as logs:
        async with speaking_broker(hang_up) as port, uplink(tmp_path, port, protocol="3.1.1", probes=own_probes) as up:
            await up.is_told("lost")
    (said, *_) = reasons(logs)
    assert "it hung up during the self-test (broker 127.0.0.1:" in said
    assert " and 9 more: it refuses to let this user read them; its rights (ACL) must let this user write and" in said
