"""Facts from the systems around the MES: orders, released sets, changes, holds, material. Each is kept, not judged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.domain import purposes
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.events import ChangeAccepted
from gateway.domain.forgetting import forget
from gateway.domain.history import KEPT
from gateway.domain.objections import Objection
from gateway.domain.operations import Operation
from gateway.domain.orders import KnownOrder, OrderSource
from gateway.domain.parameters import Notice
from gateway.domain.requests import (
    ChangeNotice,
    Command,
    CounterRebase,
    DispatchOrder,
    MaterialArrival,
    OrderEnd,
    OrderStart,
    ParamsDownload,
    ParamsRelease,
    QualityHold,
    QualityRelease,
    StockTask,
)
from gateway.domain.shared import SharedRecord
from gateway.domain.tag_spec import TagSpec
from gateway.domain.times import parse_timestamp
from gateway.domain.values import TagWrite, Timestamp


class Dispatch:
    """Takes in every command but the download, and knows which download an order is waiting for."""

    def __init__(self, record: SharedRecord, equipment: Mapping[str, Equipment], site: Recorder) -> None:
        self._record = record
        self._by_unit = {item.spec.unit: item for item in equipment.values()}
        self._site = site
        self._units = {unit: lane for item in equipment.values() for unit, lane in item.lanes.by_unit.items()}
        self._takers: dict[type[Any], Callable[[Any, Timestamp], Sequence[Objection]]] = {
            DispatchOrder: self._take_order,
            ParamsRelease: self._take_release,
            ChangeNotice: self._take_notice,
            QualityHold: self._take_hold,
            QualityRelease: self._take_hold_release,
            MaterialArrival: self._take_arrival,
            StockTask: self._take_task,
            OrderStart: self._take_start,
            OrderEnd: self._take_end,
            CounterRebase: self._take_rebase,
        }

    def take(self, command: Command, now: Timestamp) -> Sequence[Objection]:
        """Keep what the command says; the objections if it cannot be kept."""
        objections = self._takers[type(command)](command, now)
        forget(self._record, self._by_unit.values(), now)
        self._site.changed = True
        return objections

    def due_download(self, equipment: Equipment, now: Timestamp) -> ParamsDownload | None:
        """The download that this equipment's next dispatched order waits for, if its states allow it now."""
        memory, unit = equipment.memory.production.order, equipment.spec.unit
        if memory.current is not None or memory.armed is not None or equipment.spec.download is None:
            return None
        for order in self._record.orders.values():
            name = order.sets.get(unit)
            if order.over is not None:
                continue
            if order.automatic is None or name is None or memory.has_run(order.order) or order.order in memory.loaded:
                continue
            rev = self._record.library.revision(name, now)
            if equipment.state is None or equipment.state not in order.automatic or rev is None:
                return None
            items = self._record.library.items[name][rev]
            cmd = f"auto:{order.order}:{order.operations.get(unit, '')}:1"
            return ParamsDownload(cmd=cmd, eq=unit, set=name, rev=rev, items=items, order=order.order)
        return None

    # --- takers -------------------------------------------------------------------------------------------------

    def _take_order(self, command: DispatchOrder, now: Timestamp) -> Sequence[Objection]:
        unknown = [op.eq for op in command.ops if op.eq.rsplit("/", 1)[-1] not in self._units]
        if unknown:
            known = ", ".join(sorted(self._by_unit))
            return [Objection("unknown_equipment", f"{', '.join(unknown)} is not configured; here are {known}")]
        units = {op.eq.rsplit("/", 1)[-1]: op for op in command.ops}
        self._record.orders[command.order] = KnownOrder(
            command.order, command.qty, command.lot, command.material,
            operations={unit: op.op for unit, op in units.items()},
            sets={unit: op.set for unit, op in units.items() if op.set is not None},
            automatic=list(command.auto_download.when) if command.auto_download is not None else None,
            dispatched=now,
        )  # fmt: skip
        for lane in self._units.values():
            run = lane.memory.order.current
            if run is not None and run.order.id == command.order:
                run.planned = command.qty
                lane.recorder.changed = True
        return []

    def _take_release(self, command: ParamsRelease, now: Timestamp) -> Sequence[Objection]:
        for released in command.sets:
            at_once = command.change is None
            self._record.library.release(released.set, released.rev, released.items, now, at_once=at_once)
        return []

    def _take_notice(self, command: ChangeNotice, now: Timestamp) -> Sequence[Objection]:
        library = self._record.library
        missing = [f"{i.set} {i.to}" for i in command.items if i.to not in library.items.get(i.set, {})]
        if missing:
            return [Objection("not_released", f"{', '.join(missing)}: not known here (any more); release it first")]
        if command.effective.mode not in ("immediate", "at_time"):
            return [Objection("effectivity", f"the mode {command.effective.mode!r} is unknown; immediate or at_time")]
        at = parse_timestamp(command.effective.t) if command.effective.t is not None else now
        library.notices.append(Notice(command.cn, at, {item.set: item.to for item in command.items}))
        self._site.event(ChangeAccepted(cn=command.cn), now, now, time_quality="gateway", corr=command.corr)
        return []

    def _take_hold(self, command: QualityHold, now: Timestamp) -> Sequence[Objection]:
        if locked := self._locked_holds(command.scope.lot):
            return locked
        if command.scope.lot not in self._record.held_lots:
            self._record.held_lots.append(command.scope.lot)
        self._set_hold(command, on=True)
        return []

    def _take_hold_release(self, command: QualityRelease, now: Timestamp) -> Sequence[Objection]:
        if locked := self._locked_holds(command.scope.lot):
            return locked
        if command.scope.lot in self._record.held_lots:
            self._record.held_lots.remove(command.scope.lot)
        self._set_hold(command, on=False)
        return []

    def _take_arrival(self, command: MaterialArrival, now: Timestamp) -> Sequence[Objection]:
        self._record.arrivals[command.material] = command.eta
        return []

    def _take_task(self, command: StockTask, now: Timestamp) -> Sequence[Objection]:
        if command.status == "delivered" and command.lot is not None:
            self._record.delivered[command.material] = command.lot
        return []

    def _take_start(self, command: OrderStart, now: Timestamp) -> Sequence[Objection]:
        return self._change_order(command, command.order, now, (OrderSource.COMMAND,))

    def _take_end(self, command: OrderEnd, now: Timestamp) -> Sequence[Objection]:
        return self._change_order(command, "", now, (OrderSource.COMMAND, OrderSource.DOWNLOAD))

    def _take_rebase(self, command: CounterRebase, now: Timestamp) -> Sequence[Objection]:
        counted = self._units.get(command.eq.rsplit("/", 1)[-1])
        return [self._unknown(command.eq)] if counted is None else counted.settle_jump(command, now)

    def _unknown(self, name: str) -> Objection:
        known = ", ".join(sorted(self._units))
        return Objection("unknown_equipment", f"{name} is not configured; here are {known}")

    def _change_order(
        self, command: OrderStart | OrderEnd, order: str, now: Timestamp, sources: Sequence[OrderSource]
    ) -> Sequence[Objection]:
        equipment = self._by_unit.get(command.eq.rsplit("/", 1)[-1])
        if equipment is None:
            known = ", ".join(sorted(self._by_unit))
            return [Objection("unknown_equipment", f"{command.eq} is not configured; here are {known}")]
        spec = equipment.spec.production.order
        if spec is None or spec.source not in sources:
            says = "has no orders" if spec is None else f"takes its orders from: {spec.upstream or spec.source}"
            return [Objection("not_allowed", f"{command.eq} {says}, not from this command")]
        try:
            at = parse_timestamp(command.t) if command.t is not None else now
        except ValueError as error:
            return [Objection("malformed", f"t: {error}")]
        if at < now - KEPT:
            return [Objection("too_old", f"{command.t} is more than a day ago; what was told is kept for a day")]
        equipment.attribution.change_order(order, at, now)
        return []

    def _set_hold(self, command: QualityHold | QualityRelease, *, on: bool) -> None:
        """Set or clear the hold bit of every machine that runs the lot."""
        lot = command.scope.lot
        for equipment, order, tag in self._holdable(lot):
            token = f"{equipment.spec.path}|hold:{lot}|{int(on)}"
            writes, purpose = (TagWrite(tag.tag_id, on),), purposes.of_hold(command, order)
            self._site.effects.operations.append(Operation(tag.device, token, writes=writes, purpose=purpose))

    def _locked_holds(self, lot: str) -> list[Objection]:
        """Why a machine that runs the lot cannot be told: then nobody shall believe that it was."""
        found = [self._record.locks.objection(tag.device) for _, _, tag in self._holdable(lot)]
        return [objection for objection in found if objection is not None]

    def _holdable(self, lot: str) -> Iterator[tuple[Equipment, str, TagSpec]]:
        """The machines that run the lot and have a hold bit, each with its order."""
        for equipment in self._by_unit.values():
            run, tag = equipment.memory.production.order.current, equipment.spec.hold
            if run is not None and run.order.lot == lot and tag is not None:
                yield equipment, run.order.id, tag
