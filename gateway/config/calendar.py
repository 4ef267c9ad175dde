"""The section `calendar`: shifts by the clocks of the plant, to a calendar that knows when each begins and ends."""

import difflib
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.section import Name, Section
from gateway.config.yaml_reader import KeyPath
from gateway.domain.state.shifts import DAY, ShiftCalendar, ShiftPattern

WEEK: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Report = Callable[[KeyPath, str], None]


def parse_wall_time(value: object) -> int:
    """Minutes of the day from `06:00`; `24:00` is the day's end."""
    match = re.fullmatch(r"(\d{1,2}):([0-5]\d)", value) if isinstance(value, str) else None
    minutes = int(match[1]) * 60 + int(match[2]) if match else DAY + 1
    if minutes > DAY:
        raise ValueError(f"{value!r} is not a time of day; write hours and minutes: 06:00, 22:30 or 24:00")
    return minutes


def find_zone(name: str) -> str:
    """The name, if there is such a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise ValueError("there is no time zone database on this machine; install tzdata") from None
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"{name!r} is no time zone; {hint}Write an IANA name such as Europe/Berlin") from None
    return name


WallTime = Annotated[int, BeforeValidator(parse_wall_time)]


class ShiftSection(Section):
    """One shift. A `to` that is not after `from` lies on the next day."""

    start: WallTime = Field(alias="from")
    end: WallTime = Field(alias="to")
    days: Annotated[tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...], Field(min_length=1)] = WEEK


class CalendarSection(Section):
    """The shifts of the plant; `exceptions` says by date which shifts begin on it instead of the usual ones."""

    time_zone: Annotated[str, AfterValidator(find_zone)]
    shifts: Annotated[dict[Name, ShiftSection], Field(min_length=1)]
    exceptions: dict[date, tuple[str, ...]] = Field(default={})


def resolve_calendar(section: CalendarSection, report: Report) -> ShiftCalendar:
    """The calendar as the domain takes it, after reporting shifts that do not exist and shifts that overlap."""
    for day, names in section.exceptions.items():
        for name in names:
            if name not in section.shifts:
                known = ", ".join(section.shifts)
                report(("exceptions", day.isoformat()), f"no such shift: {name}; the shifts are: {known}")
    calendar = ShiftCalendar(
        ZoneInfo(section.time_zone),
        tuple(_pattern(name, shift) for name, shift in section.shifts.items()),
        section.exceptions,
    )
    _check_overlaps(calendar, report)
    return calendar


def _pattern(name: str, shift: ShiftSection) -> ShiftPattern:
    end = shift.end if shift.end > shift.start else shift.end + DAY
    return ShiftPattern(name, shift.start, end, frozenset(WEEK.index(day) for day in shift.days))


def _check_overlaps(calendar: ShiftCalendar, report: Report) -> None:
    """In a plain week, and around each exception, by the clocks on the wall."""
    monday = date(2001, 1, 1)
    for pair in _overlaps(calendar, [monday + timedelta(day) for day in range(8)]):
        report(("shifts", pair[1]), f"overlaps with {pair[0]}; a moment belongs to one shift")
        return
    for day in calendar.exceptions:
        for pair in _overlaps(calendar, [day + timedelta(n) for n in (-1, 0, 1)]):
            report(("exceptions", day.isoformat()), f"{pair[1]} overlaps with {pair[0]} around that day")


def _overlaps(calendar: ShiftCalendar, days: list[date]) -> list[tuple[str, str]]:
    begun = sorted(
        (datetime.combine(day, time()) + timedelta(minutes=pattern.start), pattern.end - pattern.start, pattern.name)
        for day in days
        for pattern in calendar.on(day)
    )
    return [
        (earlier[2], later[2])
        for earlier, later in pairwise(begun)
        if earlier[0] + timedelta(minutes=earlier[1]) > later[0]
    ]
