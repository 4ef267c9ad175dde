"""What the shared record forgets: orders that are over, and revisions that nothing refers to any more.

The record is one checkpoint, written whole at every change of it, so what only grows makes every commit slower. It
grows by commands alone, so it is looked through when one comes, and needs no timer.
"""

from collections.abc import Collection
from typing import Final

from gateway.domain.equipment import Equipment
from gateway.domain.production.orders import KnownOrder
from gateway.domain.shared import SharedRecord
from gateway.domain.values import Timestamp

DAY: Final = 86_400_000

KEPT: Final = 7 * DAY
"""Milliseconds that orders, revisions and answers are kept after their use: a broker or device that was away over a
long weekend still tells of them, and a sender still repeats them."""

LONGEST_WAIT: Final = 365 * DAY
"""Milliseconds after its dispatch from which an order that did not run everywhere is not waited for any longer."""


def forget(record: SharedRecord, equipment: Collection[Equipment], now: Timestamp) -> None:
    """Note what is over by now, and forget what has been so for longer than it is kept."""
    _forget_orders(record, equipment, now)
    in_use = {revision for item in equipment for revision in _revisions_in_use(item)}
    record.library.forget(in_use, now, now - KEPT)
    active = {order for item in equipment for order in active_orders(item)}
    for notice in record.library.notices:
        notice.applied = [order for order in notice.applied if order in record.orders]
        notice.begun = [order for order in notice.begun if order in record.orders or order in active]


def _forget_orders(record: SharedRecord, equipment: Collection[Equipment], now: Timestamp) -> None:
    ran = {item.spec.unit: {key.split("|", 1)[0] for key in item.orders.memory.numbers} for item in equipment}
    tracking = {item.spec.unit for item in equipment if item.spec.production.order is not None}
    active = {order for item in equipment for order in active_orders(item)}
    for order in list(record.orders.values()):
        if order.order in active:
            order.over = None
            continue
        if order.over is None and all(order.order in ran[unit] for unit in order.operations if unit in tracking):
            order.over = now
        if _is_old(order, now):
            del record.orders[order.order]
    for item in equipment:
        loaded = [order for order in item.orders.memory.loaded if order in record.orders]
        if loaded != item.orders.memory.loaded:
            item.orders.memory.loaded = loaded
            item.recorder.changed = True


def _is_old(order: KnownOrder, now: Timestamp) -> bool:
    return now - order.dispatched > LONGEST_WAIT if order.over is None else now - order.over > KEPT


def active_orders(equipment: Equipment) -> set[str]:
    """The orders that this equipment runs, is settling, was loaded for or is being loaded for."""
    memory, download = equipment.orders.memory, equipment.memory.download
    orders = {run.order.id for run in (*memory.closing, *([memory.current] if memory.current else []))}
    orders |= memory.prepared.keys()
    if memory.armed is not None:
        orders.add(memory.armed.order)
    if download is not None and download.order is not None:
        orders.add(download.order)
    return orders


def _revisions_in_use(equipment: Equipment) -> set[tuple[str, str]]:
    """The sets and revisions that are on this equipment or on their way there."""
    held, download = equipment.orders.memory.parameters, equipment.memory.download
    waiting = equipment.orders.memory.prepared.values()
    found = {(one["set"], one["rev"]) for one in (*([held] if held else []), *waiting)}
    return found | ({(download.set, download.rev)} if download is not None else set())
