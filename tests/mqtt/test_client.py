"""One connection to a broker: what it carries, how it ends, and what it leaves behind (nothing)."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection, Will, packet_size
from gateway.mqtt.settings import MqttSettings
from tests.brokers import Consumer, Mosquitto, eventually, free_port, mute_broker, speaking_broker

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


async def test_the_window_is_the_smallest_of_ours_and_the_brokers(mosquitto: Mosquitto) -> None:
    mosquitto.restart("max_inflight_messages 7")  # mosquitto's Receive Maximum
    for own, expected in ((200, 7), (5, 5)):
        async with MqttConnection(settings(mosquitto.port, window=own), WILL, modern=True) as connection:
            assert connection.window == expected
            assert connection._thread is not None
            assert connection._thread._client.max_inflight_messages == own, "paho's own queue never comes into play"
            for number in range(expected):
                assert await connection.room() == expected - number
                connection.publish(number, "t", b"")
            waiting = asyncio.create_task(connection.room())
            assert await asyncio.wait_for(waiting, 5) >= 1


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
    fits = next(n for n in range(1_000, 0, -1) if packet_size("t/ü", bytes(n), modern=True) == 1_000)
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


async def test_a_refused_subscription_is_told_by_its_filter() -> None:
    """mosquitto grants what it will never deliver, so this broker is ours: SUBACK with Granted QoS 1, Not authorized."""
    async with (
        speaking_broker(scripted({0x10: b"\x20\x03\x00\x00\x00", 0x82: b"\x90\x05\x00\x01\x00\x01\x87"})) as port,
        MqttConnection(settings(port), WILL, modern=True) as connection,
    ):
        assert await connection.subscribe(["mine/cmd/+", "theirs/cmd/+"]) == {"theirs/cmd/+": "Not authorized"}


async def test_a_flood_at_qos_1_is_held_back_by_the_broker_and_nothing_of_it_is_lost(mosquitto: Mosquitto) -> None:
    """Receive Maximum: never more than 1,000 unacknowledged, however long we take (trap C11)."""
    with Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for number in range(1_500):
                mes.publish("cmd/x", b"%d" % number)
            await eventually(lambda: len(connection._incoming) == 1_000, "the bound is reached")
            taken = []
            while len(taken) < 1_500:
                message = await next_message(connection)
                connection.acknowledge(message)
                taken.append(int(message.payload))
                assert len(connection._incoming) <= 1_000
    assert taken == list(range(1_500))


async def test_a_flood_at_qos_0_is_bounded_and_said_once(mosquitto: Mosquitto) -> None:
    with capture_logs() as logs, Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for number in range(1_500):
                mes._client.publish("cmd/x", b"%d" % number, qos=0)
            mes.publish("nowhere", b"", qos=1)
            connection.publish("behind it all", "nowhere", b"")
            assert await acknowledged(connection, 1) == ["behind it all"]
            assert len(connection._incoming) == 1_000
    assert [line["event"] for line in logs] == ["messages come faster than they can be taken; those at QoS 0 are lost"]


# --- how it begins and ends ---------------------------------------------------------------------------------------


@VERSIONS
async def test_the_will_speaks_for_a_gateway_that_is_gone_and_is_silent_after_a_goodbye(
    mosquitto: Mosquitto, modern: bool
) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=modern) as connection:
            connection.publish("last", "evt/last", b"good order")
            await acknowledged(connection, 1)
        with pytest.raises(RuntimeError, match="a bug"):
            async with MqttConnection(settings(mosquitto.port), WILL, modern=modern):
                raise RuntimeError("a bug")
        await eventually(lambda: len(consumer.messages) == 2, "the will came")
    assert [(message.topic, message.payload) for message in consumer.messages] == [
        ("evt/last", b"good order"),
        ("gw/status", b"offline"),
    ]


async def test_a_lost_connection_ends_everything_that_waits_on_it_and_the_last_acknowledgements_are_still_read(
    mosquitto: Mosquitto,
) -> None:
    async with MqttConnection(settings(mosquitto.port, window=1), WILL, modern=True) as connection:
        bursts, messages = connection.acknowledgements(), connection.messages()
        connection.publish("first", "t", b"")
        assert await anext(bursts) == [("first", None)]
        mosquitto.freeze()
        connection.publish("second", "t", b"")
        waiting = [asyncio.ensure_future(w) for w in (anext(bursts), anext(messages), connection.room())]
        await asyncio.sleep(0)
        mosquitto.kill()
        for waiter in waiting:
            with pytest.raises(BrokerLost, match=rf"broker 127\.0\.0\.1:{mosquitto.port}: the broker closed"):
                await asyncio.wait_for(waiter, 5)
        with pytest.raises(BrokerLost):
            connection.publish("third", "t", b"")
        assert connection.unacknowledged == ["second"]


async def test_a_broker_that_shuts_down_says_so(mosquitto: Mosquitto) -> None:
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        mosquitto.stop()
        with pytest.raises(BrokerLost, match=r"(?i)shutting down|closed the connection"):
            await asyncio.wait_for(anext(connection.messages()), 5)


async def test_a_frozen_broker_is_noticed_within_twice_the_keepalive_and_left_in_bounded_time(
    mosquitto: Mosquitto,
) -> None:
    """Trap C7, with every buffer on the way full: then paho's own `loop_stop` would wait for ever."""
    loop = asyncio.get_running_loop()
    connection = await MqttConnection(settings(mosquitto.port, keepalive="1s"), WILL, modern=True).__aenter__()
    mosquitto.freeze()
    began = loop.time()
    for number in range(100):
        connection.publish(number, "t", bytes(200_000))
    with pytest.raises(BrokerLost, match="Keep alive timeout"):
        await asyncio.wait_for(anext(connection.acknowledgements()), 10)
    noticed = loop.time() - began
    await connection.__aexit__(None, None, None)
    assert noticed <= 2 * 1.0 + 1.0, "twice the keepalive, and the second in which paho looks at its timers"
    assert threads() == []


