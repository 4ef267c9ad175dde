"""The promise that everything else rests on: whatever kills the gateway, no piece is lost and none is doubled."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.folder import AuditFolder
from gateway.audit.trail import audit_folder
from gateway.audit.verify import lines, verify
from tests.brokers import Mosquitto
from tests.end_to_end.playing import DEVICES, PlayedLine
from tests.end_to_end.uplink_plant import account

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


def written_by_the_audit(line: PlayedLine) -> list[tuple[str, object]]:
    """Place and value of every write in the audit, which must be whole over all kills."""
    folder = AuditFolder(audit_folder(line.folder / "gateway.db"))
    head = folder.head()
    assert head is not None
    assert verify(folder, [head]).flaw is None
    return [(str(c.address), c.new) for told in lines(folder) if told.kind == "intent" for c in told.changes]


def written_by_the_machines(line: PlayedLine, places: set[str]) -> list[tuple[str, object]]:
    """The same by the machines' own ledger; of a block of registers those that the audit names, not its checksum."""
    found: list[tuple[str, object]] = []
    for write in json.loads(line.ledger.read_text(encoding="utf-8"))["writes"]:
        if write["machine"] == "LBL01":
            first = int(write["tag"].removeprefix("HR"))
            found += [(f"holding {first + offset}", value) for offset, value in enumerate(write["value"])]
        else:
            found.append((f"s={write['tag']}", write["value"]))
    return [(place, value) for place, value in found if place in places]


@pytest.mark.case("R01", "S15")
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
        counted = asyncio.run(account(line.folder / "gateway.db"))
        assert (counted.unaccounted, counted.queued, counted.dropped, counted.quarantined) == (0, 0, 0, 0)
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
        audited = written_by_the_audit(line)
        assert audited == written_by_the_machines(line, {place for place, _ in audited})
        assert len(audited) == 6
        record_property("figure", f"in small: 0 pieces lost, 0 doubled in {len(KILLS)} kills")
