"""Derived tags: values that the gateway computes of other tags of the same equipment, scan by scan."""

import math
from collections.abc import Sequence

import msgspec

from gateway.domain.tags.expressions import Compiled, Inputs, NoValue
from gateway.domain.tags.pacing import Pace
from gateway.domain.values import INTEGER_RANGES, DataType, StatusCode, TagId, Value, is_bad, is_good


class DerivedTag(msgspec.Struct, frozen=True):
    """One tag with an expression instead of an address. `inputs` are the slots of the tags that it names."""

    name: str
    slot: int
    type: DataType
    compute: Compiled
    inputs: frozenset[int]
    sources: tuple[tuple[str, TagId], ...] = ()
    """Device and id of every tag of a device that it comes down to."""
    unit: str | None = None
    publish: bool = False
    pace: Pace | None = None


class DerivedTags:
    """All derived tags of one equipment, each after those that it is computed of."""

    def __init__(self, tags: Sequence[DerivedTag], inputs: Inputs) -> None:
        self._tags = tags
        self._inputs = inputs

    def compute(self, touched: set[int]) -> list[int]:
        """The slots of those that have become another by this scan; they are added to `touched`."""
        changed = []
        for tag in self._tags:
            if tag.inputs.isdisjoint(touched):
                continue
            value, status = derive(tag, self._inputs)
            before = self._inputs.values[tag.slot], self._inputs.statuses[tag.slot]
            if (value, status) != before:
                self._inputs.values[tag.slot], self._inputs.statuses[tag.slot] = value, status
                touched.add(tag.slot)
                changed.append(tag.slot)
        return changed

    def forget(self, slots: set[int]) -> None:
        """These tags are being waited for, and with them all that is computed of them."""
        for tag in self._tags:
            if not tag.inputs.isdisjoint(slots):
                self._inputs.values[tag.slot] = None
                self._inputs.statuses[tag.slot] = StatusCode.BAD_WAITING_FOR_INITIAL_DATA
                slots.add(tag.slot)


def derive(tag: DerivedTag, inputs: Inputs) -> tuple[Value, int]:
    """Value and status: Bad with the status of a Bad tag that it needs, Uncertain if one that it names is."""
    statuses = [inputs.statuses[slot] for slot in sorted(tag.inputs)]
    try:
        value = tag.compute(inputs)
    except NoValue:
        return None, next((status for status in statuses if is_bad(status)), StatusCode.BAD_OUT_OF_RANGE)
    usable = [status for status in statuses if not is_bad(status)]
    return _typed(value, tag.type, StatusCode.GOOD if all(map(is_good, usable)) else StatusCode.UNCERTAIN)


def _typed(value: object, data_type: DataType, status: int) -> tuple[Value, int]:
    """The result as the type that it is to have; whole numbers are rounded, what does not fit is Bad."""
    if data_type is DataType.STRING:
        return (value, status) if isinstance(value, str) else (None, StatusCode.BAD_TYPE_MISMATCH)
    if not isinstance(value, int | float):
        return None, StatusCode.BAD_TYPE_MISMATCH
    if data_type is DataType.BOOL:
        return bool(value), status
    if not math.isfinite(value):
        return None, StatusCode.BAD_OUT_OF_RANGE
    if data_type not in INTEGER_RANGES:
        return _float(value), status
    low, high = INTEGER_RANGES[data_type]
    whole = round(value)
    return (whole, status) if low <= whole <= high else (None, StatusCode.BAD_OUT_OF_RANGE)


def _float(value: float) -> float:
    """To fifteen digits, what a double can tell: 0.1 + 0.2 is 0.3."""
    return float(f"{value:.15g}")