async def test_leaving_a_frozen_broker_takes_a_second_not_for_ever(mosquitto: Mosquitto) -> None:
    loop = asyncio.get_running_loop()
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        mosquitto.freeze()
        for number in range(100):
            connection.publish(number, "t", bytes(200_000))
        began = loop.time()
    assert loop.time() - began < 1.5
    assert threads() == []


async def test_twenty_tries_at_a_broker_that_never_answers_leave_no_thread_socket_or_task_behind() -> None:
    """Traps C6 and C8."""
    async with mute_broker() as port:
        before = None
        for attempt in range(20):
            with pytest.raises(BrokerLost, match=r"accepted the connection but said nothing within 0\.2 s") as caught:
                async with MqttConnection(settings(port, connect_timeout="200ms"), WILL, modern=True):
                    pytest.fail("it answered")
            assert caught.value.unanswered
            if attempt == 2:  # the loop has opened what it keeps
                await asyncio.sleep(0.02)
                before = (descriptors(), len(asyncio.all_tasks()))
        await asyncio.sleep(0.02)
        assert threads() == []
        assert (descriptors(), len(asyncio.all_tasks())) == before


async def test_a_connect_that_is_cancelled_ends_at_once_and_leaves_nothing_behind() -> None:
    async with mute_broker() as port:
        connection = MqttConnection(settings(port, connect_timeout="1h"), WILL, modern=True)
        connecting = asyncio.create_task(connection.__aenter__())
        await eventually(lambda: threads() != [], "the thread runs")
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(connecting, 1)
        assert threads() == []


