"""What a broker will not take is put aside and said, and everything behind it flows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.brokers import Consumer, Mosquitto, eventually
from tests.runtime.test_broker_link import eventually_sent, first_seen, lines, numbers, uplink


@pytest.mark.case("C1")
async def test_r05_what_the_broker_refuses_is_put_aside_and_said_once_and_the_rest_flows(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """MQTT 5 answers 135 on one topic; that is no delivery."""
    (tmp_path / "acl").write_text("topic readwrite evt/#\ntopic readwrite now/mine\ntopic read cmd/#\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.put([(["evt/0", "forbidden/x"][n % 2], b"%d" % n) for n in range(100)])
            await up.put(retained={"now/mine": b"1", "now/theirs": b"2"})
            await up.is_empty()
            await eventually_sent(up)
            statistics = up.store.statistics
            await eventually(lambda: len(numbers(consumer)) == 50, "the rest arrived")
    assert (statistics.quarantined, statistics.published, statistics.queued) == (50, 50, 0)
    refused = [line["topic"] for line in logs if line["event"].startswith("message quarantined")]
    assert sorted(refused) == ["forbidden/x", "now/theirs"]
    record_property("figure", "50 of 100 refused: 50 put aside and none counted delivered, 50 of 50 others arrived")


async def test_r06_a_message_above_the_brokers_maximum_packet_size_never_leaves(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    mosquitto.restart("max_packet_size 2000")
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.commit(3)
            await up.commit(1, size=2_000)
            await up.commit(3)
            await up.put(retained={"now/large": bytes(2_000), "now/small": b"1"})
            await up.is_empty()
            await eventually_sent(up)
            await eventually(lambda: len(numbers(consumer)) == 6, "the others arrived")
            assert up.store.statistics.quarantined == 1
    assert numbers(consumer) == [0, 1, 2, 4, 5, 6]
    assert consumer.payloads("now/") == [b"1"]
    assert lines(logs, "broker lost") == 0
    assert up.listener.told == ["connected"]
    record_property("figure", "MQTT 5: put aside at once, no connection lost")


@pytest.mark.case("C5")
async def test_r06_where_the_broker_cannot_say_so_a_poisonous_message_is_found_in_three_connections(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Trap C5: an MQTT 3.1.1 broker just hangs up, and everything behind the message would wait for ever."""
    mosquitto.restart("max_packet_size 2000")
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, protocol="3.1.1") as up:
            await up.commit(300)
            await up.commit(1, size=2_000)
            await up.commit(300)
            await up.put(retained={"now/large": bytes(2_000), "now/small": b"1"})
            await up.is_empty()
            await eventually_sent(up)
            await eventually(lambda: 600 in numbers(consumer), "those behind it arrived")
            assert up.store.statistics.quarantined == 1
    assert first_seen(numbers(consumer)) == [*range(300), *range(301, 601)]
    assert consumer.payloads("now/")[-1] == b"1"
    reasons = {line["topic"]: line["reason"] for line in logs if line["event"].startswith("message quarantined")}
    assert reasons == {
        "evt/0": "3 connections in a row ended with it",
        "now/large": "3 connections in a row ended with it",
    }
    assert lines(logs, "broker lost") == 6
    record_property("figure", "MQTT 3.1.1: put aside after 3 connections, 600 of 600 others arrived")


async def test_a_topic_that_no_broker_could_take_stops_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with uplink(tmp_path, mosquitto.port) as up:
        await up.put([("evt/+", b"1"), ("evt/1", b"2")])
        await up.is_empty()
        assert up.store.statistics.quarantined == 1
        assert up.listener.told == ["connected"]
