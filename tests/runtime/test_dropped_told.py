"""A record that is full gives up run parameters: every one that never came is named by an event, and no other."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.runtime import uplink_duties
from tests.brokers import Gate, Mosquitto, eventually
from tests.runtime.uplink_line import LONG, MACHINE, UNIT, Mes, gateway


def told(mes: Mes) -> list[dict[str, Any]]:
    return [one.body["data"] for one in mes.events(None) if one.topic.endswith("/gateway.dropped")]


def named(mes: Mes) -> list[int]:
    ranges = [stream for data in told(mes) for stream in data["streams"]]
    return [number for one in ranges for number in range(one["from_seq"], one["to_seq"] + 1)]


def came(mes: Mes) -> list[int]:
    return [one.body["seq"] for one in list(mes.received) if one.topic == f"{UNIT}/tel"]


async def test_what_came_and_what_is_told_as_dropped_are_together_everything_and_nothing_twice(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_duties, "TELL_AGAIN", 0.02)
    gate = Gate(mosquitto.port)
    with capture_logs() as logs, Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, gate.port, store_limit=500_000, in_reach=False) as line:
            await line.write_notes(300, 4_000)
            dropped = line.store.dropped
            assert line.store.unaccounted == 0
            await gate.open()
            await eventually(lambda: len(came(mes)) + len(named(mes)) >= 300, "all of them, one way or the other", LONG)
            await line.settled()
            assert line.store.dropped == dropped
    await gate.close()
    assert dropped == len(named(mes)) == sum(data["messages"] for data in told(mes)) > 0
    assert sorted(came(mes) + named(mes)) == list(range(1, 301))
    assert sum(line["messages"] for line in logs if line["event"].startswith("run parameters dropped")) == dropped
    assert came(mes) == sorted(came(mes))
    assert {(one["eq"], one["stream"]) for data in told(mes) for one in data["streams"]} == {(MACHINE, "tel")}
    mes.check_contract()
