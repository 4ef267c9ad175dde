"""Alarms from words and PackTags arrays: what is told, what is only counted, and that nothing is lost."""

from collections import Counter
from pathlib import Path
from typing import Any

from gateway.domain.times import format_timestamp
from gateway.domain.values import Batch, ConditionChange, TagChange, Value
from tests.domain.one_machine import machine, tags
from tests.stage import Stage, at

WORD = tags(word="uint16", acked="uint16") + "    alarms:\n%s      bits:\n        '7': {tag: word, bit: 0%s}\n"
KINDS = ("alarm.raised", "alarm.acked", "alarm.cleared")


def told(stage: Stage) -> list[tuple[str, str, str]]:
    """(time, raised/acked/cleared, code) of every alarm event, in the order published."""
    return [
        (format_timestamp(event.source_time)[11:19], event.type.removeprefix("alarm."), event.data.code)
        for event in stage.events if event.type in KINDS
    ]  # fmt: skip


def last(stage: Stage, kind: str) -> dict[str, Any]:
    return stage.told(kind)[-1][1]


def test_an_alarm_is_raised_acknowledged_and_cleared_in_whatever_order_it_happens(tmp_path: Path) -> None:
    stage = machine(tmp_path, WORD % ("", ", acked: acked"))
    stage.show("M1", "06:00:00", word=0, acked=0)
    stage.show("M1", "06:01:00", word=1)
    stage.show("M1", "06:02:00", acked=1)
    stage.show("M1", "06:03:00", word=0, acked=0)
    stage.show("M1", "06:11:00", word=1)
    stage.show("M1", "06:12:00", word=0)
    stage.show("M1", "06:13:00", acked=1)
    assert told(stage) == [
        ("06:01:00", "raised", "7"), ("06:02:00", "acked", "7"), ("06:03:00", "cleared", "7"),
        ("06:11:00", "raised", "7"), ("06:12:00", "cleared", "7"), ("06:13:00", "acked", "7"),
    ]  # fmt: skip


def test_what_people_read_of_a_code_comes_from_yaml(tmp_path: Path) -> None:
    text = "      texts: {'7': {text: Reel low, severity: 400, class: material}}\n"
    stage = machine(tmp_path, WORD % (text, ""))
    stage.show("M1", "06:00:00", word=0, acked=0)
    stage.show("M1", "06:01:00", word=1)
    raised = last(stage, "alarm.raised")
    assert (raised["text"], raised["sev"], raised["class"]) == ("Reel low", 400, "material")


def test_an_acknowledgement_within_the_on_delay_is_told_after_the_alarm(tmp_path: Path) -> None:
    stage = machine(tmp_path, WORD % ("      on_delay: 5s\n", ", acked: acked"))
    stage.show("M1", "06:00:00", word=0, acked=0)
    stage.show("M1", "06:01:00", word=1)
    stage.show("M1", "06:01:02", acked=1)
    stage.hear("M1", "06:01:10")
    assert told(stage) == [("06:01:00", "raised", "7"), ("06:01:02", "acked", "7")]


def test_where_nobody_can_acknowledge_an_alarm_is_over_when_it_is_gone(tmp_path: Path) -> None:
    stage = machine(tmp_path, WORD % ("", ""))
    stage.show("M1", "06:00:00", word=0, acked=0)
    for minute in range(1, 9):
        stage.show("M1", f"06:0{minute}:00", word=minute % 2)
    (equipment,) = stage.core.equipment.values()
    assert equipment.memory.alarms.open == {}
    assert Counter(kind for _, kind, _ in told(stage)) == {"raised": 4, "cleared": 4}


def test_what_is_up_at_the_first_look_is_initial_and_is_not_raised_again(tmp_path: Path) -> None:
    stage = machine(tmp_path, WORD % ("", ""))
    stage.show("M1", "06:00:01", acked=0)
    stage.show("M1", "06:00:02", word=1)
    assert last(stage, "alarm.raised")["initial"] is True
    stage.disconnect("M1", "06:01:00")
    stage.connect("M1", "06:02:00")
    stage.show("M1", "06:02:00", word=1, acked=0)
    stage.kill_and_restart("06:03:00")
    stage.connect("M1", "06:03:01")
    stage.show("M1", "06:03:01", word=1, acked=0)
    stage.show("M1", "06:04:00", word=0)
    stage.show("M1", "06:05:00", word=1)
    assert told(stage) == [("06:00:02", "raised", "7"), ("06:04:00", "cleared", "7"), ("06:05:00", "raised", "7")]
    assert last(stage, "alarm.raised")["initial"] is False


