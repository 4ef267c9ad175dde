"""Derived tags: computed once per scan that touched an input, and as good as their inputs."""

from pathlib import Path

import pytest

from gateway.domain.values import Batch, TagChange
from tests.domain.one_machine import machine, rows, tags
from tests.stage import Stage

SCALES = tags(left="int32", right="int32", other="int32") + (
    '      total: {expression: "left + right", unit: kg, publish: true}\n'
    '      twice: {expression: "total * 2", type: int32}\n'
    '      odd: {expression: "other % 2"}\n'
    '      share: {expression: "left / total * 100 if total > 0 else 0", unit: "%", publish: true}\n'
)


def test_a_derived_tag_is_told_like_any_other(tmp_path: Path) -> None:
    stage = machine(tmp_path, SCALES)
    stage.show("M1", "06:00:01", left=30, right=70)
    stage.show("M1", "06:00:02", left=50)
    assert rows(stage) == [
        ("06:00:01", "total", 100.0, 0), ("06:00:01", "share", 30.0, 0),
        ("06:00:02", "total", 120.0, 0), ("06:00:02", "share", 41.6666666666667, 0),
    ]  # fmt: skip


def test_it_is_computed_only_when_an_input_was_touched_and_told_only_when_it_changed(tmp_path: Path) -> None:
    stage = machine(tmp_path, SCALES)
    stage.show("M1", "06:00:01", left=30, right=70)
    before = len(rows(stage))
    (equipment,) = stage.core.equipment.values()
    equipment.inputs.values[3] = "untouched"
    stage.show("M1", "06:00:02", other=3)
    assert equipment.inputs.values[3] == "untouched"
    equipment.inputs.values[3] = 100.0
    stage.show("M1", "06:00:03", left=40, right=60)
    assert [row[1] for row in rows(stage)[before:]] == ["share"]


def test_a_bad_input_makes_it_bad_with_the_same_status(tmp_path: Path) -> None:
    stage = machine(tmp_path, SCALES)
    stage.show("M1", "06:00:01", left=30, right=70)
    _show_status(stage, "06:00:02", "right", None, 0x80340000)
    assert rows(stage)[-2:] == [("06:00:02", "total", None, 0x80340000), ("06:00:02", "share", None, 0x80340000)]
    _show_status(stage, "06:00:03", "right", 70, 0x40000000)
    assert rows(stage)[-2:] == [("06:00:03", "total", 100.0, 0x40000000), ("06:00:03", "share", 30.0, 0x40000000)]


def test_nothing_is_computed_of_half_the_inputs_nor_of_those_of_an_old_link(tmp_path: Path) -> None:
    stage = machine(tmp_path, SCALES)
    stage.show("M1", "06:00:01", left=30)
    assert rows(stage) == []
    stage.show("M1", "06:00:02", right=70)
    stage.disconnect("M1", "06:01:00")
    stage.connect("M1", "06:02:00")
    stage.show("M1", "06:02:01", left=1)
    assert rows(stage)[-1] == ("06:00:02", "share", 30.0, 0)
    stage.show("M1", "06:02:02", right=1)
    assert rows(stage)[-2:] == [("06:02:02", "total", 2.0, 0), ("06:02:02", "share", 50.0, 0)]


def _show_status(stage: Stage, clock: str, name: str, value: int | None, status: int) -> None:
    stage.show("M1", clock)
    change = TagChange(f"M1.{name}", value, status, stage.now)
    stage.core.handle_changes("M1", Batch([change], stage.now), stage.now)
    stage.commit()


@pytest.mark.parametrize(
    ("expression", "kind", "value", "status"),
    [
        ("left + 0.1 + 0.2", "float64", 30.3, 0),
        ("left / 4", "int16", 8, 0),
        ("left * 1000", "uint8", None, 0x803C0000),
        ("left / (right - 70)", "float64", None, 0x803C0000),
        ("left > 20", "bool", True, 0),
        ("'high' if left > 20 else 'low'", "string", "high", 0),
        ("left", "string", None, 0x80740000),
        ("'x' * left", "string", None, 0x803C0000),
    ],
)
def test_the_result_has_its_type_or_is_bad(
    tmp_path: Path, expression: str, kind: str, value: object, status: int
) -> None:
    body = tags(left="int32", right="int32") + f'      x: {{expression: "{expression}", type: {kind}, publish: true}}\n'
    stage = machine(tmp_path, body)
    stage.show("M1", "06:00:01", left=30, right=70)
    assert rows(stage)[-1:] == [("06:00:01", "x", value, status)]


def test_rules_and_counters_use_derived_tags(tmp_path: Path) -> None:
    body = tags(lane_1="uint16", lane_2="uint16", amps="float32") + (
        '      pieces: {expression: "lane_1 + lane_2", type: uint32}\n'
        '      loaded: {expression: "amps > 4.5", type: bool}\n'
        '    state: {rules: [{to: RUN, when: "loaded"}, {to: IDLE, when: "true"}]}\n'
        "    counters: {good: {tag: pieces, max: 131070, max_rate: 10/s}}\n"
    )
    stage = machine(tmp_path, body)
    stage.show("M1", "06:00:00", lane_1=10, lane_2=20, amps=1.0)
    stage.show("M1", "06:00:20", amps=5.0)
    stage.show("M1", "06:00:30", lane_1=15)
    stage.show("M1", "06:00:40", lane_2=23)
    stage.hear("M1", "06:01:30")
    assert stage.states("M1") == [("06:00:00", "IDLE"), ("06:00:20", "RUN")]
    assert stage.counted("M1", None, "good") == 8


def test_a_state_waits_for_all_that_its_derived_tags_come_down_to(tmp_path: Path) -> None:
    body = tags(a="bool", b="bool") + (
        '      either: {expression: "a or b", type: bool}\n'
        '    state: {rules: [{to: RUN, when: "either"}, {to: IDLE, when: "true"}]}\n'
    )
    stage = machine(tmp_path, body)
    stage.show("M1", "06:00:00", a=True)
    assert stage.states("M1") == []
    stage.show("M1", "06:00:01", b=False)
    assert stage.states("M1") == [("06:00:01", "RUN")]
