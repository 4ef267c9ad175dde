"""What comes late, or is dated back, is told anew: the highest revision of every event has the right sums."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.load import load_plant
from gateway.domain.contract.envelope import Event
from gateway.domain.values import Batch, TagChange, Value
from tests.domain.one_machine import HEAD, machine, plant_of
from tests.stage import Stage, at

PRESS = """\
    tags:
      running: {register: 0, type: uint16, bit: 0}
      made: {register: 2-3, type: uint32}
      bad: {register: 4-5, type: uint32}
      order: {register: 6-13, type: string}
      meter: {register: 14-15, type: uint32}
      pallet: {register: 16, type: uint16}
      sscc: {register: 17-26, type: string}
      qty: {register: 27, type: uint16}
    state: {rules: [{to: RUN, when: running}, {to: IDLE, when: "true"}]}
    counters:
      produced: {tag: made, max: 4294967295, max_rate: 10/s}
      scrap: {tag: bad, max: 4294967295, max_rate: 10/s}
      good: {derive: produced - scrap}
    energy: {tag: meter, kwh: 0.1, max: 4294967295}
    materials: {LID: {counter: produced, capacity: 100000, low: 10}}
    container: {sequence: pallet, sscc: sscc, quantity: qty}
"""
FIRST = {"running": 1, "made": 0, "bad": 0, "order": "", "meter": 0, "pallet": 0, "sscc": "", "qty": 0}


def press(folder: Path, order: str) -> Stage:
    """Running since 06:00:00; it makes two pieces a second, one of a hundred bad, and takes a count of the meter."""
    stage = machine(folder, PRESS + f"    order: {order}\n")
    stage.show("M1", "06:00:00", **FIRST)
    return stage


def run(stage: Stage, start: str, end: str, **shown: Value) -> None:
    """A scan every ten seconds of `(start, end]`."""
    for moment in range(at(start) + 10_000, at(end) + 1, 10_000):
        tell(stage, moment, moment, **counts(moment), **shown)


def counts(moment: int) -> dict[str, int]:
    made = (moment - at("06:00:00")) // 500
    return {"made": made, "bad": made // 100, "meter": made // 2}


def tell(stage: Stage, moment: int, contact: int, **shown: Value) -> None:
    """One batch whose values carry the stamp `moment`."""
    stage.now = max(stage.now, contact)
    changes = [TagChange(f"M1.{name}", value, 0, moment) for name, value in shown.items()]
    stage.core.handle_changes("M1", Batch(changes, contact), stage.now)
    stage.commit()


def final(stage: Stage) -> list[Event]:
    """Of every event its highest revision; a lower one must not come after a higher, and none twice."""
    newest: dict[str, Event] = {}
    for event in stage.events:
        assert event.rev > (newest[event.id].rev if event.id in newest else 0), event
        newest[event.id] = event
    return list(newest.values())


def sums(stage: Stage, counter: str) -> dict[str | None, int]:
    """Pieces by order, as whoever keeps the highest revisions adds them up."""
    result: dict[str | None, int] = {}
    for event in final(stage):
        if event.type == "production.count" and event.data.counter == counter:  # type: ignore[attr-defined]
            order = event.order.id if event.order else None
            result[order] = result.get(order, 0) + event.data.delta  # type: ignore[attr-defined]
    return result


def told(stage: Stage, kind: str) -> list[tuple[str | None, int, dict[str, Any]]]:
    """(order, revision, data) of the final events of a type."""
    return [
        (event.order.id if event.order else None, event.rev, msgspec.to_builtins(event.data))
        for event in final(stage)
        if event.type == kind
    ]


def test_an_order_scanned_twenty_minutes_late_gets_all_that_was_made_since(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    stage.command("order.start", cmd="S1", eq="M1", order="A")
    run(stage, "06:00:00", "06:30:05")
    stage.command("order.start", cmd="S2", eq="M1", order="B", t="2026-03-02T06:10:05Z")
    run(stage, "06:30:00", "06:40:00")
    stage.command("order.end", cmd="E2", eq="M1", t="2026-03-02T06:40:00Z")
    stage.hear("M1", "06:41:00")
    # Pieces show in the scans at :10, :20 …; those in the scan at 06:10:10 are the first after 06:10:05.
    assert sums(stage, "produced") == {"A": 1200, "B": 3600}
    assert sums(stage, "good") == {"A": 1188, "B": 3564}
    done = {order: (rev, d["produced"], d["good"], d["times_s"], d["kwh"]) for order, rev, d in told(stage, "order.completed")}  # fmt: skip
    assert done == {
        "A": (1, 1200, 1188, {"RUN": 605}, 60.0),
        "B": (1, 3600, 3564, {"RUN": 1795}, 180.0),
    }


def test_every_figure_that_an_order_loses_another_one_gets(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    stage.command("order.start", cmd="S1", eq="M1", order="A")
    run(stage, "06:00:00", "06:20:00")
    stage.show("M1", "06:20:05", pallet=1, sscc="340123450000000017", qty=960)
    run(stage, "06:20:00", "06:30:00")
    stage.command("order.end", cmd="E1", eq="M1")
    run(stage, "06:30:00", "06:32:00")
    assert [(order, rev, d["produced"]) for order, rev, d in told(stage, "order.completed")] == [("A", 1, 3600)]
    stage.command("order.start", cmd="S2", eq="M1", order="B", t="2026-03-02T06:15:00Z")
    stage.hear("M1", "06:33:00")
    assert [(order, rev, d["produced"], d["kwh"]) for order, rev, d in told(stage, "order.completed")] == [
        ("A", 2, 1800, 90.0), ("B", 2, 1800, 90.0)
    ]  # fmt: skip
    lids = {order: sum(d["qty"] for whose, _, d in told(stage, "material.consumed") if whose == order) for order in (None, "A", "B")}  # fmt: skip
    assert lids == {None: 240, "A": 1800, "B": 1800}
    energy = {order: round(sum(d["kwh"] for whose, _, d in told(stage, "energy.interval") if whose == order), 1) for order in ("A", "B")}  # fmt: skip
    assert energy == {"A": 90.0, "B": 90.0}
    assert [(order, rev, d["sscc"]) for order, rev, d in told(stage, "container.completed")] == [
        ("B", 2, "340123450000000017")
    ]


def test_stops_that_are_over_go_with_their_time(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    stage.command("order.start", cmd="S1", eq="M1", order="A")
    for clock, running in (("06:04:00", 0), ("06:06:00", 1), ("06:08:00", 0), ("06:09:00", 1)):
        stage.show("M1", clock, running=running)
    stage.hear("M1", "06:10:00")
    stage.command("order.start", cmd="S2", eq="M1", order="B", t="2026-03-02T06:05:00Z")
    stage.command("order.end", cmd="E2", eq="M1", t="2026-03-02T06:10:00Z")
    stage.hear("M1", "06:11:00")
    times = {order: d["times_s"] for order, _, d in told(stage, "order.completed")}
    assert times == {"A": {"RUN": 240, "IDLE": 60}, "B": {"RUN": 180, "IDLE": 120}}


def test_the_totals_of_the_windows_are_those_of_their_order_at_their_end(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    stage.command("order.start", cmd="S1", eq="M1", order="A")
    run(stage, "06:00:00", "06:05:00")
    stage.command("order.start", cmd="S2", eq="M1", order="B", t="2026-03-02T06:02:30Z")
    run(stage, "06:05:00", "06:07:00")
    stage.hear("M1", "06:07:10")
    rows = sorted(
        (d["window_end"][11:19], order, d["delta"], d["order_total"])
        for order, _, d in told(stage, "production.count")
        if d["counter"] == "produced"
    )
    assert rows == [
        ("06:01:00", "A", 120, 120), ("06:02:00", "A", 120, 240), ("06:02:30", "A", 60, 300),
        ("06:03:00", "B", 60, 60), ("06:04:00", "B", 120, 180), ("06:05:00", "B", 120, 300),
        ("06:06:00", "B", 120, 420), ("06:07:00", "B", 120, 540),
    ]  # fmt: skip


def test_a_start_that_is_corrected_twice_moves_twice_and_stays_one_run(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    run(stage, "06:00:00", "06:10:00")
    for number, clock in enumerate(("06:08:00", "06:06:00", "06:02:00"), start=1):
        assert stage.command("order.start", cmd=f"S{number}", eq="M1", order="A", t=f"2026-03-02T{clock}Z")
    assert [(order, rev, d["run"]) for order, rev, d in told(stage, "order.started")] == [("A", 3, 1)]
    assert sums(stage, "produced") == {None: 240, "A": 960}


def test_a_correction_survives_a_kill(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    stage.command("order.start", cmd="S1", eq="M1", order="A")
    run(stage, "06:00:00", "06:10:30")
    stage.kill_and_restart("06:10:35")
    stage.connect("M1", "06:10:40")
    stage.show("M1", "06:10:40", **{**FIRST, **counts(at("06:10:40"))})
    stage.command("order.start", cmd="S2", eq="M1", order="B", t="2026-03-02T06:04:00Z")
    run(stage, "06:10:40", "06:12:00")
    stage.hear("M1", "06:12:10")
    assert sums(stage, "produced") == {"A": 480, "B": 960}


def test_a_reading_that_comes_late_parts_what_was_counted_after_it(tmp_path: Path) -> None:
    """A scan is missing at the change of order; when the buffered reading arrives, its pieces change sides."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:00:05", order="A")
    tell(stage, at("06:05:00"), at("06:05:00"), made=600)
    tell(stage, at("06:10:00"), at("06:10:00"), order="B")
    tell(stage, at("06:15:00"), at("06:15:00"), made=1800)
    stage.hear("M1", "06:20:00")
    assert sums(stage, "produced") == {"A": 600, "B": 1200}
    tell(stage, at("06:09:59"), at("06:20:01"), made=1198)
    assert sums(stage, "produced") == {"A": 1198, "B": 602}
    assert [(order, d["delta"], d["flags"]) for order, rev, d in told(stage, "production.count") if rev > 1 and d["counter"] == "produced"] == [("B", 602, ("late",)), ("A", 598, ("late",))]  # fmt: skip
    (completed,) = told(stage, "order.completed")
    assert completed[:2] == ("A", 2)
    assert (completed[2]["produced"], completed[2]["good"]) == (1198, 1198)


