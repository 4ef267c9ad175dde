"""R1 to R4: the uplink as processes of its own at a real broker, killed, cut, kept waiting and frozen."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Mosquitto, eventually
from tests.end_to_end.uplink_stage import IS_FULL, LONG, Ear, judge, of_machines, writer
from tests.end_to_end.uplink_writer import STREAMS

KILLS = 50 if IS_FULL else 5
WINDOW = 200
"""Messages that may be on their way and not yet struck off, so the most that a kill makes come twice."""


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
