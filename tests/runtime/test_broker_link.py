"""The link to the broker when all goes well: order, commands, beginning and end; and the stage for its other tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.domain.uplink import BrokerName
from gateway.domain.values import Timestamp
from gateway.mqtt.client import Incoming
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.broker_link import BrokerLink
from gateway.runtime.self_test import Probes
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.store import Store
from tests.brokers import Consumer, Gate, Mosquitto, eventually, free_port
from tests.stopwatch import Stopwatch

STATUS = "mfg/_gw/edge/status"


class FastClock:
    """Plant time at twenty times the wall's pace, so that a backoff of a second takes 50 ms."""

    rate = 20.0
    jumped = 0

    def now(self) -> Timestamp:
        return round(time.time() * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)


class Listener:
    """A daemon that writes down what it is told. `busy` holds commands up, as a commit that takes its time."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.brokers: list[BrokerName] = []
        self.taken: list[bytes] = []
        self.seen: list[bytes] = []
        self.free = asyncio.Event()
        self.free.set()

    def broker_connected(self, broker: BrokerName) -> None:
        self.told.append("connected")
        self.brokers.append(broker)

    def broker_lost(self, reason: str) -> None:
        self.told.append("lost")

    async def handle_message(self, incoming: Incoming) -> None:
        self.seen.append(incoming.payload)
        await self.free.wait()
        self.taken.append(incoming.payload)


class Uplink:
    """A store and a running link, as the daemon has them."""

    def __init__(self, store: Store, link: BrokerLink, listener: Listener) -> None:
        self.store = store
        self.link = link
        self.listener = listener
        self.running = asyncio.create_task(link.run())
        self._committed = 0

    async def commit(self, count: int, size: int = 0) -> None:
        """Put the next numbers into the outbox, on three topics in turn; even ones are events, odd ones telemetry."""
        numbers = range(self._committed, self._committed + count)
        self._committed += count
        await self.put([(f"evt/{n % 3}", b"%d" % n + bytes(size)) for n in numbers], first=numbers[0])

    async def put(
        self, messages: Sequence[tuple[str, bytes]] = (), retained: dict[str, bytes] | None = None, first: int = 0
    ) -> None:
        rows = [
            OutboxMessage(topic, payload, "evt" if n % 2 == 0 else "tel", None, n)
            for n, (topic, payload) in enumerate(messages, first)
        ]
        await self.store.commit(Transaction(messages=rows, retained=retained or {}))
        self.link.wake()

    async def is_empty(self, seconds: float = 20) -> None:
        await eventually(lambda: self.store.statistics.queued == 0, "the outbox is empty", seconds)

    async def is_told(self, *told: str) -> None:
        await eventually(lambda: self.listener.told == list(told), f"told {told}")


@asynccontextmanager
async def uplink(path: Path, port: int | None, probes: Probes | None = None, **more: object) -> AsyncIterator[Uplink]:
    where = {} if port is None else {"port": port}
    settings = MqttSettings.model_validate({"client_id": "edge", "connect_timeout": "2s", **where, **more})
    listener = Listener()
    async with Store(path / "record.db", new_epoch="e") as store:
        link = BrokerLink(
            settings, store, FastClock(), listener,
            filters=["cmd/+"], status=(STATUS, b'{"state":"online"}', b'{"state":"offline"}'), probes=probes, jitter=lambda: 0.5,
        )  # fmt: skip
        up = Uplink(store, link, listener)
        try:
            yield up
        finally:
            up.running.cancel()
            await asyncio.gather(up.running, return_exceptions=True)
        assert (await store.account()).unaccounted == 0


def numbers(consumer: Consumer) -> list[int]:
    return [int(payload.rstrip(b"\0")) for payload in consumer.payloads("evt/")]


def first_seen(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


def streams(values: Iterable[int]) -> list[list[int]]:
    """The events and the telemetry that `commit` made, each as first seen: only within a stream is order promised."""
    return [first_seen([value for value in values if value % 2 == odd]) for odd in (0, 1)]


def lines(logs: list, event: str) -> int:
    return sum(line["event"].startswith(event) for line in logs)


async def eventually_sent(up: Uplink) -> None:
    """Wait until no retained topic is unsent."""
    deadline = time.monotonic() + 20
    while await up.store.unsent_retained(1):
        assert time.monotonic() < deadline, "retained topics are still unsent"
        await asyncio.sleep(0.005)


# --- without faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_five_thousand_messages_arrive_in_order_exactly_once(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, protocol=protocol) as up:
            for count in (1, 999, 4_000):
                await up.commit(count)
            await up.is_empty()
            statistics = up.store.statistics
            await eventually(lambda: len(numbers(consumer)) >= 5_000, "all arrived")
    assert len(numbers(consumer)) == 5_000
    assert streams(numbers(consumer)) == streams(range(5_000))
    assert (statistics.published, statistics.queued_telemetry) == (2_500, 0), "telemetry is gone, events are kept"
    assert (statistics.ingested, statistics.acknowledged, statistics.unaccounted) == (5_000, 5_000, 0)


async def test_a_message_committed_while_all_is_quiet_is_there_at_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.is_told("connected")
            took = []
            for number in range(50):
                began = time.perf_counter()
                await up.commit(1)
                await eventually(lambda n=number: len(numbers(consumer)) > n, "it arrived")  # type: ignore[misc]
                took.append(time.perf_counter() - began)
    assert sorted(took)[25] < 0.05, f"median {sorted(took)[25] * 1000:.1f} ms"


async def test_of_a_retained_topic_the_newest_is_what_stays_at_the_broker(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with uplink(tmp_path, mosquitto.port) as up:
        for state in (b"IDLE", b"RUN", b"DOWN"):
            await up.put(retained={"now/state": state, "now/order": b"A"})
        await eventually_sent(up)
    with Consumer(mosquitto.port, "now/#") as late:
        await eventually(lambda: len(late.messages) == 2, "both came")
    assert sorted(late.messages) == [("now/order", b"A", True), ("now/state", b"DOWN", True)]


async def test_a_retained_state_overtakes_a_backlog(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.commit(6_000)
            await eventually(lambda: len(numbers(consumer)) > 200, "the backlog is under way")
            await up.put(retained={"now/state": b"DOWN"})
            await eventually(lambda: consumer.payloads("now/") == [b"DOWN"], "the state came")
            before = len(numbers(consumer))
            await up.is_empty()
    assert before < 3_000, "it did not have to wait for the rest"


# --- commands -----------------------------------------------------------------------------------------------------


async def test_a_command_is_acknowledged_when_its_effects_are_committed_and_comes_again_otherwise(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gate = Gate(mosquitto.port)
    await gate.open()
    with Consumer(mosquitto.port, "nothing") as mes:
        async with uplink(tmp_path, gate.port) as up:
            await up.is_told("connected")
            mes.publish("cmd/a", b"1")
            await eventually(lambda: up.listener.taken == [b"1"], "the first is taken")
            up.listener.free.clear()
            mes.publish("cmd/a", b"2")
            await eventually(lambda: up.listener.seen == [b"1", b"2"], "the second is being worked on")
            await gate.close()
            mes.publish("cmd/a", b"3")
            up.listener.free.set()
            await gate.open()
            await eventually(lambda: up.listener.taken[-1:] == [b"3"], "the third is taken")
    await gate.close()
    assert up.listener.seen == [b"1", b"2", b"2", b"3"]


async def test_a_refused_subscription_does_not_stop_what_goes_up(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """mosquitto grants a subscription that it will not serve; what matters is that no reading of it hurts."""
    (tmp_path / "acl").write_text("topic write #\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")
    async with uplink(tmp_path, mosquitto.port) as up:
        await up.commit(10)
        await up.is_empty()
        assert up.store.statistics.published == 5


# --- beginning and end --------------------------------------------------------------------------------------------


async def test_the_status_is_online_while_we_are_and_offline_after_a_good_or_a_bad_end(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    online, offline = b'{"state":"online"}', b'{"state":"offline"}'
    with Consumer(mosquitto.port, STATUS) as consumer:
        async with uplink(tmp_path, mosquitto.port) as up:
            await eventually(lambda: consumer.payloads() == [online], "online")
            await up.link.drain(5)
            await eventually(lambda: consumer.payloads() == [online, offline], "offline by our own hand")
            await asyncio.wait_for(up.running, 10)
        async with uplink(tmp_path, mosquitto.port) as up:
            await eventually(lambda: consumer.payloads()[2:] == [online], "online again")
        await eventually(lambda: consumer.payloads()[2:] == [online, offline], "offline by the will")
    with Consumer(mosquitto.port, STATUS) as late:
        await eventually(lambda: late.messages == [(STATUS, offline, True)], "it is retained")


async def test_draining_empties_the_outbox_and_leaves_new_commands_to_the_next_start(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.is_told("connected")
            await up.commit(3_000)
            draining = asyncio.create_task(up.link.drain(10))
            await asyncio.sleep(0)
            consumer.publish("cmd/late", b"late")
            await draining
            assert up.store.statistics.queued == 0
            assert up.listener.seen == []
            assert up.running.done()
            assert up.listener.told == ["connected"], "leaving is no loss"
        await eventually(lambda: len(numbers(consumer)) == 3_000, "all arrived")
        async with uplink(tmp_path, mosquitto.port) as up:
            await eventually(lambda: up.listener.taken == [b"late"], "the command waited")


async def test_draining_gives_up_when_its_time_is_over_and_says_what_is_left(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.is_told("connected")
            mosquitto.freeze()
            await up.commit(300)
            with Stopwatch() as draining:
                await up.link.drain(0.5)
        mosquitto.thaw()
        async with uplink(tmp_path, free_port()) as up:
            await up.is_told("lost")
            await up.link.drain(5)
    assert draining.seconds < 2
    assert [line["messages"] for line in logs if line["event"].startswith("stopping with")] == [300, 300]


async def test_a_broker_that_dies_while_we_drain_is_not_waited_for(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with uplink(tmp_path, mosquitto.port) as up:
        await up.is_told("connected")
        mosquitto.freeze()
        await up.commit(10)
        draining = asyncio.create_task(up.link.drain(30))
        await asyncio.sleep(0)
        mosquitto.kill()
        await asyncio.wait_for(draining, 5)
        assert up.running.done()
        assert up.store.statistics.queued == 10


async def test_a_bug_in_the_listener_ends_the_link_instead_of_being_hidden(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async def fail(incoming: Incoming) -> None:
        raise KeyError("a bug")

    with Consumer(mosquitto.port, "nothing") as mes:
        async with uplink(tmp_path, mosquitto.port) as up:
            await up.is_told("connected")
            up.listener.handle_message = fail  # type: ignore[method-assign]
            mes.publish("cmd/a", b"1")
            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.wait_for(asyncio.shield(up.running), 5)
    assert caught.group_contains(KeyError)
