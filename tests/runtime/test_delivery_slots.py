"""Places in the window: whatever a message ends with gives its place back, or the link would stand still for ever."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.mqtt.client import MqttConnection, Outgoing
from tests.brokers import Consumer, Gate, Mosquitto, eventually
from tests.runtime.test_broker_link import eventually_sent, lines, numbers, uplink

WINDOW = 4


@pytest.mark.parametrize("window", [1, WINDOW])
async def test_more_messages_than_the_window_that_no_packet_can_carry_hold_nothing_up(
    mosquitto: Mosquitto, tmp_path: Path, window: int
) -> None:
    mosquitto.restart("max_packet_size 2000")
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, window=window) as up:
            await up.commit(3 * WINDOW, size=2_000)
            await up.put(retained={f"now/{n}": bytes(2_000) for n in range(2 * WINDOW)} | {"now/small": b"1"})
            await up.commit(3 * WINDOW)
            await up.is_empty()
            await eventually_sent(up)
            await eventually(lambda: len(numbers(consumer)) == 3 * WINDOW, "the others arrived")
            await eventually(lambda: consumer.payloads("now/") == [b"1"], "and what is retained")
            assert up.store.statistics.quarantined == 3 * WINDOW


async def test_more_messages_than_the_window_that_the_broker_refuses_hold_nothing_up_and_are_said_once_for_good(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """A retained topic is tried again on each connection, and a link that comes and goes would fill the log."""
    (tmp_path / "acl").write_text("topic readwrite evt/#\ntopic read cmd/#\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")
    gate = Gate(mosquitto.port)
    await gate.open()
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, gate.port, window=WINDOW) as up:
            await up.put(retained={f"now/{n}": b"1" for n in range(3)})
            await up.put([("forbidden/x", b"%d" % n) for n in range(3 * WINDOW)])
            await up.commit(3 * WINDOW)
            await up.is_empty()
            await eventually_sent(up)
            for connections in (2, 3):
                await gate.close()
                await gate.open()
                await eventually(lambda n=connections: up.listener.told.count("connected") == n, "connected again")
                await up.put([("forbidden/x", b"again"), ("evt/0", b"%d" % (100 + connections))])
                await up.put(retained={f"now/{n}": b"%d" % connections for n in range(3)})
                await up.is_empty()
                await eventually_sent(up)
                await eventually(lambda n=connections: 100 + n in numbers(consumer), "what follows arrived")
            assert up.store.statistics.quarantined == 3 * WINDOW + 2
    await gate.close()
    assert lines(logs, "message quarantined") == 4, "three retained topics and one of the outbox"
    assert lines(logs, "the broker does not take what the gateway says of itself") == 1


async def test_nothing_goes_beyond_the_window_and_a_replay_gets_its_places_in_it(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker hangs up on whoever sends more than its Receive Maximum, also if it is only a new status (MQTT 5 §4.9)."""
    most = 0
    send = MqttConnection.publish_all

    def watched(connection: MqttConnection, messages: Sequence[Outgoing]) -> list[tuple[Outgoing, str]]:
        nonlocal most
        refused = send(connection, messages)
        most = max(most, connection.in_flight)
        return refused

    monkeypatch.setattr(MqttConnection, "publish_all", watched)
    async with uplink(tmp_path, mosquitto.port, window=WINDOW) as up:
        await up.put([("evt/a", b'{"epoch":"e"}')] * 40)
        await up.is_empty()
        replay = asyncio.create_task(up.link.replay(None, "e", 2, 39))
        await up.put([("evt/b", b"1")] * 1_500, {f"now/{n}": b"1" for n in range(40)}, first=100)
        for number in range(100):
            up.link.tell_status(b"%d" % number, b"")
            up.link.tell(f"now/counts/{number % 3}", b"%d" % number)
            await asyncio.sleep(0)
        assert (await asyncio.wait_for(replay, 20)).sent == 19
        assert up.store.statistics.queued > 500, "it did not wait for the backlog"
        await up.is_empty()
    assert most == WINDOW
