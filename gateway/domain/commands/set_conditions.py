"""What a set, its revision and its order must be for a machine to take it: every reason against, by name."""

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import ParameterItem, ParamsDownload
from gateway.domain.dispatching.parameters import ParameterLibrary
from gateway.domain.equipment import Equipment
from gateway.domain.production.orders import KnownOrder
from gateway.domain.shared import SharedRecord
from gateway.domain.values import Timestamp
from gateway.domain.writing.download_memory import DownloadMemory
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.parameter_classes import classes, is_fixed


class AdjustedDownload(ParamsDownload, frozen=True, kw_only=True):
    """What a `params.adjust` becomes: a download of some values of the set that is active."""

    type: ClassVar = "params.adjust"


def with_release(command: ParamsDownload, library: ParameterLibrary) -> ParamsDownload:
    """The command with units, limits and classes of the revision as it was released, where the command gives none.

    The class is that of the release in any case.
    """
    released = {item.name: item for item in library.items.get(command.set, {}).get(command.rev, ())}
    items = tuple(_completed(item, released[item.name]) if item.name in released else item for item in command.items)
    return msgspec.structs.replace(command, items=items)


def _completed(item: ParameterItem, released: ParameterItem) -> ParameterItem:
    return msgspec.structs.replace(
        item,
        unit=released.unit if item.unit is None else item.unit,
        min=released.min if item.min is None else item.min,
        max=released.max if item.max is None else item.max,
        parameter_class=released.parameter_class,
    )


About = ParamsDownload | DownloadMemory
"""A set that is to be brought down, or that waits for the permit."""


def withdrawn(
    memory: DownloadMemory, equipment: Equipment, record: SharedRecord, now: Timestamp
) -> Iterator[Objection]:
    """Why a set that waits for the permit is not meant any more."""
    if memory.cancelled:
        yield Objection("cancelled", f"the order {memory.order} was cancelled")
    order = record.orders.get(memory.order) if memory.order is not None else None
    yield from _revision_objections(memory, equipment, record.library, order, now)


def machine_objections(command: About, equipment: Equipment, record: SharedRecord) -> Iterator[Objection]:
    """What the machine shows against it, and holds: of the order, of its lot."""
    spec = equipment.spec.download
    if spec is None:
        return
    for tag in equipment.spec.tags:
        if tag.heartbeat is not None and tag.device == spec.device and equipment.inputs.stale[tag.slot]:
            yield Objection("heartbeat", f"{tag.name} stands still: the program of {spec.device} does not run")
    order = record.orders.get(command.order) if command.order is not None else None
    if order is not None and order.held:
        yield Objection("order_hold", f"{order.order} is on hold; dispatch.change resume lets it go on")
    lot = _lot(command, equipment, order)
    if lot is not None and lot in record.held_lots:
        yield Objection("quality_hold", f"the lot {lot} is on hold until a quality.release")
    yield from _order_shown(command, spec, equipment)
    yield from _format_shown(command, spec, equipment)


def set_objections(
    command: ParamsDownload, equipment: Equipment, record: SharedRecord, now: Timestamp
) -> Iterator[Objection]:
    """Why the values are not what may be brought to this machine now: revision, items, classes, order data."""
    spec, unit = equipment.spec.download, equipment.spec.unit
    if spec is None:
        return
    names = [item.name for item in command.items]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Objection("duplicate", f"{name} is in the set {names.count(name)} times")
    order = record.orders.get(command.order) if command.order is not None else None
    if order is not None and order.operations and unit not in order.operations:
        yield Objection("order", f"{order.order} is dispatched to {', '.join(order.operations)}, not to {unit}")
    for item in command.items:
        held = _classes(item, spec)
        if "order" in held and order is None:
            yield Objection("order", f"{item.name} is order data; name an order in 'order' that is dispatched here")
        if isinstance(command, AdjustedDownload) and held != {"trim"}:
            yield Objection("class", f"{item.name} is {' and '.join(sorted(held))}; only trim parameters are adjusted")
    if not isinstance(command, AdjustedDownload):
        yield from _revision_objections(command, equipment, record.library, order, now)
    yield from _item_objections(command, spec, record.library)


