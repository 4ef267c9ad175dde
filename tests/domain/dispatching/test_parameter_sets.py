"""Parameter sets: what is wrong with one is told at its release, and a download brings nothing but what is released."""

from pathlib import Path
from typing import Any

import pytest

from tests.domain.press import DEVICE, codes, digest, download, item, last, play, press, release, show
from tests.stage import Stage

OVEN, BELT = item("oven", 150, min=140, max=160), item("belt", 240)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return press(tmp_path)


# --- the release ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "code", "says"),
    [
        ([], "no_items", "PS A has no items"),
        ([OVEN, OVEN], "duplicate", "PS A has oven 2 times"),
        ([item("oven", 150, min=151, max=160)], "limit", "PS A oven = 150 is outside its own limits 151.0 to 160.0"),
        ([item("oven", 150, max=149)], "limit", "outside its own limits None to 149.0"),
        ([{**OVEN, "class": "silver"}], "class", "'silver' is not one of golden, trim, constant, order"),
        ([item("oven", None)], "type", "PS A oven: None is no value that a machine can take"),
        ([item("oven", 1e30)], "type", "is no value that a machine can take"),
    ],
)
def test_a_set_that_is_wrong_is_refused_at_its_release_and_nothing_of_it_is_kept(
    stage: Stage, items: list[dict[str, Any]], code: str, says: str
) -> None:
    good = {"set": "PS-2", "rev": "A", "items": [OVEN]}
    (answer,) = stage.command("params.release", cmd="R-1", sets=[good, {"set": "PS", "rev": "A", "items": items}])
    assert (answer.answer, answer.codes) == ("rejected", (code,))
    assert says in answer.detail[0]
    assert stage.core.memory.record.library.items == {}, "not even the good one"


@pytest.mark.parametrize("kind", ["params.release", "params.download"])
def test_a_hash_that_is_not_that_of_the_items_is_refused_and_the_right_one_is_taken(stage: Stage, kind: str) -> None:
    items = [item("oven", 150.0, unit=None), BELT]
    for number, (told, want) in enumerate(((digest(items), ()), (digest(items[::-1]), ("hash",)), ("", ("hash",)))):
        one = {"set": "PS", "rev": "A", "items": items, "hash": told}
        body = {"sets": [one]} if kind == "params.release" else {"eq": "M1", **one}
        (answer,) = stage.command(kind, cmd=f"H-{number}", **body)
        assert answer.codes == want
        play(stage, dict(DEVICE))
    assert list(stage.core.memory.record.library.items) == (["PS"] if kind == "params.release" else [])


def test_a_revision_may_be_released_again_but_not_with_other_items(stage: Stage) -> None:
    assert codes(release(stage, "A", OVEN, BELT)) == ()
    assert codes(release(stage, "A", BELT, OVEN)) == (), "the same ones, in whatever order"
    assert codes(release(stage, "A", OVEN, item("belt", 241))) == ("revision_exists",)
    assert codes(download(stage, "A", OVEN, BELT)) == ()


def test_a_revision_that_stands_twice_in_a_release_must_be_the_same_twice(stage: Stage) -> None:
    one, other = ({"set": "PS", "rev": "A", "items": [found]} for found in (OVEN, BELT))
    for sets, want in (([one, other], ("revision_exists",)), ([one, one], ())):
        assert stage.command("params.release", cmd=f"R-{len(stage.answers)}", sets=sets)[0].codes == want


def test_a_release_without_sets_says_so(stage: Stage) -> None:
    assert stage.command("params.release", cmd="R-0", sets=[])[0].codes == ("no_sets",)


# --- the download --------------------------------------------------------------------------------------------------


def test_a_download_brings_the_items_of_its_released_revision_and_no_others(stage: Stage) -> None:
    release(stage, "A", OVEN, BELT)
    for items, want in (
        ([OVEN, item("belt", 241)], ("items",)),
        ([OVEN], ("items",)),
        ([OVEN, BELT, item("gain", 4)], ("items",)),
        ([item("oven", 150, unit="Cel"), BELT], ()),
        ([item("oven", 161), BELT], ("limit",)),
        ([item("oven", 139), BELT], ("limit",)),
        ([OVEN, BELT, BELT], ("duplicate",)),
    ):
        assert codes(download(stage, "A", *items)) == want, items
        play(stage, dict(DEVICE))


