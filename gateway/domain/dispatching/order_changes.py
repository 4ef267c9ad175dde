"""Dispatched orders: taken in, put on hold, moved in the queue, given another quantity, cancelled."""

from collections.abc import Collection, Iterator, Mapping

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import DispatchChange, DispatchOrder
from gateway.domain.equipment import Equipment
from gateway.domain.production.attribution import Attribution
from gateway.domain.production.orders import KnownOrder
from gateway.domain.shared import SharedRecord
from gateway.domain.times import parse_timestamp
from gateway.domain.values import Timestamp
from gateway.domain.writing.download_memory import Step

PIECES = "pcs"


class OrderChanges:
    """Takes `dispatch.order` and `dispatch.change`; `lanes` are all units that count, machines and their lanes."""

    def __init__(
        self, record: SharedRecord, equipment: Collection[Equipment], lanes: Mapping[str, Attribution]
    ) -> None:
        self._record = record
        self._equipment = equipment
        self._lanes = lanes

    def take_order(self, command: DispatchOrder, now: Timestamp) -> list[Objection]:
        """A new order, or all of a known one anew; a hold of it stays."""
        operations = {_unit(op.eq): op for op in command.ops}
        against = [*self._unknown_units(operations), *self._unknown_material(command.material)]
        planned = self._pieces(command.qty, command.unit, command.material, operations)
        start = _moment(command.start)
        against += [fault for fault in (planned, start) if isinstance(fault, Objection)]
        if against or isinstance(planned, Objection) or isinstance(start, Objection):
            return against
        before = self._record.orders.get(command.order)
        self._record.orders[command.order] = KnownOrder(
            command.order, planned, command.lot, command.material,
            operations={unit: op.op for unit, op in operations.items()},
            sets={unit: op.set for unit, op in operations.items() if op.set is not None},
            automatic=list(command.auto_download.when) if command.auto_download is not None else None,
            dispatched=now, prio=command.prio, start=start, held=before.held if before is not None else False,
        )  # fmt: skip
        self._plan(command.order, planned)
        return []

    def change(self, command: DispatchChange) -> list[Objection]:
        """Do to a known order what the command says."""
        order = self._record.orders.get(command.order)
        if order is None:
            return [Objection("unknown_order", f"{command.order} is not dispatched here, or was cancelled")]
        match command.action:
            case "cancel":
                return self._cancel(order)
            case "hold" | "resume":
                order.held = command.action == "hold"
                return []
            case "resequence":
                return self._resequence(order, command)
            case "update":
                return self._update(order, command)

    # --- actions ------------------------------------------------------------------------------------------------

    def _cancel(self, order: KnownOrder) -> list[Objection]:
        """Only while nothing was made for it; where its parameters are loaded it shall not start any more."""
        against = list(self._begun(order.order))
        if against:
            return against
        del self._record.orders[order.order]
        for item in self._equipment:
            armed, download = item.orders.memory.armed, item.memory.download
            if armed is not None and armed.order == order.order:
                item.orders.memory.armed = None
                item.recorder.changed = True
            if download is not None and download.order == order.order:
                download.cancelled = item.recorder.changed = True
        return []

    def _begun(self, order: str) -> Iterator[Objection]:
        for unit, lane in self._lanes.items():
            if lane.orders.memory.has_run(order):
                yield Objection("running", f"{order} has started on {unit}; what was made stays made")
        for item in self._equipment:
            download = item.memory.download
            if download is not None and download.order == order and download.step is not Step.WAIT_PERMIT:
                text = f"the download {download.cmd} for it is at step {download.step}; cancel when that has ended"
                yield Objection("active_download", text)

    def _resequence(self, order: KnownOrder, command: DispatchChange) -> list[Objection]:
        start = _moment(command.start)
        if isinstance(start, Objection):
            return [start]
        if command.prio is None and start is None:
            return [Objection("malformed", "resequence needs prio or start")]
        order.prio = order.prio if command.prio is None else command.prio
        order.start = order.start if start is None else start
        return []

    def _update(self, order: KnownOrder, command: DispatchChange) -> list[Objection]:
        """A lot is fixed once something was made under it; a quantity moves while the order runs."""
        if command.qty is None and command.lot is None:
            return [Objection("malformed", "update needs qty or lot")]
        if command.lot not in (None, order.lot) and (against := list(self._begun(order.order))):
            return against
        if command.qty is not None:
            planned = self._pieces(command.qty, command.unit, order.material, order.operations)
            if isinstance(planned, Objection):
                return [planned]
            order.planned = planned
            self._plan(order.order, planned)
        order.lot = order.lot if command.lot is None else command.lot
        return []

    def _plan(self, order: str, pieces: int) -> None:
        """Runs of the order that are open have this quantity from now on."""
        for lane in self._lanes.values():
            run = lane.orders.memory.current
            if run is not None and run.order.id == order:
                run.planned = pieces
                lane.recorder.changed = True

    # --- what is known ------------------------------------------------------------------------------------------

    def _unknown_units(self, operations: Collection[str]) -> Iterator[Objection]:
        unknown = [unit for unit in operations if unit not in self._lanes]
        if unknown:
            known = ", ".join(sorted(self._lanes))
            yield Objection("unknown_equipment", f"{', '.join(unknown)} is not configured; here are {known}")

    def _unknown_material(self, material: str | None) -> Iterator[Objection]:
        unknown = self._record.master.unknown_material(material)
        if unknown is not None:
            yield unknown

    def _pieces(self, quantity: int, unit: str, material: str | None, units: Collection[str]) -> int | Objection:
        """The quantity in what the machines count in."""
        counted = {lane.spec.unit for name, lane in self._lanes.items() if name in units} or {PIECES}
        return quantity if unit in counted else self._record.master.pieces(quantity, unit, material)


def _unit(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _moment(text: str | None) -> Timestamp | Objection | None:
    try:
        return parse_timestamp(text) if text is not None else None
    except ValueError as error:
        return Objection("malformed", f"start: {error}")
