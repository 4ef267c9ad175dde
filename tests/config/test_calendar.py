"""The section `calendar`: what it means, and what is said of a calendar that cannot be."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from tests.config.test_check import DEVICE, GATEWAY, MACHINE, problems

CALENDAR = """\
calendar:
  time_zone: Europe/Berlin
  shifts:
    early: {from: 06:00, to: 14:00, days: [mon, tue, wed, thu, fri]}
    night: {from: 22:00, to: 06:00}
  exceptions:
    2026-12-25: []
"""


def test_a_calendar_holds_for_every_equipment(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(GATEWAY + DEVICE + MACHINE + CALENDAR, encoding="utf-8")
    (spec,) = load_plant(tmp_path).equipment
    assert spec.calendar is not None
    assert spec.calendar.zone.key == "Europe/Berlin"
    assert [(p.name, p.start, p.end, len(p.days)) for p in spec.calendar.patterns] == [
        ("early", 360, 840, 5), ("night", 1320, 1800, 7),
    ]  # fmt: skip
    assert [day.isoformat() for day in spec.calendar.exceptions] == ["2026-12-25"]


MISTAKES = {
    "a misspelt zone": ("Europe/Berlin", "Europe/Berln",
        "c.yaml:2: calendar > time_zone: 'Europe/Berln' is no time zone; did you mean 'Europe/Berlin'? "
        "Write an IANA name such as Europe/Berlin"),
    "an hour that does not exist": ("from: 06:00", "from: 25:00",
        "c.yaml:4: calendar > shifts > early > from: '25:00' is not a time of day; write hours and minutes: 06:00, "
        "22:30 or 24:00"),
    "a day that does not exist": ("[mon,", "[monday,",
        "c.yaml:4: calendar > shifts > early > days > 0: input should be 'mon', 'tue', 'wed', 'thu', 'fri', 'sat' or "
        "'sun' (it is 'monday')"),
    "shifts that overlap": ("to: 06:00", "to: 07:00",
        "c.yaml:4: calendar > shifts > early: overlaps with night; a moment belongs to one shift"),
    "an exception of an unknown shift": ("2026-12-25: []", "2026-12-25: [late]",
        "c.yaml:7: calendar > exceptions > 2026-12-25: no such shift: late; the shifts are: early, night"),
    "a key that does not exist": ("time_zone:", "timezone:",
        "c.yaml:2: calendar > timezone: the key 'timezone' is unknown here; did you mean 'time_zone'? "
        "Allowed are: exceptions, shifts, time_zone"),
}  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "says"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_with_a_calendar_is_told_with_its_line(tmp_path: Path, right: str, wrong: str, says: str) -> None:
    assert right in CALENDAR
    found = problems(tmp_path, c=CALENDAR.replace(right, wrong), m=MACHINE, p=GATEWAY + DEVICE)
    assert says in found, found
