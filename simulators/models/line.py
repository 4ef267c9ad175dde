"""One line: three machines and a checkweigher that share one time, stepped from outside."""

from dataclasses import dataclass
from typing import Any, Final

from simulators.models.alarms import occurrences
from simulators.models.checkweigher import Checkweigher
from simulators.models.filler import Filler
from simulators.models.labeller import Labeller
from simulators.models.ledger import ledger
from simulators.models.line_time import LineTime
from simulators.models.palletiser import Palletiser
from simulators.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Write:
    """What a client wrote to a machine, whether the machine let it or not. `at` is in seconds since the start."""

    at: float
    machine: str
    tag: str
    value: object
    accepted: bool


class Line:
    """The machines of a scenario. From `until` (default: its end) on they stand still, but stay switched on.

    `step(3600)` is the same as 3,600 times `step(1)`: nothing is simulated in between, every figure is computed from
    the script for the moment that is asked for, and only running handshakes have a memory.
    """

    def __init__(self, scenario: Scenario, until: int | None = None) -> None:
        self.scenario: Final = scenario
        self.time: Final = LineTime(until_s=min(until if until is not None else scenario.length, scenario.length))
        self.filler: Final = Filler(scenario, self.time)
        self.labeller: Final = Labeller(scenario, self.time, self.filler.good)
        self.palletiser: Final = Palletiser(scenario, self.time, self.labeller)
        self.checkweigher: Final = Checkweigher(scenario, self.time, self.filler)
        self.alarms: Final = {name: occurrences(scenario, name) for name in ("FIL01", "LBL01", "PAL01")}
        self.writes: Final[list[Write]] = []

    @property
    def at(self) -> float:
        """Plant seconds since the scenario's start."""
        return self.time.ms / 1000

    @property
    def over(self) -> bool:
        """True when the machines stand still for good."""
        return self.time.ms >= self.time.until_s * 1000

    @property
    def due_ms(self) -> int | None:
        """When the next handshake will be done, in milliseconds since the start, or None."""
        due = [h.due_ms for h in (self.filler.handshake, self.labeller.handshake) if h.due_ms is not None]
        return min(due, default=None)

    def step(self, seconds: float) -> None:
        """Let plant time pass; a millisecond is the finest there is."""
        self.advance_to(self.time.ms + round(seconds * 1000))

    def advance_to(self, ms: int) -> None:
        """Let plant time pass until that many milliseconds since the start."""
        self.time.ms = max(ms, self.time.ms)
        self.filler.handshake.advance(self.time.ms)
        self.labeller.handshake.advance(self.time.ms)

    def note(self, machine: str, tag: str, value: object, *, accepted: bool) -> None:
        """Keep for the ledger that a client wrote."""
        self.writes.append(Write(self.at, machine, tag, value, accepted))

    def ledger(self) -> dict[str, Any]:
        """What truly happened so far, as JSON has it; see `simulators.models.ledger`."""
        return ledger(self)
