"""Alarm conditions over a real server: told as they change, told again at every new subscription."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_plant
from gateway.domain.times import parse_timestamp
from gateway.domain.values import ConditionChange
from gateway.drivers.registry import DRIVERS
from gateway.runtime.clock import PlayClock

ROOT = Path(__file__).parents[2]
START = parse_timestamp("2026-03-02T06:00:00Z")
SPEED = 5


@pytest.fixture
def scada(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[float]:
    """The simulators' SCADA server, shortly before 06:13:00 where the alarm 4002 is raised; gives the epoch.

    It is acknowledged late, so that it is new also to a driver that a busy machine has kept waiting.
    """
    scenario = (ROOT / "simulators" / "scenarios" / "demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "late.yaml").write_text(scenario.replace('ack: "06:13:20"', 'ack: "06:14:50"'), encoding="utf-8")
    epoch = time.time() - (12 * 60 + 50) / SPEED
    command = [sys.executable, "-m", "simulators", "scada", "--scenario", str(tmp_path / "late.yaml")]
    play = ["--speed", str(SPEED), "--epoch", datetime.fromtimestamp(epoch, UTC).isoformat()]
    with subprocess.Popen([*command, *play], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        monkeypatch.setenv("SCADA_URL", json.loads(process.stdout.readline())["ready"]["SCADA"])
        yield epoch
        process.terminate()


def driver(epoch: float) -> Any:
    device = load_plant(ROOT / "config").devices["SCADA"]
    clock = PlayClock(START, round(epoch * 1000), SPEED)
    return DRIVERS["opcua"].driver("SCADA", device.settings, device.tags, clock)


async def first_condition(epoch: float) -> ConditionChange:
    async with asyncio.timeout(20), driver(epoch) as link:
        async for batch in link.changes():
            if batch.conditions:
                found: ConditionChange = batch.conditions[0]
                return found
    raise AssertionError("the link ended")


async def test_a_condition_is_told_with_its_own_time_and_again_to_whoever_comes_later(scada: float) -> None:
    first = await first_condition(scada)
    assert first == ConditionChange(
        "PAL01", "4002", True, False, "Stretch film low", 400, parse_timestamp("2026-03-02T06:13:00Z"),
        confirmed=None, condition="nsu=urn:simulators:scada;s=PAL01.Alarm.4002", event_id=first.event_id,
    )  # fmt: skip
    assert first.event_id
    later = await first_condition(scada)  # a new session: only ConditionRefresh can have told of it
    assert (later.code, later.active) == ("4002", True)
