"""Truth against what was received: nothing lost, doubled or invented goes unnoticed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulators.models.line import Line
from simulators.reconcile import Comparison, reconcile

Messages = list[dict[str, Any]]


class Publisher:
    """Writes the capture of a gateway that makes no mistake."""

    def __init__(self) -> None:
        self.messages: Messages = []
        self._sequence: dict[str, int] = {}

    def publish(self, unit: str, kind: str, data: dict[str, Any], order: str | None = "81") -> None:
        self._sequence[unit] = self._sequence.get(unit, 0) + 1
        event = {
            "id": f"{unit}-{self._sequence[unit]}",
            "type": kind,
            "rev": 1,
            "eq": f"ACME/HZ/PACK/L1/{unit}",
            "seq": self._sequence[unit],
            "order": {"id": order} if order else None,
            "data": data,
        }
        self.messages.append({"topic": f"mfg/v1/ACME/HZ/PACK/L1/{unit}/evt/{kind}", "payload": event})


@pytest.fixture
def ledger(line: Line) -> dict[str, Any]:
    line.step(600)
    return line.ledger()


@pytest.fixture
def capture(ledger: dict[str, Any]) -> Messages:
    publisher = Publisher()
    for unit, totals in ledger["orders"]["81"].items():
        for counter in ("produced", "good", "scrap"):
            if counter in totals:
                publisher.publish(unit, "production.count", {"counter": counter, "delta": totals[counter] - 3})
                publisher.publish(unit, "production.count", {"counter": counter, "delta": 3})
        publisher.publish(unit, "order.completed", {name: totals.get(name) for name in ("produced", "good", "scrap")})
    for pallet in ledger["containers"]:
        publisher.publish("PAL01", "container.completed", {name: pallet[name] for name in ("sscc", "qty", "cases")})
    publisher.messages.insert(3, {"topic": "mfg/v1/ACME/HZ/PACK/L1/FIL01/tel", "payload": {"v": 1}})
    return publisher.messages


def _differences(comparisons: list[Comparison]) -> list[tuple[str, str]]:
    return [(c.equipment, c.figure) for c in comparisons if not c.equal]


def test_a_faultless_capture_is_equal_in_every_line(ledger: dict[str, Any], capture: Messages) -> None:
    comparisons = reconcile(ledger, capture)

    assert _differences(comparisons) == []
    # FIL01 and LBL01 3 figures, PAL01 1, each as deltas and as completed; 4 of pallets; 3 sequences; unreadable events.
    assert len(comparisons) == 2 * 7 + 4 + 3 + 1


def test_probes_of_the_self_test_are_nothing_to_be_read(ledger: dict[str, Any], capture: Messages) -> None:
    topic = "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/gateway.selftest"
    capture.insert(0, {"topic": topic, "payload": {"type": "gateway.selftest"}})

    assert _differences(reconcile(ledger, capture)) == []


def _find(capture: Messages, unit: str, kind: str) -> dict[str, Any]:
    topic = f"{unit}/evt/{kind}"
    return next(m for m in capture if m["topic"].endswith(topic))


def _lose_one(capture: Messages) -> None:
    capture.remove(_find(capture, "FIL01", "production.count"))


def _repeat_with_known_id(capture: Messages) -> None:
    capture.append(_find(capture, "LBL01", "production.count"))


def _repeat_with_new_id(capture: Messages) -> None:
    message = json.loads(json.dumps(_find(capture, "LBL01", "production.count")))
    message["payload"] |= {"id": "another", "seq": 8}
    capture.append(message)


def _claim_more(capture: Messages) -> None:
    _find(capture, "PAL01", "order.completed")["payload"]["data"]["good"] += 1


def _mislabel(capture: Messages) -> None:
    _find(capture, "PAL01", "container.completed")["payload"]["data"]["sscc"] = "0"


def _lose_a_pallet(capture: Messages) -> None:
    capture.remove(_find(capture, "PAL01", "container.completed"))


def _wrong_order(capture: Messages) -> None:
    _find(capture, "PAL01", "production.count")["payload"]["order"] = {"id": "82"}


def _garble(capture: Messages) -> None:
    capture.append({"topic": "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/production.count", "payload": {"undecodable": "00"}})
    capture.append({"topic": "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/production.count", "payload": [1]})


def _swap(capture: Messages) -> None:
    capture[0], capture[1] = capture[1], capture[0]


@pytest.mark.parametrize(
    ("tamper", "differences"),
    [
        (_lose_one, [("FIL01", "produced, deltas"), ("FIL01", "sequence")]),
        (_repeat_with_known_id, []),
        (_repeat_with_new_id, [("LBL01", "produced, deltas")]),
        (_claim_more, [("PAL01", "good, completed")]),
        (_mislabel, [("PAL01", "labels recognised")]),
        (
            _lose_a_pallet,
            [
                ("PAL01", name)
                for name in ("bottles on pallets", "cases on pallets", "pallets", "labels recognised", "sequence")
            ],
        ),
        (_wrong_order, [("PAL01", "good, deltas")]),
        (_swap, [("FIL01", "sequence")]),
        (_garble, [("", "unreadable events")]),
    ],
)
def test_what_was_tampered_with_is_the_only_difference(
    ledger: dict[str, Any], capture: Messages, tamper: Callable[[Messages], None], differences: list[tuple[str, str]]
) -> None:
    tamper(capture)

    assert _differences(reconcile(ledger, capture)) == differences


def test_of_a_revised_event_only_the_highest_revision_counts(ledger: dict[str, Any], capture: Messages) -> None:
    message = json.loads(json.dumps(_find(capture, "FIL01", "production.count")))
    message["payload"] |= {"rev": 2, "seq": 8}
    message["payload"]["data"]["delta"] += 5
    capture.append(message)

    (difference,) = [c for c in reconcile(ledger, capture) if not c.equal]
    assert (difference.figure, difference.truth, difference.received) == ("produced, deltas", 200, 205)


def test_an_order_under_way_is_held_against_its_deltas_alone(line: Line) -> None:
    line.step(120)
    publisher = Publisher()
    for unit, totals in line.ledger()["orders"]["81"].items():
        for counter in ("produced", "good", "scrap"):
            if counter in totals:
                publisher.publish(unit, "production.count", {"counter": counter, "delta": totals[counter]})

    assert _differences(reconcile(line.ledger(), publisher.messages)) == []


def test_a_new_store_begins_a_new_sequence(ledger: dict[str, Any], capture: Messages) -> None:
    for epoch, message in enumerate(m for m in capture if m["topic"].endswith("PAL01/evt/container.completed")):
        message["payload"] |= {"epoch": f"e{epoch}", "seq": 1}

    assert _differences(reconcile(ledger, capture)) == []


@pytest.mark.parametrize(("lose", "status"), [(False, 0), (True, 1)])
def test_the_exit_status_tells_whether_all_is_equal(
    ledger: dict[str, Any], capture: Messages, tmp_path: Path, *, lose: bool, status: int
) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps(ledger))
    rows = capture[1:] if lose else capture
    (tmp_path / "capture.jsonl").write_text("".join(json.dumps(message) + "\n" for message in rows))
    files = ["--ledger", str(tmp_path / "ledger.json"), "--capture", str(tmp_path / "capture.jsonl")]
    command = [sys.executable, "-m", "simulators", "reconcile", *files]
    table = subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "140"})
    data = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)

    assert (table.returncode, data.returncode) == (status, status)
    assert ("-197" in table.stdout) is lose
    assert all(row["equal"] for row in json.loads(data.stdout)) is not lose
