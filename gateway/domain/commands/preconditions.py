"""What must hold before parameters are written: every reason against a download, by name."""

import math
from collections.abc import Iterator, Mapping

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import ParameterItem, ParamsDownload
from gateway.domain.equipment import Equipment
from gateway.domain.tags.conversion import Conversion, to_engineering, to_raw
from gateway.domain.tags.expressions import Compiled, NoValue
from gateway.domain.values import INTEGER_RANGES, DataType, PlainValue, TagChange
from gateway.domain.writing.download_spec import Condition, ParameterSpec


def objections(command: ParamsDownload, equipment: Equipment, links: Mapping[str, bool]) -> Iterator[Objection]:
    """Every reason why this equipment may not take this set now."""
    spec = equipment.spec.download
    if spec is None:
        yield Objection("not_allowed", f"{command.eq} has no parameters on its write allow-list")
        return
    for device in dict.fromkeys((spec.device, spec.readback_device)):
        if not links.get(device, False):
            yield Objection("no_contact", f"{device} is out of reach")
    active = equipment.memory.download
    if active is not None:
        yield Objection("active_download", f"{active.cmd} is under way at step {active.step}")
    confirming = equipment.memory.writes.confirming
    if confirming is not None:
        yield Objection("active_download", f"{confirming.cmd} reads what the machine holds; send it again later")
    yield from _unmet(spec.conditions, equipment)
    if not command.items:
        yield Objection("no_items", "the set has no items")
    for item in command.items:
        yield from _item_objections(item, equipment)


def may_begin(equipment: Equipment) -> bool:
    """Whether the operator gives the permit and all that must hold does so still."""
    conditions = equipment.spec.download.conditions if equipment.spec.download else ()
    return permitted(equipment) and not any(True for _ in _unmet(conditions, equipment))


def permitted(equipment: Equipment) -> bool:
    """Whether the operator gives the permit, where one is asked for."""
    permit = equipment.spec.download.permit if equipment.spec.download else None
    return permit is None or holds(permit, equipment)


def holds(condition: Compiled, equipment: Equipment) -> bool:
    """Whether the condition is true by what the equipment's tags say now; without a value it is not."""
    try:
        return bool(condition(equipment.inputs))
    except NoValue:
        return False


def _unmet(conditions: tuple[Condition, ...], equipment: Equipment) -> Iterator[Objection]:
    for condition in conditions:
        if not holds(condition.when, equipment):
            yield Objection(condition.name, f"the precondition {condition.name} does not hold")


def _item_objections(item: ParameterItem, equipment: Equipment) -> Iterator[Objection]:
    spec = equipment.spec.download.parameters.get(item.name) if equipment.spec.download else None
    if spec is None:
        yield Objection("not_allowed", f"{item.name} is not on the write allow-list of {equipment.spec.unit}")
        return
    if item.unit is not None and spec.unit is not None and item.unit != spec.unit:
        yield Objection("unit", f"{item.name} is given in {item.unit}; the machine takes {spec.unit}")
    if spec.conversion.type is DataType.STRING:
        yield from _text_objections(item, spec)
        return
    number = _number(item.value, spec.conversion.type)
    if number is None:
        expected = "true or false" if spec.conversion.type is DataType.BOOL else "a finite number"
        yield Objection("type", f"{item.name}: {item.value!r} is not {expected}")
        return
    for low, high, whose in ((item.min, item.max, "the set's"), (spec.minimum, spec.maximum, "the machine's")):
        if (low is not None and number < low) or (high is not None and number > high):
            yield Objection("limit", f"{item.name} = {number} is outside {whose} limits {low} to {high}")
    try:
        yield from _loss(item, number, spec.conversion)
    except ValueError as error:
        yield Objection("type", f"{item.name} {error}")


def _loss(item: ParameterItem, number: float, conversion: Conversion) -> Iterator[Objection]:
    """A number that the machine's whole numbers cannot say: it would be rounded, perhaps past a limit."""
    raw = to_raw(item.value, conversion)
    meant, _ = to_engineering(TagChange("", raw), conversion)
    if conversion.type not in INTEGER_RANGES or not isinstance(meant, int | float):
        return
    if not math.isclose(meant, number, rel_tol=1e-12, abs_tol=1e-6 * abs(conversion.scale)):
        yield Objection("type", f"{item.name}: {item.value!r} would be {meant} in the machine, which counts whole")


def _text_objections(item: ParameterItem, spec: ParameterSpec) -> Iterator[Objection]:
    if not isinstance(item.value, str):
        yield Objection("type", f"{item.name}: {item.value!r} is not a text")
    elif not item.value.isprintable():
        yield Objection("type", f"{item.name}: {item.value!r} has characters that no display can show")
    elif len(item.value) > spec.maximum:
        text = f"{item.name} has {len(item.value)} characters; the machine takes {spec.maximum:g}"
        yield Objection("limit", text)


def _number(value: PlainValue, data_type: DataType) -> float | None:
    """The number that is held against the limits: a bool of a bool parameter as 0 or 1, and of no other."""
    if not isinstance(value, int | float) or isinstance(value, bool) is not (data_type is DataType.BOOL):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None
