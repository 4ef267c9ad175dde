"""Facts from the systems around the MES: orders, released sets, changes, holds, material, master data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.param_events import ChangeAccepted
from gateway.domain.contract.requests import (
    ChangeNotice,
    Command,
    CounterRebase,
    DispatchChange,
    DispatchOrder,
    MasterdataSync,
    MaterialArrival,
    OrderEnd,
    OrderStart,
    ParamsDownload,
    ParamsRelease,
    QualityHold,
    QualityRelease,
    StockTask,
)
from gateway.domain.dispatching.forgetting import forget
from gateway.domain.dispatching.holds import Holds
from gateway.domain.dispatching.order_changes import OrderChanges
from gateway.domain.dispatching.order_queue import OrderQueue, begun_orders
from gateway.domain.dispatching.releases import is_repeated, notice_of, release_objections
from gateway.domain.dispatching.supply import Supply
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.operations import OperationResult
from gateway.domain.production.history import KEPT
from gateway.domain.production.orders import OrderSource
from gateway.domain.shared import SharedRecord
from gateway.domain.times import parse_timestamp
from gateway.domain.values import Timestamp


class Dispatch:
    """Takes in every command but the download, and knows which download an order is waiting for."""

    def __init__(self, record: SharedRecord, equipment: Mapping[str, Equipment], site: Recorder) -> None:
        self._record = record
        self._by_unit = {item.spec.unit: item for item in equipment.values()}
        self._site = site
        self._units = {unit: lane for item in equipment.values() for unit, lane in item.lanes.by_unit.items()}
        machines = self._by_unit.values()
        self._orders = OrderChanges(record, machines, self._units)
        self._queue = OrderQueue(record)
        self._holds = Holds(record, machines, site)
        self._supply = Supply(record, machines)
        self._takers: dict[type[Any], Callable[[Any, Timestamp], Sequence[Objection]]] = {
            DispatchOrder: self._orders.take_order,
            DispatchChange: self._take_change,
            MasterdataSync: self._take_sync,
            ParamsRelease: self._take_release,
            ChangeNotice: self._take_notice,
            QualityHold: self._take_hold,
            QualityRelease: self._take_hold_release,
            MaterialArrival: self._supply.announce,
            StockTask: self._take_task,
            OrderStart: self._take_start,
            OrderEnd: self._take_end,
            CounterRebase: self._take_rebase,
        }

    def take(self, command: Command, now: Timestamp) -> Sequence[Objection]:
        """Keep what the command says; the objections if it cannot be kept."""
        objections = self._takers[type(command)](command, now)
        forget(self._record, self._by_unit.values(), now)
        self._queue.refresh()
        self._site.changed = True
        return objections

    def due_download(self, equipment: Equipment, now: Timestamp) -> ParamsDownload | None:
        """The download that this equipment's next dispatched order waits for, if its states allow it now."""
        memory, unit = equipment.memory.production.order, equipment.spec.unit
        if memory.current is not None or memory.armed is not None or equipment.spec.download is None:
            return None
        order = self._queue.next_for(equipment)
        if order is None or equipment.state is None or equipment.state not in (order.automatic or ()):
            return None
        name = order.sets[unit]
        rev = self._record.library.revision(name, now, order.order, order.lot)
        if rev is None:
            return None
        items = self._record.library.items[name][rev]
        cmd = f"auto:{order.order}:{order.operations.get(unit, '')}:1"
        return ParamsDownload(cmd=cmd, eq=unit, set=name, rev=rev, items=items, order=order.order)

    def follow_hold(self, equipment: Equipment) -> None:
        """A scan is over: perhaps the equipment runs a lot that is on hold."""
        self._holds.follow(equipment)

    def handle_result(self, result: OperationResult) -> None:
        """An operation ended, perhaps that of a hold bit."""
        self._holds.handle_result(result)

    # --- takers -------------------------------------------------------------------------------------------------

    def _take_change(self, command: DispatchChange, now: Timestamp) -> Sequence[Objection]:
        return self._orders.change(command)

    def _take_sync(self, command: MasterdataSync, now: Timestamp) -> Sequence[Objection]:
        return self._record.master.sync(command)

    def _take_release(self, command: ParamsRelease, now: Timestamp) -> Sequence[Objection]:
        library, at_once = self._record.library, command.change is None
        against = list(release_objections(command, library))
        for released in command.sets if not against else ():
            library.release(released.set, released.rev, released.items, now, at_once=at_once)
        return against

    def _take_notice(self, command: ChangeNotice, now: Timestamp) -> Sequence[Objection]:
        library = self._record.library
        notice = notice_of(command, library, begun_orders(self._record, self._by_unit.values()), now)
        if isinstance(notice, Objection):
            return [notice]
        known = library.notice(command.cn)
        if known is not None and is_repeated(known, notice, command):
            return []
        if known is not None:
            return [Objection("notice_exists", f"{command.cn} says something else already; give this one its own name")]
        library.accept(notice)
        self._site.event(ChangeAccepted(cn=command.cn), now, now, time_quality="gateway", corr=command.corr)
        return []

    def _take_hold(self, command: QualityHold, now: Timestamp) -> Sequence[Objection]:
        return self._holds.hold(command)

    def _take_hold_release(self, command: QualityRelease, now: Timestamp) -> Sequence[Objection]:
        return self._holds.release(command)

    def _take_task(self, command: StockTask, now: Timestamp) -> Sequence[Objection]:
        return self._supply.deliver(command)

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
