"""One connection to a broker: what it carries up and down."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.domain.contract.objections import Objection
from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection, Will
from gateway.mqtt.paho_thread import MAXIMUM_PACKET
from gateway.mqtt.payloads import Refused, decode_command
from gateway.mqtt.publish_packet import publish_packet
from gateway.mqtt.settings import MqttSettings
from tests.brokers import Consumer, Mosquitto, eventually, speaking_broker

WILL = Will("gw/status", b"offline")
VERSIONS = pytest.mark.parametrize("modern", [True, False], ids=["mqtt5", "mqtt311"])


def settings(port: int, **more: object) -> MqttSettings:
    return MqttSettings(port=port, client_id="gw", **{"connect_timeout": "5s", **more})  # type: ignore[arg-type]


async def acknowledged(connection: MqttConnection, count: int) -> list[object]:
    """The next `count` tokens that the broker acknowledged."""
    tokens: list[object] = []
    async with asyncio.timeout(5):
        async for burst in connection.acknowledgements():
            assert all(refusal is None for _, refusal in burst)
            tokens += [token for token, _ in burst]
            if len(tokens) >= count:
                break
    return tokens


async def next_message(connection: MqttConnection) -> Incoming:
    async with asyncio.timeout(5):
        return await anext(connection.messages())


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("paho")]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def scripted(answers: dict[int, bytes]) -> Callable:
    """A broker that answers the first packet of each type with these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = dict(answers)
        try:
            while kind := await reader.read(1):
                length, shift = 0, 0
                while True:
                    (byte,) = await reader.readexactly(1)
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                await reader.readexactly(length)
                writer.write(left.pop(kind[0], b""))
                if kind[0] == 0xE0:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return talk


# --- publishing ---------------------------------------------------------------------------------------------------


@VERSIONS
async def test_what_is_published_arrives_in_order_and_is_acknowledged_under_its_token(
    mosquitto: Mosquitto, modern: bool
) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=modern) as connection:
            for number in range(150):
                connection.publish(f"token {number}", f"evt/{number % 3}", b"%d" % number)
            assert connection.in_flight == 150
            assert connection.unacknowledged[0] == "token 0"
            assert await acknowledged(connection, 150) == [f"token {number}" for number in range(150)]
            assert (connection.in_flight, connection.unacknowledged) == (0, [])
        await eventually(lambda: len(consumer.messages) >= 150, "all arrived")
    assert consumer.payloads() == [b"%d" % number for number in range(150)]


@pytest.mark.case("C4", "C13")
async def test_the_window_is_the_smallest_of_ours_and_the_brokers(mosquitto: Mosquitto) -> None:
    mosquitto.restart("max_inflight_messages 7")  # mosquitto's Receive Maximum
    for own, expected in ((200, 7), (5, 5)):
        async with MqttConnection(settings(mosquitto.port, window=own), WILL, modern=True) as connection:
            assert connection.window == expected
            for number in range(expected):
                assert await connection.room() == expected - number
                connection.publish(number, "t", b"")
            waiting = asyncio.create_task(connection.room())
            assert await asyncio.wait_for(waiting, 5) >= 1


@pytest.mark.case("C1")
async def test_a_refused_message_is_told_from_an_accepted_one(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite allowed/#\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        connection.publish(1, "allowed/a", b"")
        connection.publish(2, "forbidden/a", b"")
        connection.publish(3, "allowed/b", b"")
        answers: dict[object, str | None] = {}
        async with asyncio.timeout(5):
            async for burst in connection.acknowledgements():
                answers |= dict(burst)
                if len(answers) == 3:
                    break
    assert answers == {1: None, 2: "Not authorized", 3: None}


async def test_a_message_above_the_brokers_maximum_is_refused_here_to_the_byte(mosquitto: Mosquitto) -> None:
    """Sent, it would end the connection (trap C5)."""
    mosquitto.restart("max_packet_size 1000")
    fits = 1_000 - len(publish_packet(1, "t/ü".encode(), b"", b"\0", retain=False)) - 1  # a longer length of its own
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        assert connection.maximum_packet == 1_000
        with pytest.raises(ValueError, match=r"its 1,001 bytes exceed the broker's Maximum Packet Size of 1,000"):
            connection.publish("large", "t/ü", bytes(fits + 1))
        connection.publish("just right", "t/ü", bytes(fits))
        assert await acknowledged(connection, 1) == ["just right"]


async def test_a_topic_that_mqtt_cannot_carry_is_a_value_error_and_does_no_harm(mosquitto: Mosquitto) -> None:
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        for topic in ("a/+/b", "a/#", "", "a\0b", "x" * 70_000, "ü" * 40_000):
            with pytest.raises(ValueError, match="cannot be a topic"):
                connection.publish(1, topic, b"")
        connection.publish("good", "t", b"")
        assert await acknowledged(connection, 1) == ["good"]


# --- incoming -----------------------------------------------------------------------------------------------------


@VERSIONS
async def test_a_command_that_was_not_acknowledged_comes_again_and_one_that_came_while_away_is_there(
    mosquitto: Mosquitto, modern: bool
) -> None:
    with Consumer(mosquitto.port) as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=modern) as connection:
            assert await connection.subscribe(["cmd/+"]) == {}
            mes.publish("cmd/a", b"done")
            mes.publish("cmd/b", b"not done")
            connection.acknowledge(await next_message(connection))
            assert (await next_message(connection)).payload == b"not done"
        mes.publish("cmd/c", b"while away")
        async with MqttConnection(settings(mosquitto.port), WILL, modern=modern) as connection:
            taken = [await next_message(connection), await next_message(connection)]
            assert [(message.topic, message.payload) for message in taken] == [
                ("cmd/b", b"not done"),
                ("cmd/c", b"while away"),
            ]
            assert not any(message.retain for message in taken)


