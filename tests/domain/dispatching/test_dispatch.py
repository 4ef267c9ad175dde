"""Dispatched orders: who is next, what may be changed when, and that a restart between any two commands is not felt."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.dispatching.order_queue import OrderQueue
from gateway.domain.production.orders import KnownOrder
from gateway.domain.shared import SharedRecord
from tests.domain.press import DEVICE, codes, download, item, last, play, press, release, show
from tests.stage import Stage, at

OVEN = item("oven", 150)
AUTOMATIC = {"when": ["IDLE"]}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A press that makes nothing before RUN; `PS` A is released."""
    stage = press(tmp_path)
    show(stage, "06:00:02", mode="MAINT")
    release(stage, "A", OVEN)
    return stage


def dispatch(stage: Stage, order: str, **more: Any) -> tuple[str, ...]:
    ops = [{"op": "0010", "eq": "M1", "set": "PS"}]
    body = {"cmd": f"D-{len(stage.answers)}", "order": order, "qty": 10, "ops": ops, "auto_download": AUTOMATIC, **more}
    return codes(stage.command("dispatch.order", **body)[0])


def change(stage: Stage, order: str, action: str, **more: Any) -> tuple[str, ...]:
    cmd = f"X-{len(stage.answers)}"
    return codes(stage.command("dispatch.change", cmd=cmd, order=order, action=action, **more)[0])


def loaded(stage: Stage, clock: str) -> str | None:
    """The order that the press gets when it is idle at that time."""
    show(stage, clock, mode="IDLE")
    play(stage, dict(DEVICE))
    armed = stage.core.equipment["ACME/HZ/PACK/L1/M1"].orders.memory.armed
    return armed.order if armed is not None else None


def finish(stage: Stage, start: str, end: str) -> None:
    """The order that is loaded runs and ends; then somebody works at the press."""
    show(stage, start, mode="RUN")
    show(stage, end, mode="MAINT")
    stage.command("order.end", cmd=f"E-{end}", eq="M1")
    stage.hear("M1", f"{end[:-2]}30")


# --- the queue -----------------------------------------------------------------------------------------------------


def test_the_next_order_is_the_one_with_the_highest_priority_then_the_earliest_start_then_the_first(
    stage: Stage,
) -> None:
    dispatch(stage, "late", start="2026-03-02T12:00:00Z")
    dispatch(stage, "early", start="2026-03-02T07:00:00Z")
    dispatch(stage, "first")
    stage.now += 1
    dispatch(stage, "second")
    dispatch(stage, "low", prio=49)
    dispatch(stage, "high", prio=51, start="2026-03-02T13:00:00Z")
    got = []
    for hour in range(7, 13):
        got.append(loaded(stage, f"{hour:02}:00:00"))
        finish(stage, f"{hour:02}:10:00", f"{hour:02}:20:00")
    assert got == ["high", "first", "second", "early", "late", "low"]
    assert loaded(stage, "13:00:00") is None


def test_a_new_sequence_survives_a_restart(stage: Stage) -> None:
    dispatch(stage, "1")
    dispatch(stage, "2")
    assert change(stage, "2", "resequence", prio=90) == ()
    stage.kill_and_restart("06:01:00")
    stage.connect("M1", "06:01:00")
    show(stage, "06:01:01", mode="MAINT", **DEVICE)
    assert loaded(stage, "06:02:00") == "2"


def test_an_earlier_start_goes_before(stage: Stage) -> None:
    dispatch(stage, "1", start="2026-03-02T08:00:00Z")
    dispatch(stage, "2", start="2026-03-02T09:00:00Z")
    assert change(stage, "2", "resequence", start="2026-03-02T07:00:00Z") == ()
    assert loaded(stage, "06:02:00") == "2"


ORDERS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3), st.none() | st.integers(0, 5), st.integers(0, 5),
        st.sampled_from(["", "held", "over"]), st.none() | st.sampled_from(["L1", "L2"]),
    ),
    max_size=8,
)  # fmt: skip


