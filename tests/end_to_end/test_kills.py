"""The promise that everything else rests on: whatever kills the gateway, no piece is lost and none is doubled."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Mosquitto
from tests.end_to_end.playing import DEVICES, PlayedLine

KILLS = [
    "06:02:40",
    "06:04:00",
    "06:05:30",
    "06:07:00",
    "06:08:30",
    "06:10:00",
    "06:11:30",
    "06:13:00",
    "06:14:30",
    "06:16:00",
]


@pytest.mark.case("R01")
@pytest.mark.timeout(300)
def test_ten_kills_while_counting_lose_and_double_nothing(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Real sockets, a real mosquitto, SIGKILL: the sequences have no gap, and every total equals the ledger."""
    with PlayedLine(tmp_path, mosquitto.port, start="2026-03-02T06:00:00Z", speed=20) as line:
        line.start_gateway()
        for clock in KILLS:
            line.wait_until(clock)
            line.wait_for(lambda: line.devices_up == len(DEVICES), "the devices, that there is something to be killed")
            line.kill_gateway()
            line.restart_gateway()
        line.wait_until("06:21:15")
        line.wait_for(lambda: len(line.events("order.completed")) >= len(DEVICES), "the end of every order")
        line.finish()
        verdict, text = line.reconcile()
        assert verdict == 0, text
        assert len({event["id"] for event in line.events("gateway.restarted")}) == len(KILLS)
        known: dict[tuple[str, int], dict[str, object]] = {}
        for event in line.events():
            first = known.setdefault((event["id"], event["rev"]), event)
            assert first == event, "a repeated id must say the same"
        completed = {
            event["eq"][-5:]: event["data"]["good"] for event in known.values() if event["type"] == "order.completed"
        }
        assert completed == {"FIL01": 1350, "LBL01": 1340, "PAL01": 1340}
        record_property("figure", f"in small: 0 pieces lost, 0 doubled in {len(KILLS)} kills")
