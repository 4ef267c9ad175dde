"""Whole shifts in process: every state, order, count, pallet, sample and alarm is what the machines truly did."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulators.reconcile import reconcile
from tests.golden.player import ROOT, Player

NIGHT = Path(__file__).parent / "night.yaml"
DEMO = ROOT / "simulators" / "scenarios" / "demo.yaml"


class Played:
    """One played scenario and what it published."""

    def __init__(self, path: Path) -> None:
        self.player = Player(path)
        self.capture = self.player.play()
        self.ledger = self.player.line.ledger()
        self.events = [message["payload"] for message in self.capture if "/evt/" in message["topic"]]

    def of(self, kind: str, unit: str | None = None) -> list[dict[str, Any]]:
        return [e for e in self.events if e["type"] == kind and (unit is None or (e["eq"] or "").endswith(unit))]


@pytest.fixture(scope="module", params=[DEMO, NIGHT], ids=lambda path: path.stem)
def played(request: pytest.FixtureRequest) -> Played:
    return Played(request.param)


@pytest.fixture(scope="module")
def night() -> Played:
    return Played(NIGHT)


def test_every_count_pallet_and_sequence_is_the_machines(played: Played) -> None:
    rows = reconcile(played.ledger, [{**message, "retain": False} for message in played.capture])
    assert len(rows) > 15
    assert [row for row in rows if not row.equal] == []


@pytest.mark.parametrize("unit", ["FIL01", "LBL01", "PAL01"])
def test_the_states_are_the_machines_second_by_second_and_tile_the_shift(played: Played, unit: str) -> None:
    changes = [(event["t_src"], event["data"]["to"]) for event in played.of("equipment.state", unit)]
    assert changes == [(row["from"], row["state"]) for row in played.ledger["states"][unit]]
    assert all(earlier[1] != later[1] for earlier, later in pairwise(changes))


def test_a_completed_order_knows_its_seconds_and_its_energy(played: Played) -> None:
    done = {(e["order"]["id"], e["eq"][-5:]): e["data"] for e in played.of("order.completed")}
    for order, machines in played.ledger["orders"].items():
        for unit, truth in machines.items():
            assert done[order, unit]["times_s"] == truth["times_s"], (order, unit)
            if "kwh" in truth:
                assert done[order, unit]["kwh"] == pytest.approx(truth["kwh"], abs=0.1001)


def test_energy_adds_up_to_the_meter_over_its_rollover(night: Played) -> None:
    total = sum(event["data"]["kwh"] for event in night.of("energy.interval"))
    assert total == pytest.approx(night.ledger["energy_kwh"], abs=0.1001)
    assert night.ledger["energy_kwh"] == 216.0


def test_an_alarm_is_raised_acknowledged_and_cleared_in_whatever_order_it_happened(night: Played) -> None:
    told = [
        (e["t_src"][11:19], e["type"][6:], e["data"]["code"]) for e in night.events if e["type"].startswith("alarm.")
    ]
    assert sorted(told) == sorted([
        ("22:40:01", "raised", "2207"), ("22:44:00", "acked", "2207"), ("22:49:00", "cleared", "2207"),
        ("00:05:00", "raised", "3301"), ("00:07:00", "cleared", "3301"), ("00:09:00", "acked", "3301"),
        ("23:55:00", "raised", "4002"), ("00:02:00", "acked", "4002"), ("00:20:00", "cleared", "4002"),
    ])  # fmt: skip
    assert night.player.alarms_suppressed("LBL01") == 3, "three pulses of 3310, each shorter than the on-delay"


def test_samples_are_judged_by_the_limits_of_the_active_set(night: Played) -> None:
    samples = night.of("quality.sample", "FIL01")
    wrong = [event["t_src"][11:16] for event in samples if not event["data"]["in_spec"]]
    assert (len(samples), wrong) == (11, ["22:30", "00:30"])
    assert {(event["data"]["lsl"], event["data"]["usl"]) for event in samples} == {(495.0, 505.0)}


def test_what_happened_during_the_outage_arrives_after_it_in_order_with_its_own_times(night: Played) -> None:
    (outage,) = night.of("gateway.outage")
    assert (outage["data"]["from"][11:19], outage["data"]["to"][11:19]) == ("23:50:00", "00:40:00")
    assert outage["data"]["buffered_discrete"] > 0
    ids = Counter((event["id"], event["rev"]) for event in night.events)
    assert max(ids.values()) == 1
    assert len(night.of("gateway.restarted")) == 1


def test_a_short_restart_of_scada_is_two_connection_events_and_nothing_else(night: Played) -> None:
    told = [(e["t_src"][11:19], e["data"]["device"], e["data"]["up"]) for e in night.of("gateway.connection")]
    assert told == [
        ("22:30:10", "SCADA", False), ("22:30:30", "SCADA", True),
        ("00:20:00", "LBL01", False), ("00:21:30", "LBL01", True),
    ]  # fmt: skip


def test_the_second_order_is_loaded_by_itself_at_the_permit(night: Played) -> None:
    results = [(e["t_src"][11:19], e["data"]["cmd"], e["data"]["result"]) for e in night.of("param.result")]
    assert results == [
        ("22:04:03", "NC-1", "ACTIVE"), ("22:05:02", "NC-2", "ACTIVE"),
        ("23:25:03", "auto:8802:0010:1", "ACTIVE"), ("23:26:02", "auto:8802:0020:1", "ACTIVE"),
    ]  # fmt: skip


def test_labels_consumed_are_the_bottles_that_came_in(night: Played) -> None:
    for order, qty in (("8801", 10560), ("8802", 13920)):
        used = sum(e["data"]["qty"] for e in night.of("material.consumed") if (e["order"] or {}).get("id") == order)
        assert used == qty
    assert [(e["t_src"][11:19], e["data"]["remaining"]) for e in night.of("material.low")] == [("00:58:05", 1000)]
