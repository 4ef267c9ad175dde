"""Canonical states as intervals, as a MES has to see them: debounced, and UNKNOWN where nobody could look.

This is the truth that the ledger tells; the rules are those of the golden day (a row holds until the next, a shorter
excursion than `debounce_s` merges into what was before it, DOWN never does).
"""

from collections.abc import Iterable
from typing import NamedTuple

from simulators.scenario import Scenario
from simulators.scenario_parts import FillerRow


class Interval(NamedTuple):
    """The equipment is in `state` in `[start, end)` seconds."""

    start: int
    end: int
    state: str


_FAULTED, _HELD, _SUSPENDED, _EXECUTING = {1, 8, 9}, {10, 11, 12}, {5, 13, 14}, {6, 16}
_HELD_BY_QUALITY, _CHANGEOVER = 9001, 4


def executes(state: int) -> bool:
    """True for the PackTags states in which the filler fills (Execute 6, Completing 16)."""
    return state in _EXECUTING


def suspended(state: int) -> bool:
    """True for the PackTags states of a machine that waits for its neighbours (Suspended 5, 13, 14)."""
    return state in _SUSPENDED


def canonical(row: FillerRow) -> str:
    """The canonical state of a filler in that row."""
    if row.state in _FAULTED:
        return "DOWN"
    if row.state in _HELD:
        return "HELD" if row.reason == _HELD_BY_QUALITY else "DOWN"
    if row.mode == _CHANGEOVER:
        return "SETUP"
    if suspended(row.state):
        return "STARVED" if row.starved else "BLOCKED"
    return "RUN" if executes(row.state) else "IDLE"


def joined(rows: Iterable[Interval]) -> list[Interval]:
    """The same with equal neighbours made one."""
    result: list[Interval] = []
    for row in rows:
        if result and result[-1].state == row.state:
            result[-1] = result[-1]._replace(end=row.end)
        else:
            result.append(row)
    return result


def debounced(rows: Iterable[Interval], debounce_s: float) -> list[Interval]:
    """Short excursions merged into the interval before them, the first one first."""
    result = joined(rows)
    while True:
        short = next((i for i, row in enumerate(result) if i and _is_flicker(row, debounce_s)), None)
        if short is None:
            return result
        result[short] = result[short]._replace(state=result[short - 1].state)
        result = joined(result)


def _is_flicker(row: Interval, debounce_s: float) -> bool:
    return row.end - row.start < debounce_s and row.state != "DOWN"


def seen(rows: list[Interval], equipment: str, scenario: Scenario) -> list[Interval]:
    """The intervals as far as anybody outside could see them: UNKNOWN while contact was lost for too long."""
    for fault in scenario.faults:
        if equipment in fault.equipment and fault.to - fault.from_ > scenario.stale_after_s:
            rows = sorted([*_outside(rows, fault.from_, fault.to), Interval(fault.from_, fault.to, "UNKNOWN")])
    return rows


def _outside(rows: list[Interval], start: int, end: int) -> Iterable[Interval]:
    for row in rows:
        for piece in (row._replace(end=min(row.end, start)), row._replace(start=max(row.start, end))):
            if piece.start < piece.end:
                yield piece
