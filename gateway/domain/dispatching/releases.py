"""What PLM releases and announces: taken into the library whole, or refused by name; nothing is kept by half."""

import math
from collections.abc import Iterator, Sequence

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import ChangeNotice, ParameterItem, ParamsRelease, ReleasedSet
from gateway.domain.dispatching.parameters import Notice, ParameterLibrary
from gateway.domain.times import parse_timestamp
from gateway.domain.values import Timestamp
from gateway.domain.writing.parameter_classes import STATES

_LARGEST = 2**63
_MODES = "immediate, at_time with t, next_order, from_lot with lot"


def release_objections(command: ParamsRelease, library: ParameterLibrary) -> Iterator[Objection]:
    """Everything that is wrong with the sets of a release."""
    if not command.sets:
        yield Objection("no_sets", "sets is empty: nothing is released")
    seen: dict[tuple[str, str], Sequence[ParameterItem]] = {}
    for released in command.sets:
        key = released.set, released.rev
        known = seen.get(key) or library.items.get(released.set, {}).get(released.rev)
        if known is not None and not _same(known, released.items):
            text = f"{released.set} {released.rev} is released with other items; give the new ones a new revision"
            yield Objection("revision_exists", text)
        seen[key] = released.items
        yield from _set_objections(released)


def notice_of(command: ChangeNotice, library: ParameterLibrary, begun: list[str], now: Timestamp) -> Notice | Objection:
    """The notice that the command announces. `begun` are the orders that keep the revisions that they began with."""
    if not command.items:
        return Objection("no_items", f"{command.cn} changes no set")
    missing = [f"{i.set} {i.to}" for i in command.items if i.to not in library.items.get(i.set, {})]
    if missing:
        return Objection("not_released", f"{', '.join(missing)}: not known here (any more); release it first")
    revisions = {item.set: item.to for item in command.items}
    effective = command.effective
    match effective.mode:
        case "immediate":
            return Notice(command.cn, now, revisions)
        case "at_time" if effective.t is not None:
            try:
                return Notice(command.cn, parse_timestamp(effective.t), revisions)
            except ValueError as error:
                return Objection("malformed", f"effective.t: {error}")
        case "next_order":
            return Notice(command.cn, now, revisions, begun=begun)
        case "from_lot" if effective.lot:
            return Notice(command.cn, None, revisions, lot=effective.lot)
    return Objection("effectivity", f"the mode {effective.mode!r} is not one of: {_MODES}")


def is_repeated(known: Notice, announced: Notice, command: ChangeNotice) -> bool:
    """Whether a notice of the same name says the same once more; one that holds at once has the moment it came at."""
    same_time = command.effective.mode != "at_time" or known.effective == announced.effective
    return known.revisions == announced.revisions and known.lot == announced.lot and same_time


def _set_objections(released: ReleasedSet) -> Iterator[Objection]:
    where = f"{released.set} {released.rev}"
    if not released.items:
        yield Objection("no_items", f"{where} has no items")
    names = [item.name for item in released.items]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Objection("duplicate", f"{where} has {name} {names.count(name)} times")
    for item in released.items:
        yield from _item_objections(item, f"{where} {item.name}")


def _item_objections(item: ParameterItem, where: str) -> Iterator[Objection]:
    if item.parameter_class is not None and item.parameter_class not in STATES:
        yield Objection("class", f"{where}: the class {item.parameter_class!r} is not one of {', '.join(STATES)}")
    value = item.value
    if not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > _LARGEST:
        if not isinstance(value, str):
            yield Objection("type", f"{where}: {value!r} is no value that a machine can take")
        return
    low, high = item.min, item.max
    if (low is not None and value < low) or (high is not None and value > high):
        yield Objection("limit", f"{where} = {value} is outside its own limits {low} to {high}")


def _same(known: Sequence[ParameterItem], items: Sequence[ParameterItem]) -> bool:
    """The same items, in whatever order."""
    return len(known) == len(items) and {item.name: item for item in known} == {item.name: item for item in items}
