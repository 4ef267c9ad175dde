"""Several brokers in order of preference: the first that lets us in, and back to a better one as soon as there is one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.domain.uplink import BrokerName
from gateway.mqtt.client import BrokerLost
from gateway.mqtt.probes import Probe
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.broker_choice import LONGEST_PAUSE, BrokerChoice, Next
from tests.brokers import Consumer, Gate, Mosquitto, OldGate, eventually, free_port, speaking_broker
from tests.mqtt.certificates import Authority
from tests.mqtt.test_client import scripted
from tests.runtime.test_broker_link import STATUS, Uplink, lines, numbers, streams, uplink

SILENT = BrokerLost("nobody there")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Mosquitto]:
    """Another real broker."""
    folder = tmp_path / "second"
    folder.mkdir()
    broker = Mosquitto(folder)
    try:
        yield broker.start()
    finally:
        broker.kill()


@asynccontextmanager
async def between(path: Path, *ports: int, **more: object) -> AsyncIterator[Uplink]:
    """An uplink with several brokers. A look for a better one follows every 50 ms."""
    brokers = [{"port": port} for port in ports]
    async with uplink(path, None, brokers=brokers, **{"return_after": "1s", **more}) as up:
        yield up


def at(up: Uplink) -> list[str]:
    """The ports at which the link has been, in order."""
    return [name.broker.rpartition(":")[2] for name in up.listener.brokers]


# --- the choice itself --------------------------------------------------------------------------------------------


def choice(*protocols: str, **more: object) -> BrokerChoice:
    brokers = [{"port": 1000 + n, "protocol": protocol} for n, protocol in enumerate(protocols)]
    return BrokerChoice(MqttSettings.model_validate({"client_id": "edge", "brokers": brokers, **more}))


def test_a_round_goes_from_the_preferred_one_to_the_last_and_then_there_is_a_pause() -> None:
    tried = choice("5", "5", "5")
    followed = [(tried.settings.port, tried.lost(SILENT)) for _ in range(6)]
    assert followed == [(1000, Next.ANOTHER), (1001, Next.ANOTHER), (1002, Next.WAIT)] * 2


def test_a_lost_connection_is_followed_by_a_pause_and_the_preferred_broker_wherever_it_was() -> None:
    tried = choice("5", "5", "5")
    tried.lost(SILENT)
    assert (tried.settings.port, [one.port for one in tried.better]) == (1001, [1000])
    tried.accepted()
    assert tried.lost(SILENT) is Next.WAIT
    assert (tried.settings.port, tried.better) == (1000, ())


def test_each_broker_has_a_version_of_its_own() -> None:
    tried = choice("auto", "3.1.1", "auto")
    assert tried.lost(BrokerLost("no 5 here", wrong_version=True)) is Next.AGAIN
    assert tried.name == BrokerName("127.0.0.1:1000", "MQTT 3.1.1")
    assert tried.lost(SILENT) is Next.ANOTHER
    assert tried.name == BrokerName("127.0.0.1:1001", "MQTT 3.1.1")
    tried.lost(SILENT)
    assert tried.name == BrokerName("127.0.0.1:1002", "MQTT 5")
    assert tried.lost(BrokerLost("not a word", unanswered=True)) is Next.WAIT
    tried.lost(SILENT)
    tried.lost(SILENT)
    assert not tried.modern, "the next round asks it in 3.1.1"
    assert tried.lost(BrokerLost("not a word", unanswered=True)) is Next.WAIT
    tried.lost(SILENT)
    tried.lost(SILENT)
    assert tried.modern, "and the one after that in 5 again"


def test_a_broker_that_was_spoken_to_in_3_1_1_is_asked_for_5_after_the_next_outage() -> None:
    """It may have been replaced meanwhile."""
    tried = choice("auto")
    tried.lost(BrokerLost("no 5 here", wrong_version=True))
    tried.accepted()
    assert tried.lost(SILENT) is Next.WAIT
    assert tried.modern


def test_a_move_in_vain_makes_the_next_look_come_later_and_a_good_one_makes_it_as_before() -> None:
    tried = choice("5", "5", return_after="5min")
    pauses = []
    tried.lost(SILENT)
    tried.accepted()
    for _ in range(5):
        pauses.append(tried.pause)
        tried.move()
        tried.lost(SILENT)
        tried.accepted()
    assert pauses == [300, 600, 1200, 2400, LONGEST_PAUSE]
    tried.move()
    tried.accepted()
    assert (tried.settings.port, tried.pause) == (1000, 300)


# --- over real brokers --------------------------------------------------------------------------------------------


async def test_the_first_that_lets_us_in_is_taken_and_the_log_says_instead_of_which(
    second: Mosquitto, tmp_path: Path
) -> None:
    nobody = free_port()
    with capture_logs() as logs:
        async with between(tmp_path, nobody, second.port, return_after="1h") as up:
            await up.commit(10)
            await up.is_empty()
    assert up.listener.told == ["connected"], "no outage: there was always one in reach"
    assert lines(logs, "broker lost") == 1
    (connected,) = [line for line in logs if line["event"] == "broker connected"]
    assert (connected["broker"], connected["instead_of"]) == (f"127.0.0.1:{second.port}", f"127.0.0.1:{nobody}")


async def test_when_the_preferred_broker_dies_the_other_gets_what_is_left_and_nothing_is_missing(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    first_consumer = Consumer(mosquitto.port).open()
    with Consumer(second.port) as consumer:
        async with between(tmp_path, mosquitto.port, second.port, return_after="1h") as up:
            await up.commit(60)
            await up.is_empty()
            mosquitto.freeze()
            await up.commit(60)
            mosquitto.kill()
            await up.is_empty()
            await eventually(lambda: 119 in numbers(consumer), "the other has the rest")
        first_consumer.hear_out()
    heard = numbers(first_consumer) + numbers(consumer)
    assert streams(heard) == streams(range(120))
    assert at(up) == [str(mosquitto.port), str(second.port)]
    assert up.listener.told == ["connected", "lost", "connected"]


async def test_it_moves_back_in_good_order_when_the_preferred_broker_is_there_again(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    """While messages stream: none is missing, none comes twice, and the broker that is left hears a goodbye."""
    gate = Gate(mosquitto.port)
    with capture_logs() as logs, Consumer(mosquitto.port) as preferred, Consumer(second.port) as other:
        async with between(tmp_path, gate.port, second.port) as up:
            await up.is_told("connected")
            await gate.open()
            while not preferred.payloads("evt/"):
                await up.commit(50)
            await up.is_empty()
            committed = up._committed
            await eventually(lambda: len(numbers(preferred) + numbers(other)) >= committed, "all arrived")
            assert other.messages[-1].topic == STATUS, "after its goodbye it sent nothing more"
            assert other.payloads(STATUS) == [b'{"state":"online"}', b'{"state":"offline"}']
            assert preferred.payloads(STATUS) == [b'{"state":"online"}']
        await gate.close()
    assert up.listener.told == ["connected", "connected"], "no outage"
    assert at(up) == [str(second.port), str(gate.port)]
    assert sorted(numbers(preferred) + numbers(other)) == list(range(committed)), "nothing missing, nothing twice"
    assert streams(numbers(other) + numbers(preferred)) == streams(range(committed)), "and in order"
    assert lines(logs, "a preferred broker is back; moving over") == 1
    assert lines(logs, "broker lost") == 1


async def test_a_command_that_waits_at_the_broker_that_was_left_is_taken_when_we_come_back(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    gate = Gate(mosquitto.port)
    with Consumer(second.port, "nothing") as mes:
        async with between(tmp_path, gate.port, second.port) as up:
            await up.is_told("connected")
            await gate.open()
            await up.is_told("connected", "connected")
            mes.publish("cmd/a", b"at the wrong broker")
            await asyncio.sleep(0.05)
            assert up.listener.taken == []
            await gate.close()
            await eventually(lambda: up.listener.taken == [b"at the wrong broker"], "it was kept")
    assert at(up) == [str(second.port), str(gate.port), str(second.port)]


async def test_a_visit_leaves_the_commands_that_wait_at_the_preferred_broker_where_they_are(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    """Under the gateway's own client id it would end the session in which they wait."""
    gate = Gate(mosquitto.port)
    await gate.open()
    with Consumer(mosquitto.port, "nothing") as mes:
        async with between(tmp_path, gate.port, second.port) as up:
            await up.is_told("connected")
            await gate.close()
            await up.is_told("connected", "lost", "connected")
            mes.publish("cmd/a", b"for later")
            await gate.open()
            await eventually(lambda: up.listener.taken == [b"for later"], "it was kept")
    await gate.close()