@pytest.mark.parametrize("reading", [600, 2500, 7])
def test_a_late_reading_that_says_nothing_new_or_what_cannot_be_changes_nothing(tmp_path: Path, reading: int) -> None:
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:00:05", order="A")
    tell(stage, at("06:05:00"), at("06:05:00"), made=600)
    tell(stage, at("06:10:00"), at("06:10:00"), order="B")
    tell(stage, at("06:15:00"), at("06:15:00"), made=1800)
    stage.hear("M1", "06:20:00")
    assert sums(stage, "produced") == {"A": 600, "B": 1200}
    tell(stage, at("06:09:59"), at("06:14:00"), made=reading)
    tell(stage, at("06:09:59"), at("06:14:00"), made=reading)
    stage.hear("M1", "06:21:00")
    assert sums(stage, "produced") == {"A": 600, "B": 1200}


def test_batches_that_come_in_the_wrong_order_come_out_right(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: tag, tag: order}")
    tell(stage, at("06:00:10"), at("06:00:10"), made=20, order="A")
    tell(stage, at("06:00:30"), at("06:00:30"), made=60)
    tell(stage, at("06:00:20"), at("06:00:20"), made=40, order="B")
    tell(stage, at("06:00:20"), at("06:00:20"), made=40, order="B")
    tell(stage, at("06:00:40"), at("06:00:40"), made=80)
    stage.hear("M1", "06:02:00")
    assert sums(stage, "produced") == {"A": 40, "B": 40}


