"""What may go onto a wire: a raw value is held against its tag's type before any packet is sent."""

import math
from collections.abc import Callable
from typing import Final

from gateway.domain.values import INTEGER_RANGES, DataType, Scalar, StatusCode

_LARGEST_FLOAT32: Final = 3.4028234663852886e38
"""The largest finite binary32; IEEE 754 would turn anything above it into infinity."""


def refusal(data_type: DataType, value: Scalar) -> int:
    """The status code that refuses `value` for a tag of this type, or `StatusCode.GOOD`.

    A value of another kind is a type mismatch, nothing is coerced: a device would not do it either (trap A16). NaN
    and infinity are out of range, for they are never a setpoint.
    """
    return _CHECKS[data_type](value)


def _instance_of(kind: type) -> Callable[[Scalar], int]:
    return lambda value: StatusCode.GOOD if type(value) is kind else StatusCode.BAD_TYPE_MISMATCH


def _integer(lowest: int, highest: int) -> Callable[[Scalar], int]:
    def check(value: Scalar) -> int:
        if type(value) is not int:
            return StatusCode.BAD_TYPE_MISMATCH
        return StatusCode.GOOD if lowest <= value <= highest else StatusCode.BAD_OUT_OF_RANGE

    return check


def _real(largest: float) -> Callable[[Scalar], int]:
    def check(value: Scalar) -> int:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return StatusCode.BAD_TYPE_MISMATCH
        # An int too large for a float compares exactly; NaN compares false with everything.
        return StatusCode.GOOD if -largest <= value <= largest else StatusCode.BAD_OUT_OF_RANGE

    return check


def _text(value: Scalar) -> int:
    if type(value) is not str:
        return StatusCode.BAD_TYPE_MISMATCH
    try:
        value.encode()
    except UnicodeEncodeError:
        return StatusCode.BAD_OUT_OF_RANGE  # a lone surrogate, which JSON can carry and no device can
    return StatusCode.GOOD


_CHECKS: Final[dict[DataType, Callable[[Scalar], int]]] = {
    **{data_type: _integer(*limits) for data_type, limits in INTEGER_RANGES.items()},
    DataType.BOOL: _instance_of(bool),
    DataType.FLOAT32: _real(_LARGEST_FLOAT32),
    DataType.FLOAT64: _real(math.nextafter(math.inf, 0)),
    DataType.STRING: _text,
    DataType.DATETIME: _integer(*INTEGER_RANGES[DataType.INT64]),
    DataType.BYTES: _instance_of(bytes),
}
