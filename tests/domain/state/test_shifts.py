"""Shifts: their boundaries by the clocks on the wall, their seconds to the last one, their pieces over a restart."""

from dataclasses import replace
from datetime import date
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.plant import Plant
from gateway.domain.state.shifts import ShiftCalendar, ShiftPattern
from gateway.domain.times import format_timestamp, parse_timestamp
from tests.stage import PAL01, Stage, at, demo_plant

EARLY, LATE, NIGHT = ShiftPattern("early", 360, 840), ShiftPattern("late", 840, 1320), ShiftPattern("night", 1320, 1800)
THREE = ShiftCalendar(ZoneInfo("UTC"), (EARLY, LATE, NIGHT))
BERLIN = msgspec.structs.replace(THREE, zone=ZoneInfo("Europe/Berlin"))
HOUR = 3_600_000


def plant_with(calendar: ShiftCalendar, window: int = 60_000) -> Plant:
    plant = demo_plant()
    specs = [
        msgspec.structs.replace(
            spec, calendar=calendar, production=msgspec.structs.replace(spec.production, window=window)
        )
        for spec in plant.equipment
    ]
    return replace(plant, equipment=specs)


def begin(calendar: ShiftCalendar = THREE, clock: str = "06:00:00", window: int = 60_000) -> Stage:
    """PAL01 alone, idle and in reach."""
    stage = Stage(plant_with(calendar, window), clock)
    stage.connect("SCADA", clock)
    stage.show("SCADA", clock, **PAL01)
    return stage


def summaries(stage: Stage) -> list[dict]:
    return [data for _, data in stage.told("shift.summary", "PAL01")]


def hours(calendar: ShiftCalendar, first: str, last: str) -> list[tuple[str, str, float]]:
    shifts = calendar.between(parse_timestamp(f"{first}T12:00:00Z"), parse_timestamp(f"{last}T12:00:00Z"))
    return [(shift.day[5:], shift.name, (shift.end - shift.start) / HOUR) for shift in shifts]


def test_the_night_in_which_the_clocks_go_back_has_nine_hours_and_its_day_twenty_five() -> None:
    assert hours(BERLIN, "2026-10-24", "2026-10-25") == [
        ("10-24", "late", 8), ("10-24", "night", 9), ("10-25", "early", 8),
    ]  # fmt: skip
    day = ShiftCalendar(ZoneInfo("Europe/Berlin"), (ShiftPattern("day", 0, 1440),))
    assert [length for *_, length in hours(day, "2026-10-24", "2026-10-26")] == [24, 25, 24]


def test_the_night_in_which_the_clocks_go_forward_has_seven_hours_and_its_day_twenty_three() -> None:
    assert ("03-28", "night", 7) in hours(BERLIN, "2026-03-28", "2026-03-29")
    day = ShiftCalendar(ZoneInfo("Europe/Berlin"), (ShiftPattern("day", 0, 1440),))
    assert [length for *_, length in hours(day, "2026-03-28", "2026-03-30")] == [24, 23, 24]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_three_shifts_cover_every_moment_of_a_year_once(zone: str) -> None:
    calendar = msgspec.structs.replace(THREE, zone=ZoneInfo(zone))
    year = calendar.between(parse_timestamp("2026-01-01T00:00:00Z"), parse_timestamp("2027-01-01T00:00:00Z"))
    assert len(year) >= 3 * 365
    assert [(a, b) for a, b in pairwise(year) if a.end != b.start] == []


def test_weekdays_and_exceptions_say_which_shifts_there_are() -> None:
    patterns = (msgspec.structs.replace(EARLY, days=frozenset({0, 1, 2, 3, 4})), LATE)
    calendar = ShiftCalendar(ZoneInfo("UTC"), patterns, {date(2026, 12, 24): ("early",), date(2026, 12, 25): ()})
    week = calendar.between(parse_timestamp("2026-12-23T00:00:00Z"), parse_timestamp("2026-12-27T00:00:00Z"))
    assert [(shift.day[8:], shift.name) for shift in week] == [
        ("23", "early"), ("23", "late"), ("24", "early"), ("26", "late"),
    ]  # fmt: skip
    christmas = parse_timestamp("2026-12-24T15:00:00Z")
    assert format_timestamp(calendar.boundary_after(christmas)) == "2026-12-26T14:00:00.000Z"