def test_a_condition_from_before_the_first_contact_is_initial(tmp_path: Path) -> None:
    stage = Stage()
    stage.connect("SCADA", "06:00:00")
    for second, code, since in ((1, "4002", "05:30:00"), (5, "4010", "06:00:04")):
        condition = ConditionChange("PAL01", code, True, False, "film low", 400, at(since))
        now = at(f"06:00:0{second}")
        stage.core.handle_changes("SCADA", Batch([], now, conditions=(condition,)), now)
        stage.commit()
    assert [(clock, data["code"], data["initial"]) for clock, data in stage.told("alarm.raised")] == [
        ("05:30:00", "4002", True), ("06:00:04", "4010", False),
    ]  # fmt: skip


def test_a_condition_that_comes_and_goes_within_one_batch_is_told(tmp_path: Path) -> None:
    stage = Stage()
    stage.connect("SCADA", "06:00:00")
    up, down = (
        ConditionChange("PAL01", "4002", is_up, False, "film low", 400, at(clock))
        for is_up, clock in ((True, "06:00:01"), (False, "06:00:02"))
    )
    stage.core.handle_changes("SCADA", Batch([], at("06:00:03"), conditions=(up, down)), at("06:00:03"))
    stage.commit()
    assert told(stage) == [("06:00:01", "raised", "4002"), ("06:00:02", "cleared", "4002")]


def test_chatter_is_one_alarm_with_a_count(tmp_path: Path) -> None:
    stage = machine(tmp_path, WORD % ("      off_delay: 10s\n", ""))
    stage.show("M1", "06:00:00", word=0, acked=0)
    for second in range(10, 50):
        stage.show("M1", f"06:00:{second}", word=second % 2)
    stage.hear("M1", "06:00:54", "06:01:05")
    assert told(stage) == [("06:00:11", "raised", "7"), ("06:00:49", "cleared", "7")][:1]
    stage.show("M1", "06:01:06", word=0)
    stage.hear("M1", "06:01:15")
    assert len(told(stage)) == 1
    stage.hear("M1", "06:01:16")
    assert told(stage) == [("06:00:11", "raised", "7"), ("06:01:06", "cleared", "7")]
    assert last(stage, "alarm.cleared") == {
        "code": "7", "occ": "7@2026-03-02T06:00:11.000Z", "dur_s": 55, "repeats": 19,
    }  # fmt: skip


def test_flickers_are_counted_and_told_with_the_next_alarm_of_the_code(tmp_path: Path) -> None:
    stage = machine(tmp_path, WORD % ("      on_delay: 3s\n", ""))
    stage.show("M1", "06:00:00", word=0, acked=0)
    for second in range(10, 21):
        stage.show("M1", f"06:00:{second}", word=second % 2)
    stage.kill_and_restart("06:00:30")
    stage.connect("M1", "06:00:31")
    stage.show("M1", "06:00:31", word=0, acked=0)
    stage.show("M1", "06:01:00", word=1)
    stage.hear("M1", "06:01:03")
    stage.show("M1", "06:02:00", word=0)
    stage.show("M1", "06:03:00", word=1)
    stage.hear("M1", "06:03:03")
    counts = [(clock, data["suppressed"]) for clock, data in stage.told("alarm.raised")]
    assert counts == [("06:01:00", 5), ("06:03:00", 0)]


ARRAY = """\
    alarms:
      entries: [{trigger: triggers, code: ids, message: texts, acked: acks}]
"""
ENTRIES = """\
    alarms:
      entries: [{trigger: t0, code: c0}, {trigger: t1, code: c1}]
"""


def test_an_alarm_that_moves_in_the_array_is_the_same_and_one_that_leaves_it_is_gone(tmp_path: Path) -> None:
    """PLCs sort `Admin.Alarm[]` or free an entry with its code in one scan: the array counts as a whole."""
    stage = machine(tmp_path, tags(t0="bool", c0="uint16", t1="bool", c1="uint16") + ENTRIES)
    stage.show("M1", "06:00:00", t0=False, c0=0, t1=False, c1=0)
    stage.show("M1", "06:01:00", t0=True, c0=2107)
    stage.show("M1", "06:02:00", t0=True, c0=9001, t1=True, c1=2107)
    stage.show("M1", "06:03:00", t0=False, c0=0)
    stage.show("M1", "06:04:00", t1=True, c1=3301)
    assert told(stage) == [
        ("06:01:00", "raised", "2107"), ("06:02:00", "raised", "9001"), ("06:03:00", "cleared", "9001"),
        ("06:04:00", "cleared", "2107"), ("06:04:00", "raised", "3301"),
    ]  # fmt: skip