async def test_a_visit_that_is_followed_by_a_refusal_costs_a_moment(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    """A preferred broker that lets in visitors but refuses the gateway: the backlog still goes out, at the other."""
    (tmp_path / "acl").write_text("topic readwrite cmd/#\ntopic readwrite evt/#\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")

    def probes(test: str) -> list:
        return [Probe("mfg/tel", test.encode())]

    brokers = {"protocol": "3.1.1"}
    with capture_logs() as logs, Consumer(mosquitto.port) as visited:
        async with uplink(
            tmp_path, None, probes=probes, connect_timeout="200ms", return_after="1s",
            brokers=[{"port": mosquitto.port, **brokers}, {"port": second.port, **brokers}],
        ) as up:  # fmt: skip
            await eventually(lambda: len(at(up)) >= 2, "it moved, in vain, and came back")
            await up.commit(100)
            await up.is_empty()
        assert visited.messages == [], "neither a will nor anything else"
    assert set(at(up)) == {str(second.port)}
    assert lines(logs, "a preferred broker is back") >= 1


async def test_a_preferred_broker_of_before_mqtt_5_is_visited_in_its_own_version(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    gate = OldGate(mosquitto.port)
    async with between(tmp_path, gate.port, second.port) as up:
        await up.is_told("connected")
        await gate.open()
        await up.is_told("connected", "connected")
    await gate.close()
    assert [name.protocol for name in up.listener.brokers] == ["MQTT 5", "MQTT 3.1.1"]


async def test_a_broker_that_acknowledges_nothing_is_left_all_the_same(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets us in and keeps the connection alive, so only the deadline ends it; what it had is sent again."""
    monkeypatch.setattr("gateway.runtime.broker_link.LEAVING", 0.3)
    gate = Gate(mosquitto.port)
    async with speaking_broker(never_acknowledging) as port:
        with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
            async with between(tmp_path, gate.port, port) as up:
                await up.is_told("connected")
                await up.commit(20)
                await gate.open()
                await eventually(lambda: lines(logs, "a preferred broker is back") == 1, "it leaves")
                assert not up.link.connected, "and does not say online again behind its goodbye"
                await up.is_empty()
                await eventually(lambda: 19 in numbers(consumer), "the preferred one has all")
    await gate.close()
    assert streams(numbers(consumer)) == streams(range(20))
    assert "it acknowledges nothing more, and a preferred broker is back" in str(logs)


async def never_acknowledging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker of MQTT 5 that answers CONNECT and SUBSCRIBE, and nothing else."""
    answers = {0x10: b"\x20\x03\x00\x00\x00", 0x82: b"\x90\x04\x00\x01\x00\x01"}
    await scripted(answers)(reader, writer)


async def test_a_preferred_broker_whose_certificate_ended_is_passed_over_and_taken_again_when_it_is_renewed(
    mosquitto: Mosquitto, second: Mosquitto, tmp_path: Path
) -> None:
    """The files of the certificates are read at every try, so nobody has to start the gateway anew."""
    authority = Authority(tmp_path)
    ended, fine = authority.sign("ended", "127.0.0.1", days=(-9, -1)), authority.sign("fine", "127.0.0.1")
    mosquitto.restart(f"certfile {ended.certificate}", f"keyfile {ended.key}")
    second.restart(f"certfile {fine.certificate}", f"keyfile {fine.key}")
    brokers = [{"port": one.port, "tls": {"ca": str(authority.file)}} for one in (mosquitto, second)]
    with capture_logs() as logs:
        async with uplink(tmp_path, None, brokers=brokers, return_after="1s") as up:
            await up.is_told("connected")
            await up.commit(10)
            await up.is_empty()
            await asyncio.sleep(0.25)  # several looks, of which nobody needs to hear
            mosquitto.restart(f"certfile {fine.certificate}", f"keyfile {fine.key}")
            await up.is_told("connected", "connected")
    assert at(up) == [str(second.port), str(mosquitto.port)]
    not_yet = [line["reason"] for line in logs if line["event"] == "the preferred broker is not back yet"]
    assert len(not_yet) == len(set(not_yet)) >= 1
    (lost,) = [line["reason"] for line in logs if line["event"].startswith("broker lost")]
    assert lost.startswith(f"broker 127.0.0.1:{mosquitto.port}: its certificate has expired; renew it at the broker")


async def test_who_is_draining_moves_nowhere(mosquitto: Mosquitto, tmp_path: Path) -> None:
    gate = Gate(mosquitto.port)
    with capture_logs() as logs:
        async with speaking_broker(never_acknowledging) as port, between(tmp_path, gate.port, port) as up:
            await up.is_told("connected")
            await up.commit(1)
            draining = asyncio.create_task(up.link.drain(0.4))
            await asyncio.sleep(0)
            await gate.open()
            await draining
    await gate.close()
    assert lines(logs, "a preferred broker is back") == 0


async def test_draining_at_a_broker_of_second_choice_ends_as_at_any_other(second: Mosquitto, tmp_path: Path) -> None:
    with Consumer(second.port, STATUS) as consumer:
        async with between(tmp_path, free_port(), second.port) as up:
            await up.is_told("connected")
            await up.commit(500)
            await up.link.drain(10)
            await asyncio.wait_for(up.running, 10)
            assert up.store.statistics.queued == 0
        await eventually(lambda: consumer.payloads()[-1:] == [b'{"state":"offline"}'], "it said goodbye")