def test_a_shift_is_told_with_its_seconds_and_pieces_when_it_ends() -> None:
    stage = begin()
    stage.show("SCADA", "06:30:00", state=1, good_total=0)
    stage.show("SCADA", "06:31:00", good_total=40)
    stage.show("SCADA", "10:00:00", state=3)
    stage.show("SCADA", "10:40:00", state=1)
    stage.show("SCADA", "13:59:50", good_total=100)
    stage.show("SCADA", "14:00:00", good_total=102)
    stage.show("SCADA", "14:00:01", good_total=104)
    (told,) = summaries(stage)
    assert told == {
        "shift": "early", "day": "2026-03-02", "unit": "pcs", "counts": {"good": 102},
        "from": "2026-03-02T06:00:00.000Z", "to": "2026-03-02T14:00:00.000Z",
        "times_s": {"IDLE": 1800, "RUN": 12_600 + 12_000, "STARVED": 2400},
    }  # fmt: skip
    stage.hear("SCADA", "14:01:00")
    totals = [(data["window_end"][11:16], data["shift_total"]) for _, data in stage.told("production.count", "PAL01")]
    assert totals == [("06:31", 40), ("14:00", 102), ("14:01", 2)]


def test_the_hour_that_comes_twice_is_spent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """New York, 1 November 2026: midnight to eight is nine hours, 04:00 to 13:00 UTC."""
    monkeypatch.setattr("tests.stage.DAY", "2026-11-01")
    graveyard = ShiftCalendar(ZoneInfo("America/New_York"), (ShiftPattern("graveyard", 0, 480),))
    stage = begin(graveyard, "04:00:00")
    stage.show("SCADA", "05:30:00", state=1)
    stage.show("SCADA", "06:30:00", state=3)
    stage.hear("SCADA", "12:59:00", "13:00:00", "13:00:05")
    (told,) = summaries(stage)
    assert told["times_s"] == {"IDLE": 5400, "RUN": 3600, "STARVED": 23_400}
    assert sum(told["times_s"].values()) == 9 * 3600


def test_the_hour_that_never_comes_is_spent_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """New York, 8 March 2026: midnight to eight is seven hours, 05:00 to 12:00 UTC."""
    monkeypatch.setattr("tests.stage.DAY", "2026-03-08")
    graveyard = ShiftCalendar(ZoneInfo("America/New_York"), (ShiftPattern("graveyard", 0, 480),))
    stage = begin(graveyard, "05:00:00")
    stage.show("SCADA", "06:30:00", state=1)
    stage.hear("SCADA", "12:00:00")
    assert [told["times_s"] for told in summaries(stage)] == [{"IDLE": 5400, "RUN": 5.5 * 3600}]


def test_totals_of_the_shift_survive_a_kill() -> None:
    stage = begin()
    stage.show("SCADA", "06:10:00", state=1)
    stage.show("SCADA", "06:20:00", good_total=600)
    stage.hear("SCADA", "06:21:00")
    stage.kill_and_restart("06:21:10")
    stage.connect("SCADA", "06:21:12")
    stage.show("SCADA", "06:21:12", **{**PAL01, "state": 1, "good_total": 612})
    stage.hear("SCADA", "14:00:00")
    (told,) = summaries(stage)
    assert (told["counts"], told["times_s"]) == ({"good": 612}, {"IDLE": 600, "RUN": 28_200})
    assert [data["shift_total"] for _, data in stage.told("production.count")] == [600, 612]


def test_what_is_still_debounced_at_the_end_of_the_shift_is_waited_for() -> None:
    stage = begin()
    stage.show("SCADA", "06:10:00", state=1)
    stage.show("SCADA", "13:59:58", state=3)
    stage.hear("SCADA", "14:00:01")
    assert summaries(stage) == [], "whether it starves or only flickers is not known yet"
    stage.hear("SCADA", "14:00:03")
    assert summaries(stage)[0]["times_s"] == {"IDLE": 600, "RUN": 28_198, "STARVED": 2}


