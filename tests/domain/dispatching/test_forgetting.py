"""What is over is forgotten after a week, and what is still needed never is: the record does not grow for ever."""

import pytest

from gateway.domain.contract.requests import ParameterItem
from gateway.domain.dispatching.forgetting import KEPT, LONGEST_WAIT
from gateway.domain.dispatching.parameters import Notice, ParameterLibrary
from tests.stage import LINE, Stage

DAY = 86_400_000
HOUR = 3_600_000
PALLETISER = f"{LINE}/PAL01"


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.start_line()
    return stage


def dispatch(stage: Stage, order: str, *units: str) -> None:
    ops = [{"op": "0010", "eq": unit} for unit in units]
    (answer,) = stage.command("dispatch.order", cmd=f"D-{order}-{stage.now}", order=order, qty=100, ops=ops)
    assert answer.answer == "done"


def run_on_palletiser(stage: Stage, order: str) -> None:
    """It begins and ends there within ten minutes."""
    stage.show("SCADA", "06:10:00", current_order=order)
    stage.show("SCADA", "06:20:00", current_order="")
    stage.hear("SCADA", "06:20:30")


def known(stage: Stage) -> list[str]:
    return list(stage.core.memory.record.orders)


def test_an_order_that_ran_is_known_for_seven_days_and_then_forgotten(stage: Stage) -> None:
    dispatch(stage, "4711", "PAL01")
    run_on_palletiser(stage, "4711")
    dispatch(stage, "4712", "PAL01")
    over = stage.now
    stage.now = over + KEPT
    dispatch(stage, "4713", "PAL01")
    assert known(stage) == ["4711", "4712", "4713"]
    stage.now = over + KEPT + 1
    dispatch(stage, "4714", "PAL01")
    assert known(stage) == ["4712", "4713", "4714"], "those did not run yet"


def test_an_order_that_still_has_to_run_elsewhere_is_kept_for_a_year(stage: Stage) -> None:
    dispatch(stage, "4711", "PAL01", "LBL01")
    dispatched = stage.now
    run_on_palletiser(stage, "4711")
    stage.now = dispatched + LONGEST_WAIT
    dispatch(stage, "4712", "PAL01")
    assert known(stage) == ["4711", "4712"]
    stage.now += 1
    dispatch(stage, "4713", "PAL01")
    assert known(stage) == ["4712", "4713"]


def test_an_order_that_runs_again_is_not_over(stage: Stage) -> None:
    dispatch(stage, "4711", "PAL01")
    run_on_palletiser(stage, "4711")
    dispatch(stage, "4712", "PAL01")
    stage.show("SCADA", "07:00:00", current_order="4711")
    stage.now += LONGEST_WAIT + DAY
    dispatch(stage, "4713", "PAL01")
    assert known(stage) == ["4711", "4713"], "4712 never ran"
    assert stage.core.equipment[PALLETISER].memory.production.order.current.number == 2


def test_after_a_hundred_days_of_ten_orders_the_record_is_no_larger_than_after_two_weeks(stage: Stage) -> None:
    def work(days: int, first: int) -> int:
        for number in range(first, first + 10 * days):
            stage.now += DAY // 10
            dispatch(stage, f"{number:06}", "PAL01")
            stage.core.equipment[PALLETISER].orders.memory.numbers = {f"{number:06}|0010": 1}  # it ran
        return len(stage.checkpoints["gateway"])

    after_two_weeks = work(14, 0)
    assert work(86, 140) == pytest.approx(after_two_weeks, rel=0.01)


ITEMS = (ParameterItem(name="speed", value=1.0),)


@pytest.fixture
def library() -> ParameterLibrary:
    made = ParameterLibrary()
    made.release("PS", "A", ITEMS, 0, at_once=True)
    return made


def revisions(library: ParameterLibrary) -> list[str]:
    return sorted(library.items["PS"])


def test_a_replaced_revision_is_forgotten_a_week_later_unless_a_machine_holds_it(library: ParameterLibrary) -> None:
    library.release("PS", "B", ITEMS, HOUR, at_once=True)
    for now, in_use, left in (
        (HOUR + KEPT, set(), ["A", "B"]),
        (HOUR + KEPT + 1, {("PS", "A")}, ["A", "B"]),
        (HOUR + KEPT + 1, set(), ["B"]),
        (100 * KEPT, set(), ["B"]),
    ):
        library.forget(in_use, now, now - KEPT)
        assert revisions(library) == left


