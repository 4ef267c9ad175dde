"""Raw value of a device ↔ engineering value of the plant."""

import math
from decimal import Decimal

import msgspec

from gateway.domain.values import INTEGER_RANGES, DataType, StatusCode, TagChange, Value, is_bad

_FLOAT_DIGITS = 9
"""Decimal places beyond those of scale and offset that a float keeps: what it measures, not what binary adds."""


class Conversion(msgspec.Struct, frozen=True):
    """How one tag's raw value is read: bit of a word, sentinels that mean "no value", then `raw · scale + offset`.

    `scale` and `offset` are decimals as written in YAML; a whole raw number gives a result of their digits, so 1751 ·
    0.1 is 175.1 and not 175.10000000000002; one that is no whole number keeps nine more. With `labels` a code is the
    text that it means, as an enumeration has it.
    """

    type: DataType
    scale: float = 1.0
    offset: float = 0.0
    bit: int | None = None
    sentinels: tuple[int | float, ...] = ()
    labels: dict[int, str] = {}

    @property
    def is_identity(self) -> bool:
        """True if the raw value is the engineering value, so that the hot path may skip the conversion."""
        return self.bit is None and self.scale == 1.0 and self.offset == 0.0 and not self.sentinels and not self.labels

    @property
    def digits(self) -> int:
        """Decimal places of the engineering value."""
        exponents = [Decimal(repr(number)).normalize().as_tuple().exponent for number in (self.scale, self.offset)]
        return max(0, *(-exponent for exponent in exponents if isinstance(exponent, int)))


def to_engineering(change: TagChange, conversion: Conversion) -> tuple[Value, int]:
    """The engineering value and its status code. NaN, infinities and sentinels are Bad: they are not values."""
    raw, status = change.value, change.status_code
    if is_bad(status):
        return None, status
    if raw in conversion.sentinels:
        return None, StatusCode.BAD_OUT_OF_RANGE
    if isinstance(raw, float) and not math.isfinite(raw):
        return None, StatusCode.BAD_OUT_OF_RANGE
    if conversion.labels:
        return _label(raw, status, conversion.labels)
    if conversion.bit is not None:
        return (
            (bool(raw >> conversion.bit & 1), status) if isinstance(raw, int) else (None, StatusCode.BAD_TYPE_MISMATCH)
        )
    if conversion.scale == 1.0 and conversion.offset == 0.0:
        return raw, status
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None, StatusCode.BAD_TYPE_MISMATCH
    digits = conversion.digits if isinstance(raw, int) else conversion.digits + _FLOAT_DIGITS
    return round(raw * conversion.scale + conversion.offset, digits), status


def _label(raw: Value, status: int, labels: dict[int, str]) -> tuple[Value, int]:
    """The text of a code; a code that nobody named is shown as the number it is, and Uncertain."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        return None, StatusCode.BAD_TYPE_MISMATCH
    return (labels[raw], status) if raw in labels else (str(raw), StatusCode.UNCERTAIN)


def _code(value: Value, labels: dict[int, str]) -> int:
    codes = [code for code, label in labels.items() if label == value]
    if not codes:
        raise ValueError(f"{value!r} is none of {', '.join(labels.values())}")
    return codes[0]


def to_raw(value: Value, conversion: Conversion) -> Value:
    """The raw value that means `value` in the device; the nearest whole number for an integer type.

    Raises `ValueError`, in words for the one who asked, if the device's type cannot hold it.
    """
    if conversion.labels:
        return _code(value, conversion.labels)
    if conversion.bit is not None:
        raise ValueError("is one bit of a word and cannot be written alone")
    if conversion.type in (DataType.STRING, DataType.BYTES, DataType.BOOL):
        expected = {DataType.STRING: str, DataType.BYTES: bytes, DataType.BOOL: bool}[conversion.type]
        if not isinstance(value, expected):
            raise ValueError(f"{value!r} is not a {conversion.type}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    try:
        raw = _unscaled(value, conversion)
    except OverflowError:
        raise ValueError("has more digits than any type of a device") from None
    if conversion.type not in INTEGER_RANGES:
        return float(raw)
    low, high = INTEGER_RANGES[conversion.type]
    whole = round(raw)
    if not low <= whole <= high:
        raise ValueError(f"{value!r} needs the raw value {whole}, which a {conversion.type} cannot hold")
    return whole


def _unscaled(value: float, conversion: Conversion) -> float:
    """The raw number; a whole one that is not scaled stays exact, for a float holds no more than 53 bits."""
    if isinstance(value, int) and (conversion.scale, conversion.offset) == (1, 0):
        return value if conversion.type in INTEGER_RANGES else float(value)
    return (value - conversion.offset) / conversion.scale


def same_value(requested: Value, actual: Value, data_type: DataType) -> bool:
    """True if a read-back raw value is the requested one in the device's own encoding.

    Exact for whole numbers and text; for float32 within 1e-6 of the value, since 0.1 reads back as
    0.10000000149 (trap A17). A clamp is never within this tolerance. A float64 is the same number, whole or not.
    """
    if data_type is DataType.FLOAT32 and isinstance(requested, int | float) and isinstance(actual, int | float):
        return math.isclose(requested, actual, rel_tol=1e-6, abs_tol=1e-9)
    if data_type is DataType.FLOAT64 and not isinstance(requested, bool) and not isinstance(actual, bool):
        return requested == actual
    return type(requested) is type(actual) and requested == actual
