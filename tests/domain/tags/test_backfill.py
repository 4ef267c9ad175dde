"""What a device's history tells of an outage lands on its own minute, order and state, as if it had been heard."""

import msgspec
import pytest

from gateway.domain.values import Backfill, Batch, Gap, TagChange
from tests.stage import LINE, PAL01, Stage, at

TAGS = frozenset(f"PAL01.{name}" for name in PAL01)
ALL = TAGS - {"PAL01.heartbeat"}
"""All that a historian keeps of a palletiser; nobody historizes a heartbeat."""
COUNTS = frozenset({"PAL01.good_total"})


def tell(stage: Stage, covered: frozenset[str], *shown: tuple[str, str, object]) -> None:
    """One batch of history: (time, tag, value) …"""
    changes = [TagChange(f"PAL01.{name}", value, 0, at(clock)) for clock, name, value in shown]
    contact = max([change.source_timestamp for change in changes], default=at("06:10:20"))
    batch = Batch(changes, contact, resumed=not shown, backfill=Backfill(covered), time_quality="history")
    stage.core.handle_changes("SCADA", batch, stage.now)
    stage.commit()


def outage(stage: Stage) -> None:
    """The palletiser runs order 4711; its server is heard last at 06:10:20 and is back at 06:16:00."""
    stage.dispatch("4711")
    stage.dispatch("4712", lot="4712-L1")
    for device in ("FIL01", "LBL01", "SCADA"):
        stage.connect(device, "06:00:00")
    stage.show("SCADA", "06:00:00", **PAL01)
    stage.show("SCADA", "06:08:30", state=1, current_order="4711")
    for minute in (9, 10):
        stage.hear(
            "SCADA", *(f"06:{minute:02}:{second:02}" for second in range(0, 60, 4) if (minute, second) <= (10, 20))
        )
    stage.show("SCADA", "06:10:20", good_total=10)
    stage.pass_time("06:11:30")
    stage.disconnect("SCADA", "06:11:30")
    stage.pass_time("06:16:00")


def begin(stage: Stage, covered: frozenset[str]) -> None:
    stage.core.handle_link("SCADA", True, stage.now, stage.now, resumed=True)
    tell(stage, covered)


def end(stage: Stage, covered: frozenset[str], filled: int) -> None:
    gap = Gap(at("06:10:20"), stage.now, "session", tags=len(TAGS - covered), filled=filled)
    contact = stage.core._contacts.heard["SCADA"]
    batch = Batch([], contact, (gap,), backfill=Backfill(covered, is_last=True), time_quality="history")
    stage.core.handle_changes("SCADA", batch, stage.now)
    stage.commit()


PAST = [
    [("06:10:50", "good_total", 20), ("06:11:40", "good_total", 30)],
    [("06:12:20", "good_total", 35), ("06:12:30", "current_order", "4712"), ("06:12:50", "good_total", 40)],
    [("06:13:00", "state", 2), ("06:14:00", "state", 1), ("06:15:50", "good_total", 60)],
]


@pytest.fixture(params=[PAST, [[shown for batch in PAST for shown in batch]]], ids=["in slices", "in one batch"])
def filled(request: pytest.FixtureRequest) -> Stage:
    """The whole outage told from a history of all tags, and a minute of live values after it."""
    stage = Stage()
    outage(stage)
    begin(stage, ALL)
    for batch in request.param:
        tell(stage, ALL, *batch)
    end(stage, ALL, 8)
    stage.show("SCADA", "06:16:01")
    stage.show("SCADA", "06:16:30", good_total=70)
    stage.hear("SCADA", "06:17:00", "06:17:10")
    return stage


def order_totals(stage: Stage) -> list[tuple[str, int | None]]:
    """What the order had made by the end of each window, as its highest revision tells."""
    told = {
        event.id: event for event in stage.events if event.type == "production.count"
    }  # the last one is the highest
    return [(event.data.window_end[11:19], event.data.order_total) for event in told.values()]


def counts(stage: Stage) -> list[tuple[str, str, int, int]]:
    return [
        (event.data.window_end[11:19], event.order.id if event.order else "", event.data.delta, event.rev)
        for event in stage.events
        if event.type == "production.count" and event.equipment == f"{LINE}/PAL01"
    ]


def test_pieces_of_an_outage_land_on_their_minute_and_their_order(filled: Stage):
    assert counts(filled) == [
        ("06:11:00", "4711", 10, 1),
        ("06:11:00", "4711", 20, 2),
        ("06:12:00", "4711", 10, 1),
        ("06:12:30", "4711", 5, 1),
        ("06:13:00", "4712", 5, 1),
        ("06:16:00", "4712", 20, 1),
        ("06:17:00", "4712", 10, 1),
    ]
    assert order_totals(filled) == [
        ("06:11:00", 20), ("06:12:00", 30), ("06:12:30", 35), ("06:13:00", 5), ("06:16:00", 25), ("06:17:00", 35),
    ]  # fmt: skip
    assert filled.told("order.completed", "PAL01")[0][1]["good"] == 35
    assert [(clock, data["run"]) for clock, data in filled.told("order.started", "PAL01")] == [
        ("06:08:30", 1), ("06:12:30", 1),
    ]  # fmt: skip


