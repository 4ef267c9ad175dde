"""Which of the dispatched orders is next on an equipment.

The queue is a pure function of the record: orders with a higher `prio` first (50 if the dispatch says none), then by
their planned start (the moment of the dispatch if it says none), then by their dispatch, then by their name. Not in it
are orders on hold, orders of a lot on hold, and those that were loaded or have run there.
"""

from collections.abc import Collection, Iterable
from typing import Final

from gateway.domain.dispatching.forgetting import active_orders
from gateway.domain.equipment import Equipment
from gateway.domain.production.orders import KnownOrder
from gateway.domain.shared import SharedRecord

USUAL_PRIORITY: Final = 50


def rank(order: KnownOrder) -> tuple[int, int, int, str]:
    """What orders are sorted by: the smallest is next."""
    priority = USUAL_PRIORITY if order.prio is None else order.prio
    start = order.dispatched if order.start is None else order.start
    return -priority, start, order.dispatched, order.order


class OrderQueue:
    """The orders that wait to be brought to an equipment by the gateway itself. Sorted once after every command."""

    def __init__(self, record: SharedRecord) -> None:
        self._record = record
        self._waiting: dict[str, list[KnownOrder]] = {}

    def refresh(self) -> None:
        """The record changed."""
        self._waiting.clear()

    def next_for(self, equipment: Equipment) -> KnownOrder | None:
        """The order whose set the equipment gets next."""
        unit = equipment.spec.unit
        waiting = self._waiting.get(unit)
        if waiting is None:
            waiting = self._waiting[unit] = sorted(self._candidates(unit), key=rank)
        while waiting and is_loaded(equipment, waiting[0].order):
            del waiting[0]  # what has run has run; a new dispatch makes a new queue
        return waiting[0] if waiting else None

    def _candidates(self, unit: str) -> Iterable[KnownOrder]:
        for order in self._record.orders.values():
            if order.automatic is None or order.over is not None or order.held or unit not in order.sets:
                continue
            if order.lot is None or order.lot not in self._record.held_lots:
                yield order


def is_loaded(equipment: Equipment, order: str) -> bool:
    """True if the order's parameters are or were on the equipment, or it ever ran there."""
    return order in equipment.orders.memory.loaded or equipment.orders.memory.has_run(order)


def begun_orders(record: SharedRecord, equipment: Collection[Equipment]) -> list[str]:
    """The orders that are not over and were loaded on some machine, are being loaded, or have run on some."""
    active = {order for item in equipment for order in active_orders(item)}
    waiting = (order.order for order in record.orders.values() if order.over is None)
    return sorted(active | {name for name in waiting if any(is_loaded(item, name) for item in equipment)})