def test_a_trim_may_be_brought_with_another_value_within_its_band(stage: Stage) -> None:
    release(stage, "A", OVEN, BELT)
    assert codes(download(stage, "A", item("oven", 160), BELT)) == ()
    assert play(stage, dict(DEVICE)) == [{"oven": 160, "belt": 240}]


def test_a_unit_that_is_not_the_released_one_is_refused(stage: Stage) -> None:
    release(stage, "A", item("oven", 150, unit="Cel"), BELT)
    assert codes(download(stage, "A", item("oven", 150, unit="K"), BELT)) == ("items",)


def test_a_revision_that_does_not_hold_is_refused_and_the_one_that_does_is_named(stage: Stage) -> None:
    release(stage, "A", OVEN, BELT)
    release(stage, "B", OVEN, item("belt", 250))
    release(stage, "C", OVEN, item("belt", 260), change="CN-1")
    assert codes(download(stage, "B", OVEN, item("belt", 250))) == ()
    play(stage, dict(DEVICE))
    for rev, belt, says in (
        ("A", 240, "PS A does not hold now for this order; revision B does"),
        ("C", 260, "revision B does"),
        ("Z", 240, "PS Z was never released here; revision B holds"),
    ):
        answer = download(stage, rev, OVEN, item("belt", belt))
        assert answer.codes[:1] == ("revision",)
        assert says in answer.detail[0]


def test_a_set_that_was_never_released_here_is_taken_unless_the_yaml_wants_released_ones_only(tmp_path: Path) -> None:
    for folder, more, want in (("a", "", ()), ("b", "      released_only: true\n", ("not_released",))):
        (tmp_path / folder).mkdir()
        assert codes(download(press(tmp_path / folder, more), "A", OVEN)) == want


def test_the_order_that_runs_keeps_its_revision_and_the_next_one_does_not_get_it(stage: Stage) -> None:
    release(stage, "A", OVEN, BELT)
    for order, clock in (("4711", "06:01:00"), ("4712", "06:20:00")):
        rev = "A" if order == "4711" else "B"
        assert codes(download(stage, rev, OVEN, BELT, order=order)) == ()
        play(stage, dict(DEVICE))
        show(stage, clock, mode="RUN")
        if order == "4711":
            release(stage, "B", OVEN, BELT)
            assert codes(download(stage, "A", OVEN, BELT, order="4711")) == (), "it runs with that one"
            play(stage, dict(DEVICE))
            assert codes(download(stage, "A", OVEN, BELT, order="4712")) == ("revision",)
            show(stage, "06:10:00", mode="IDLE")
            stage.command("order.end", cmd="E-1", eq="M1")
            stage.hear("M1", "06:10:10")


def test_what_the_command_leaves_out_is_as_it_was_released(stage: Stage) -> None:
    release(stage, "A", {**OVEN, "unit": "Cel"}, {**BELT, "max": 300})
    download(stage, "A", item("oven", 150), BELT)
    memory = stage.core.equipment["ACME/HZ/PACK/L1/M1"].memory
    assert memory.download.limits == {"oven": (140, 160), "belt": (None, 300)}
    play(stage, dict(DEVICE))
    assert memory.production.usage.limits["oven"] == (140, 160), "samples are judged by them"


def test_a_released_unit_that_is_not_the_machines_is_refused_though_the_command_names_none() -> None:
    stage = Stage()
    stage.start_line()
    items = [item("oven_sp", 175, unit="K")]
    stage.command("params.release", cmd="R-1", sets=[{"set": "PS", "rev": "A", "items": items}])
    stage.show("LBL01", "06:06:30", word=0b10100000)
    (answer,) = stage.command("params.download", cmd="C-1", eq="LBL01", set="PS", rev="A", items=[item("oven_sp", 175)])
    assert answer.codes == ("unit",)


