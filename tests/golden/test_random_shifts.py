"""Random shifts: whatever the machines did and whenever the gateway died, every piece has its order.

The shifts are played in jumps, with a look at every moment at which something happens and at least every 29 seconds
in between. Every jump is odd, since the heartbeat toggles each second and would seem to stand still after an even one.
"""

import os
from functools import cache
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from simulators.reconcile import reconcile
from simulators.scenario import Scenario, parse
from tests.golden.player import ROOT, Player

JUMP = 29
LINE = {"produced": 2147483647, "scrap": 2147483647, "total_in": 65535, "good": 65535, "reject": 65535}
STOPS = [
    {"state": 11, "reason": 2107}, {"state": 9, "reason": 0}, {"state": 5, "starved": True}, {"state": 5},
    {"state": 11, "reason": 9001},
]  # fmt: skip


def clock(second: int) -> str:
    return f"{6 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


@cache
def plant() -> Plant:
    return load_plant(ROOT / "config")


@st.composite
def shifts(draw: st.DrawFn) -> dict[str, Any]:
    """A scenario of one to three orders with random stops, scrap, rollovers and kills of the gateway."""
    rate, transit = draw(st.integers(1, 4)), draw(st.integers(5, 90))
    at, rows, scrap, orders, ends, commands, running = 400, [row(0, state=4, mode=1)], [], {}, {}, [], []
    for number in range(draw(st.integers(1, 3))):
        name, begin, good = str(7000 + number), at, 0
        parts = draw(st.integers(1, 4))
        for part in range(parts):
            length, waste = draw(st.integers(40, 500)), draw(st.integers(0, 20))
            rows.append(row(at, state=6, order=name))
            if waste:
                scrap.append([clock(at), clock(at + waste)])
            good += rate * (length - waste)
            running.append((at, at + length))
            at += length
            if part < parts - 1:
                stop, pause = draw(st.sampled_from(STOPS)), draw(st.integers(1, 200))
                rows.append(row(at, **stop, order=name))
                at += pause
        rows.append(row(at, state=4))
        orders[name] = {"material": "P", "qty": good, "lot": f"{name}-L", "ops": {"FIL01": "10", "LBL01": "20", "PAL01": "30"}, "sets": {"FIL01": "F", "LBL01": "L"}}  # fmt: skip
        commands += [
            {"at": clock(begin - 200), "type": "dispatch.order", "cmd": f"D{name}", "order": name},
            {"at": clock(begin - 100), "type": "params.download", "cmd": f"C{name}", "eq": "FIL01", "order": name, "set": "F", "rev": "A", "result": "ACTIVE", "done": clock(begin - 98)},
        ]  # fmt: skip
        ends[name] = clock(at + transit + draw(st.integers(5, 60)))
        at += transit + draw(st.integers(260, 500))
    kills = [draw(st.integers(a + 5, b - 30)) for a, b in running if b - a > 60 and draw(st.booleans())]
    starts = {name: draw(st.integers(max(0, top - 3000), top)) for name, top in LINE.items()}
    return {
        "name": "random", "start": "2026-03-02T06:00:00Z", "end": f"2026-03-02T{clock(at + 300)}Z", "line": "ACME/HZ/PACK/L1",
        "debounce_s": 5, "micro_stop_s": 120, "stale_after_s": 30, "orders": orders,
        "filler": {
            "bottles_per_s": rate, "handshake_s": 2, "timeline": rows, "scrap_windows": scrap, "reasons": {},
            "permit": [[clock(0), clock(at)]], **{n: {"start": starts[n], "max": LINE[n]} for n in ("produced", "scrap")},
        },
        "labeller": {
            "transit_s": transit, "handshake_s": 2, "warm_up": [clock(0), clock(60)], "remote_from": clock(0),
            "permit": [[clock(0), clock(at)]], "energy": {"start_raw": 0, "kw": 36, "kwh_per_raw": 0.1},
            "reject_windows": [], "device_max": {},
            **{n: {"start": starts[n], "max": LINE[n]} for n in ("total_in", "good", "reject")},
        },
        "palletiser": {"bottles_per_case": 20, "cases_per_pallet": 48, "order_end": ends},
        "checkweigher": {"every_s": 900, "characteristic": "w", "limits_of": "fill_volume", "out_of_spec": []},
        "alarms": [], "chatter": [],
        "parameter_sets": {"F": {"A": {"speed": {"value": 120, "unit": "/min", "min": 60, "max": 400, "class": "golden"}}}, "L": {"A": {"oven_sp": {"value": 175.0, "unit": "Cel", "min": 165, "max": 190, "class": "trim"}}}},
        "commands": commands,
        "faults": [{"kind": "gateway_kill", "from": clock(k), "to": clock(k + 20)} for k in kills],
    }  # fmt: skip


def row(at: int, **shown: Any) -> dict[str, Any]:
    return {"at": clock(at), "mode": 1, "reason": 0, "starved": False, "order": None, **shown}


def moments(scenario: Scenario, line: Any) -> list[int]:
    """Where something happens, the seconds around it, and jumps in between."""
    edges = {0, scenario.length}
    edges |= {int(r.start) for r in line.filler.rows} | {start for start, _ in line.labeller.orders.values()}
    edges |= {end for _, end in line.labeller.orders.values()} | {end for _, end in line.palletiser.orders.values()}
    edges |= {interval.start for interval in line.labeller.states(0)} | {
        pallet.at for pallet in line.palletiser.pallets
    }
    edges |= {command.at for command in scenario.commands}
    edges |= {moment for fault in scenario.faults for moment in (fault.from_, fault.to)}
    looks = {edge + near for edge in edges for near in (-1, 0, 1, 2, 3, 5, 6, 8)}
    looks |= set(range(0, scenario.length + 1, JUMP))
    seen = sorted(look for look in looks if 0 <= look <= scenario.length)
    even = {later - 1 for earlier, later in pairwise(seen) if (later - earlier) % 2 == 0}
    return sorted({*seen, *even})


@settings(max_examples=int(os.environ.get("SHIFTS", "60")))
@given(shifts())
def test_in_a_random_shift_every_piece_has_its_order_and_time_tiles(shift: dict[str, Any]) -> None:
    player = Player(parse(shift), plant())
    capture = player.play(moments(player.scenario, player.line))
    wrong = [r for r in reconcile(player.line.ledger(), [{**m, "retain": False} for m in capture]) if not r.equal]
    assert wrong == []
    events = [message["payload"] for message in capture if "/evt/" in message["topic"]]
    for event in events:
        if event["type"] == "production.count":
            assert event["data"]["delta"] > 0
            assert event["data"]["flags"] == []
    assert len({(event["id"], event["rev"]) for event in events}) == len(events)
    for unit in ("FIL01", "LBL01", "PAL01"):
        told = [e for e in events if e["type"] == "equipment.state" and e["eq"].endswith(unit) and e["rev"] == 1]
        assert all(earlier["data"]["to"] == later["data"]["from"] for earlier, later in pairwise(told))
        if not shift["faults"]:
            truth = [(r["from"], r["state"]) for r in player.line.ledger()["states"][unit]]
            assert [(event["t_src"], event["data"]["to"]) for event in told] == truth
