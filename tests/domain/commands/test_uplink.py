"""Replay and retry: checked like every command, kept until the broker's link has done them, answered once."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_plant
from gateway.domain.commands.uplink_requests import MOST, SHOWN
from gateway.domain.contract.envelope import Answer, Sender
from gateway.domain.contract.event_data import Level
from gateway.domain.contract.gateway_events import GatewayBirth
from gateway.domain.contract.requests import Replay
from gateway.domain.uplink import BrokerName, ReplayRequest, RetryRequest
from tests.domain.one_machine import machine, plant_of, tags
from tests.stage import LINE, Stage, demo_plant

FIL01 = f"{LINE}/FIL01"

PRESS = tags(left="uint32") + '    state: {rules: [{to: RUN, when: "left > 0"}, {to: IDLE, when: "true"}]}\n'


@pytest.fixture
def stage() -> Stage:
    """The demo's line, which has told a few events of a machine and of itself."""
    stage = Stage()
    stage.start_line()
    stage.core.handle_broker(True, stage.now, stage.now, BrokerName("127.0.0.1:1883", "MQTT 5"))
    for minute in range(1, 4):
        stage.show("FIL01", f"06:0{minute}:00", processed=100 + 10 * minute)
    assert last_number(stage, FIL01) >= 3
    assert last_number(stage, None) == 1
    return stage


def last_number(stage: Stage, path: str | None) -> int:
    return max(event.seq for event in stage.events if event.equipment == path)


def replay(stage: Stage, cmd: str = "R-1", **body: Any) -> Answer:
    (answer,) = stage.command("replay", cmd=cmd, **({"eq": "FIL01", "from_seq": 1, "to_seq": 1} | body))
    return answer


def test_a_replay_is_accepted_handed_to_the_link_and_done_when_the_broker_has_it(stage: Stage) -> None:
    assert replay(stage).answer == "accepted"
    assert stage.uplink == [ReplayRequest("R-1", FIL01, "epoch", 1, 1)]
    stage.core.handle_replayed("R-1", 1, [], stage.now)
    stage.commit()
    done = stage.answers[-1]
    assert (done.answer, done.codes, done.detail, done.final) == ("done", (), ("1 event sent again",), True)


def test_the_answers_go_to_the_gateways_own_level(stage: Stage) -> None:
    stage.core.handle_command(Replay(cmd="R-1", eq=None, from_seq=1, to_seq=1), stage.now)
    stage.core.handle_replayed("R-1", 1, [], stage.now)
    stage.core.handle_command(Replay(cmd="R-1", eq=None, from_seq=1, to_seq=1), stage.now)
    effects = stage.core.take_effects(stage.now)
    assert effects is not None
    assert [(path, answer.answer) for path, answer, _ in effects.answers] == [
        (Level.GATEWAY, "accepted"), (Level.GATEWAY, "done"), (Level.GATEWAY, "done"),
    ]  # fmt: skip


@pytest.mark.parametrize("eq", ["FIL01", FIL01])
def test_an_equipment_is_named_by_its_path_or_its_unit(stage: Stage, eq: str) -> None:
    replay(stage, eq=eq)
    assert stage.uplink == [ReplayRequest("R-1", FIL01, "epoch", 1, 1)]


def test_null_is_the_events_of_no_equipment(stage: Stage) -> None:
    last = last_number(stage, None)
    assert replay(stage, eq=None, to_seq=last).answer == "accepted"
    assert stage.uplink == [ReplayRequest("R-1", None, "epoch", 1, last)]
    assert replay(stage, "R-2", eq=None, to_seq=last + 1).codes == ("beyond",)


def test_a_lane_has_numbers_of_its_own(tmp_path: Any) -> None:
    body = (
        tags(strokes="uint32", left="uint32")
        + "    counters: {good: {tag: strokes, max: 4294967295, max_rate: 5/s}}\n"
        + "    lanes:\n      left:\n        counters: {good: {tag: left, max: 4294967295, max_rate: 5/s}}\n"
    )
    stage = machine(tmp_path, body)
    stage.show("M1", "06:00:00", strokes=0, left=0)
    stage.show("M1", "06:00:10", strokes=10, left=10)
    stage.show("M1", "06:02:00", strokes=10, left=10)
    lane = "ACME/HZ/PACK/L1/M1.left"
    last = last_number(stage, lane)
    assert replay(stage, eq="M1.left", to_seq=last).answer == "accepted"
    assert stage.uplink == [ReplayRequest("R-1", lane, "epoch", 1, last)]
    assert replay(stage, "R-2", eq=lane, to_seq=last + 1).codes == ("beyond",)


