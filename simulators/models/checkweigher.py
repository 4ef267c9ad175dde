"""CW01: weighs a subgroup of five bottles on a fixed grid while the filler executes (1 mL weighs 1 g)."""

from bisect import bisect_right
from random import Random
from typing import Final, NamedTuple

from simulators.models.filler import Filler
from simulators.models.line_time import LineTime
from simulators.models.states import executes
from simulators.scenario import Scenario
from simulators.scenario_parts import ParameterItem

SUBGROUP: Final = 5


class Limits(NamedTuple):
    """What a set demands of the weight."""

    low: float
    target: float
    high: float


class Checkweigher:
    """Everything the SCADA server shows of CW01. The weights depend on the scenario, the second and what is active."""

    name: Final = "CW01"

    def __init__(self, scenario: Scenario, time: LineTime, filler: Filler) -> None:
        self._scenario = scenario
        self._time = time
        self._filler = filler
        runs = [row for row in filler.rows if executes(row.state)]
        grid = range(0, scenario.length, scenario.checkweigher.every_s)
        self.samples = [(second, row.order) for second in grid for row in runs if row.start < second < row.end]
        self._seconds = [second for second, _ in self.samples]

    def weights(self, number: int) -> list[float]:
        """The n-th subgroup (1, 2, 3 …) in grams; its mean is inside the limits unless the script says otherwise."""
        second, order = self.samples[number - 1]
        limits = self._limits(second, order)
        random = Random(f"{self._scenario.name} {second}")
        span = limits.high - limits.low
        if second in self._scenario.checkweigher.out_of_spec:
            mean = limits.low - span / 5
        else:
            filled = self._filler.active_at(second * 1000).get(self._scenario.checkweigher.limits_of, 0.0)
            centre = filled if limits.low <= filled <= limits.high else limits.target
            centre = min(max(centre, limits.low + span / 10), limits.high - span / 10)
            mean = centre + random.uniform(-span, span) / 40
        noise = [random.gauss(0, span / 20) for _ in range(SUBGROUP)]
        offset = mean - sum(noise) / SUBGROUP
        return [round(offset + weight, 2) for weight in noise]

    def tags(self) -> dict[str, object]:
        """One scan: point name → value."""
        number = bisect_right(self._seconds, self._time.second)
        return {
            "CW01.SampleToggle": number % 2 == 1,
            "CW01.Values": self.weights(number) if number else [0.0] * SUBGROUP,
            "CW01.SampleSeq": number,
        }

    def _limits(self, second: int, order: str | None) -> Limits:
        """The limits of the set that the script has active on the filler for that order."""
        name = self._scenario.checkweigher.limits_of
        released = [
            command
            for command in self._scenario.commands
            if command.eq == self._filler.name
            and command.order == order
            and command.result == "ACTIVE"
            and (command.done or command.at) <= second
        ]
        if released:
            command = max(released, key=lambda command: command.done or command.at)
            item = self._item(command.set, command.rev)
            if item is not None and name in item:
                low, high = command.limits.get(name, (item[name].min, item[name].max))
                return Limits(low, command.items.get(name, item[name].value), high)
        item = self._item(self._scenario.orders[order].sets.get(self._filler.name) if order else None, None)
        return Limits(item[name].min, item[name].value, item[name].max) if item and name in item else Limits(0, 0, 0)

    def _item(self, name: str | None, rev: str | None) -> dict[str, ParameterItem] | None:
        """That revision of a set, or its first one."""
        revisions = self._scenario.parameter_sets.get(name or "", {})
        return revisions.get(rev) if rev else next(iter(revisions.values()), None)