def test_an_order_that_is_dispatched_elsewhere_gets_no_set_here() -> None:
    stage = Stage()
    stage.start_line()
    ops = [{"op": "0010", "eq": "FIL01"}]
    stage.command("dispatch.order", cmd="D-1", order="4711", qty=10, ops=ops)
    stage.show("LBL01", "06:06:30", word=0b10100000)
    body = {"eq": "LBL01", "set": "PS", "rev": "A", "items": [item("oven_sp", 175)], "order": "4711"}
    (answer,) = stage.command("params.download", cmd="C-1", **body)
    assert answer.codes == ("order",)
    assert answer.detail == ("4711 is dispatched to FIL01, not to LBL01",)


# --- classes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "by", "want"),
    [
        ("oven", "RUN", None, "ACTIVE"),
        ("oven", "MAINT", None, "ACTIVE"),
        ("belt", "SETUP", None, "ACTIVE"),
        ("belt", "RUN", None, "state"),
        ("belt", "MAINT", None, "state"),
        ("gain", "MAINT", "maint3", "ACTIVE"),
        ("gain", "MAINT", " ", "by"),
        ("gain", "MAINT", None, "by"),
        ("gain", "IDLE", "maint3", "state"),
        ("best", "IDLE", None, "ACTIVE"),
        ("best", "RUN", None, "state"),
    ],
)
def test_who_may_change_what_and_when(stage: Stage, name: str, state: str, by: str | None, want: str) -> None:
    stage.command("dispatch.order", cmd="D-1", order="4711", qty=10, ops=[{"op": "0010", "eq": "M1"}])
    show(stage, "06:01:00", mode=state)
    download(stage, "A", item(name, DEVICE[name] + 1), order="4711", by=by)
    written = play(stage, dict(DEVICE))
    assert last(stage) == (("ACTIVE", ()) if want == "ACTIVE" else ("REJECTED", (want,)))
    assert bool(written) is (want == "ACTIVE")


def test_what_the_machine_holds_already_comes_along_in_any_state(stage: Stage) -> None:
    show(stage, "06:01:00", mode="RUN")
    download(stage, "A", item("oven", 155), item("belt", 240), item("gain", 4))
    play(stage, dict(DEVICE))
    assert last(stage) == ("ACTIVE", ())


@pytest.mark.parametrize(("of_item", "want"), [("trim", "state"), ("golden", "state"), ("constant", "state")])
def test_a_class_of_the_set_opens_nothing_that_the_yaml_closes(stage: Stage, of_item: str, want: str) -> None:
    show(stage, "06:01:00", mode="RUN")
    download(stage, "A", {**item("belt", 300), "class": of_item})
    play(stage, dict(DEVICE))
    assert last(stage) == ("REJECTED", (want,))


def test_a_class_of_the_set_closes_what_the_yaml_opens(stage: Stage) -> None:
    release(stage, "A", {**OVEN, "class": "golden"})
    show(stage, "06:01:00", mode="RUN")
    assert codes(download(stage, "A", item("oven", 151))) == ("items",)
    download(stage, "A", {**OVEN, "class": "trim"})
    play(stage, {**DEVICE, "oven": 149})
    assert last(stage) == ("REJECTED", ("state",)), "the class is that of the release, whatever the command says"


def test_a_constant_is_what_its_revision_says_whoever_brings_it(stage: Stage) -> None:
    release(stage, "A", item("gain", 5))
    show(stage, "06:01:00", mode="MAINT")
    assert codes(download(stage, "A", item("gain", 6), by="maint3")) == ("items",)
    assert codes(download(stage, "A", item("gain", 5), by="maint3")) == ()
    assert play(stage, dict(DEVICE)) == [{"gain": 5}]


def test_order_data_need_an_order_that_is_dispatched_here(stage: Stage) -> None:
    assert codes(download(stage, "A", item("best", 7))) == ("order",)
    assert codes(download(stage, "A", item("best", 7), order="4711")) == ("order",)
    stage.command("dispatch.order", cmd="D-1", order="4711", qty=10, ops=[{"op": "0010", "eq": "M1"}])
    assert codes(download(stage, "A", item("best", 7), order="4711")) == ()
    play(stage, dict(DEVICE))
    assert last(stage) == ("ACTIVE", ())


# --- adjusting -----------------------------------------------------------------------------------------------------


