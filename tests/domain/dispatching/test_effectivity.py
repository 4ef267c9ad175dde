"""Which revision of a set holds for an order: by releases, notices and their moments, over any restart."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.contract.requests import ParameterItem
from gateway.domain.dispatching.parameters import Notice, ParameterLibrary
from tests.domain.press import DEVICE, codes, download, item, last, play, press, release, show
from tests.stage import Stage

OVEN = item("oven", 150)


def notice(stage: Stage, cn: str, rev: str, **effective: Any) -> tuple[str, ...]:
    items = [{"set": "PS", "to": rev}]
    cmd = f"N-{len(stage.answers)}"
    return codes(stage.command("change.notice", cmd=cmd, cn=cn, items=items, effective=effective)[0])


def load(stage: Stage, order: str, rev: str) -> tuple[str, ...]:
    """The MES brings a revision down for an order; why it is refused, or nothing."""
    refused = codes(download(stage, rev, OVEN, order=order))
    play(stage, dict(DEVICE))
    return refused


def dispatch(stage: Stage, order: str, **more: Any) -> None:
    ops = [{"op": "0010", "eq": "M1", "set": "PS"}]
    body = {"cmd": f"D-{len(stage.answers)}", "order": order, "qty": 10, "ops": ops, **more}
    assert stage.command("dispatch.order", **body)[0].answer == "done"


def run(stage: Stage, start: str, end: str) -> None:
    """The order that is loaded runs and ends."""
    show(stage, start, mode="RUN")
    show(stage, end, mode="IDLE")
    stage.command("order.end", cmd=f"E-{end}", eq="M1")
    stage.hear("M1", f"{end[:-2]}30")


def told(stage: Stage, kind: str) -> list[dict[str, Any]]:
    return [data for _, data in stage.told(kind)]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Revision A holds; B is announced with a change."""
    stage = press(tmp_path)
    release(stage, "A", OVEN)
    release(stage, "B", OVEN, change="CN-1")
    return stage


def test_a_change_holds_from_its_moment_on_and_the_old_revision_is_refused_then(stage: Stage) -> None:
    assert notice(stage, "CN-1", "B", mode="at_time", t="2026-03-02T06:30:00Z") == ()
    assert (load(stage, "1", "B"), load(stage, "1", "A")) == (("revision",), ())
    run(stage, "06:11:00", "06:20:00")
    show(stage, "06:29:59.999")
    assert load(stage, "2", "B") == ("revision",)
    show(stage, "06:30:00")
    assert (load(stage, "2", "A"), load(stage, "2", "B")) == (("revision",), ())
    assert told(stage, "change.applied") == [{"cn": "CN-1", "set": "PS", "rev": "B", "order": "2"}]


def test_a_change_of_the_next_order_spares_every_order_that_has_begun(stage: Stage) -> None:
    dispatch(stage, "1")
    assert load(stage, "1", "A") == ()
    assert notice(stage, "CN-1", "B", mode="next_order") == ()
    assert load(stage, "1", "B") == ("revision",), "it is loaded, so it has begun"
    assert load(stage, "1", "A") == ()
    run(stage, "06:10:00", "06:20:00")
    stage.kill_and_restart("06:21:00")
    stage.connect("M1", "06:21:00")
    show(stage, "06:21:01", mode="IDLE", **DEVICE)
    assert (load(stage, "2", "A"), load(stage, "2", "B")) == (("revision",), ())


def test_a_change_from_a_lot_waits_for_the_first_order_of_that_lot_and_stays(stage: Stage) -> None:
    for order, lot in (("1", "L1"), ("2", "L2"), ("3", "L3")):
        dispatch(stage, order, lot=lot)
    assert notice(stage, "CN-1", "B", mode="from_lot", lot="L2") == ()
    assert (load(stage, "1", "B"), load(stage, "1", "A")) == (("revision",), ())
    run(stage, "06:10:00", "06:20:00")
    assert load(stage, "3", "A") == (), "the lot has not come yet"
    run(stage, "06:21:00", "06:25:00")
    assert (load(stage, "2", "A"), load(stage, "2", "B"), load(stage, "2", "A")) == (("revision",), (), ("revision",))
    run(stage, "06:30:00", "06:40:00")
    dispatch(stage, "4", lot="L4")
    assert (load(stage, "4", "A"), load(stage, "4", "B")) == (("revision",), ())
    assert [data["order"] for data in told(stage, "change.applied")] == ["2", "4"]