async def test_nobody_there_a_name_without_an_address_and_a_missing_password_are_said_by_name(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(BrokerLost, match=rf"broker 127\.0\.0\.1:{port}: Connect") as caught:
        await MqttConnection(settings(port), WILL, modern=True).__aenter__()
    assert not caught.value.unanswered
    with pytest.raises(BrokerLost, match=r"broker nobody\.invalid:1883: "):
        await MqttConnection(settings(1883, host="nobody.invalid"), WILL, modern=True).__aenter__()
    missing = settings(port, username="gw", password_file=tmp_path / "none")
    with pytest.raises(BrokerLost, match=r"password file .*/none cannot be read \(No such file"):
        await MqttConnection(missing, WILL, modern=True).__aenter__()


@VERSIONS
async def test_a_wrong_password_is_refused_and_never_shown_and_the_right_one_lets_in(
    mosquitto: Mosquitto, tmp_path: Path, modern: bool
) -> None:
    option = mosquitto.add_user("gw", "canary-right")
    mosquitto.restart(option, "allow_anonymous false")
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    given = settings(mosquitto.port, username="gw", password_file=secret)
    with capture_logs() as logs:
        secret.write_text("canary-wrong\n")
        with pytest.raises(BrokerLost, match=r"refused the connection \(Not authorized") as caught:
            await MqttConnection(given, WILL, modern=modern).__aenter__()
        assert (caught.value.wrong_version, caught.value.unanswered) == (False, False)
        secret.write_text("canary-right\n")
        async with MqttConnection(given, WILL, modern=modern) as connection:
            connection.publish(1, "t", b"")
            await acknowledged(connection, 1)
    assert "canary" not in f"{logs} {caught.value!r} {given!r} {vars(connection)!r}"


@pytest.mark.parametrize(
    ("connack", "wrong_version"),
    [(b"\x20\x02\x00\x01", True), (b"\x20\x03\x00\x84\x00", True), (b"\x20\x03\x00\x88\x00", False)],
    ids=["3.1.1 says unacceptable version", "5 says unsupported version", "5 says server unavailable"],
)
async def test_a_broker_that_refuses_mqtt_5_is_told_from_one_that_refuses_us(
    connack: bytes, wrong_version: bool
) -> None:
    async with speaking_broker(scripted({0x10: connack})) as port:
        with pytest.raises(BrokerLost, match="refused the connection") as caught:
            await MqttConnection(settings(port), WILL, modern=True).__aenter__()
    assert caught.value.wrong_version is wrong_version


@pytest.mark.parametrize(
    "rubbish",
    [b"\x20\xff\xff\xff\xff\xff", b"\x30\x02\xff\xff", b"\x40\x01\x00", b"\x90\x00", b"\x00\x00", b"GET / HTTP/1.1\r\n", b"\x20\x04\x00\x00\x02\x99"],
)  # fmt: skip
async def test_rubbish_from_the_broker_ends_the_connection_and_nothing_else(rubbish: bytes) -> None:
    """What paho's parser makes of it may end its thread; the loss is told all the same (standards.md §0.3)."""
    talk = scripted({0x10: b"\x20\x03\x00\x00\x00", 0x82: rubbish})
    async with (
        speaking_broker(talk) as port,
        MqttConnection(settings(port, connect_timeout="500ms"), WILL, modern=True) as connection,
    ):
        with pytest.raises(BrokerLost):
            await connection.subscribe(["cmd/+"])
    assert threads() == []


async def test_whatever_pahos_parser_raises_is_a_loss_with_a_reason_and_not_a_silent_thread(
    mosquitto: Mosquitto,
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug in paho")

    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        assert connection._thread is not None
        connection._thread._client._packet_handle = fail  # type: ignore[method-assign,assignment]
        connection.publish(1, "t", b"")
        with pytest.raises(BrokerLost, match="cannot be understood: ZeroDivisionError"):
            await asyncio.wait_for(anext(connection.acknowledgements()), 5)
    assert threads() == []


async def test_a_callback_that_fails_does_not_end_pahos_thread(mosquitto: Mosquitto) -> None:
    with capture_logs() as logs, Consumer(mosquitto.port, "nothing") as mes:
        async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            assert connection._thread is not None
            tell, connection._thread._tell = connection._thread._tell, None  # type: ignore[assignment]
            mes.publish("cmd/a", b"lost on the way")
            await eventually(lambda: len(logs) == 1, "the failure is logged")
            connection._thread._tell = tell
            mes.publish("cmd/a", b"heard")
            assert (await next_message(connection)).payload == b"heard"
    assert logs[0]["event"] == "callback failed"


async def test_a_burst_wakes_the_loop_once_not_once_per_message(mosquitto: Mosquitto) -> None:
    """The loop's attention is what everything else in the gateway needs too."""
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        loop, wake_ups = asyncio.get_running_loop(), 0
        threadsafe = loop.call_soon_threadsafe

        def counted(*arguments: object) -> asyncio.Handle:
            nonlocal wake_ups
            wake_ups += 1
            return threadsafe(*arguments)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[method-assign,assignment]
        mosquitto.freeze()
        for number in range(200):
            connection.publish(number, "t", b"x")
        mosquitto.thaw()
        threading.Event().wait(0.3)  # the loop is busy elsewhere, and paho's thread takes all answers in
        tokens = await acknowledged(connection, 200)
    assert len(tokens) == 200
    assert wake_ups <= 5


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
