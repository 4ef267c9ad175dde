"""Values, statuses and times as people read them, the same in every command."""

import json
from typing import Final

from gateway.domain.times import format_timestamp
from gateway.domain.values import DataType, Timestamp, Value

_SHORT: Final = 60


def show_value(value: Value, data_type: DataType | None = None) -> str:
    """Nothing for no value, hexadecimal for bytes, JSON for arrays, UTC for a time."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        elements = [show_value(element, data_type) if isinstance(element, bytes) else element for element in value]
        return json.dumps(elements, ensure_ascii=False)
    if isinstance(value, bytes):
        return value.hex()
    if data_type is DataType.DATETIME and isinstance(value, int):
        return show_time(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def shorten(text: str) -> str:
    """At most a third of a wide line."""
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def show_status(status_code: int) -> str:
    """`Good`, `BadNodeIdUnknown`; with `+Overflow` where the device's queue lost values before this one."""
    from gateway.drivers.opcua.status_codes import status_name

    # The low 16 bits inform about the value and are no part of the name (OPC 10000-4 §7.39.1).
    lost = status_code & 0xFFFF == 0x0480
    return status_name(status_code & 0xFFFF0000) + ("+Overflow" if lost else "")


def show_time(at: Timestamp | None) -> str:
    """`2026-03-02T06:00:00.000Z`; nothing where there is none, and the number where it is no time of this calendar."""
    if at is None:
        return ""
    try:
        return format_timestamp(at)
    except (ValueError, OverflowError, OSError):
        return str(at)