def test_an_order_that_began_before_a_lot_keeps_its_revision_when_the_lot_comes(stage: Stage) -> None:
    for order, lot in (("1", "L1"), ("2", "L2")):
        dispatch(stage, order, lot=lot)
    notice(stage, "CN-1", "B", mode="from_lot", lot="L2")
    load(stage, "1", "A")
    run(stage, "06:10:00", "06:20:00")
    assert load(stage, "2", "B") == ()
    run(stage, "06:30:00", "06:40:00")
    dispatch(stage, "1", lot="L1")
    assert (load(stage, "1", "B"), load(stage, "1", "A")) == (("revision",), ()), "it goes on as it began"


@pytest.mark.parametrize("when", ["runs", "is being loaded"])
def test_an_order_of_which_no_dispatch_came_has_begun_too(stage: Stage, when: str) -> None:
    assert codes(download(stage, "A", OVEN, order="9")) == ()
    if when == "runs":
        play(stage, dict(DEVICE))
        show(stage, "06:10:00", mode="RUN")
    assert notice(stage, "CN-1", "B", mode="next_order") == ()
    dispatch(stage, "other")
    play(stage, dict(DEVICE))
    if when == "runs":
        show(stage, "06:11:00", mode="IDLE")
    assert load(stage, "9", "B") == ("revision",)
    assert load(stage, "9", "A") == ()


def test_a_notice_of_the_same_name_with_another_moment_is_refused(stage: Stage) -> None:
    assert notice(stage, "CN-1", "B", mode="at_time", t="2026-03-02T09:00:00Z") == ()
    assert notice(stage, "CN-1", "B", mode="at_time", t="2026-03-02T09:00:00Z") == ()
    assert notice(stage, "CN-1", "B", mode="at_time", t="2026-03-02T09:00:01Z") == ("notice_exists",)


def test_two_notices_of_one_set_are_applied_by_their_moments_and_the_later_one_is_told(stage: Stage) -> None:
    release(stage, "C", OVEN, change="CN-2")
    notice(stage, "CN-2", "C", mode="at_time", t="2026-03-02T06:40:00Z")
    notice(stage, "CN-1", "B", mode="at_time", t="2026-03-02T06:30:00Z")
    notice(stage, "CN-3", "C", mode="at_time", t="2026-03-02T06:50:00Z")
    show(stage, "06:55:00")
    assert (load(stage, "1", "B"), load(stage, "1", "C")) == (("revision",), ())
    assert [data["cn"] for data in told(stage, "change.applied")] == ["CN-3"]


def test_a_notice_is_accepted_once_however_often_it_comes(stage: Stage) -> None:
    for effective in ({"mode": "immediate"}, {"mode": "immediate"}):
        assert notice(stage, "CN-1", "B", **effective) == ()
        show(stage, f"06:0{len(stage.answers)}:00")
    assert told(stage, "change.accepted") == [{"cn": "CN-1"}]
    assert notice(stage, "CN-1", "A") == ("notice_exists",)
    assert notice(stage, "CN-1", "B", mode="from_lot", lot="L2") == ("notice_exists",)


def test_a_change_is_applied_once_per_order(stage: Stage) -> None:
    notice(stage, "CN-1", "B")
    for _ in range(2):
        assert load(stage, "1", "B") == ()
    assert [data["order"] for data in told(stage, "change.applied")] == ["1"]