async def test_who_wants_the_answer_where_travels_with_a_command_and_may_be_missing(mosquitto: Mosquitto) -> None:
    with Consumer(mosquitto.port, "nothing") as mes:
        mes.publish("cmd/old", b"retained", retain=True)
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            assert (await next_message(connection))[:3] == ("cmd/old", b"retained", True)
            mes.publish("cmd/a", b"ask", ResponseTopic="answers/7", CorrelationData=b"\x00\xff")
            mes.publish("cmd/a", b"tell")
            ask, tell = await next_message(connection), await next_message(connection)
    assert (ask.response_topic, ask.correlation_data) == ("answers/7", b"\x00\xff")
    assert (tell.response_topic, tell.correlation_data) == (None, None)


async def test_what_is_put_back_comes_first_also_to_somebody_who_waits_already(mosquitto: Mosquitto) -> None:
    with Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for word in (b"1", b"2"):
                mes.publish("cmd/a", word)
            taken = [await next_message(connection), await next_message(connection)]
            waiting = asyncio.create_task(next_message(connection))
            await asyncio.sleep(0)
            connection.put_back(taken)
            assert [(await waiting).payload, (await next_message(connection)).payload] == [b"1", b"2"]


async def test_a_broker_that_goes_instead_of_ending_a_subscription_is_lost_at_once() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"\x20\x03\x00\x00\x00", b""):  # CONNECT, UNSUBSCRIBE
            await reader.read(65_536)
            writer.write(answer)
        writer.close()

    async with (
        speaking_broker(talk) as port,
        MqttConnection(settings(port, connect_timeout="1h"), WILL, modern=True) as connection,
    ):
        with pytest.raises(BrokerLost, match=r"the broker closed the connection$"):
            await asyncio.wait_for(connection.unsubscribe(["cmd/+"]), 10)


async def test_a_refused_subscription_is_told_by_its_filter() -> None:
    """mosquitto grants what it will never deliver, so this broker is ours: SUBACK with Granted QoS 1, Not authorized."""
    async with (
        speaking_broker(scripted({0x10: b"\x20\x03\x00\x00\x00", 0x82: b"\x90\x05\x00\x01\x00\x01\x87"})) as port,
        MqttConnection(settings(port), WILL, modern=True) as connection,
    ):
        assert await connection.subscribe(["mine/cmd/+", "theirs/cmd/+"]) == {"theirs/cmd/+": "Not authorized"}


async def test_a_command_beyond_our_maximum_packet_size_stays_at_the_broker_and_blocks_nothing(
    mosquitto: Mosquitto,
) -> None:
    """mosquitto 2.0.11 counts each against Receive Maximum all the same, so two hundred of them would block."""
    with Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            mes.publish("cmd/x", b"fits" + bytes(900_000))
            for _ in range(20):
                mes.publish("cmd/x", bytes(MAXIMUM_PACKET))
            mes.publish("cmd/x", b"next")
            first, second = await next_message(connection), await next_message(connection)
            assert (first.payload[:4], second.payload) == (b"fits", b"next")


async def test_over_mqtt_3_1_1_no_command_is_too_large_to_be_refused_in_words(mosquitto: Mosquitto) -> None:
    with Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=False) as connection:
            await connection.subscribe(["cmd/+"])
            mes.publish("cmd/x", bytes(3_000_000))
            message = await next_message(connection)
            assert len(message.payload) == 3_000_000
            refused = decode_command("params.download", message.payload)
            assert isinstance(refused, Refused)
            assert refused.objection == Objection("oversize", "has 3,000,000 bytes; at most 256,000 are taken")
