"""Pallets and other containers that a machine or SCADA reports by a rising sequence number."""

import msgspec

from gateway.domain.events import ContainerCompleted
from gateway.domain.expressions import Inputs
from gateway.domain.values import Value


class ContainerSpec(msgspec.Struct, frozen=True):
    """Slots of the report: `sequence` rises with every container, the others describe the newest one."""

    sequence: int
    sscc: int
    quantity: int
    cases: int | None = None
    full: int | None = None
    unit: str = "pcs"


class ContainerMemory(msgspec.Struct):
    """The last sequence number seen; it survives restarts so that no container is reported twice."""

    sequence: int | None = None


def newest_container(
    spec: ContainerSpec, memory: ContainerMemory, inputs: Inputs, lot: str | None, quality: str
) -> ContainerCompleted | None:
    """The container that this scan reports as new. The first number ever seen is only the baseline."""
    if not all(inputs.usable(slot) for slot in (spec.sequence, spec.sscc, spec.quantity)):
        return None
    sequence = _whole(inputs.values[spec.sequence])
    previous, memory.sequence = memory.sequence, sequence
    if previous is None or sequence == previous or sequence is None:
        return None
    quantity = _whole(inputs.values[spec.quantity]) or 0
    return ContainerCompleted(
        sscc=str(inputs.values[spec.sscc]),
        qty=quantity,
        unit=spec.unit,
        cases=_whole(inputs.values[spec.cases]) if spec.cases is not None else None,
        full=spec.full is None or quantity >= spec.full,
        lot=lot,
        quality=quality,
    )


def _whole(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
