"""How a connection begins and ends, and what it leaves behind (nothing)."""

import asyncio
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.paho_client import LOOK
from tests.brokers import Consumer, Mosquitto, eventually, free_port, mute_broker, speaking_broker
from tests.mqtt.test_client import VERSIONS, WILL, acknowledged, descriptors, next_message, scripted, settings, threads
from tests.stopwatch import Stopwatch


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


@pytest.mark.case("C3")
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
        with pytest.raises(BrokerLost):
            await asyncio.wait_for(connection.room(), 5)
        assert connection.unacknowledged == ["second"]


async def test_a_cancellation_that_comes_together_with_the_brokers_answer_is_not_lost(mosquitto: Mosquitto) -> None:
    """Or a gateway that is stopped just then would go on for ever: before Python 3.12 `wait_for` loses it."""
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        subscribing = asyncio.create_task(connection.subscribe(["up/#"]))
        await asyncio.sleep(0)
        assert connection._subscribed is not None
        connection._subscribed.set_result([None])
        subscribing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await subscribing


async def test_a_broker_that_shuts_down_says_so(mosquitto: Mosquitto) -> None:
    async with MqttConnection(settings(mosquitto.port), WILL, modern=True) as connection:
        mosquitto.stop()
        with pytest.raises(BrokerLost, match=r"(?i)shutting down|closed the connection"):
            await asyncio.wait_for(anext(connection.messages()), 5)


async def test_a_frozen_broker_is_noticed_within_twice_the_keepalive_and_left_in_bounded_time(
    mosquitto: Mosquitto,
) -> None:
    """Trap C7, with every buffer on the way full: then paho's own `loop_stop` would wait for ever."""
    connection = await MqttConnection(settings(mosquitto.port, keepalive="1s"), WILL, modern=True).__aenter__()
    mosquitto.freeze()
    with Stopwatch() as noticed:
        for number in range(100):
            connection.publish(number, "t", bytes(200_000))
        with pytest.raises(BrokerLost, match="Keep alive timeout"):
            await asyncio.wait_for(anext(connection.acknowledgements()), 30)
    await connection.__aexit__(None, None, None)
    assert noticed.seconds <= 2 * 1.0 + 1.0, "twice the keepalive, and the second in which paho looks at its timers"
    assert threads() == []


@pytest.mark.case("C7")
@pytest.mark.parametrize(("keepalive", "agreed"), [("10s", 9), ("3s", 2), ("2s", 1), ("1s", 1)])
async def test_the_keepalive_agreed_with_the_broker_leaves_paho_the_second_it_is_late(
    keepalive: str, agreed: int
) -> None:
    """paho asks after one, gives up after another, and is late by up to `LOOK` each time: together twice ours."""
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readexactly(12))  # of CONNECT: up to the keepalive
        writer.close()

    async with speaking_broker(talk) as port:
        with pytest.raises(BrokerLost):
            await MqttConnection(settings(port, keepalive=keepalive), WILL, modern=True).__aenter__()
    assert int.from_bytes((await heard)[-2:]) == agreed
    assert agreed == 1 or 2 * (agreed + LOOK) <= 2 * float(keepalive[:-1])


async def test_leaving_a_frozen_broker_takes_a_second_not_for_ever(mosquitto: Mosquitto) -> None:
    connection = await MqttConnection(settings(mosquitto.port), WILL, modern=True).__aenter__()
    mosquitto.freeze()
    for number in range(100):
        connection.publish(number, "t", bytes(200_000))
    with Stopwatch() as leaving:
        await connection.__aexit__(None, None, None)
    assert leaving.seconds < 1.5
    assert threads() == []


@pytest.mark.case("C6")
async def test_twenty_tries_at_a_broker_that_never_answers_leave_no_thread_socket_or_task_behind() -> None:
    """Traps C6 and C8."""
    async with mute_broker() as port:
        before, told = None, set()
        for attempt in range(20):
            with pytest.raises(BrokerLost, match=r"within 0\.2 s") as caught:
                async with MqttConnection(settings(port, connect_timeout="200ms"), WILL, modern=True):
                    pytest.fail("it answered")
            assert caught.value.unanswered
            told.add(str(caught.value))
            if attempt == 2:  # the loop has opened what it keeps
                await asyncio.sleep(0.02)
                before = (descriptors(), len(asyncio.all_tasks()))
        await asyncio.sleep(0.02)
        assert threads() == []
        assert (descriptors(), len(asyncio.all_tasks())) == before
        # A machine that stood still while the connection was made has other words for one of them.
        assert f"broker 127.0.0.1:{port}: accepted the connection but said nothing within 0.2 s" in told


@pytest.mark.case("C8")
async def test_a_connect_that_is_cancelled_ends_at_once_and_leaves_nothing_behind() -> None:
    async with mute_broker() as port:
        connection = MqttConnection(settings(port, connect_timeout="1h"), WILL, modern=True)
        connecting = asyncio.create_task(connection.__aenter__())
        await eventually(lambda: threads() != [], "the thread runs")
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(connecting, 10)
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
