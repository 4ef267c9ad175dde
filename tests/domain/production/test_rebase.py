"""A counter jumps, an operator says how many pieces that was: counted where it happened, answered exactly once."""

from pathlib import Path
from typing import Any

from gateway.domain.contract.envelope import Answer
from gateway.domain.production.counters import KEPT_JUMPS
from tests.domain.production.test_lanes import wrapper
from tests.domain.production.test_orders import running_labeller
from tests.stage import Stage


def jumped() -> Stage:
    """Order 4711 runs; its counter goes from 510 to 30,000 at 06:10:31 and on from there."""
    stage = running_labeller()
    stage.show("LBL01", "06:10:30", good=510)
    stage.show("LBL01", "06:10:31", good=30_000)
    stage.show("LBL01", "06:10:40", good=30_004)
    stage.hear("LBL01", "06:12:00")
    return stage


def rebase(stage: Stage, cmd: str = "R1", **body: Any) -> Answer:
    (answer,) = stage.command("counter.rebase", **{"cmd": cmd, "eq": "LBL01", "counter": "good", **body})
    return answer


def newest_counts(stage: Stage) -> dict[str, tuple[int, int, tuple[str, ...]]]:
    """Revision, pieces and flags by the end of each window, as a consumer keeps them."""
    counts = {}
    for event in stage.events:
        if event.type == "production.count" and event.data.counter == "good":
            counts[event.data.window_end[11:16]] = (event.rev, event.data.delta, event.data.flags)
    return counts


def test_the_pieces_of_a_settled_jump_are_counted_in_its_minute_and_to_its_order() -> None:
    stage = jumped()
    assert newest_counts(stage) == {"06:11": (1, 14, ("suspect",))}
    answer = rebase(stage, pieces=12, by="op17")
    assert (answer.answer, answer.final, answer.codes) == ("done", True, ())
    assert newest_counts(stage) == {"06:11": (2, 26, ("suspect", "rebased", "late"))}
    stage.show("LBL01", "06:20:00", batch_id="", word=0b100000)
    stage.hear("LBL01", "06:20:10")
    assert [data["good"] for _, data in stage.told("order.completed", "LBL01")] == [26]
    assert stage.told("counter.rebased") == [
        ("06:12:00", {"counter": "good", "jump": "2026-03-02T06:10:31.000Z", "previous": 510, "value": 30_000,
                      "pieces": 12, "by": "op17"})
    ]  # fmt: skip


def test_a_jump_that_was_no_pieces_is_settled_without_a_count() -> None:
    stage = jumped()
    assert rebase(stage).answer == "done"
    assert newest_counts(stage)["06:11"][:2] == (1, 14)
    assert [data["pieces"] for _, data in stage.told("counter.rebased")] == [0]


def test_a_jump_is_settled_once_and_a_repeated_command_gets_its_answer_again() -> None:
    stage = jumped()
    first, second = rebase(stage, pieces=12), rebase(stage, pieces=12)
    assert first == second
    assert len(stage.told("counter.rebased")) == 1
    other = rebase(stage, "R2", pieces=12)
    assert (other.answer, other.codes) == ("rejected", ("nothing_suspect",))
    assert newest_counts(stage)["06:11"][1] == 26


def test_an_open_jump_survives_a_kill_and_the_end_of_its_order() -> None:
    stage = jumped()
    stage.show("LBL01", "06:20:00", batch_id="", word=0b100000)
    stage.hear("LBL01", "06:20:10")
    stage.kill_and_restart("06:21:00")
    stage.connect("LBL01", "06:21:01")
    assert rebase(stage, pieces=12).answer == "done"
    done = [event for event in stage.events if event.type == "order.completed"]
    assert [(event.rev, event.data.good) for event in done] == [(1, 14), (2, 26)]
    assert done[0].id == done[1].id


def test_of_several_jumps_one_must_be_named() -> None:
    stage = jumped()
    stage.show("LBL01", "06:13:00", good=5_000)
    unclear = rebase(stage, pieces=1)
    assert (unclear.codes, unclear.detail) == (
        ("several_jumps",),
        ("say with t which one is meant; open are those of 2026-03-02T06:10:31.000Z, 2026-03-02T06:13:00.000Z",),
    )
    assert rebase(stage, "R2", pieces=1, t="2026-03-02T06:10:31Z").answer == "done"
    assert rebase(stage, "R3", pieces=2).answer == "done"
    assert [data["pieces"] for _, data in stage.told("counter.rebased")] == [1, 2]


def test_what_cannot_be_settled_is_refused_in_words() -> None:
    stage = jumped()
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"eq": "LBL99"}, "unknown_equipment", "LBL99 is not configured; here are FIL01, LBL01, PAL01"),
        ({"counter": "goood"}, "unknown_counter",
         "goood is not counted here; the counters are: produced, good, scrap"),
        ({"counter": "scrap"}, "nothing_suspect", "no jump of scrap is open; nothing is to be settled"),
        ({"t": "06:10"}, "malformed", "t: Invalid isoformat string: '06:10'"),
        ({"t": "2026-03-02T06:00:00Z"}, "nothing_suspect",
         "no jump of 2026-03-02T06:00:00Z is open; open are those of 2026-03-02T06:10:31.000Z"),
        ({"pieces": -1}, "malformed", "Expected `int` >= 0 - at `$.pieces`"),
    ]  # fmt: skip
    for number, (body, code, detail) in enumerate(cases):
        answer = rebase(stage, f"X{number}", **body)
        assert (answer.answer, answer.codes, answer.detail) == ("rejected", (code,), (detail,))
    assert stage.told("counter.rebased") == []


def test_pieces_of_the_day_before_yesterday_cannot_be_told_any_more() -> None:
    stage = jumped()
    stage.now += 2 * 86_400_000
    answer = rebase(stage, pieces=12)
    assert (answer.codes, "settle it with 0" in answer.detail[0]) == (("too_old",), True)
    assert rebase(stage, "R2").answer == "done"


def test_a_counter_that_jumps_again_and_again_keeps_its_newest_jumps() -> None:
    stage = running_labeller()
    for number in range(KEPT_JUMPS + 3):
        stage.show("LBL01", f"06:11:{number:02}", good=1_000 + 5_000 * (number % 2 + 1) + number)
    memory = stage.core.equipment["ACME/HZ/PACK/L1/LBL01"].memory.production.counters["good"]
    assert len(memory.jumps) == KEPT_JUMPS


def test_a_jump_in_a_lane_is_settled_in_that_lane(tmp_path: Path) -> None:
    stage = wrapper(tmp_path)
    stage.show("M1", "06:01:05", left=1_000_000)
    stage.hear("M1", "06:03:00")
    answer = rebase(stage, eq="M1.A", pieces=7)
    assert (answer.answer, answer.codes) == ("done", ())
    told = [event.equipment for event in stage.events if event.type == "counter.rebased"]
    assert told == ["ACME/HZ/PACK/L1/M1.A"]
    assert rebase(stage, "R2", eq="M1.C").detail == ("M1.C is not configured; here are M1, M1.A, M1.B",)
