"""FIL01: fills bottles by its timeline; takes parameters by handshake."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Final

from simulators.models.alarms import AlarmArray, occurrences
from simulators.models.flow import Flow, Run, order_windows, sort_out, within
from simulators.models.handshake import Handshake, Refusal
from simulators.models.line_time import LineTime, Written
from simulators.models.states import Interval, canonical, debounced, executes, suspended
from simulators.scenario import Scenario, ScenarioError
from simulators.scenario_parts import FillerRow

PARAMETERS: Final = (("fill_volume", "mL"), ("speed", "/min"))
"""Name and unit of Command.Parameter[0] and [1]."""
_LAST_SEQUENCE: Final = 2**31 - 1


class Filler:
    """Everything FIL01 shows, as a function of the line's time and of what was written to it."""

    name: Final = "FIL01"

    def __init__(self, scenario: Scenario, time: LineTime) -> None:
        self._part = part = scenario.filler
        self._time = time
        self.rows = list(part.rows(scenario.length))
        self._starts = [row.start for row in self.rows]
        runs = [Run(row.start, row.end, row.order) for row in self.rows if executes(row.state)]
        self.produced = Flow(sort_out(runs, part.scrap_windows), part.bottles_per_s)
        self.scrap = self.produced.only(lambda run: run.rejected)
        self.good = self.produced.only(lambda run: not run.rejected)
        self.orders = order_windows(self.rows)
        for order in self.orders:
            _check_quantity(scenario, order, self.good.of(order).total)
        self._alarms = AlarmArray(occurrences(scenario, self.name), self.name)
        self._command = {name: 0.0 for name, _ in PARAMETERS}
        self._active: list[tuple[int, dict[str, float]]] = [(0, dict(self._command))]
        self._hold = False
        self.handshake = Handshake(part.handshake_s, _LAST_SEQUENCE, self._check, self._take)
        self._writers: dict[str, Callable[[Written], None]] = {
            "FIL01.Command.Parameter[0].Value": lambda value: self._set("fill_volume", value),
            "FIL01.Command.Parameter[1].Value": lambda value: self._set("speed", value),
            "FIL01.MES.CmdSeq": lambda value: self.handshake.request(int(value), self._time.ms),
            "FIL01.MES.Hold": self._set_hold,
        }

    @property
    def row(self) -> FillerRow:
        """The row of the timeline that holds now."""
        return self.rows[bisect_right(self._starts, self._time.second) - 1]

    def states(self, debounce_s: float) -> list[Interval]:
        """The canonical states of the whole scenario."""
        return debounced((Interval(row.start, row.end, canonical(row)) for row in self.rows), debounce_s)

    def active_at(self, ms: int) -> Mapping[str, float]:
        """The parameters that were active at that moment; 0 before the first download."""
        return next(values for since, values in reversed(self._active) if since <= ms)

    def write(self, tag: str, value: Written) -> bool:
        """A client writes; False if the tag is none that can be written."""
        writer = self._writers.get(tag)
        if writer is not None:
            writer(value)
        return writer is not None

    def tags(self) -> dict[str, object]:
        """One scan: point name → value. DateTimes are milliseconds since the scenario's start, or None."""
        now, row = self._time, self.row
        active = self._active[-1][1]
        return {
            "FIL01.Status.StateCurrent": row.state,
            "FIL01.Status.UnitModeCurrent": row.mode,
            "FIL01.Status.MachSpeed": active["speed"],
            "FIL01.Status.CurMachSpeed": 60.0 * self._part.bottles_per_s if self._fills() else 0.0,
            "FIL01.Status.EquipmentInterlock.Starved": row.starved,
            "FIL01.Status.EquipmentInterlock.Blocked": suspended(row.state) and not row.starved,
            "FIL01.Status.Parameter[0].Value": active["fill_volume"],
            "FIL01.Status.Parameter[1].Value": active["speed"],
            "FIL01.Admin.StopReason[0].ID": row.reason,
            **self._counts(),
            **self._alarms.tags(min(now.ms, now.until_s * 1000), "FIL01.Admin.Alarm"),
            "FIL01.Machine.PowerOk": True,
            "FIL01.Machine.EStop": False,
            "FIL01.Machine.Heartbeat": now.heartbeat,
            "FIL01.MES.Permit": within(now.second, self._part.permit),
            "FIL01.MES.Remote": True,
            "FIL01.MES.Hold": self._hold,
            **self._command_tags(),
        }

    def _fills(self) -> bool:
        return self.produced.at(self._time.second) is not None

    def _counts(self) -> dict[str, object]:
        second = self._time.second
        points: dict[str, object] = {}
        job = next((start for start, _ in reversed(self.orders.values()) if start <= second), 0)
        for name, flow, counter in (
            ("Processed", self.produced, self._part.produced),
            ("Defective", self.scrap, self._part.scrap),
        ):
            points[f"FIL01.Admin.Prod{name}Count[0].Count"] = flow.made(second) - flow.made(job)
            points[f"FIL01.Admin.Prod{name}Count[0].AccCount"] = counter.shown(flow.made, second)
        return points

    def _command_tags(self) -> dict[str, object]:
        points: dict[str, object] = {}
        for index, (name, unit) in enumerate(PARAMETERS):
            points[f"FIL01.Command.Parameter[{index}].Value"] = self._command[name]
            points[f"FIL01.Command.Parameter[{index}].ID"] = index
            points[f"FIL01.Command.Parameter[{index}].Name"] = name
            points[f"FIL01.Command.Parameter[{index}].Unit"] = unit
        return points | {
            "FIL01.MES.CmdSeq": self.handshake.command,
            "FIL01.MES.AckSeq": self.handshake.acknowledged,
            "FIL01.MES.CmdStatus": int(self.handshake.status),
            "FIL01.MES.CmdError": int(self.handshake.error),
        }

    def _set(self, name: str, value: Written) -> None:
        self._command[name] = float(value)

    def _set_hold(self, value: Written) -> None:
        self._hold = bool(value)

    def _check(self) -> Refusal:
        return Refusal.NONE if all(map(math.isfinite, self._command.values())) else Refusal.BAD_DATA

    def _take(self, at_ms: int) -> None:
        self._active.append((at_ms, dict(self._command)))


def _check_quantity(scenario: Scenario, order: str, good: int) -> None:
    if good != scenario.orders[order].qty:
        raise ScenarioError(
            f"filler: the timeline and scrap windows yield {good} good bottles of the order {order}, "
            f"which asks for {scenario.orders[order].qty}; change its end, a scrap window or qty"
        )