def test_an_order_that_changed_in_a_minute_that_the_clock_had_closed_parts_it():
    stage = Stage()
    outage(stage)
    begin(stage, ALL)
    tell(
        stage, ALL,
        ("06:10:30", "good_total", 13), ("06:10:40", "current_order", "4712"), ("06:10:50", "good_total", 20),
        ("06:11:30", "good_total", 26),
    )  # fmt: skip
    end(stage, ALL, 4)
    stage.show("SCADA", "06:16:01")
    told = {
        event.id: event for event in stage.events if event.type == "production.count"
    }  # the last one is the highest
    pieces = {(event.data.window_end[11:19], event.order.id): event.data.delta for event in told.values()}
    assert pieces == {("06:10:40", "4711"): 13, ("06:11:00", "4712"): 7, ("06:12:00", "4712"): 6}
    assert stage.told("order.completed", "PAL01")[0][1]["good"] == 13


def test_states_of_an_outage_tile_it_and_the_stop_in_it_has_its_true_length(filled: Stage):
    assert filled.states("PAL01")[1:] == [
        ("06:08:30", "RUN"), ("06:10:20", "UNKNOWN"), ("06:10:20", "RUN"), ("06:13:00", "DOWN"), ("06:14:00", "RUN"),
    ]  # fmt: skip
    assert [(data["start"][11:19], data["dur_s"]) for _, data in filled.told("downtime.closed", "PAL01")] == [
        ("06:13:00", 60)
    ]


def test_what_comes_from_a_history_says_so_and_what_is_live_does_not(filled: Stage):
    quality = {event.source_time: event.time_quality for event in filled.events if event.type == "equipment.state"}
    assert quality[at("06:13:00")] == "history"
    windows = [(event.source_time, event.time_quality) for event in filled.events if event.type == "production.count"]
    assert windows[1:5] == [(at(clock), "history") for clock in ("06:11:00", "06:12:00", "06:12:30", "06:13:00")]
    assert windows[-1] == (at("06:17:00"), "source")
    ((_, gap),) = filled.told("data.gap")
    assert (gap["cause"], gap["filled"], gap["tags"], gap["from"][11:19]) == ("session", 8, 1, "06:10:20")


def test_no_clock_overrules_a_device_while_it_tells_of_its_past():
    stage = Stage()
    outage(stage)
    begin(stage, ALL)
    for batch in PAST:
        tell(stage, ALL, *batch)
        stage.now += 20_000
        stage.core.handle_deadline(stage.now)
        stage.commit()
    assert stage.states("PAL01")[-3:] == [("06:10:20", "RUN"), ("06:13:00", "DOWN"), ("06:14:00", "RUN")]


def test_a_history_of_counts_alone_gives_the_counts_and_leaves_the_state_unknown():
    stage = Stage()
    outage(stage)
    begin(stage, COUNTS)
    tell(stage, COUNTS, ("06:10:50", "good_total", 20), ("06:13:20", "good_total", 45))
    end(stage, COUNTS, 2)
    live = {name: value for name, value in PAL01.items() if name != "good_total"}
    stage.show("SCADA", "06:16:01", **live | {"state": 1, "current_order": "4711"})
    stage.show("SCADA", "06:16:30", good_total=50)
    stage.hear("SCADA", "06:17:00", "06:17:10")
    assert stage.states("PAL01")[-2:] == [("06:10:20", "UNKNOWN"), ("06:16:01", "RUN")]
    assert counts(stage) == [
        ("06:11:00", "4711", 10, 1),
        ("06:11:00", "4711", 20, 2),
        ("06:14:00", "4711", 25, 1),
        ("06:17:00", "4711", 5, 1),
    ]


def test_a_link_lost_in_the_middle_of_its_past_is_without_contact_from_there_on():
    stage = Stage()
    outage(stage)
    begin(stage, ALL)
    tell(stage, ALL, *PAST[0])
    stage.disconnect("SCADA", "06:16:10")
    stage.pass_time("06:16:20")
    assert stage.states("PAL01")[-2:] == [("06:10:20", "RUN"), ("06:11:40", "UNKNOWN")]


def test_a_filled_gap_is_the_same_event_when_it_is_told_again():
    stage = Stage()
    outage(stage)
    begin(stage, ALL)
    end(stage, ALL, 0)
    (event,) = [event for event in stage.events if event.type == "data.gap"]
    assert msgspec.to_builtins(event.data)["filled"] == 0
