"""Alarms as machines show them, whatever the order in which they are acknowledged and go."""

import pytest

from simulators.models.alarms import SLOTS, AlarmArray, AlarmWords, Occurrence
from simulators.scenario import ScenarioError


def _entry(array: AlarmArray, index: int, ms: int) -> tuple[object, ...]:
    tags = array.tags(ms, "A")
    return tuple(tags[f"A[{index}].{name}"] for name in ("Trigger", "ID", "DateTime", "AckDateTime"))


def test_an_alarm_takes_the_lowest_entry_that_is_free() -> None:
    first, second, third = (
        Occurrence("1", 0, 10, 100),
        Occurrence("2", 50, 60, 200),
        Occurrence("3", 100, 110, 300),
    )
    array = AlarmArray([first, second, third], "FIL01")

    assert _entry(array, 0, 99) == (True, 1, 0, 10)
    assert _entry(array, 1, 99) == (True, 2, 50, 60)
    assert _entry(array, 0, 100) == (True, 3, 100, None)


def test_an_entry_is_not_free_before_its_alarm_is_acknowledged_too() -> None:
    gone, late = Occurrence("1", 0, 500, 100), Occurrence("2", 200, 210, 300)
    array = AlarmArray([gone, late], "FIL01")

    assert _entry(array, 0, 250) == (False, 1, 0, None)
    assert _entry(array, 0, 500) == (False, 1, 0, 500)
    assert _entry(array, 1, 250) == (True, 2, 200, 210)


def test_more_alarms_than_entries_cannot_be_played() -> None:
    with pytest.raises(ScenarioError, match="FIL01 can show 8 at once, 9 would be one more"):
        AlarmArray([Occurrence(str(number), 0, 1, 100) for number in range(1, SLOTS + 2)], "FIL01")


def test_an_alarm_is_retained_while_it_is_active_or_not_acknowledged() -> None:
    early, late = Occurrence("1", 10, 20, 30), Occurrence("1", 10, 30, 20)

    for alarm in (early, late):
        assert [alarm.retained(ms) for ms in (9, 10, 20, 29, 30)] == [False, True, True, True, False]


def test_a_flicker_that_nobody_acknowledges_is_not_retained_for_ever() -> None:
    assert [Occurrence("1", 10, None, 20).retained(ms) for ms in (10, 19, 20)] == [True, True, False]


def test_an_acknowledged_bit_falls_when_the_alarm_is_raised_again() -> None:
    words = AlarmWords([Occurrence("3310", 0, 10, 20), Occurrence("3310", 40, 50, 60)], "LBL01")

    assert [words.words(ms) for ms in (0, 10, 20, 40, 50)] == [(2, 0), (2, 2), (0, 2), (2, 0), (2, 2)]


def test_codes_that_have_no_bit_of_their_own_follow_in_order() -> None:
    words = AlarmWords([Occurrence("3400", 0, 1, 9), Occurrence("3322", 0, 1, 9)], "LBL01")

    assert words.codes == ["3301", "3310", "3322", "3400"]
    assert words.words(0) == (0b1100, 0)