def test_a_notice_goes_with_its_last_revision_and_one_to_come_holds_its_own(library: ParameterLibrary) -> None:
    library.release("PS", "B", ITEMS, HOUR, at_once=False)
    library.release("PS", "C", ITEMS, HOUR, at_once=False)
    library.notices += [Notice("CN-1", 2 * HOUR, {"PS": "B"}), Notice("CN-2", 4 * KEPT, {"PS": "C"})]
    library.forget(set(), 2 * KEPT, KEPT)
    assert (revisions(library), library.revision("PS", 2 * KEPT)) == (["B", "C"], "B")
    library.forget(set(), 6 * KEPT, 5 * KEPT)
    assert (revisions(library), library.revision("PS", 6 * KEPT)) == (["C"], "C")
    assert [notice.cn for notice in library.notices] == ["CN-2"]


def test_a_revision_that_a_notice_brings_back_is_kept_until_then(library: ParameterLibrary) -> None:
    library.release("PS", "B", ITEMS, HOUR, at_once=True)
    library.accept(Notice("CN-1", 9 * KEPT, {"PS": "A"}))
    library.forget(set(), 8 * KEPT, 7 * KEPT)
    assert revisions(library) == ["A", "B"]
    assert library.revision("PS", 9 * KEPT) == "A"


def test_a_notice_that_is_overtaken_before_its_orders_are_over_changes_nothing_later(library: ParameterLibrary) -> None:
    library.release("PS", "B", ITEMS, HOUR, at_once=False)
    library.accept(Notice("CN-1", 2 * HOUR, {"PS": "B"}, begun=["4711"]))
    library.release("PS", "C", ITEMS, 3 * HOUR, at_once=True)
    library.notices[0].begun.clear()  # that order is forgotten
    library.forget(set(), 4 * HOUR, 0)
    assert library.revision("PS", 4 * HOUR) == "C"
    library.forget(set(), 2 * KEPT, KEPT)
    assert (revisions(library), library.notices) == (["C"], [])


def test_a_change_of_the_next_order_is_settled_when_the_orders_that_it_spared_are_forgotten(stage: Stage) -> None:
    items = [{"name": "oven_sp", "value": 175.0}]
    for cmd, rev, change in (("R-1", "A", None), ("R-2", "B", "CN-1")):
        stage.command("params.release", cmd=cmd, change=change, sets=[{"set": "PS", "rev": rev, "items": items}])
    dispatch(stage, "4711", "PAL01", "LBL01")
    run_on_palletiser(stage, "4711")
    sets, effective = [{"set": "PS", "to": "B"}], {"mode": "next_order"}
    stage.command("change.notice", cmd="N-1", cn="CN-1", items=sets, effective=effective)
    library = stage.core.memory.record.library
    assert (library.notices[0].begun, library.current["PS"]) == (["4711"], "A")
    assert [library.revision("PS", stage.now, order) for order in ("4711", "4712")] == ["A", "B"]
    stage.now += LONGEST_WAIT + 1
    dispatch(stage, "4712", "PAL01")
    dispatch(stage, "4713", "PAL01")
    assert (library.current["PS"], library.revision("PS", stage.now, "4711")) == ("B", "B")


def test_a_revision_that_is_current_again_is_kept(library: ParameterLibrary) -> None:
    library.release("PS", "B", ITEMS, HOUR, at_once=True)
    library.release("PS", "A", ITEMS, 2 * HOUR, at_once=True)
    library.forget(set(), 2 * KEPT, KEPT)
    assert (revisions(library), library.revision("PS", 2 * KEPT)) == (["A"], "A")


def test_what_is_released_at_once_behind_an_effective_notice_is_current_at_once(library: ParameterLibrary) -> None:
    library.release("PS", "B", ITEMS, HOUR, at_once=False)
    library.notices.append(Notice("CN-1", 2 * HOUR, {"PS": "B"}))
    library.release("PS", "C", ITEMS, 3 * HOUR, at_once=True)
    assert [library.revision("PS", at) for at in (3 * HOUR, 9 * HOUR)] == ["C", "C"]
    assert library.notice_of("PS", "B", 3 * HOUR) is not None, "who still runs B was told by it"


def test_the_id_of_a_command_is_known_for_seven_days(stage: Stage) -> None:
    begun = stage.now
    arrival = {"material": "P-500", "eta": "2026-03-02T12:00:00Z"}
    assert stage.command("material.arrival", cmd="A-1", **arrival)[0].at == begun
    stage.now = begun + KEPT
    stage.command("material.arrival", cmd="A-2", **arrival)
    assert stage.command("material.arrival", cmd="A-1", **arrival)[0].at == begun, "the stored answer, and no other"
    stage.now = begun + KEPT + 1
    stage.command("material.arrival", cmd="A-3", **arrival)
    assert stage.command("material.arrival", cmd="A-1", **arrival)[0].at == stage.now
