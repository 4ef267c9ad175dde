"""The ledger: what the machines truly did up to now, to hold against what anybody says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulators.models.flow import Flow
from simulators.models.states import Interval, seen

if TYPE_CHECKING:
    from simulators.models.line import Line


def ledger(line: Line) -> dict[str, Any]:
    """Totals per order and machine, counters, containers, state intervals and writes, up to the line's time.

    `orders` has for each order and machine what it has done since the order began there: pieces (`produced`, `good`,
    `scrap`; PAL01 `good`, `cases`, `pallets`), `kwh` of LBL01, and `times_s`, the seconds in each canonical state.
    `windows` says from when to when, with `completed` false while the order still runs. `counters` are what the
    machines show now, `containers` the pallets that left, `states` the intervals as a MES should have seen them,
    `writes` everything that clients wrote.
    """
    scenario, now = line.scenario, line.time.second
    states = {
        machine.name: seen(machine.states(scenario.debounce_s), machine.name, scenario)
        for machine in (line.filler, line.labeller, line.palletiser)
    }
    return {
        "scenario": scenario.name,
        "line": scenario.line,
        "start": scenario.iso(0),
        "until": scenario.iso(now),
        "orders": {order: totals for order in line.filler.orders if (totals := _order(line, states, order, now))},
        "windows": {order: windows for order in line.filler.orders if (windows := _windows(line, order, now))},
        "counters": _counters(line),
        "energy_kwh": line.labeller.kwh(0, now),
        "containers": _containers(line, now),
        "states": {name: _intervals(line, rows, now) for name, rows in states.items()},
        "writes": [
            {"t": scenario.iso(w.at), "machine": w.machine, "tag": w.tag, "value": w.value, "accepted": w.accepted}
            for w in line.writes
        ],
    }


def _order(line: Line, states: dict[str, list[Interval]], order: str, now: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, (start, end) in _started(line, order, now).items():
        result[name] = _pieces(line, name, order, now)
        if name == line.labeller.name:
            result[name]["kwh"] = line.labeller.kwh(start, min(end, now))
        result[name]["times_s"] = _seconds(states[name], start, min(end, now))
    return result


def _started(line: Line, order: str, now: int) -> dict[str, tuple[int, int]]:
    """The machines on which the order has begun, each with its window."""
    machines = (line.filler, line.labeller, line.palletiser)
    windows = {machine.name: machine.orders[order] for machine in machines if order in machine.orders}
    return {name: window for name, window in windows.items() if window[0] <= now}


def _pieces(line: Line, name: str, order: str, now: int) -> dict[str, Any]:
    def made(flow: Flow) -> int:
        return flow.of(order).made(now)

    if name == line.palletiser.name:
        pallets = [pallet for pallet in line.palletiser.gone(now) if pallet.order == order]
        return {"good": made(line.palletiser.good), "cases": line.palletiser.cases(order, now), "pallets": len(pallets)}
    if name == line.filler.name:
        produced, scrap = made(line.filler.produced), made(line.filler.scrap)
    else:
        produced, scrap = made(line.labeller.total_in), made(line.labeller.reject)
    return {"produced": produced, "scrap": scrap, "good": produced - scrap}


def _seconds(rows: list[Interval], start: int, end: int) -> dict[str, int]:
    times: dict[str, int] = {}
    for row in rows:
        overlap = min(row.end, end) - max(row.start, start)
        if overlap > 0:
            times[row.state] = times.get(row.state, 0) + overlap
    return times


def _windows(line: Line, order: str, now: int) -> dict[str, Any]:
    return {
        name: {
            "from": line.scenario.iso(start),
            "to": line.scenario.iso(end) if end <= now else None,
            "completed": end <= now,
        }
        for name, (start, end) in _started(line, order, now).items()
    }


def _counters(line: Line) -> dict[str, Any]:
    filler, labeller, palletiser = line.filler.tags(), line.labeller.tags(), line.palletiser.tags()
    return {
        "FIL01.produced": filler["FIL01.Admin.ProdProcessedCount[0].AccCount"],
        "FIL01.scrap": filler["FIL01.Admin.ProdDefectiveCount[0].AccCount"],
        "LBL01.total_in": labeller["total_in"],
        "LBL01.good": labeller["good"],
        "LBL01.reject": labeller["reject"],
        "LBL01.energy": labeller["energy"],
        "PAL01.good": palletiser["PAL01.GoodTotal"],
        "PAL01.cases": palletiser["PAL01.CasesTotal"],
    }


def _containers(line: Line, now: int) -> list[dict[str, Any]]:
    return [
        {
            "t": line.scenario.iso(pallet.at),
            "sscc": pallet.sscc,
            "order": pallet.order,
            "qty": pallet.qty,
            "cases": pallet.cases,
            "full": pallet.full,
        }
        for pallet in line.palletiser.gone(now)
    ]


def _intervals(line: Line, rows: list[Interval], now: int) -> list[dict[str, Any]]:
    return [
        {"from": line.scenario.iso(row.start), "to": line.scenario.iso(min(row.end, now)), "state": row.state}
        for row in rows
        if row.start < now
    ]