def test_two_entries_with_one_code_are_one_alarm_and_up_if_either_is(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(t0="bool", c0="uint16", t1="bool", c1="uint16") + ENTRIES)
    stage.show("M1", "06:00:00", t0=True, c0=2107, t1=False, c1=2107)
    stage.show("M1", "06:01:00", t0=False, t1=True)
    stage.show("M1", "06:02:00", t1=False)
    assert told(stage) == [("06:00:00", "raised", "2107"), ("06:02:00", "cleared", "2107")]
    assert last(stage, "alarm.raised")["initial"] is True


def test_an_entry_that_cannot_be_read_clears_nothing(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(t0="bool", c0="uint16", t1="bool", c1="uint16") + ENTRIES)
    stage.show("M1", "06:00:00", t0=True, c0=2107, t1=False, c1=0)
    stage.disconnect("M1", "06:01:00")
    stage.connect("M1", "06:02:00")
    stage.show("M1", "06:02:00", t1=False, c1=0)
    stage.core.handle_changes("M1", Batch([TagChange("M1.c0", None, 0x80340000, stage.now)], stage.now), stage.now)
    stage.commit()
    assert told(stage) == [("06:00:00", "raised", "2107")]
    stage.show("M1", "06:03:00", t0=False, c0=0)
    assert told(stage)[1:] == [("06:03:00", "cleared", "2107")]


def test_the_whole_packtags_array_is_four_tags(tmp_path: Path) -> None:
    body = tags(triggers="uint16", ids="uint16", texts="string", acks="uint16") + ARRAY
    stage = machine(tmp_path, body)
    nothing: dict[str, Value] = {"triggers": (0, 0, 0), "ids": (0, 0, 0), "texts": ("", "", ""), "acks": (0, 0, 0)}
    stage.show("M1", "06:00:00", **nothing)
    stage.show("M1", "06:01:00", triggers=(1, 1, 0), ids=(2107, 9001, 0), texts=("jam", "hold", ""))
    stage.show("M1", "06:02:00", acks=(0, 1, 0))
    stage.show("M1", "06:03:00", triggers=(0, 0, 0))
    assert told(stage) == [
        ("06:01:00", "raised", "2107"), ("06:01:00", "raised", "9001"), ("06:02:00", "acked", "9001"),
        ("06:03:00", "cleared", "2107"), ("06:03:00", "cleared", "9001"),
    ]  # fmt: skip
    assert [data["text"] for _, data in stage.told("alarm.raised")] == ["jam", "hold"]


def test_a_flood_of_a_thousand_alarms_in_ten_seconds_loses_none(tmp_path: Path) -> None:
    """63 words change over 100 scans of 100 ms, each raising ten alarms; ten seconds later all are gone."""
    words, count = 63, 1_000
    body = tags(**{f"w{word}": "uint16" for word in range(words)}) + "    alarms:\n      bits:\n"
    body += "".join(f"        'A{n}': {{tag: w{n // 16}, bit: {n % 16}}}\n" for n in range(count))
    stage = machine(tmp_path, body)
    state = [0] * words
    _scan(stage, at("06:00:00"), dict(enumerate(state)))
    for begin, up in ((at("06:00:01"), True), (at("06:00:11"), False)):
        for scan in range(100):
            changed = {}
            for alarm in range(scan * 10, scan * 10 + 10):
                state[alarm // 16] ^= 1 << alarm % 16
                changed[alarm // 16] = state[alarm // 16]
            _scan(stage, begin + scan * 100, changed)
        if up:
            assert Counter(kind for _, kind, _ in told(stage)) == {"raised": count}
            stage.kill_and_restart("06:00:11")
            stage.connect("M1", "06:00:11")
            _scan(stage, at("06:00:11"), dict(enumerate(state)))
    raised, cleared = stage.told("alarm.raised"), stage.told("alarm.cleared")
    assert sorted(int(data["code"][1:]) for _, data in raised) == list(range(count))
    assert {data["occ"] for _, data in raised} == {data["occ"] for _, data in cleared}
    assert (len(raised), len(cleared)) == (count, count)
    own = [event for event in stage.events if event.equipment is not None]
    assert [event.seq for event in own] == list(range(1, 2 * count + 1))
    assert len({event.id for event in own}) == 2 * count


def _scan(stage: Stage, now: int, words: dict[int, int]) -> None:
    stage.now = now
    changes = [TagChange(f"M1.w{word}", value, 0, now) for word, value in words.items()]
    stage.core.handle_changes("M1", Batch(changes, now), now)
    stage.commit()
