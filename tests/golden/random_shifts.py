"""Random shifts of the demo line: scenarios as hypothesis draws them, and the moments at which it is worth to look.

A shift is played in jumps: every device is looked at when something happens to it and at least every 29 seconds in
between. Every jump is odd, since the heartbeat toggles each second and would seem to stand still after an even one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from simulators.models.line import Line
from simulators.scenario import Scenario

JUMP = 29
HIGHEST = {"produced": 2147483647, "scrap": 2147483647, "total_in": 65535, "good": 65535, "reject": 65535}
STOPS = [
    {"state": 11, "reason": 2107}, {"state": 9, "reason": 0}, {"state": 5, "starved": True}, {"state": 5},
    {"state": 11, "reason": 9001},
]  # fmt: skip
SETS = {
    "F": {"A": {"speed": {"value": 120, "unit": "/min", "min": 60, "max": 400, "class": "golden"}}},
    "L": {"A": {"oven_sp": {"value": 175.0, "unit": "Cel", "min": 165, "max": 190, "class": "trim"}}},
}
OPERATIONS = {"FIL01": "10", "LBL01": "20", "PAL01": "30"}


def clock(second: int) -> str:
    """A second of the shift, as scenarios write it."""
    return f"{6 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


class Script:
    """What the filler does from its first order to its last, drawn piece by piece."""

    def __init__(self, draw: st.DrawFn, rate: int, transit: int) -> None:
        self.rows = [_row(0, state=4)]
        self.scrap: list[list[str]] = []
        self.orders: dict[str, Any] = {}
        self.ends: dict[str, str] = {}
        self.commands: list[dict[str, Any]] = []
        self.running: list[tuple[int, int]] = []
        self.end = 400
        for number in range(draw(st.integers(1, 2))):
            self._order(draw, str(7000 + number), rate, transit)

    def _order(self, draw: st.DrawFn, name: str, rate: int, transit: int) -> None:
        begin, good, parts = self.end, 0, draw(st.integers(1, 3))
        for part in range(parts):
            length, waste = draw(st.integers(40, 300)), draw(st.integers(0, 20))
            self.rows.append(_row(self.end, state=6, order=name))
            if waste:
                self.scrap.append([clock(self.end), clock(self.end + waste)])
            good += rate * (length - waste)
            self.running.append((self.end, self.end + length))
            self.end += length
            if part < parts - 1:
                self.rows.append(_row(self.end, **draw(st.sampled_from(STOPS)), order=name))
                self.end += draw(st.integers(1, 150))
        self.rows.append(_row(self.end, state=4))
        self.orders[name] = {
            "material": "P", "qty": good, "lot": f"{name}-L", "ops": OPERATIONS, "sets": {"FIL01": "F", "LBL01": "L"},
        }  # fmt: skip
        self.commands += [
            {"at": clock(begin - 200), "type": "dispatch.order", "cmd": f"D{name}", "order": name},
            {
                "at": clock(begin - 100), "type": "params.download", "cmd": f"C{name}", "eq": "FIL01", "order": name,
                "set": "F", "rev": "A", "result": "ACTIVE", "done": clock(begin - 98),
            },
        ]  # fmt: skip
        self.ends[name] = clock(self.end + transit + draw(st.integers(5, 60)))
        self.end += transit + draw(st.integers(260, 400))


@st.composite
def shifts(draw: st.DrawFn) -> dict[str, Any]:
    """One or two orders with random stops, scrap, rollovers, PLC restarts, broker outages and kills of the gateway."""
    rate, transit = draw(st.integers(1, 4)), draw(st.integers(5, 90))
    script = Script(draw, rate, transit)
    kills = [draw(st.integers(a + 5, b - 30)) for a, b in script.running if b - a > 60 and draw(st.booleans())]
    faults = [{"kind": "gateway_kill", "from": clock(k), "to": clock(k + 20)} for k in kills]
    if draw(st.booleans()):
        away = draw(st.integers(100, script.end))
        faults.append({"kind": "broker_outage", "from": clock(away), "to": clock(away + draw(st.integers(1, 900)))})
    counters = {name: draw(_counters(top, script.end)) for name, top in HIGHEST.items()}
    return {
        "name": "random", "start": "2026-03-02T06:00:00Z", "end": f"2026-03-02T{clock(script.end + 300)}Z",
        "line": "ACME/HZ/PACK/L1", "debounce_s": 5, "micro_stop_s": 120, "stale_after_s": 30, "orders": script.orders,
        "filler": {
            "bottles_per_s": rate, "handshake_s": 2, "timeline": script.rows, "scrap_windows": script.scrap,
            "permit": [[clock(0), clock(script.end)]], **{name: counters[name] for name in ("produced", "scrap")},
        },
        "labeller": {
            "transit_s": transit, "handshake_s": 2, "warm_up": [clock(0), clock(60)], "remote_from": clock(0),
            "permit": [], "energy": {"start_raw": 0, "kw": 36, "kwh_per_raw": 0.1},
            **{name: counters[name] for name in ("total_in", "good", "reject")},
        },
        "palletiser": {"bottles_per_case": 20, "cases_per_pallet": 48, "order_end": script.ends},
        "checkweigher": {"every_s": 900, "characteristic": "w", "limits_of": "fill_volume"},
        "parameter_sets": SETS, "commands": script.commands, "faults": faults,
    }  # fmt: skip


@st.composite
def _counters(draw: st.DrawFn, top: int, end: int) -> dict[str, Any]:
    """A counter that is about to roll over, or one whose PLC restarts.

    Never both: a restart within what the machine can make before its rollover looks like the rollover, to anybody.
    Nor does anybody see a counter restart that still stands at 0.
    """
    if draw(st.integers(0, 3)):
        return {"max": top, "start": draw(st.integers(max(0, top - 3000), top))}
    restarts = draw(st.lists(st.integers(1, end), min_size=1, max_size=2, unique=True))
    return {"max": top, "start": draw(st.integers(1000, top // 2)), "restarts": [clock(at) for at in sorted(restarts)]}


def _row(at: int, **shown: Any) -> dict[str, Any]:
    return {"at": clock(at), "mode": 1, "reason": 0, "starved": False, "order": None, **shown}


def looks(scenario: Scenario, line: Line) -> dict[int, set[str]]:
    """Which devices to look at in which second: around everything that happens to them, and in odd jumps between."""
    result: dict[int, set[str]] = defaultdict(set)
    shared = {0, scenario.length, *(moment for fault in scenario.faults for moment in (fault.from_, fault.to))}
    for device, edges in (("FIL01", _filler(scenario, line)), ("LBL01", _labeller(line)), ("SCADA", _scada(line))):
        wanted = {edge + near for edge in {*edges, *shared} for near in (-1, 0, 1)}
        wanted |= set(range(0, scenario.length + 1, JUMP))
        seen = sorted(second for second in wanted if 0 <= second <= scenario.length)
        even = {later - 1 for earlier, later in pairwise(seen) if (later - earlier) % 2 == 0}
        for second in {*seen, *even}:
            result[second].add(device)
    for command in scenario.commands:
        result[command.at] |= set()
    return result


def _filler(scenario: Scenario, line: Line) -> Iterator[int]:
    part = scenario.filler
    yield from (row.start for row in line.filler.rows)
    yield from (*part.produced.restarts, *part.scrap.restarts)
    for command in scenario.commands:
        if command.eq == "FIL01":
            yield from (command.at + after for after in range(4))


def _labeller(line: Line) -> Iterator[int]:
    part = line.scenario.labeller
    yield from _edges(line.labeller.orders.values())
    yield from (interval.start for interval in line.labeller.states(0))
    yield from (*part.total_in.restarts, *part.good.restarts, *part.reject.restarts)


def _scada(line: Line) -> Iterator[int]:
    yield from _edges(line.palletiser.orders.values())
    yield from (interval.start for interval in line.palletiser.shown)
    yield from (pallet.at for pallet in line.palletiser.pallets)


def _edges(windows: Iterable[tuple[int, int]]) -> Iterator[int]:
    for window in windows:
        yield from window
