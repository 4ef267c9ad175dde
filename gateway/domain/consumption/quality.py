"""Subgroups of samples held against the limits of the active parameter set, and lots on hold."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from gateway.domain.contract.events import QualitySample
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import Scalar


class Limits(NamedTuple):
    """What a parameter set or the YAML allows."""

    low: float | None
    high: float | None


class SampleSpec(msgspec.Struct, frozen=True):
    """One characteristic: `sequence` changes with every subgroup, `values` holds it.

    `limits_of` names the parameter of the active set whose limits hold; `lower` and `upper` hold where there is none.
    """

    characteristic: str
    gage: str
    sequence: int
    values: int
    unit: str | None = None
    limits_of: str | None = None
    lower: float | None = None
    upper: float | None = None


def newest_subgroup(
    spec: SampleSpec, seen: dict[str, int], inputs: Inputs, active: Mapping[str, Limits]
) -> QualitySample | None:
    """The subgroup that this scan reports as new; `seen` remembers the last number per characteristic."""
    number, values = inputs.values[spec.sequence], inputs.values[spec.values]
    if not inputs.usable(spec.sequence) or not isinstance(number, int):
        return None
    previous = seen.get(spec.characteristic)
    seen[spec.characteristic] = number
    if previous is None or number == previous or not inputs.usable(spec.values):
        return None
    figures = _figures(values if isinstance(values, tuple) else (values,))
    limits = active.get(spec.limits_of or "", Limits(spec.lower, spec.upper))
    return QualitySample(
        char=spec.characteristic, subgroup=f"{spec.gage}-{number}", n=len(figures), values=figures, unit=spec.unit,
        lsl=limits.low, usl=limits.high, in_spec=_verdict(figures, limits), gage=spec.gage,
    )  # fmt: skip


def _verdict(figures: tuple[float, ...], limits: Limits) -> bool | None:
    """True if the mean lies within the limits; None where there is nothing to judge by."""
    if not figures or (limits.low is None and limits.high is None):
        return None
    mean = sum(figures) / len(figures)
    return (limits.low is None or mean >= limits.low) and (limits.high is None or mean <= limits.high)


def _figures(values: tuple[Scalar, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool))