def test_a_machine_that_is_out_of_reach_at_the_end_of_its_shift_is_unknown_and_its_shift_is_told() -> None:
    stage = begin()
    stage.show("SCADA", "06:10:00", state=1)
    stage.show("SCADA", "13:59:40", good_total=5)  # its window of counting is closed by the clock, at 14:00:05
    stage.hear("SCADA", "13:59:50")
    stage.disconnect("SCADA", "13:59:51")
    stage.pass_time("14:00:15")
    assert summaries(stage) == [], "it may still come back and tell"
    stage.pass_time("14:01:00")
    (told,) = summaries(stage)
    assert told["times_s"] == {"IDLE": 600, "RUN": 28_190, "UNKNOWN": 10}


def test_shifts_that_the_gateway_slept_through_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = begin()
    stage.show("SCADA", "13:00:00", state=1)
    monkeypatch.setattr("tests.stage.DAY", "2026-03-03")
    stage.kill_and_restart("07:00:00")
    stage.connect("SCADA", "07:00:02")
    stage.show("SCADA", "07:00:02", **{**PAL01, "state": 1})
    told = [(data["shift"], data["day"][8:], data["times_s"]) for data in summaries(stage)]
    assert told == [
        ("early", "02", {"IDLE": 25_200, "UNKNOWN": 3600}), ("late", "02", {"UNKNOWN": 28_800}),
        ("night", "02", {"UNKNOWN": 28_800}),
    ]  # fmt: skip


def test_the_time_before_the_gateway_first_saw_the_machine_is_unknown() -> None:
    stage = begin(clock="10:00:00")
    stage.hear("SCADA", "14:00:00")
    assert summaries(stage)[0]["times_s"] == {"UNKNOWN": 14_400, "IDLE": 14_400}


def test_a_long_window_of_counting_ends_with_the_shift() -> None:
    odd = ShiftCalendar(ZoneInfo("UTC"), (ShiftPattern("odd", 360, 370), ShiftPattern("rest", 370, 1440)))
    stage = begin(odd, window=900_000)
    stage.show("SCADA", "06:05:00", good_total=10)
    stage.show("SCADA", "06:12:00", good_total=13)
    stage.hear("SCADA", "06:15:00")
    rows = [
        (data["window_end"][11:16], data["delta"], data["shift_total"]) for _, data in stage.told("production.count")
    ]
    assert rows == [("06:10", 10, 10), ("06:15", 3, 3)]


def test_pieces_outside_of_the_shifts_have_no_shift_total() -> None:
    stage = begin(ShiftCalendar(ZoneInfo("UTC"), (ShiftPattern("late", 840, 1320),)))
    stage.show("SCADA", "06:05:00", good_total=10)
    stage.hear("SCADA", "06:06:00")
    assert [data["shift_total"] for _, data in stage.told("production.count")] == [None]
    assert summaries(stage) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 5_000), st.sampled_from([0, 1, 2, 3, None])), min_size=1, max_size=40))
def test_whatever_happens_the_seconds_of_every_shift_add_up(story: list[tuple[int, int | None]]) -> None:
    """States as they come, each for some seconds; None is a cut of the link for as long."""
    stage = begin()
    moment, is_up = at("06:00:00"), True
    for seconds, state in story:
        moment += seconds * 1000
        clock = format_timestamp(min(moment, at("21:59:00")))[11:19]
        stage.pass_time(clock)
        if state is None and is_up:
            stage.disconnect("SCADA", clock)
        elif state is not None:
            if not is_up:
                stage.connect("SCADA", clock)
            stage.show("SCADA", clock, **{**PAL01, "state": state})
        is_up = state is not None
    if not is_up:
        stage.connect("SCADA", "22:00:00")
    stage.show("SCADA", "22:00:00", **PAL01)
    stage.hear("SCADA", "22:00:10")
    assert [data["shift"] for data in summaries(stage)] == ["early", "late"]
    for data in summaries(stage):
        assert sum(round(spent * 1000) for spent in data["times_s"].values()) == 28_800_000