@pytest.mark.parametrize(
    ("effective", "code"),
    [
        ({"mode": "from_serial"}, "effectivity"),
        ({"mode": "cancel"}, "effectivity"),
        ({"mode": "at_time"}, "effectivity"),
        ({"mode": "from_lot"}, "effectivity"),
        ({"mode": "at_time", "t": "tomorrow"}, "malformed"),
    ],
)
def test_a_notice_that_says_no_moment_is_refused_and_not_kept(
    stage: Stage, effective: dict[str, str], code: str
) -> None:
    assert notice(stage, "CN-1", "B", **effective) == (code,)
    assert stage.core.memory.record.library.notices == []
    assert told(stage, "change.accepted") == []


def test_a_notice_of_what_nobody_released_is_refused(stage: Stage) -> None:
    assert notice(stage, "CN-1", "Z") == ("not_released",)
    assert stage.command("change.notice", cmd="N-0", cn="CN-2", items=[])[0].codes == ("no_items",)


def test_the_automatic_download_takes_the_revision_of_its_order(stage: Stage) -> None:
    dispatch(stage, "1", auto_download={"when": ["IDLE"]})
    show(stage, "06:01:00")
    play(stage, dict(DEVICE))
    notice(stage, "CN-1", "B", mode="next_order")
    run(stage, "06:10:00", "06:20:00")
    dispatch(stage, "2", auto_download={"when": ["IDLE"]})
    show(stage, "06:21:00")
    play(stage, dict(DEVICE))
    results = told(stage, "param.result")
    assert [(data["cmd"], data["rev"]) for data in results] == [("auto:1:0010:1", "A"), ("auto:2:0010:1", "B")]
    assert last(stage) == ("ACTIVE", ())


# --- any interleaving ----------------------------------------------------------------------------------------------


@dataclass
class Reference:
    """Everything that ever became effective, in a list; the latest that applies holds."""

    entries: list[tuple[int, int, str, frozenset[str], str | None]] = field(default_factory=list)

    def add(self, moment: int, rev: str, begun: frozenset[str] = frozenset(), lot: str | None = None) -> None:
        self.entries.append((moment, len(self.entries), rev, begun, lot))

    def revision(self, now: int, order: str, lot: str) -> str | None:
        holding = [
            (now if only is not None else moment, number, rev)
            for moment, number, rev, begun, only in self.entries
            if (lot == only if only is not None else moment <= now and order not in begun)
        ]
        return max(holding)[2] if holding else None


ORDERS = ("1", "2", "3")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["release", "at_time", "next_order", "from_lot", "restart", "forget", "wait"]),
        st.sampled_from("ABCD"),
        st.integers(-20, 40),
        st.frozensets(st.sampled_from(ORDERS), max_size=2),
    ),
    max_size=14,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_interleaving_of_releases_notices_and_restarts_leaves_the_revision_that_plain_reckoning_finds(
    steps: list[tuple[str, str, int, frozenset[str]]],
) -> None:
    library, plain, now = ParameterLibrary(), Reference(), 1_000
    library.items["PS"] = {rev: (ParameterItem(name="oven", value=1),) for rev in "ABCD"}
    for step, rev, moment, begun in steps:
        match step:
            case "release":
                library.release("PS", rev, library.items["PS"][rev], now, at_once=True)
                plain.add(now, rev)
            case "at_time":
                library.accept(Notice(f"CN-{now}", now + moment, {"PS": rev}))
                plain.add(now + moment, rev)
            case "next_order":
                library.accept(Notice(f"CN-{now}", now, {"PS": rev}, begun=sorted(begun)))
                plain.add(now, rev, begun)
            case "from_lot":
                library.accept(Notice(f"CN-{now}", None, {"PS": rev}, lot=f"L{moment % 3 + 1}"))
                plain.add(0, rev, lot=f"L{moment % 3 + 1}")
            case "restart":
                library = msgspec.json.decode(msgspec.json.encode(library), type=ParameterLibrary)
            case "forget":
                library.forget(set(), now, now - 1_000_000)
            case "wait":
                now += 10
        for order in ORDERS:
            got = library.revision("PS", now, order, f"L{order}")
            assert got == plain.revision(now, order, f"L{order}"), (now, order, steps)
