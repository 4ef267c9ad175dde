"""Pallets and other containers that a machine or SCADA reports by a rising sequence number."""

from typing import Final

import msgspec

from gateway.domain.contract.events import ContainerCompleted
from gateway.domain.production.sscc import is_sscc, make_sscc
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import Value

BAD_SSCC: Final = "bad_sscc"
"""Flag of a container whose code is not one: told all the same, for the container exists."""

MISSED: Final = "missed"
"""Flag of a container before which so many others left that nobody saw: `missed_2`. What they held is not known."""


class ContainerSpec(msgspec.Struct, frozen=True):
    """Slots of the report: `sequence` rises with every container, the others describe the newest one.

    Where the machine has no code, it is made of `prefix` (extension digit and company prefix) and the sequence number.
    """

    sequence: int
    sscc: int | None
    quantity: int
    prefix: str = ""
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
    slots = (spec.sequence, spec.quantity) if spec.sscc is None else (spec.sequence, spec.quantity, spec.sscc)
    if not all(inputs.usable(slot) for slot in slots):
        return None
    sequence = _whole(inputs.values[spec.sequence])
    previous, memory.sequence = memory.sequence, sequence
    if previous is None or sequence == previous or sequence is None:
        return None
    missed = max(0, sequence - previous - 1)
    quantity = _whole(inputs.values[spec.quantity]) or 0
    code = make_sscc(spec.prefix, sequence) if spec.sscc is None else str(inputs.values[spec.sscc]).strip()
    return ContainerCompleted(
        sscc=code,
        qty=quantity,
        unit=spec.unit,
        cases=_whole(inputs.values[spec.cases]) if spec.cases is not None else None,
        full=spec.full is None or quantity >= spec.full,
        lot=lot,
        quality=quality,
        flags=(*(() if is_sscc(code) else (BAD_SSCC,)), *((f"{MISSED}_{missed}",) if missed else ())),
    )


def _whole(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