def test_an_old_value_never_takes_the_place_of_a_newer_one(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    tell(stage, at("06:00:10"), at("06:00:10"), running=0)
    tell(stage, at("06:00:20"), at("06:00:20"), running=1)
    tell(stage, at("06:00:10"), at("06:00:10"), running=0)
    stage.hear("M1", "06:00:40")
    assert stage.states("M1") == [("06:00:00", "RUN"), ("06:00:10", "IDLE"), ("06:00:20", "RUN")]


def test_pieces_that_were_never_read_until_later_go_to_their_own_minute(tmp_path: Path) -> None:
    """A counter on a slow server arrives behind the scans of a fast one: its own stamp says when."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:00:05", order="A")
    stage.show("M1", "06:03:00", order="B")
    stage.hear("M1", "06:05:00")
    tell(stage, at("06:02:30"), at("06:05:01"), made=300)
    tell(stage, at("06:04:30"), at("06:05:02"), made=540)
    stage.hear("M1", "06:06:00")
    assert sums(stage, "produced") == {"A": 300, "B": 240}


def test_a_scan_with_a_second_tag_for_its_moment_is_dated_back_to_it(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(
        HEAD.replace(
            "driver: modbus, host: 127.0.0.1",
            "driver: opcua, url: opc.tcp://127.0.0.1:4840, security: none, namespace: urn:m1",
        )
        + """\
    tags:
      made: {node: "s=made", type: uint32}
      scanned: {node: "s=scanned", type: string}
      since: {node: "s=since", type: datetime}
    counters: {good: {tag: made, max: 4294967295, max_rate: 10/s}}
    order: {from: tag, tag: scanned, since: since}
""",
        encoding="utf-8",
    )
    stage = Stage(load_plant(tmp_path))
    stage.beating = False
    stage.connect("M1", "06:00:00")
    stage.show("M1", "06:00:00", made=0, scanned="", since=None)
    for minute in range(1, 21):
        stage.show("M1", f"06:{minute:02}:00", made=minute * 10)
    stage.show("M1", "06:20:30", made=205, scanned="A", since=at("06:05:00"))
    stage.show("M1", "06:21:00", made=210)
    stage.hear("M1", "06:21:10")
    assert sums(stage, "good") == {None: 50, "A": 160}
    started = [event for event in final(stage) if event.type == "order.started"]
    assert [event.source_time for event in started] == [at("06:05:00")]


def test_what_no_command_may_change_is_refused_by_name(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: tag, tag: order}")
    codes = [
        stage.command("order.start", cmd="1", eq="M1", order="A")[0].codes,
        stage.command("order.start", cmd="2", eq="M9", order="A")[0].codes,
        stage.command("order.start", cmd="3", eq="M1", order="A", t="yesterday")[0].codes,
    ]
    assert codes == [("not_allowed",), ("unknown_equipment",), ("not_allowed",)]
    commanded = Stage(plant_of(tmp_path, PRESS + "    order: {from: command}\n"))
    commanded.connect("M1", "06:00:00")
    said = [
        commanded.command("order.start", cmd="4", eq="M1", order="A", t="yesterday")[0].codes,
        commanded.command("order.start", cmd="5", eq="M1", order="A", t="2026-02-28T00:00:00Z")[0].codes,
    ]
    assert said == [("malformed",), ("too_old",)]


def test_a_late_start_is_not_ended_by_a_quantity_that_was_reached_by_mistake(tmp_path: Path) -> None:
    """The first pieces of B were taken for the last ones of A: when B's start arrives, B goes on."""
    stage = press(tmp_path, "{from: tag, tag: order, complete: at_quantity}")
    ops = [{"op": "10", "eq": "M1"}]
    for order, qty in (("A", 100), ("B", 500)):
        stage.command("dispatch.order", cmd=order, order=order, qty=qty, ops=ops)
    tell(stage, at("06:00:10"), at("06:00:10"), order="A")
    tell(stage, at("06:01:00"), at("06:01:00"), made=98)
    tell(stage, at("06:02:10"), at("06:02:10"), made=104)
    tell(stage, at("06:02:00"), at("06:02:00"), order="B")
    tell(stage, at("06:03:00"), at("06:03:00"), made=150)
    stage.hear("M1", "06:05:00")
    assert sums(stage, "produced") == {"A": 98, "B": 52}
    assert [(order, d["produced"]) for order, _, d in told(stage, "order.completed")] == [("A", 98)]


def test_containers_that_left_unseen_are_counted_on_the_next_one(tmp_path: Path) -> None:
    stage = press(tmp_path, "{from: command}")
    stage.show("M1", "06:01:00", pallet=1, sscc="340123450000000017", qty=960)
    stage.show("M1", "06:09:00", pallet=4, sscc="340123450000000024", qty=960)
    stage.show("M1", "06:10:00", pallet=1, sscc="340123450000000031", qty=960)
    assert [d["flags"] for _, _, d in told(stage, "container.completed")] == [(), ("missed_2",), ()]


@pytest.mark.parametrize("told_at", ["06:15:01", "06:20:01"], ids=["while its window is open", "after it was told"])
def test_a_late_reading_of_pieces_that_were_all_scrap_moves_what_it_shows(tmp_path: Path, told_at: str) -> None:
    """Five made and five bad are no good ones at all, so nothing was counted of these yet."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:00:05", order="A")
    tell(stage, at("06:05:00"), at("06:05:00"), made=600)
    tell(stage, at("06:10:00"), at("06:10:00"), order="B")
    tell(stage, at("06:15:00"), at("06:15:00"), made=605, bad=5)
    stage.hear("M1", told_at)
    tell(stage, at("06:09:59"), at(told_at) + 1, made=603)
    stage.hear("M1", "06:21:00")
    assert (sums(stage, "produced"), sums(stage, "scrap")) == ({"A": 603, "B": 2}, {"B": 5})
    assert sums(stage, "good") == {"A": 603, "B": -3}


@pytest.mark.parametrize("told_at", ["06:05:41", "06:07:01"], ids=["while its window is open", "after it was told"])
def test_a_late_reading_finds_its_order_in_a_minute_in_which_only_the_next_one_counted(
    tmp_path: Path, told_at: str
) -> None:
    """A ended at 06:05:30 with nothing counted; the pieces of 06:05:20 are its own, although B's window is that one."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:00:05", order="A")
    stage.hear("M1", "06:05:00")
    stage.show("M1", "06:05:30", order="B")
    tell(stage, at("06:05:40"), at("06:05:40"), made=680)
    stage.hear("M1", told_at)
    tell(stage, at("06:05:20"), at(told_at) + 1, made=640)
    stage.hear("M1", "06:08:00")
    assert sums(stage, "produced") == {"A": 640, "B": 40}


def test_the_past_of_a_machine_that_counts_nothing_is_forgotten_too(tmp_path: Path) -> None:
    """For three days it starts and stops every half hour: a day of states is kept, and no more."""
    body = 'state: {rules: [{to: RUN, when: running}, {to: IDLE, when: "true"}]}\n'
    stage = machine(tmp_path, f"    tags:\n      running: {{register: 0, type: uint16, bit: 0}}\n    {body}")
    kept = []
    for number in range(1, 3 * 48 + 1):
        tell(stage, moment := at("06:00:00") + number * 1_800_000, moment, running=number % 2)
        kept.append(sum("|state|" in name for name in stage.checkpoints))
    assert max(kept) <= 51
    assert kept[47] <= kept[-1], "a day is there"


def test_pieces_shown_at_the_very_moment_of_the_change_of_order_can_be_parted_later(tmp_path: Path) -> None:
    """Three batches carry one stamp: the order, the pieces, the bad ones; then a reading of ten seconds before comes."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:00:05", order="A")
    tell(stage, at("06:05:00"), at("06:05:00"), made=600)
    for value in ({"order": "B"}, {"made": 1200}, {"bad": 7}):
        tell(stage, at("06:10:20"), at("06:10:20"), **value)
    tell(stage, at("06:10:10"), at("06:10:21"), bad=3)
    stage.hear("M1", "06:12:00")
    assert (sums(stage, "produced"), sums(stage, "scrap")) == ({"A": 600, "B": 600}, {"A": 3, "B": 4})


@pytest.mark.parametrize("ended_at", ["06:05:30", "06:06:00"], ids=["within a minute", "on the minute"])
def test_the_last_pieces_of_an_order_are_its_own_when_their_scan_was_overtaken(tmp_path: Path, ended_at: str) -> None:
    """A scan of the next second closed the minute before; the window that ends at a moment holds what showed then."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    stage.show("M1", "06:05:00", order="A", made=600)
    tell(stage, at(ended_at) + 1000, at(ended_at) + 1000, running=0)
    tell(stage, at(ended_at), at(ended_at) + 1001, made=610, order="")
    stage.hear("M1", "06:08:00")
    made = sums(stage, "produced")
    assert (made["A"], made.get(None, 0)) == (610, 0)


@pytest.mark.parametrize("begun_at", ["06:05:30", "06:06:00"], ids=["within a minute", "on the minute"])
@pytest.mark.parametrize("earlier", [0, 5], ids=["nothing before", "pieces of nobody before"])
def test_the_first_pieces_of_an_order_are_its_own_when_their_scan_was_overtaken(
    tmp_path: Path, begun_at: str, earlier: int
) -> None:
    """Nothing ends there: the last reading before the order is its baseline."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    tell(stage, at("06:05:10"), at("06:05:10"), made=earlier)
    tell(stage, at(begun_at) + 1000, at(begun_at) + 1000, running=0)
    tell(stage, at(begun_at), at(begun_at) + 1001, made=earlier + 2, order="A")
    stage.hear("M1", "06:08:00")
    made = sums(stage, "produced")
    assert (made["A"], made.get(None, 0)) == (2, earlier)


def test_a_counter_that_comes_after_the_order_it_began_with_counts_for_it(tmp_path: Path) -> None:
    """The order and its first pieces carry one stamp, but the pieces come later than the scan of the next second."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    tell(stage, at("06:05:10"), at("06:05:10"), made=5)
    tell(stage, at("06:05:30"), at("06:05:30"), order="A")
    tell(stage, at("06:05:31"), at("06:05:31"), running=0)
    tell(stage, at("06:05:30"), at("06:05:31") + 1, made=7)
    stage.hear("M1", "06:08:00")
    assert sums(stage, "produced") == {None: 5, "A": 2}


def test_pieces_of_before_a_window_that_opened_within_a_minute_have_a_window_of_their_own(tmp_path: Path) -> None:
    """The order that came late made the window begin at 06:05:31; what showed before must not take its end."""
    stage = press(tmp_path, "{from: tag, tag: order}")
    tell(stage, at("06:05:31"), at("06:05:31"), running=0)
    tell(stage, at("06:05:20"), at("06:05:31") + 1, order="A")
    tell(stage, at("06:05:40"), at("06:05:40"), made=10)
    tell(stage, at("06:05:25"), at("06:05:40") + 1, made=4)
    stage.hear("M1", "06:08:00")
    assert sums(stage, "produced") == {"A": 10}