def adjust(stage: Stage, *items: dict[str, Any], by: str = "proc2", **more: Any) -> tuple[str, ...]:
    return codes(stage.command("params.adjust", cmd=f"A-{len(stage.answers)}", eq="M1", items=items, by=by, **more)[0])


def test_a_trim_of_the_active_set_is_adjusted_while_the_machine_runs_and_the_set_stays_what_it_is(stage: Stage) -> None:
    release(stage, "A", OVEN, BELT)
    assert adjust(stage, item("oven", 155)) == ("no_active_set",)
    download(stage, "A", OVEN, BELT, order="4711")
    play(stage, device := dict(DEVICE))
    show(stage, "06:01:00", mode="RUN")
    assert adjust(stage, item("oven", 155), order="4711") == ()
    assert [operation.purpose.by for operation in stage.operations if operation.writes] == []
    stage.answer_operation(reads=device)
    assert stage.operations[0].purpose.by == "proc2", "the audit says who"
    assert play(stage, device) == [{"oven": 155}]
    _, result = stage.told("param.result")[-1]
    assert (result["set"], result["rev"], result["result"]) == ("PS", "A", "ACTIVE")
    assert stage.retained["ACME/HZ/PACK/L1/M1", "params"] == {
        "set": "PS",
        "rev": "A",
        "items": {"oven": 155, "belt": 240},
    }
    assert [(a.type, a.answer) for a in stage.answers[-2:]] == [
        ("params.adjust", "accepted"),
        ("params.adjust", "done"),
    ]


def test_a_set_that_was_brought_down_for_no_order_is_active_all_the_same(stage: Stage) -> None:
    download(stage, "A", OVEN, BELT)
    play(stage, dict(DEVICE))
    assert adjust(stage, item("oven", 155)) == ()


def test_only_trims_are_adjusted_and_within_both_bands(stage: Stage) -> None:
    release(stage, "A", OVEN, BELT)
    download(stage, "A", OVEN, BELT, order="4711")
    play(stage, dict(DEVICE))
    for one, want in (
        (item("oven", 161), ("limit",)),
        (item("belt", 240), ("class",)),
        (item("gain", 4), ("class", "items")),
    ):
        assert adjust(stage, one) == want, one
    assert adjust(stage, item("oven", 155), order="4712") == ("order",)
    assert adjust(stage, item("oven", 155), order="4711") == (), "it is loaded and will start"
    play(stage, dict(DEVICE))
    assert adjust(stage, item("oven", 155), by=" ") == ("malformed",)


# --- what the machine shows ----------------------------------------------------------------------------------------


def test_a_machine_that_shows_another_order_takes_no_set_for_this_one(tmp_path: Path) -> None:
    stage = press(tmp_path, "      order_tag: job\n")
    show(stage, "06:01:00", job=4711)
    assert codes(download(stage, "A", OVEN, order="4712")) == ("order",)
    assert codes(download(stage, "A", OVEN)) == ("order",)
    assert codes(download(stage, "A", OVEN, order="4711")) == ()
    play(stage, dict(DEVICE))
    show(stage, "06:02:00", job=0)
    assert codes(download(stage, "A", OVEN, order="4712")) == (), "it shows none"


def test_a_set_needs_the_format_that_the_yaml_names_for_it(tmp_path: Path) -> None:
    stage = press(tmp_path, "      format: {tag: format, sets: {PS: 3}}\n")
    assert codes(download(stage, "A", OVEN)) == ("format",)
    show(stage, "06:01:00", format=3)
    assert codes(download(stage, "A", OVEN)) == ()
    play(stage, dict(DEVICE))
    assert codes(download(stage, "A", OVEN, set="PS-9")) == ("format",), "nobody said which it needs"


def test_a_machine_whose_program_stands_still_takes_no_set(stage: Stage) -> None:
    show(stage, "06:00:05")
    stage.beating = False
    stage.hear("M1", "06:00:11")
    assert codes(download(stage, "A", OVEN)) == ()
    play(stage, dict(DEVICE))
    stage.hear("M1", "06:00:12")
    answer = download(stage, "A", OVEN)
    assert answer.codes == ("heartbeat",)
    assert answer.detail == ("heartbeat stands still: the program of M1 does not run",)