def test_events_of_what_the_configuration_no_longer_has_may_be_asked_for_up_to_their_last(tmp_path: Path) -> None:
    lane = "    lanes:\n      left:\n        counters: {good: {tag: left, max: 4294967295, max_rate: 5/s}}\n"
    stage = machine(tmp_path, PRESS + lane)
    stage.show("M1", "06:00:00", left=0)
    stage.show("M1", "06:00:10", left=10)
    stage.show("M1", "06:02:00", left=10)
    paths = ["ACME/HZ/PACK/L1/M1", "ACME/HZ/PACK/L1/M1.left"]
    (first, last), units = [last_number(stage, path) for path in paths], ["M1", "M1.left"]
    stage.plant = plant_of(tmp_path, PRESS)
    stage.kill_and_restart("06:10:00")
    assert replay(stage, "R-1", eq="M1.left", to_seq=last).answer == "accepted"
    stage.plant = demo_plant()
    stage.kill_and_restart("06:20:00")
    for unit, path, number in zip(units, paths, (first, last), strict=True):
        assert replay(stage, f"by-unit-{unit}", eq=unit, to_seq=number).answer == "accepted"
        assert replay(stage, f"by-path-{unit}", eq=path, to_seq=number).answer == "accepted"
        assert stage.uplink[-1] == ReplayRequest(f"by-path-{unit}", path, "epoch", 1, number)
    assert replay(stage, "R-2", eq="M1.left", to_seq=last + 1).codes == ("beyond",)
    assert replay(stage, "R-3", eq="M2").detail == (
        "the record knows no M2; it knows FIL01, LBL01, M1, M1.left, PAL01",
    )
    stage.core.handle_broker(True, stage.now, stage.now, BrokerName("127.0.0.1:1883", "MQTT 5"))
    stage.commit()
    birth = stage.events[-1].data
    assert isinstance(birth, GatewayBirth)
    assert [one.equipment for one in birth.equipment] == [f"{LINE}/{unit}" for unit in ("FIL01", "LBL01", "PAL01")]


def test_of_two_machines_with_the_same_unit_the_one_that_is_configured_has_the_short_name(tmp_path: Path) -> None:
    stage = machine(tmp_path, PRESS)
    stage.show("M1", "06:00:00", left=1)
    last = last_number(stage, "ACME/HZ/PACK/L1/M1")
    text = (tmp_path / "plant.yaml").read_text(encoding="utf-8").replace("PACK/L1", "PACK/L2")
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    stage.plant = load_plant(tmp_path)
    stage.kill_and_restart("06:10:00")
    assert replay(stage, "R-1", eq="M1", to_seq=last).detail[0].endswith("the last one is 0")
    assert replay(stage, "R-2", eq="ACME/HZ/PACK/L1/M1", to_seq=last).answer == "accepted"


def test_what_cannot_be_replayed_is_rejected_with_every_reason(stage: Stage) -> None:
    last = last_number(stage, FIL01)
    rejected = [
        replay(stage, "R-1", from_seq=2, to_seq=1),
        replay(stage, "R-2", to_seq=last + 1),
        replay(stage, "R-3", from_seq=last + 5, to_seq=1),
        replay(stage, "R-4", epoch="of-yesterday"),
        replay(stage, "R-5", eq="FIL99"),
        replay(stage, "R-6", eq="FIL99", epoch="of-yesterday", from_seq=3, to_seq=2),
        replay(stage, "R-7", valid_until="2026-03-02T05:59:59Z"),
        replay(stage, "R-8", from_seq=0),
        replay(stage, "R-9", to_seq="all"),
    ]
    assert {answer.answer for answer in rejected} == {"rejected"}
    assert [answer.codes for answer in rejected] == [
        ("range",), ("beyond",), ("range", "beyond"), ("unknown_epoch",), ("unknown_equipment",),
        ("range", "unknown_epoch", "unknown_equipment"), ("expired",), ("malformed",), ("malformed",),
    ]  # fmt: skip
    assert rejected[1].detail == (f"{last + 1} was not given to any event yet; the last one is {last}",)
    assert rejected[3].detail == ("of-yesterday is not kept here; the record's epoch is epoch",)
    assert rejected[4].detail == ("the record knows no FIL99; it knows FIL01, LBL01, PAL01",)
    assert stage.uplink == []


def test_the_last_number_and_the_current_epoch_are_fine(stage: Stage) -> None:
    last = last_number(stage, FIL01)
    assert replay(stage, to_seq=last, epoch="epoch").answer == "accepted"
    assert stage.uplink == [ReplayRequest("R-1", FIL01, "epoch", 1, last)]


def test_after_a_salvage_the_numbers_of_the_epoch_before_may_be_asked_for_too(stage: Stage) -> None:
    """What could be saved of it is still kept; how far its numbers went, the record no longer knows."""
    for number in range(3):
        stage.epoch = f"epoch-{number}"
        stage.kill_and_restart(f"06:1{number}:00")
    assert replay(stage, "R-1", epoch="epoch", to_seq=999).answer == "accepted"
    assert replay(stage, "R-2", epoch="epoch-1", to_seq=999).answer == "accepted"
    assert replay(stage, "R-3", epoch="epoch-2", to_seq=999).codes == ("beyond",)
    assert replay(stage, "R-4", epoch="epoch-9").codes == ("unknown_epoch",)
    assert stage.uplink == [
        ReplayRequest("R-1", FIL01, "epoch", 1, 999),
        ReplayRequest("R-2", FIL01, "epoch-1", 1, 999),
    ]