_WAITING = (("", None), ("", "L2"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=ORDERS, shuffled=st.randoms())
def test_who_is_next_depends_on_the_record_and_not_on_how_it_came_about(
    stage: Stage, facts: Any, shuffled: Any
) -> None:
    """Held against the whole sorted list, whatever order the commands came in."""
    orders = [
        KnownOrder(str(number), sets={"M1": "PS"}, automatic=["IDLE"], prio=prio, start=start, dispatched=moment,
                   held=how == "held", over=0 if how == "over" else None, lot=lot)
        for number, (prio, start, moment, how, lot) in enumerate(facts)
    ]  # fmt: skip

    def place(order: KnownOrder) -> tuple[int, int, int, str]:
        prio = 50 if order.prio is None else order.prio
        return (-prio, order.dispatched if order.start is None else order.start, order.dispatched, order.order)

    waiting = [order.order for order in sorted(orders, key=place) if facts[int(order.order)][3:] in _WAITING]
    shuffled.shuffle(orders)
    record = SharedRecord(orders={order.order: order for order in orders}, held_lots=["L1"])
    (machine,) = stage.core.equipment.values()
    machine.orders.memory.loaded.clear()
    queue = OrderQueue(record)
    while (following := queue.next_for(machine)) is not None:
        assert following.order == waiting.pop(0)
        machine.orders.memory.loaded.append(following.order)
    assert waiting == []


def test_an_order_that_the_mes_loaded_itself_is_not_loaded_once_more(tmp_path: Path) -> None:
    """The press is told by command when an order begins, so nothing is armed there."""
    stage = press(tmp_path, orders="command")
    release(stage, "A", OVEN)
    assert codes(download(stage, "A", OVEN, order="1")) == ()
    play(stage, dict(DEVICE))
    assert last(stage) == ("ACTIVE", ())
    dispatch(stage, "1")
    dispatch(stage, "2", prio=10)
    show(stage, "06:02:00", mode="IDLE")
    play(stage, dict(DEVICE))
    assert [data["cmd"] for _, data in stage.told("param.result")][1:] == ["auto:2:0010:1"]


# --- changes -------------------------------------------------------------------------------------------------------


def test_an_order_is_cancelled_before_it_starts_and_one_that_is_loaded_is_disarmed(stage: Stage) -> None:
    dispatch(stage, "1")
    dispatch(stage, "2")
    assert change(stage, "2", "cancel") == ()
    assert loaded(stage, "06:02:00") == "1"
    assert change(stage, "1", "cancel") == ()
    stage.kill_and_restart("06:02:30")
    stage.connect("M1", "06:02:30")
    show(stage, "06:02:31", mode="IDLE", **DEVICE)
    show(stage, "06:03:00", mode="RUN")
    assert stage.told("order.started") == []
    assert change(stage, "1", "cancel") == ("unknown_order",)


def test_an_order_that_runs_or_has_run_is_not_cancelled(stage: Stage) -> None:
    dispatch(stage, "1")
    loaded(stage, "06:02:00")
    show(stage, "06:03:00", mode="RUN")
    assert change(stage, "1", "cancel") == ("running",)
    finish(stage, "06:04:00", "06:10:00")
    assert change(stage, "1", "cancel") == ("running",)


def test_an_order_whose_set_goes_down_is_not_cancelled_before_that_has_ended(stage: Stage) -> None:
    dispatch(stage, "1")
    show(stage, "06:02:00", mode="IDLE")
    assert len(stage.operations) == 1
    assert change(stage, "1", "cancel") == ("active_download",)
    play(stage, dict(DEVICE))
    assert change(stage, "1", "cancel") == ()


def test_a_set_that_waits_for_the_permit_ends_with_the_cancellation_of_its_order(tmp_path: Path) -> None:
    stage = press(tmp_path, '      permit: "job==1"\n')
    dispatch(stage, "1", auto_download=None)
    assert codes(download(stage, "A", OVEN, order="1")) == ()
    assert change(stage, "1", "cancel") == ()
    stage.kill_and_restart("06:00:30")
    stage.connect("M1", "06:00:30")
    show(stage, "06:01:00", mode="IDLE", job=1, **DEVICE)
    assert stage.operations == []
    assert last(stage) == ("REJECTED", ("cancelled",))
    assert (stage.answers[-1].answer, stage.answers[-1].final) == ("rejected", True)


@pytest.mark.parametrize("hold", ["order", "lot"])
def test_a_set_that_waits_for_the_permit_waits_on_while_a_hold_lasts(tmp_path: Path, hold: str) -> None:
    stage = press(tmp_path, '      permit: "job==1"\n')
    dispatch(stage, "1", auto_download=None, lot="L1")
    download(stage, "A", OVEN, order="1")
    on, off = ("hold", "resume") if hold == "order" else ("quality.hold", "quality.release")
    for clock, what, operations in (("06:01:00", on, 0), ("06:02:00", off, 1)):
        if hold == "order":
            assert change(stage, "1", what) == ()
        else:
            stage.command(what, cmd=what, scope={"lot": "L1"})
        show(stage, clock, job=1)
        assert len(stage.operations) == operations


def test_a_set_that_waits_for_the_permit_is_not_brought_down_once_another_revision_holds(tmp_path: Path) -> None:
    stage = press(tmp_path, '      permit: "job==1"\n')
    release(stage, "A", OVEN)
    assert codes(download(stage, "A", OVEN, order="1")) == ()
    release(stage, "B", OVEN)
    show(stage, "06:01:00", job=1)
    assert last(stage) == ("REJECTED", ("revision",))
    assert stage.operations == []


def test_an_order_on_hold_is_not_loaded_neither_by_itself_nor_by_command(stage: Stage) -> None:
    dispatch(stage, "1")
    dispatch(stage, "2")
    assert change(stage, "1", "hold") == ()
    assert dispatch(stage, "1", qty=20) == (), "a new dispatch does not end a hold"
    show(stage, "06:01:00", mode="IDLE")
    play(stage, dict(DEVICE))
    assert stage.told("param.result")[-1][1]["cmd"] == "auto:2:0010:1", "the next in the queue goes before"
    assert codes(download(stage, "A", OVEN, order="1")) == ("order_hold",)
    finish(stage, "06:03:00", "06:04:00")
    assert change(stage, "1", "resume") == ()
    assert loaded(stage, "06:05:00") == "1"


def test_a_quantity_moves_while_the_order_runs(stage: Stage) -> None:
    dispatch(stage, "1")
    loaded(stage, "06:02:00")
    show(stage, "06:03:00", mode="RUN")
    assert dispatch(stage, "1", qty=50) == ()
    assert stage.core.equipment["ACME/HZ/PACK/L1/M1"].orders.memory.current.planned == 50
    assert change(stage, "1", "update", qty=77) == ()
    stage.kill_and_restart("06:03:30")
    run = stage.core.equipment["ACME/HZ/PACK/L1/M1"].orders.memory.current
    assert (run.planned, stage.core.memory.record.orders["1"].planned) == (77, 77)
    assert change(stage, "1", "update", lot="L2") == ("running",)
    assert change(stage, "1", "update", lot=None) == ("malformed",)


@pytest.mark.parametrize(
    ("order", "action", "more", "code"),
    [
        ("9", "hold", {}, "unknown_order"),
        ("1", "resequence", {}, "malformed"),
        ("1", "resequence", {"start": "soon"}, "malformed"),
        ("1", "explode", {}, "malformed"),
        ("1", "update", {"qty": 0}, "malformed"),
        ("1", "update", {"qty": 5, "unit": "CS"}, "unit"),
    ],
)
def test_a_change_that_says_nothing_is_refused(stage: Stage, order: str, action: str, more: Any, code: str) -> None:
    dispatch(stage, "1")
    assert change(stage, order, action, **more) == (code,)


def test_a_dispatch_is_refused_whole(stage: Stage) -> None:
    ops = [{"op": "0010", "eq": "M1"}, {"op": "0020", "eq": "M9"}]
    assert dispatch(stage, "1", ops=ops, start="soon") == ("unknown_equipment", "malformed")
    assert stage.core.memory.record.orders == {}


# --- restarts ------------------------------------------------------------------------------------------------------

SCRIPT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("masterdata.sync", {"kind": "unit", "version": 1, "items": [{"unit": "CS", "factor": 20}]}),
    ("params.release", {"sets": [{"set": "PS", "rev": "B", "items": [OVEN]}], "change": "CN-1"}),
    ("dispatch.order", {"order": "1", "qty": 3, "unit": "CS", "lot": "L1", "auto_download": AUTOMATIC,
                        "ops": [{"op": "0010", "eq": "M1", "set": "PS"}]}),
    ("dispatch.order", {"order": "2", "qty": 5, "lot": "L2", "auto_download": AUTOMATIC,
                        "ops": [{"op": "0010", "eq": "M1", "set": "PS"}]}),
    ("change.notice", {"cn": "CN-1", "items": [{"set": "PS", "to": "B"}],
                       "effective": {"mode": "from_lot", "lot": "L2"}}),
    ("quality.hold", {"scope": {"lot": "L1"}}),
    ("dispatch.change", {"order": "2", "action": "resequence", "prio": 90}),
    ("dispatch.change", {"order": "1", "action": "update", "qty": 4, "unit": "CS"}),
    ("quality.release", {"scope": {"lot": "L1"}}),
    ("dispatch.change", {"order": "1", "action": "hold"}),
)  # fmt: skip


def test_a_restart_between_every_two_commands_changes_nothing(tmp_path: Path) -> None:
    ends = []
    for restarts in (False, True):
        folder = tmp_path / str(restarts)
        folder.mkdir()
        stage = press(folder)
        show(stage, "06:00:02", mode="MAINT")
        release(stage, "A", OVEN)
        for number, (kind, body) in enumerate(SCRIPT):
            stage.now = at(f"06:{number:02}:30")
            if restarts:
                stage.kill_and_restart(f"06:{number:02}:30")
                stage.connect("M1")
                show(stage, f"06:{number:02}:30", mode="MAINT", **DEVICE)
            assert stage.command(kind, cmd=f"S-{number}", **body)[0].answer == "done"
        ends.append((stage.core.memory.record, loaded(stage, "06:30:00"), last(stage), stage.told("change.applied")))
    assert ends[0] == ends[1]
    record, order, result, applied = ends[1]
    assert (order, result, record.orders["1"].planned) == ("2", ("ACTIVE", ()), 80)
    assert [data["rev"] for _, data in applied] == ["B"]
