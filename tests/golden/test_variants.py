"""The demo's twenty minutes with one thing gone wrong in each: the sums are the machines' all the same.

A variant is a file of `changes` to the demo's scenario, by dotted key, and of what happens on the way: `stamps` (a
device's clock is ahead), `late` (a tag is told after so long, dated back), `repeats` (every message comes twice). The
variants of certificates, namespaces and full disks are those of the drivers and the store.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.domain.times import parse_duration
from gateway.domain.values import Batch, TagChange, Timestamp
from simulators.reconcile import reconcile
from simulators.scenario import Scenario, parse
from tests.golden.player import ROOT, Player

FOLDER = Path(__file__).parent / "variants"
BASE = ROOT / "simulators" / "scenarios" / "demo.yaml"
LOST = {"plc_restart": {("LBL01", "produced"): 2, ("LBL01", "good"): 2}}
"""What nobody can know, by variant: two bottles were made between the last poll and the restart."""


class VariantPlayer(Player):
    """Plays a variant: its scenario, with the clocks and the delays that it says."""

    def __init__(self, name: str) -> None:
        variant = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
        super().__init__(_changed(variant.get("changes", {})))
        self._ahead = {device: _milliseconds(text) for device, text in variant.get("stamps", {}).items()}
        self._delays = {tag: _milliseconds(text) for tag, text in variant.get("late", {}).items()}
        self._held: list[TagChange] = []
        self._repeats = variant.get("repeats", False)

    def deliver(self, device: str, batch: Batch, now: Timestamp) -> None:
        changes = [change for change in batch.changes if not self._holds(change)]
        due = [change for change in self._held if now >= _stamp(change) + self._delays[change.tag_id]]
        if device == "SCADA":
            self._held = [change for change in self._held if change not in due]
            changes += due
        ahead = self._ahead.get(device, 0)
        shifted = [TagChange(c.tag_id, c.value, c.status_code, _stamp(c) + ahead) for c in changes]
        super().deliver(device, Batch(shifted, batch.contact), now)

    def received(self) -> list[dict[str, Any]]:
        """What a plain subscriber got."""
        capture = self.play()
        return [message for message in capture for _ in range(2 if self._repeats else 1)]

    def _holds(self, change: TagChange) -> bool:
        is_late = change.tag_id in self._delays and change.source_timestamp != self.start
        if is_late:
            self._held.append(change)
        return is_late


def _changed(changes: dict[str, Any]) -> Scenario:
    raw = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *way, last = key.split(".")
        part = raw
        for step in way:
            part = part[step]
        part[last] = value
    return parse(raw)


def _milliseconds(text: str) -> int:
    return round(parse_duration(text) * 1000)


def _stamp(change: TagChange) -> Timestamp:
    assert change.source_timestamp is not None
    return change.source_timestamp


def _flags(events: list[dict[str, Any]]) -> set[str]:
    return {flag for event in events if event["type"] == "production.count" for flag in event["data"]["flags"]}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_the_sums_of_every_variant_are_the_machines(name: str) -> None:
    player = VariantPlayer(name)
    received = player.received()
    events = [message["payload"] for message in received if "/evt/" in message["topic"]]
    rows = reconcile(player.line.ledger(), [{**message, "retain": False} for message in received])
    differences = {
        (row.equipment, row.figure.split(",")[0]): int(row.truth) - int(row.received or 0)
        for row in rows
        if not row.equal
    }
    assert differences == LOST.get(name, {})
    if name in LOST:
        assert "reset" in _flags(events)
    end = player.scenario.iso(player.scenario.length)
    assert [event["t_src"] for event in events if event["t_src"] > end] == [], "nothing is dated in the future"
    contents: dict[tuple[str, int], Any] = {}
    for event in events:
        assert contents.setdefault((event["id"], event["rev"]), event) == event, "an id is only repeated as it was"


def test_a_clock_that_is_eight_hours_ahead_changes_no_duration() -> None:
    ahead, right = VariantPlayer("plc_clock_ahead"), Player(BASE)
    told = [
        [(e["t_src"], e["data"]["to"]) for e in _events(player) if e["type"] == "equipment.state"]
        for player in (ahead, right)
    ]
    assert told[0] == told[1]


def test_a_late_scan_starts_and_ends_the_order_when_it_truly_did() -> None:
    player = VariantPlayer("late_scan")
    ours = [e for e in _events(player) if e["eq"] and e["eq"].endswith("PAL01")]
    window = player.line.ledger()["windows"]["4711"]["PAL01"]
    assert [e["t_src"] for e in ours if e["type"] == "order.started"] == [window["from"]]
    assert [(e["t_src"], e["data"]["good"]) for e in ours if e["type"] == "order.completed"] == [(window["to"], 1340)]
    revised = [e for e in ours if e["type"] == "production.count" and e["rev"] > 1]
    assert sum(e["data"]["delta"] for e in revised) > 0
    assert {e["order"]["id"] for e in revised} == {"4711"}


def _events(player: Player) -> list[dict[str, Any]]:
    return [message["payload"] for message in player.play() if "/evt/" in message["topic"]]
