"""Durations and timestamps as people write them. Reads no clock."""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from gateway.domain.values import Timestamp

MAX_LEAD: Final = 5_000
"""A source time further ahead of the gateway than this is a wrong PLC clock; the gateway's time holds instead."""

_FIRST_DAY: Final = date(1970, 1, 1)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")


def parse_duration(text: object) -> float:
    """Seconds from `500ms`, `5s`, `30min`, `2h` or `7d`.

    Raises `ValueError` for anything else, a bare number too: its unit would be a guess.
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number with its unit: 500ms, 5s, 30min, 2h or 7d")
    return float(match[1]) * _UNITS[match[2]]


@lru_cache(maxsize=256)
def format_timestamp(at: Timestamp) -> str:
    """`2026-03-02T07:25:00.000Z`, as every message carries it.

    Remembered, for the events of one batch share their times; `strftime` would cost more than the rest of an event.
    """
    seconds, milliseconds = divmod(at, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{_format_day(day)}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"


@lru_cache(maxsize=16)
def _format_day(day: int) -> str:
    return (_FIRST_DAY + timedelta(day)).isoformat()


def parse_timestamp(text: str) -> Timestamp:
    """Milliseconds UTC from ISO 8601 with a time zone; raises `ValueError` without one."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it in UTC with a Z")
    return round(at.timestamp() * 1000)


def whole_seconds(milliseconds: int) -> float:
    """Seconds from milliseconds, a whole number where it is one."""
    whole, rest = divmod(milliseconds, 1000)
    return whole if rest == 0 else milliseconds / 1000
