"""Material that is on its way or was delivered: kept, and held against when the machines run out of theirs."""

from collections.abc import Collection, Iterator

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import MaterialArrival, StockTask
from gateway.domain.equipment import Equipment
from gateway.domain.shared import SharedRecord
from gateway.domain.times import parse_timestamp
from gateway.domain.values import Timestamp

TASKS = ("deliver", "collect", "return")


class Supply:
    """Takes `material.arrival` and `stock.task`."""

    def __init__(self, record: SharedRecord, equipment: Collection[Equipment]) -> None:
        self._record = record
        self._equipment = equipment

    def announce(self, command: MaterialArrival, now: Timestamp) -> list[Objection]:
        """More of a material comes; who runs out of it before is told of, once per container."""
        try:
            parse_timestamp(command.eta)
        except ValueError as error:
            return [Objection("malformed", f"eta: {error}")]
        self._record.arrivals[command.material] = command.eta
        for item in self._equipment:
            item.attribution.judge_supply(command.material, now)
        return []

    def deliver(self, command: StockTask) -> list[Objection]:
        """What is delivered is what is used next; material that no machine here uses is the wrong one."""
        if command.kind not in TASKS:
            return [Objection("kind", f"{command.kind!r} is not one of {', '.join(TASKS)}")]
        if command.kind != "deliver" or command.status != "delivered":
            return []
        used = sorted(set(self._used()))
        if used and command.material not in used:
            text = f"{command.material} was delivered, but no machine here uses it; they use {', '.join(used)}"
            return [Objection("wrong_material", text)]
        if command.lot is not None:
            self._record.delivered[command.material] = command.lot
        return []

    def _used(self) -> Iterator[str]:
        for item in self._equipment:
            for lane in item.lanes.all:
                yield from (spec.material for spec in lane.spec.usage.materials)
