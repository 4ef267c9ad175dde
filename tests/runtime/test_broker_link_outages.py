"""Brokers that are absent, die, freeze, say nothing or know only old protocols: nothing missing, nothing out of order."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.mqtt.settings import MqttSettings
from gateway.runtime.broker_link import BrokerLink
from gateway.store.store import Store
from tests.brokers import Consumer, Gate, Mosquitto, OldGate, eventually, mute_broker
from tests.runtime.test_broker_link import STATUS, FastClock, Listener, lines, numbers, streams, uplink
from tests.stopwatch import Stopwatch

# --- outages ------------------------------------------------------------------------------------------------------


async def test_a_broker_that_is_not_there_yet_is_said_once_and_gets_everything_when_it_comes(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    mosquitto.stop()
    with capture_logs() as logs:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.is_told("lost")
            await up.commit(300)
            await asyncio.sleep(0.3)  # several tries, of which nobody needs to hear
            mosquitto.start()
            await up.is_told("lost", "connected")
            await up.is_empty()
            assert up.store.statistics.published == 150
    assert lines(logs, "broker lost") == 1
    assert lines(logs, "broker connected") == 1


async def test_a_broker_killed_ten_times_in_mid_stream_misses_nothing_and_sees_first_things_first(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gate, dice, seen, repeats = Gate(mosquitto.port), random.Random(7), [], []
    consumer = Consumer(mosquitto.port).open()
    await gate.open()
    with capture_logs() as logs:
        async with uplink(tmp_path, gate.port, connect_timeout="1s") as up:
            for _ in range(10):
                target = len(consumer.messages) + dice.randint(100, 600)
                while len(consumer.messages) < target:
                    await up.commit(20)
                    await asyncio.sleep(0.002)
                mosquitto.kill()
                await gate.close()
                consumer.hear_out()
                repeats.append(len(numbers(consumer)) - len(set(numbers(consumer)) - set(seen)))
                seen += numbers(consumer)
                mosquitto.start()
                consumer = Consumer(mosquitto.port).open()
                await up.commit(40)
                await gate.open()
            await up.is_empty()
            committed, statistics = up._committed, up.store.statistics
            await eventually(lambda: numbers(consumer)[-1:] == [committed - 1], "the last one arrived")
    consumer.close()
    await gate.close()
    seen += numbers(consumer)
    assert streams(seen) == streams(range(committed)), "0 missing, and in order"
    assert max(repeats) <= 200, "never more than a window is sent again"
    assert statistics.unaccounted == 0
    assert statistics.quarantined == 0, "a broker that dies is no reason to suspect a message"
    assert lines(logs, "broker connected") == 11
    assert up.listener.told == ["connected", *["lost", "connected"] * 10]


@pytest.mark.case("C7")
async def test_a_frozen_broker_is_noticed_within_twice_the_keepalive_and_misses_nothing(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, keepalive="1s", connect_timeout="500ms") as up:
            await up.commit(1_000)
            await up.is_empty()
            mosquitto.freeze()
            with Stopwatch() as noticed:
                await up.commit(1_000)
                await up.is_told("connected", "lost")
            await up.commit(1_000)
            mosquitto.thaw()
            await up.is_empty()
            await eventually(lambda: 2_999 in numbers(consumer), "the last one arrived")
    assert noticed.seconds <= 3.0, "twice the keepalive, and the second in which paho looks at its timers"
    assert streams(numbers(consumer)) == streams(range(3_000))


async def test_a_broker_that_never_answers_is_tried_again_and_again_without_leaving_anything_behind(
    tmp_path: Path,
) -> None:
    async with mute_broker() as port:
        with capture_logs() as logs:
            async with uplink(tmp_path, port, connect_timeout="50ms") as up:
                await up.is_told("lost")
                before = len(list(Path("/proc/self/fd").iterdir()))
                await asyncio.sleep(1.5)
                after = len(list(Path("/proc/self/fd").iterdir()))
        assert abs(after - before) <= 8, "one attempt's worth at both ends"
    assert lines(logs, "broker lost") <= 2, "one reason, or two under load"
    assert up.listener.told == ["lost"]


async def test_the_time_between_two_tries_doubles_up_to_thirty_seconds_and_begins_anew_after_success(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    slept: list[float] = []

    class Clock(FastClock):
        async def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0.01)

    settings, listener = MqttSettings(port=mosquitto.port, client_id="edge"), Listener()
    mosquitto.stop()
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        link = BrokerLink(settings, store, Clock(), listener, filters=[], status=(STATUS, b"", b""), jitter=lambda: 1.0)
        running = asyncio.create_task(link.run())
        await eventually(lambda: len(slept) >= 7, "seven tries")
        mosquitto.start()
        await eventually(lambda: link.connected, "connected")
        first_outage = len(slept)
        mosquitto.kill()
        await eventually(lambda: len(slept) >= first_outage + 3, "three more tries")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert slept[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert slept[first_outage : first_outage + 3] == [1, 2, 4]


async def test_a_wrong_password_is_said_once_and_a_corrected_one_works_without_a_restart(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    option = mosquitto.add_user("edge", "canary-right")
    mosquitto.restart(option, "allow_anonymous false")
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("canary-wrong")
    with capture_logs() as logs:
        async with uplink(tmp_path, mosquitto.port, username="edge", password_file=secret) as up:
            await up.is_told("lost")
            await up.commit(10)
            secret.write_text("canary-right")
            await up.is_told("lost", "connected")
            await up.is_empty()
    (lost,) = [line for line in logs if line["event"].startswith("broker lost")]
    assert "refused the connection (Not authorized)" in lost["reason"]
    assert "canary" not in str(logs)


# --- protocol versions --------------------------------------------------------------------------------------------


async def test_a_broker_that_refuses_mqtt_5_is_spoken_to_in_3_1_1_at_once_and_after_every_outage(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gate = OldGate(mosquitto.port)
    await gate.open()
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, gate.port) as up:
            await up.commit(100)
            await up.is_empty()
            assert up.listener.told == ["connected"], "a change of protocol is no loss"
            await gate.close()
            await up.is_told("connected", "lost")
            await up.commit(100)
            await gate.open()
            await up.is_empty()
            await eventually(lambda: 199 in numbers(consumer), "the last one arrived")
    await gate.close()
    assert [line["protocol"] for line in logs if "protocol" in line] == ["MQTT 3.1.1", "MQTT 3.1.1"]
    assert streams(numbers(consumer)) == streams(range(200))


async def test_protocol_5_means_5_and_a_broker_without_it_stays_lost(mosquitto: Mosquitto, tmp_path: Path) -> None:
    gate = OldGate(mosquitto.port)
    await gate.open()
    with capture_logs() as logs:
        async with uplink(tmp_path, gate.port, protocol="5") as up:
            await up.is_told("lost")
            await asyncio.sleep(0.2)
            assert not up.link.connected
    await gate.close()
    (lost,) = [line for line in logs if line["event"].startswith("broker lost")]
    assert lost["reason"].endswith("(Unsupported protocol version); write protocol: auto, or 3.1.1")


async def test_a_broker_that_says_nothing_to_mqtt_5_is_tried_in_3_1_1_in_turns(tmp_path: Path) -> None:
    """amqtt, in a process of its own: with a user name in a CONNECT of MQTT 5 it waits for ever for the rest."""
    secret = tmp_path / "secret"
    async with demo_broker(secret) as port:
        with capture_logs() as logs:
            async with uplink(tmp_path, port, connect_timeout="500ms", username="edge", password_file=secret) as up:
                await up.commit(100)
                await up.is_empty()
                assert up.listener.told == ["lost", "connected"]
    assert [line["protocol"] for line in logs if "protocol" in line] == ["MQTT 3.1.1"]


@asynccontextmanager
async def demo_broker(secret: Path) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "broker", "--password-file", str(secret),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = await asyncio.wait_for(process.stdout.readline(), 20)
        yield int(ready.decode().rsplit(":", 1)[1].split('"')[0])
    finally:
        process.terminate()
        await process.wait()
