"""What the configuration lets the gateway change in a device. What is not in it is refused before any packet."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from gateway.domain.commands.acknowledgement import METHODS
from gateway.domain.contract.objections import Objection
from gateway.domain.equipment import EquipmentSpec
from gateway.domain.operations import Operation
from gateway.domain.tags.conversion import Conversion
from gateway.domain.values import INTEGER_RANGES, DataType, TagId, TagWrite, Value
from gateway.domain.writing.download_spec import ParameterSpec


class Bounds(msgspec.Struct, frozen=True):
    """What may be written to one tag, raw: its type, the least and the greatest number, or the length of a text."""

    type: DataType
    low: float
    high: float

    def refusal(self, value: Value, *, restores: bool) -> str | None:
        """Why this may not be written, whoever asks for it; a value that was there before may be out of the limits."""
        if self.type is DataType.BOOL:
            return None if isinstance(value, bool) else "is no bool"
        if self.type is DataType.STRING:
            return (
                None if isinstance(value, str) and len(value) <= self.high else f"is no text of {self.high:g} at most"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "is no number"
        if self.type in INTEGER_RANGES and not isinstance(value, int):
            return f"is no {self.type}"
        if isinstance(value, float) and not math.isfinite(value):
            return "is not finite"
        low, high = INTEGER_RANGES.get(self.type, (-math.inf, math.inf)) if restores else (self.low, self.high)
        return None if low <= value <= high else f"is outside {low:g} to {high:g}"


class AllowList(msgspec.Struct, frozen=True):
    """The tags of one device that may be written, and the methods that may be called; by default none.

    The limits in `bounds` were looked at before, in engineering units; this is the last look, at what goes out.
    """

    tags: frozenset[TagId] = frozenset()
    methods: frozenset[str] = frozenset()
    bounds: Mapping[TagId, Bounds] = {}

    def objection(self, operation: Operation, device: str) -> Objection | None:
        """Why an operation may not be carried out: all that it would change and may not, by name."""
        tags = [write.tag_id for write in operation.writes if write.tag_id not in self.tags]
        unknown = tags + [call.method for call in operation.calls if call.method not in self.methods]
        if unknown:
            return Objection("not_allowed", f"{', '.join(unknown)}: not on the write allow-list of {device}")
        wrong = list(self._out_of_bounds(operation))
        return Objection("limit", "; ".join(wrong)) if wrong else None

    def _out_of_bounds(self, operation: Operation) -> Iterator[str]:
        for write in operation.writes:
            refusal = self._refusal(write, restores=operation.restores)
            if refusal is not None:
                yield f"{write.tag_id}: the raw value {write.value!r} {refusal}"

    def _refusal(self, write: TagWrite, *, restores: bool) -> str | None:
        bounds = self.bounds.get(write.tag_id)
        if bounds is not None:
            return bounds.refusal(write.value, restores=restores)
        return None if isinstance(write.value, bool | int) else "is no whole number, as a signal must be"


NOTHING: Final = AllowList()


def allow_list(device: str, equipment: Iterable[EquipmentSpec]) -> AllowList:
    """Parameters with what commits them, the hold bit; where permitted, Acknowledge and Confirm."""
    tags: set[TagId] = set()
    methods: set[str] = set()
    bounds: dict[TagId, Bounds] = {}
    for spec in equipment:
        if spec.download is not None and spec.download.job is not None:
            methods |= spec.download.job.methods if spec.download.device == device else set()
        elif spec.download is not None and spec.download.device == device:
            bounds |= {parameter.tag_id: _bounds(parameter) for parameter in spec.download.parameters.values()}
            tags |= bounds.keys() | spec.download.handshake.written
            method = spec.download.handshake.method
            methods |= {method.call.method} if method is not None else set()
        if spec.hold is not None and spec.hold.device == device:
            tags.add(spec.hold.tag_id)
        if spec.alarms is not None and spec.alarms.acknowledged_at == device:
            methods |= METHODS
    return AllowList(frozenset(tags), frozenset(methods), bounds)


def _bounds(parameter: ParameterSpec) -> Bounds:
    """The machine's limits as raw values; a negative scale turns them round."""
    conversion = parameter.conversion
    if conversion.type is DataType.STRING:
        return Bounds(conversion.type, 0, parameter.maximum)
    ends = sorted(_raw(limit, conversion) for limit in (parameter.minimum, parameter.maximum))
    slack = 1e-6 if conversion.type in INTEGER_RANGES else abs(ends[1] - ends[0]) * 1e-9
    return Bounds(conversion.type, ends[0] - slack, ends[1] + slack)


def _raw(limit: float, conversion: Conversion) -> float:
    return (limit - conversion.offset) / conversion.scale
