"""R1 to R4: the uplink as processes of its own at a real broker, killed, cut, kept waiting and frozen."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from gateway.domain.times import format_timestamp
from tests.brokers import Gate, Mosquitto, eventually, free_port, speaking_broker
from tests.end_to_end.uplink_plant import MACHINES, account, gateway, newest, shown, source
from tests.end_to_end.uplink_stage import IS_FULL, LONG, Ear, Heard, came, judge, of_machines, writer
from tests.end_to_end.uplink_writer import STREAMS
from tests.mqtt.certificates import Authority

KILLS = 50 if IS_FULL else 5
WINDOW = 200
"""Messages that may be on their way and not yet struck off, so the most that a kill makes come twice."""
OUTAGE = 600.0 if IS_FULL else 1.5
"""Seconds without a broker; by default most of what ten minutes bring comes at once."""
BURST = 0 if IS_FULL else 15_000
RATE = 500
KEEPALIVE = 10 if IS_FULL else 1
FROZEN = 60.0 if IS_FULL else 0.0
"""Seconds for which the broker stands still, at least until that is noticed."""
GOES = 4_000 if IS_FULL else 100
"""Changes of every machine, fifty a second."""


@pytest.mark.timeout(1200 if IS_FULL else 120)
async def test_r01_kills_in_mid_burst_lose_nothing_and_double_no_more_than_a_window(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    dice, places, firsts = random.Random(1), [], []
    with Ear(mosquitto.port, "up/#") as ear:
        for _ in range(KILLS + 1):
            place = len(of_machines(ear.heard))
            with writer(tmp_path, mosquitto.port, rate=2_000) as gateway:
                await eventually(lambda p=place: len(of_machines(ear.heard)) > p, f"the first; {gateway.log}", LONG)  # type: ignore[misc]
                places.append(place)
                firsts.append(of_machines(ear.heard)[place].at - gateway.began)
                goal = place + dice.randint(300, 1_500)
                await eventually(lambda g=goal: len(of_machines(ear.heard)) >= g, "a burst", LONG)  # type: ignore[misc]
                if len(places) <= KILLS:
                    gateway.kill()
                    continue
                told = await gateway.stop()
        heard = of_machines(ear.heard)
    verdict = judge(heard)
    assert sum(verdict.last.values()) == told["written"]["many"]
    assert len(verdict.last) == STREAMS
    assert (told["unaccounted"], told["queued_critical"] + told["queued_telemetry"]) == (0, 0)
    assert told["acknowledged"] == told["ingested"] == told["written"]["many"]
    ends = [*places[1:], len(heard)]
    counted = [sum(begin <= place < end for place in verdict.repeats) for begin, end in zip(places, ends, strict=True)]
    assert counted[0] == 0
    assert max(counted) <= WINDOW
    assert max(firsts[1:]) < 15, "three seconds on a machine that has time"
    record_property(
        "figure",
        f"{KILLS} kills at 2,000/s: 0 of {len(heard) - len(verdict.repeats)} missing, in order; at most {max(counted)} "
        f"came twice; restart to first message {max(firsts[1:]):.1f} s at most",
    )


@pytest.mark.timeout(1200 if IS_FULL else 120)
async def test_r02_a_broker_that_was_away_gets_all_of_it_fast_and_who_has_no_backlog_does_not_wait(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The gate keeps the gateway away until the ear is there: at QoS 0 it would not be told what came before it."""
    gate = Gate(mosquitto.port)
    await gate.open()
    before = Ear(mosquitto.port, "up/#").open()
    with writer(tmp_path, gate.port) as gateway:
        await eventually(lambda: gateway.now["connected"], f"the broker; {gateway.log}", LONG)
        gateway.tell(f"rate {RATE}")
        await came(before, 200, gateway)
        mosquitto.kill()
        await gate.close()
        before.hear_out()
        cut = time.time()
        gateway.tell(f"burst {BURST}")
        await asyncio.sleep(OUTAGE)
        await eventually(lambda: gateway.now["queued_critical"] * 2 >= BURST, "what comes meanwhile", LONG)
        mosquitto.start()
        with Ear(mosquitto.port, "up/#") as ear:
            back = time.time()
            gateway.tell("fresh 50")
            await gate.open()
            await eventually(lambda: any(live(ear)), f"live messages again; {gateway.log}", LONG)
            told = await gateway.stop()
            expected = sum(told["written"].values()) - len(of_machines(before.heard))
            await eventually(lambda: len(ear.heard) >= expected, "the ear has read what the broker sent", LONG)
            after = of_machines(ear.heard)
        accounts = gateway.said
    await gate.close()
    verdict = judge([*of_machines(before.heard), *after])
    assert sum(verdict.last.values()) == sum(told["written"].values())
    assert told["acknowledged"] == told["ingested"] == sum(told["written"].values())
    assert {account["unaccounted"] for account in accounts} == {0}
    assert {one.historical for one in of_machines(before.heard)} == {None}
    assert {one.historical for one in after if one.body["t"] < back} == {"outage"}
    assert {one.historical for one in after if one.body["t"] > after[0].at} == {None}
    backlog = [one for one in after if cut < one.body["t"] < back]
    seconds = backlog[-1].at - backlog[0].at
    places = [place for place, one in enumerate(after) if one.body["machine"] == "FRESH"]
    late = sorted(after[place].at - max(after[0].at, after[place].body["t"]) for place in places)
    assert places[0] < len(backlog) / 2, "who has no backlog does not stand at the end of another's"
    assert late[len(late) * 99 // 100] < (2 if IS_FULL else 10)
    assert len(backlog) / seconds > RATE * (5 if IS_FULL else 2)
    record_property(
        "figure",
        f"{told['ingested']} messages, {len(backlog)} of an outage of {back - cut:.0f} s: 0 missing, drained at "
        f"{len(backlog) / seconds:,.0f}/s, meanwhile p99 of a machine without backlog "
        f"{late[len(late) * 99 // 100] * 1000:.0f} ms; historical=outage on all of them and on no live one",
    )


def live(ear: Ear) -> list[Heard]:
    """What came without the mark of the outage, and is of the machines that have a backlog."""
    return [one for one in of_machines(ear.heard[-500:]) if one.historical is None and one.body["machine"] != "FRESH"]


@pytest.mark.timeout(600 if IS_FULL else 120)
async def test_r03_a_broker_that_lets_nobody_in_is_tried_ever_more_rarely_and_costs_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The gateway as it is run, for sockets and threads; and its uplink alone, which can also count its tasks.

    By default their clocks run twenty times as fast, which shortens the waits between two tries and nothing else.
    """
    now = format_timestamp(round(time.time() * 1000))
    play = [] if IS_FULL else ["--play", f"{now}@{now}x20"]
    levels: list[tuple[int, int]] = []
    async with (
        speechless_broker() as (port, tries),
        speechless_broker() as (other, others),
        source(tmp_path) as (_, plc),
    ):
        with (
            gateway(tmp_path, plc, *play, port=port, connect_timeout="200ms") as process,
            writer(tmp_path, other, pace=1 if IS_FULL else 20, connect_timeout="200ms") as uplink,
        ):
            await eventually(lambda: len(tries) > 1 and len(others) > 1, f"two tries; {process.log}", LONG)
            weighed, first, told = psutil.Process(process.pid), len(tries), len(uplink.said)
            until = time.monotonic() + (300 if IS_FULL else 2.5)
            while time.monotonic() < until or min(len(tries), len(others)) < 6:
                levels.append((weighed.num_fds(), weighed.num_threads()))
                await asyncio.sleep(0.02)
            assert process.is_alive
            levels_of_uplink = [(one["fds"], one["threads"], one["tasks"]) for one in uplink.said[told:]]
            await uplink.stop()
    assert "broker lost" in process.log
    for told_of in (levels, levels_of_uplink):
        for kind in zip(*told_of, strict=True):
            half = len(kind) // 2
            assert abs(min(kind[half:]) - min(kind[:half])) <= 1, "between two tries it has what it had"
            assert max(kind) - min(kind) <= 8, "a try has its own socket and thread, and no other's"
    for tried in (tries, others):
        gaps = [later - earlier for earlier, later in pairwise(tried)]
        assert max(gaps[-2:]) > 2 * min(gaps[:3]), "each wait is longer than the last"
    (fds, threads), (_, _, tasks) = (tuple(map(min, zip(*one, strict=True))) for one in (levels, levels_of_uplink))
    record_property(
        "figure",
        f"{len(tries) - first} tries in {300 if IS_FULL else 2.5} s: {fds} descriptors, {threads} threads and {tasks} tasks throughout",
    )


@asynccontextmanager
async def speechless_broker() -> AsyncIterator[tuple[int, list[float]]]:
    """Takes every connection and never says a word; its port, and when somebody came."""
    came_at: list[float] = []

    async def listen(reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        came_at.append(time.monotonic())
        with suppress(OSError):
            while await reader.read(1_000):
                pass
        there.close()

    async with speaking_broker(listen) as port:
        yield port, came_at


@pytest.mark.timeout(300 if IS_FULL else 120)
async def test_r04_a_frozen_broker_is_noticed_in_time_and_misses_nothing_when_it_thaws(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The gateway over TLS, in front of machines that never tire; its uplink alone, in clear, at the same broker."""
    folder, authority = tmp_path / "mosquitto", Authority(tmp_path)
    folder.mkdir()
    files, port = authority.sign("broker", "127.0.0.1"), free_port()
    tls = [f"listener {port} 127.0.0.1", f"certfile {files.certificate}", f"keyfile {files.key}"]
    broker = Mosquitto(folder, *tls)
    given = {"keepalive": f"{KEEPALIVE}s", "connect_timeout": "1s"}
    try:
        broker.start()
        with Ear(broker.port) as ear:
            async with source(tmp_path) as (machines, plc):
                with (
                    gateway(
                        tmp_path, plc, port=port, host="127.0.0.1", tls={"ca": str(authority.file)}, **given
                    ) as process,
                    writer(tmp_path, broker.port, rate=100, **given) as uplink,
                ):
                    await eventually(lambda: newest(ear.heard) >= 0, f"the first values; {process.log}", LONG)
                    machines.tell(f"go {GOES}")
                    await eventually(lambda: newest(ear.heard) >= 20, f"values; {process.log}", LONG)
                    broker.freeze()
                    frozen = time.monotonic()
                    await eventually(lambda: not uplink.now["connected"], "the uplink notices", LONG)
                    noticed = [time.monotonic() - frozen]
                    await eventually(lambda: "broker lost" in process.log, f"the gateway notices; {process.log}", LONG)
                    noticed.append(time.monotonic() - frozen)
                    await asyncio.sleep(max(0.0, FROZEN - noticed[-1]))
                    broker.thaw()
                    await eventually(lambda: newest(ear.heard) == GOES, f"the last value; {process.log}", LONG)
                    told = await uplink.stop()
                    await process.terminate()
            heard = list(ear.heard)
    finally:
        broker.kill()
    verdict = judge(of_machines(heard))
    assert list(shown(heard).values()) == [list(range(GOES + 1))] * MACHINES
    assert sum(count for topic, count in verdict.last.items() if topic.startswith("up/")) == told["written"]["many"]
    assert {one["unaccounted"] for one in uplink.said} == {0}
    counted = await account(tmp_path / "gateway.db")
    assert (counted.unaccounted, counted.queued, counted.acknowledged) == (0, 0, counted.ingested)
    assert {"outage", None} == {one.historical for one in of_machines(heard)}
    assert max(noticed) < 2 * KEEPALIVE + 4, "twice the keepalive, and the noise of a busy machine"
    record_property(
        "figure",
        f"keepalive {KEEPALIVE} s: noticed in {noticed[0]:.1f} s, over TLS in {noticed[1]:.1f} s; 0 of "
        f"{sum(verdict.last.values())} missing, {len(verdict.repeats)} came twice",
    )