def _revision_objections(
    command: About, equipment: Equipment, library: ParameterLibrary, order: KnownOrder | None, now: Timestamp
) -> Iterator[Objection]:
    spec, name, rev = equipment.spec.download, command.set, command.rev
    if name not in library.items:
        if spec is not None and spec.released_only:
            yield Objection("not_released", f"{name} was never released here, and released_only is set")
        return
    holds = library.revision(name, now, command.order, order.lot if order is not None else None)
    if rev not in library.items[name]:
        yield Objection("revision", f"{name} {rev} was never released here; revision {holds} holds")
    elif rev != holds and not _keeps(command, equipment):
        why = "is not effective yet" if holds is None else f"does not hold now for this order; revision {holds} does"
        yield Objection("revision", f"{name} {rev} {why}")


def _keeps(command: About, equipment: Equipment) -> bool:
    """Whether the order that runs, or is to start, has this revision already: it keeps it."""
    orders = equipment.orders.memory
    current = orders.current.order.id if orders.current is not None else None
    order = orders.armed.order if current is None and orders.armed is not None else current
    held = orders.parameters
    return order is not None and command.order in (None, order) and held == {"set": command.set, "rev": command.rev}


def _item_objections(command: ParamsDownload, spec: DownloadSpec, library: ParameterLibrary) -> Iterator[Objection]:
    """Golden values and constants are those of the revision; trims are within its band; nothing else comes along."""
    released = {item.name: item for item in library.items.get(command.set, {}).get(command.rev, ())}
    if not released:
        return
    which = f"{command.set} {command.rev}"
    for item in command.items:
        own = released.get(item.name)
        if own is None:
            yield Objection("items", f"{item.name} is not in {which}")
        elif item.unit is not None and own.unit is not None and item.unit != own.unit:
            yield Objection("items", f"{item.name} is given in {item.unit}; {which} has it in {own.unit}")
        elif is_fixed(_classes(item, spec)) and item.value != own.value:
            yield Objection("items", f"{item.name} = {item.value!r}; {which} is released with {own.value!r}")
        elif _is_outside(item, own):
            band = f"{own.min} to {own.max}"
            yield Objection("limit", f"{item.name} = {item.value!r} is outside the band of {which}, {band}")
    missing = [name for name in released if name not in {item.name for item in command.items}]
    if missing and not isinstance(command, AdjustedDownload):
        yield Objection("items", f"{', '.join(missing)} of {which} is missing")


def _is_outside(item: ParameterItem, own: ParameterItem) -> bool:
    if not isinstance(item.value, int | float):
        return False
    return (own.min is not None and item.value < own.min) or (own.max is not None and item.value > own.max)


def _classes(item: ParameterItem, spec: DownloadSpec) -> frozenset[str]:
    parameter = spec.parameters.get(item.name)
    return classes(parameter.parameter_class if parameter is not None else "golden", item.parameter_class)


def _lot(command: About, equipment: Equipment, order: KnownOrder | None) -> str | None:
    """The lot that the set is for: of the order that is named, else of the one that runs."""
    if order is not None:
        return order.lot
    run = equipment.orders.memory.current
    return run.order.lot if run is not None and command.order in (None, run.order.id) else None


def _order_shown(command: About, spec: DownloadSpec, equipment: Equipment) -> Iterator[Objection]:
    slot = spec.order_slot
    if slot is None or not equipment.inputs.usable(slot):
        return
    shown = str(equipment.inputs.values[slot] or "").strip()
    if shown and shown != command.order:
        yield Objection("order", f"the machine shows the order {shown}, the set is for {command.order or 'none'}")


def _format_shown(command: About, spec: DownloadSpec, equipment: Equipment) -> Iterator[Objection]:
    slot = spec.format_slot
    if slot is None:
        return
    if command.set not in spec.formats:
        yield Objection("format", f"the format of {command.set} is not in download: format: sets; add it there")
        return
    wanted, is_known = spec.formats[command.set], equipment.inputs.usable(slot)
    shown = equipment.inputs.values[slot] if is_known else None
    if not is_known or str(shown).strip() != str(wanted):
        yield Objection("format", f"{command.set} needs the format {wanted}, the machine shows {shown!r}")
