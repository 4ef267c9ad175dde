"""A player whose batches arrive as they do on a bad day: twice, after the next one, or several late."""

from collections.abc import Collection, Mapping
from random import Random
from typing import Any

from gateway.config.plant import Plant
from gateway.domain.values import Batch, Timestamp
from simulators.scenario import Scenario
from tests.golden.player import Player


class UnreliablePlayer(Player):
    """Every batch is delivered at least once, but not always once, in time and in order.

    A scan that reports a pallet shows only the newest one, so SCADA's batches may come twice but not overtake each other.
    """

    def __init__(self, scenario: Scenario, plant: Plant, seed: int) -> None:
        super().__init__(scenario, plant)
        self._random = Random(seed)
        self._held: dict[str, Batch] = {}
        self._wait: dict[str, int] = {}
        self._soon: dict[str, set[Timestamp]] = {}

    def play(self, looks: Mapping[int, Collection[str]] | None = None) -> list[dict[str, Any]]:
        """Only a batch that others follow within seconds, in the same session, can be overtaken."""
        assert looks is not None
        kills = [fault.from_ for fault in self.scenario.faults if fault.kind == "gateway_kill"]
        for device in ("FIL01", "LBL01"):
            seconds = sorted(second for second, devices in looks.items() if device in devices)
            soon = zip(seconds, seconds[3:], strict=False)
            self._soon[device] = {
                self.start + first * 1000
                for first, fourth in soon
                if fourth - first <= 10 and not any(first <= kill <= fourth for kill in kills)
            }
        return super().play(looks)

    def deliver(self, device: str, batch: Batch, now: Timestamp) -> None:
        """Hand a batch over, or keep it back until one to three others have gone before it."""
        chance = self._random.random()
        if chance < 0.06 and now in self._soon.get(device, ()) and device not in self._held and batch.changes:
            self._held[device], self._wait[device] = batch, self._random.randint(1, 3)
            return
        super().deliver(device, batch, now)
        if chance > 0.95:
            super().deliver(device, batch, now)
        if device in self._held:
            self._wait[device] -= 1
            if self._wait[device] == 0:
                super().deliver(device, self._held.pop(device), now)
