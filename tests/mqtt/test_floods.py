"""More commands than anybody can take: they wait at the broker, in TCP and, up to a bound, here (trap C11)."""

import asyncio
from itertools import count

import pytest
from structlog.testing import capture_logs

from gateway.mqtt import inbox
from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.paho_thread import RECEIVE_MAXIMUM, Incoming
from gateway.mqtt.publish_packet import publish_packet
from tests.brokers import Consumer, Mosquitto, eventually, speaking_broker
from tests.mqtt.test_client import WILL, acknowledged, next_message, settings

MANY = 5_000


async def take_all(connection: MqttConnection, until: int) -> list[int]:
    """Their numbers, in the order in which they came; each is acknowledged."""
    taken = []
    async with asyncio.timeout(60):
        async for message in connection.messages():
            connection.acknowledge(message)
            taken.append(int(message.payload))
            if taken[-1] == until:
                break
    return taken


@pytest.mark.case("C11")
async def test_a_flood_at_qos_1_is_held_back_by_the_broker_and_nothing_of_it_is_lost(mosquitto: Mosquitto) -> None:
    """Receive Maximum: the broker holds the rest back, however long we take."""
    with Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for number in range(1_500):
                mes.publish("cmd/x", b"%d" % number)
            await eventually(lambda: len(connection._inbox) == RECEIVE_MAXIMUM, "the bound is reached")
            taken = []
            while len(taken) < 1_500:
                message = await next_message(connection)
                connection.acknowledge(message)
                taken.append(int(message.payload))
                assert len(connection._inbox) <= 1_500 - RECEIVE_MAXIMUM, "mosquitto 2.0.11 sends more than it may"
    assert taken == list(range(1_500))


@pytest.mark.case("C11")
async def test_a_broker_that_heeds_no_receive_maximum_waits_in_tcp_and_the_connection_stands() -> None:
    """It was hung up on once, sent it all again on the next connection, was hung up on again, and so on for ever."""
    flood = b"".join(
        publish_packet(number % 65_535 + 1, b"cmd/x", b"%d" % number, b"\x00", retain=False) for number in range(MANY)
    )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(4_096)
            writer.write(b"\x20\x03\x00\x00\x00" + flood)
            while await reader.read(4_096):
                pass
        except OSError:
            pass
        finally:
            writer.close()

    most = 0
    async with (
        speaking_broker(talk) as port,
        MqttConnection(settings(port), WILL, modern=True) as connection,
    ):
        await eventually(lambda: len(connection._inbox) == inbox.MOST_MESSAGES, "the bound is reached")
        taken = []
        while len(taken) < MANY:
            gathered = [await next_message(connection), *connection.waiting(99)]
            taken += [int(message.payload) for message in gathered]
            await asyncio.sleep(0)
            most = max(most, len(connection._inbox))
    assert taken == list(range(MANY))
    assert most <= inbox.MOST_MESSAGES


@pytest.mark.case("C11")
async def test_acknowledgements_come_even_if_nobody_takes_and_what_was_left_comes_on_the_next_connection(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever should take may wait for an acknowledgement, which comes behind the flood: with a full record it does."""
    monkeypatch.setattr(inbox, "MOST_MESSAGES", 20)
    with capture_logs() as logs, Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port, keepalive="2s"), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for number in range(100):
                mes.publish("cmd/x", b"%d" % number)
            connection.publish("behind it all", "nowhere", b"")
            assert await acknowledged(connection, 1) == ["behind it all"]
            with pytest.raises(BrokerLost, match="sent more than could be taken"):
                await take_all(connection, until=99)
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            assert await take_all(connection, until=99) == list(range(20, 100))
    assert [line["event"] for line in logs] == ["messages come faster than they can be taken; those at QoS 0 are lost"]


@pytest.mark.case("C11")
async def test_a_flood_at_qos_0_is_bounded_and_said_once(mosquitto: Mosquitto) -> None:
    with capture_logs() as logs, Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port, keepalive="2s"), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for number in range(1_500):
                mes._client.publish("cmd/x", b"%d" % number, qos=0)
            mes.publish("nowhere", b"", qos=1)
            connection.publish("behind it all", "nowhere", b"")
            assert await acknowledged(connection, 1) == ["behind it all"]
            assert len(connection._inbox) == inbox.MOST_MESSAGES
            assert len(connection.waiting(MANY)) == inbox.MOST_MESSAGES
            mes.publish("cmd/x", b"1500", qos=0)
            assert (await next_message(connection)).payload == b"1500", "the connection goes on"
    assert [line["event"] for line in logs] == ["messages come faster than they can be taken; those at QoS 0 are lost"]


# --- the bound itself ---------------------------------------------------------------------------------------------


def incoming(size: int = 1, qos: int = 1) -> Incoming:
    return Incoming("cmd/x", bytes(size), retain=False, mid=1, qos=qos)


def filled(box: Inbox, *messages: Incoming) -> list[bool]:
    """Announced one by one, each put in at once."""
    for message in messages:
        box.announce(message)
    return [box.put(message) for message in messages]


def test_it_is_crowded_by_number_or_by_bytes_and_no_more_as_soon_as_one_is_taken() -> None:
    many, large = Inbox(1.0, lambda: 0.0), Inbox(1.0, lambda: 0.0)
    filled(many, *[incoming()] * (inbox.MOST_MESSAGES - 1))
    filled(large, *[incoming(1_000_000)] * 15, incoming(999_999))
    assert (many.is_crowded(), large.is_crowded()) == (False, False)
    assert (filled(many, incoming()), filled(large, incoming())) == ([True], [True])
    assert (many.is_crowded(), large.is_crowded()) == (True, True)
    many.take(1)
    large.take(1)
    assert (many.is_crowded(), large.is_crowded()) == (False, False)


def test_what_was_read_and_is_not_yet_put_in_counts_too() -> None:
    box = Inbox(1.0, lambda: 0.0)
    for _ in range(inbox.MOST_MESSAGES):
        box.announce(incoming())
    assert box.is_crowded()


def test_patience_begins_anew_with_everything_that_is_taken() -> None:
    clock = count()
    box = Inbox(2.5, lambda: float(next(clock)))
    filled(box, *[incoming()] * inbox.MOST_MESSAGES)
    assert [box.is_crowded() for _ in range(5)] == [True, True, True, False, False]
    box.put_back(box.take(1))
    assert [box.is_crowded() for _ in range(4)] == [True, True, True, False]


def test_once_one_is_left_to_the_broker_all_behind_it_are_or_they_would_overtake() -> None:
    box = Inbox(0.0, lambda: 0.0)
    assert filled(box, *[incoming()] * inbox.MOST_MESSAGES, incoming(qos=0)).count(False) == 1
    assert not box.leaves, "at QoS 0 there is no second time"
    assert filled(box, incoming()) == [False]
    assert box.leaves
    assert len(box.take(MANY)) == inbox.MOST_MESSAGES
    assert filled(box, incoming()) == [False]
    assert len(box) == 0
