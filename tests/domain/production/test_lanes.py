"""Two lanes of one machine: counts and orders apart, one state for both."""

from pathlib import Path

import pytest

from gateway.config.problems import ConfigError
from gateway.domain.values import Batch
from tests.domain.one_machine import machine
from tests.stage import Stage, at

WRAPPER = """\
    tags:
      running: {register: 0, type: uint16, bit: 0}
      held: {register: 0, type: uint16, bit: 1}
      left: {register: 2-3, type: uint32}
      right: {register: 4-5, type: uint32}
      left_order: {register: 6-13, type: string}
      right_order: {register: 14-21, type: string}
    state: {rules: [{to: HELD, when: held}, {to: RUN, when: running}, {to: IDLE, when: "true"}]}
    lanes:
      A:
        counters: {good: {tag: left, max: 4294967295, max_rate: 10/s}}
        order: {from: tag, tag: left_order, operation: "10"}
      B:
        counters: {good: {tag: right, max: 4294967295, max_rate: 10/s}}
        order: {from: tag, tag: right_order, operation: "10"}
"""
LANE = "ACME/HZ/PACK/L1/M1.%s"


def wrapper(folder: Path) -> Stage:
    stage = machine(folder, WRAPPER)
    stage.show("M1", "06:00:00", running=1, held=0, left=0, right=0, left_order="4711", right_order="")
    for second in range(1, 61):
        stage.show("M1", f"06:00:{second:02}" if second < 60 else "06:01:00", left=second * 3, right=second * 2)
    return stage


def pieces(stage: Stage) -> dict[tuple[str, str | None], int]:
    result: dict[tuple[str, str | None], int] = {}
    for event in stage.events:
        if event.type == "production.count":
            key = (event.equipment or "", event.order.id if event.order else None)
            result[key] = result.get(key, 0) + event.data.delta  # type: ignore[attr-defined]
    return result


def test_each_lane_counts_for_its_own_order(tmp_path: Path) -> None:
    stage = wrapper(tmp_path)
    stage.show("M1", "06:01:01", right_order="4712")
    stage.show("M1", "06:01:30", left=240, right=170)
    stage.show("M1", "06:01:40", left_order="", right_order="")
    stage.hear("M1", "06:03:00")
    assert pieces(stage) == {
        (LANE % "A", "4711"): 240, (LANE % "B", None): 120, (LANE % "B", "4712"): 50,
    }  # fmt: skip
    done = {(e.equipment, e.order.id): e.data for e in stage.events if e.type == "order.completed" and e.order}
    assert {key: data.good for key, data in done.items()} == {(LANE % "A", "4711"): 240, (LANE % "B", "4712"): 50}  # type: ignore[attr-defined]
    assert {key: data.times_s for key, data in done.items()} == {  # type: ignore[attr-defined]
        (LANE % "A", "4711"): {"RUN": 100}, (LANE % "B", "4712"): {"RUN": 39},
    }  # fmt: skip


def test_the_state_is_told_once_and_a_hold_interrupts_the_orders_of_both_lanes(tmp_path: Path) -> None:
    stage = wrapper(tmp_path)
    stage.show("M1", "06:01:01", right_order="4712")
    stage.show("M1", "06:02:00", held=2)
    stage.show("M1", "06:03:00", held=0)
    stage.show("M1", "06:03:30", left_order="", right_order="")
    stage.hear("M1", "06:04:00")
    times = [event.data.times_s for event in stage.events if event.type == "order.completed"]  # type: ignore[attr-defined]
    assert times == [{"RUN": 150, "HELD": 60}, {"RUN": 89, "HELD": 60}]
    told = [(e.equipment, e.type) for e in stage.events if e.type in ("order.interrupted", "order.resumed")]
    assert told == [
        (LANE % "A", "order.interrupted"), (LANE % "B", "order.interrupted"),
        (LANE % "A", "order.resumed"), (LANE % "B", "order.resumed"),
    ]  # fmt: skip
    assert [clock for clock, _ in stage.states("M1")] == ["06:00:00", "06:02:00", "06:03:00"]


def test_every_lane_has_a_sequence_of_its_own_that_survives_a_kill(tmp_path: Path) -> None:
    stage = wrapper(tmp_path)
    stage.show("M1", "06:01:40", left=190, right=130)
    stage.now = at("06:02:00")  # nothing changed: what is told now, and its number, must survive all the same
    stage.core.handle_changes("M1", Batch([], stage.now), stage.now)
    stage.commit()
    stage.kill_and_restart("06:02:05")
    stage.connect("M1", "06:02:06")
    stage.show("M1", "06:02:06", running=1, held=0, left=200, right=140, left_order="4711", right_order="")
    stage.hear("M1", "06:03:00")
    assert pieces(stage) == {(LANE % "A", "4711"): 200, (LANE % "B", None): 140}
    for path in (LANE % "A", LANE % "B", LANE[:-3]):
        numbers = [event.seq for event in stage.events if event.equipment == path]
        assert numbers == list(range(1, len(numbers) + 1)), path
        assert numbers


def test_a_lane_can_be_dispatched_to_and_its_lot_is_known(tmp_path: Path) -> None:
    stage = wrapper(tmp_path)
    ops = [{"op": "20", "eq": "M1.B"}]
    assert stage.command("dispatch.order", cmd="D", order="4712", qty=10, lot="L2", ops=ops)[0].answer == "done"
    stage.show("M1", "06:02:00", right_order="4712")
    (started,) = [event for event in stage.events if event.type == "order.started" and event.order.id == "4712"]  # type: ignore[union-attr]
    assert (started.equipment, started.order) == (LANE % "B", type(started.order)("4712", "20", "L2"))


def test_a_lane_says_in_the_file_what_it_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        machine(tmp_path, WRAPPER.replace("from: tag, tag: left_order", "from: download").replace("tag: right,", "tag: wrong,"))  # fmt: skip
    text = str(refused.value)
    assert "plant.yaml:19: equipment > ACME/HZ/PACK/L1/M1 > lanes > A > order > from: a lane gets its orders" in text
    assert "plant.yaml:21: equipment > ACME/HZ/PACK/L1/M1 > lanes > B > counters > good > tag: the tag 'wrong'" in text