def test_ranges_that_are_no_longer_kept_are_named_in_the_answer(stage: Stage) -> None:
    replay(stage)
    stage.core.handle_replayed("R-1", 7, [(1, 2), (5, 5)], stage.now)
    stage.commit()
    done = stage.answers[-1]
    assert (done.answer, done.codes) == ("done", ("incomplete",))
    assert done.detail == ("7 events sent again", "no longer kept: 1-2, 5")


@pytest.mark.parametrize(("ranges", "tail"), [(SHOWN, ""), (SHOWN + 1, " and 1 more"), (SHOWN + 9, " and 9 more")])
def test_of_very_many_ranges_the_first_are_named_and_the_others_counted(stage: Stage, ranges: int, tail: str) -> None:
    replay(stage)
    stage.core.handle_replayed("R-1", 0, [(2 * n, 2 * n) for n in range(1, ranges + 1)], stage.now)
    stage.commit()
    assert stage.answers[-1].detail[1].endswith(f", {2 * SHOWN}{tail}")


def test_a_retry_is_handed_on_and_done_with_its_count(stage: Stage) -> None:
    topic = "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/alarm.raised"
    assert stage.command("quarantine.retry", cmd="Q-1", topic=topic)[0].answer == "accepted"
    assert stage.command("quarantine.retry", cmd="Q-2")[0].answer == "accepted"
    assert stage.uplink == [RetryRequest("Q-1", topic), RetryRequest("Q-2", None)]
    stage.core.handle_retried("Q-1", 3, stage.now)
    stage.commit()
    assert (stage.answers[-1].answer, stage.answers[-1].detail) == ("done", ("3 messages queued again",))


def test_what_is_under_way_at_a_crash_is_handed_out_again_with_the_next_commit(stage: Stage) -> None:
    replay(stage)
    stage.command("quarantine.retry", cmd="Q-1")
    asked, stage.uplink = stage.uplink, []
    stage.kill_and_restart("06:10:00")
    assert stage.uplink == asked
    stage.core.handle_replayed("R-1", 1, [], stage.now)
    stage.core.handle_retried("Q-1", 0, stage.now)
    stage.commit()
    assert [answer.answer for answer in stage.answers[-2:]] == ["done", "done"]
    stage.uplink = []
    stage.kill_and_restart("06:20:00")
    assert stage.uplink == [], "what is done is forgotten"


def test_the_end_of_a_replay_is_told_once_however_often_the_link_says_so(stage: Stage) -> None:
    replay(stage)
    for _ in range(2):
        stage.core.handle_replayed("R-1", 1, [], stage.now)
    stage.core.handle_retried("Q-1", 1, stage.now)
    stage.commit()
    assert [answer.answer for answer in stage.answers] == ["accepted", "done"]


def test_the_same_command_again_gets_its_answer_and_sends_nothing(stage: Stage) -> None:
    replay(stage)
    assert replay(stage).answer == "accepted"
    stage.core.handle_replayed("R-1", 1, [], stage.now)
    stage.commit()
    assert replay(stage).answer == "done"
    assert len(stage.uplink) == 1


def test_the_answers_find_whoever_asked_also_after_a_restart(stage: Stage) -> None:
    sender = Sender("corr-1", "digest", "mfg/v1/ACME/HZ/_res/mes-1", b"7")
    stage.core.handle_command(Replay(cmd="R-1", eq=None, from_seq=1, to_seq=1), stage.now, sender)
    stage.commit()
    stage.kill_and_restart("06:10:00")
    stage.core.handle_replayed("R-1", 1, [], stage.now)
    effects = stage.core.take_effects(stage.now)
    assert effects is not None
    ((path, answer, asked),) = effects.answers
    assert (path, answer.answer, answer.corr) == (Level.GATEWAY, "done", "corr-1")
    assert asked == sender


def test_more_than_sixteen_at_once_are_told_busy_and_may_come_again(stage: Stage) -> None:
    verdicts = [replay(stage, f"R-{n}").codes for n in range(MOST - 1)]
    verdicts.append(stage.command("quarantine.retry", cmd="Q-1")[0].codes)
    assert verdicts == [()] * MOST
    assert replay(stage, "R-99").codes == ("busy",)
    assert stage.command("quarantine.retry", cmd="Q-99")[0].codes == ("busy",)
    (other,) = stage.command("material.arrival", cmd="M", material="L", eta="2026-03-02T08:00:00Z")
    assert other.answer == "done", "what is not for the link is not held up by it"
    stage.core.handle_replayed("R-0", 1, [], stage.now)
    stage.commit()
    assert replay(stage, "R-99").answer == "accepted"
    assert len(stage.uplink) == MOST + 1
