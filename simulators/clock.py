"""The play clock: where plant time is, given the wall, an epoch and a speed."""

import time
from dataclasses import dataclass, field

from simulators.scenario import Scenario


@dataclass(frozen=True, slots=True)
class PlayClock:
    """Plant time = scenario start + (wall - epoch) * speed; `epoch` is in seconds since 1970 UTC.

    The wall is read once; from then on the monotonic clock counts, so a corrected wall clock does not make plant time
    jump.
    """

    scenario: Scenario
    epoch: float
    speed: float
    _lead: float = field(default_factory=lambda: time.time() - time.monotonic())

    def plant_ms(self) -> int:
        """Milliseconds of plant time since the scenario's start; negative before the epoch."""
        return int((time.monotonic() + self._lead - self.epoch) * self.speed * 1000)

    def wall_seconds_until(self, plant_ms: int) -> float:
        """Seconds on the wall until plant time is there; negative if it was before."""
        return self.epoch + plant_ms / 1000 / self.speed - self._lead - time.monotonic()
