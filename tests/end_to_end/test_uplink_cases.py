"""R1 to R4: the uplink as processes of its own at a real broker, killed, cut, kept waiting and frozen."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Gate, Mosquitto, eventually
from tests.end_to_end.uplink_stage import IS_FULL, LONG, Ear, Heard, came, judge, of_machines, writer
from tests.end_to_end.uplink_writer import STREAMS

KILLS = 50 if IS_FULL else 5
WINDOW = 200
"""Messages that may be on their way and not yet struck off, so the most that a kill makes come twice."""
OUTAGE = 600.0 if IS_FULL else 1.5
"""Seconds without a broker; by default most of what ten minutes bring comes at once."""
BURST = 0 if IS_FULL else 15_000
RATE = 500


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
                told = gateway.stop()
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
            told = gateway.stop()
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
