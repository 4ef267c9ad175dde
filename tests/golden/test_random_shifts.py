"""Random shifts: whatever the machines did and whenever the gateway died, every piece has its order."""

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from simulators.reconcile import Comparison, reconcile
from simulators.scenario import parse
from tests.contract import the_contract
from tests.golden.deliveries import UnreliablePlayer
from tests.golden.found_shifts import BAD_DAY, LAST_SCAN_OVERTAKEN
from tests.golden.player import ROOT, Player
from tests.golden.random_shifts import JUMP, looks, shifts

SHIFTS = int(os.environ.get("SHIFTS", "1000"))
UNITS = ("FIL01", "LBL01", "PAL01")
FIGURES = ("produced", "good", "scrap")
COUNTERS = [("filler", "produced"), ("filler", "scrap"), ("labeller", "total_in"), ("labeller", "good"), ("labeller", "reject")]  # fmt: skip


@cache
def plant() -> Plant:
    return load_plant(ROOT / "config")


def events_of(capture: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message["payload"] for message in capture if "/evt/" in message["topic"]]


def restarts(shift: dict[str, Any]) -> dict[str, int]:
    """How often the PLC behind each figure of a unit began again with 0.

    What the filler's two counters say decides when its order is complete, so each of them spoils all of its figures.
    """
    part = {key: len(shift[section][key].get("restarts", ())) for section, key in COUNTERS}
    filler = part["produced"] + part["scrap"]
    return {
        **dict.fromkeys(("FIL01 produced", "FIL01 scrap", "FIL01 good"), filler),
        "LBL01 produced": part["total_in"], "LBL01 good": part["good"], "LBL01 scrap": part["reject"],
    }  # fmt: skip


def excused(row: Comparison, shift: dict[str, Any], flags: dict[str, set[str]]) -> bool:
    """A difference that nobody can avoid: flagged, and no more than what is made between two looks.

    What a PLC counted between the last look and its restart nobody can know. And scrap that comes late makes the filler's
    order complete when it is not; what it makes then is nobody's.
    """
    figure = f"{row.equipment} {row.figure.split(',')[0]}"
    if not isinstance(row.truth, int) or not isinstance(row.received, int):
        return False
    known = set().union(*(flags[f"{row.equipment} {name}"] for name in FIGURES))
    most = JUMP * shift["filler"]["bottles_per_s"]
    is_lost = "reset" in known and abs(row.truth - row.received) <= 2 * most * restarts(shift).get(figure, 0)
    is_early = "late" in known and row.equipment == "FIL01" and 0 <= row.truth - row.received <= most
    return is_lost or is_early


@pytest.mark.timeout(600)
@settings(max_examples=SHIFTS)
@given(shifts(), st.one_of(st.none(), st.integers(0, 2**32)))
def test_in_a_random_shift_every_piece_has_its_order_and_time_tiles(shift: dict[str, Any], bad_day: int | None) -> None:
    """On a bad day, which is seeded, batches come twice, late and in the wrong order."""
    play(shift, bad_day)


def test_the_last_piece_of_an_order_is_not_lost_when_its_scan_is_overtaken_on_the_minute() -> None:
    play(LAST_SCAN_OVERTAKEN, BAD_DAY)


def play(shift: dict[str, Any], bad_day: int | None) -> None:
    """Play a shift and hold what the gateway told against what was made."""
    scenario = parse(shift)
    player = Player(scenario, plant()) if bad_day is None else UnreliablePlayer(scenario, plant(), bad_day)
    player.broker.is_checked = False
    capture = player.play(looks(player.scenario, player.line))
    player.broker.flush()
    events, ledger = events_of(capture), player.line.ledger()
    for message in {message["payload"].get("type", "tel"): message for message in capture}.values():
        the_contract().check(**message)  # one of each kind: to check them all takes longer than to play the shift
    flags: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event["type"] == "production.count":
            assert set(event["data"]["flags"]) <= {"reset", "correction", "late"}
            flags[f"{event['eq'][-5:]} {event['data']['counter']}"] |= set(event["data"]["flags"])
    wrong = [row for row in reconcile(ledger, [{**m, "retain": False} for m in capture]) if not row.equal]
    assert [row for row in wrong if not excused(row, shift, flags)] == []
    assert len({(event["id"], event["rev"]) for event in events}) == len(events)
    for unit in UNITS:
        numbers = [event["seq"] for event in events if (event["eq"] or "").endswith(unit)]
        assert numbers == list(range(1, len(numbers) + 1))
    for unit in UNITS:
        told = [e for e in events if e["type"] == "equipment.state" and e["eq"].endswith(unit) and e["rev"] == 1]
        assert all(earlier["data"]["to"] == later["data"]["from"] for earlier, later in pairwise(told))
        if bad_day is None and not any(fault["kind"] == "gateway_kill" for fault in shift["faults"]):
            truth = [(r["from"], r["state"]) for r in ledger["states"][unit]]
            assert [(event["t_src"], event["data"]["to"]) for event in told] == truth
