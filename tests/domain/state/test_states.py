"""State rules, debounce and contact: what the machine shows becomes transitions with true times."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.state.states import Observation, State, StateMemory, StateSpec, StateTracker
from tests.stage import FIL01, Stage


def test_the_first_scan_gives_the_initial_state() -> None:
    stage = Stage()
    stage.connect("FIL01", "06:00:00")
    stage.show("FIL01", "06:00:00", **FIL01)
    assert stage.told("equipment.state", "FIL01") == [
        ("06:00:00", {"from": None, "to": "IDLE", "reason": None, "cause": None, "raw": {"state": 4, "mode": 1}, "initial": True})
    ]  # fmt: skip


def test_a_state_is_not_guessed_from_the_first_half_of_the_tags() -> None:
    stage = Stage()
    stage.connect("FIL01", "06:00:00")
    stage.show("FIL01", "06:00:00", state=6)
    assert stage.states("FIL01") == []
    stage.show("FIL01", "06:00:01", **{**FIL01, "state": 6})
    assert stage.states("FIL01") == [("06:00:01", "RUN")]


def test_a_change_is_published_after_the_debounce_with_its_true_start() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "06:10:00", state=6)
    assert stage.states("FIL01") == [("06:00:00", "IDLE")]
    stage.hear("FIL01", "06:10:04")
    assert stage.states("FIL01") == [("06:00:00", "IDLE")]
    stage.hear("FIL01", "06:10:05")
    assert stage.states("FIL01") == [("06:00:00", "IDLE"), ("06:10:00", "RUN")]


def test_a_flicker_of_two_seconds_leaves_no_trace() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "06:10:00", state=6)
    stage.show("FIL01", "06:20:00", state=5, starved=True)
    stage.show("FIL01", "06:20:02", state=6, starved=False)
    stage.hear("FIL01", "06:20:30")
    assert stage.states("FIL01") == [("06:00:00", "IDLE"), ("06:10:00", "RUN")]
    assert stage.told("downtime.closed") == []


def test_a_fault_is_told_at_once_with_its_reason() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "06:10:00", state=6)
    stage.hear("FIL01", "06:10:10")
    stage.show("FIL01", "07:25:00", state=11, stop_reason=2107)
    assert stage.told("equipment.state", "FIL01")[-1][1]["reason"] == "DOWN/MECH/JAM_INFEED"
    assert stage.states("FIL01")[-1] == ("07:25:00", "DOWN")


def test_a_reason_that_comes_later_is_a_revision_of_the_same_event() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "07:25:00", state=11)
    stage.show("FIL01", "07:25:03", stop_reason=2107)
    first, second = [event for event in stage.events if event.type == "equipment.state" and event.data.to == "DOWN"]
    assert (first.id, first.rev, first.data.reason) == (second.id, 1, None)
    assert (second.rev, second.data.reason, second.source_time) == (2, "DOWN/MECH/JAM_INFEED", first.source_time)


def test_a_stop_is_closed_with_its_length_and_the_short_one_is_a_micro_stop() -> None:
    stage = Stage()
    stage.start_line()
    for clock, shown in [("06:10:00", {"state": 6}), ("08:20:00", {"state": 5, "starved": True}),
                         ("08:20:40", {"state": 6, "starved": False}), ("09:00:00", {"state": 9}),
                         ("09:12:00", {"state": 6})]:  # fmt: skip
        stage.show("FIL01", clock, **shown)
        stage.hear("FIL01", clock[:-1] + "6")
    closed = stage.told("downtime.closed", "FIL01")
    assert [(clock, d["state"], d["dur_s"], d["micro"]) for clock, d in closed] == [
        ("08:20:40", "STARVED", 40, True),
        ("09:12:00", "DOWN", 720, False),
    ]


def test_a_number_nobody_mapped_is_unknown_and_not_the_last_state() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "06:10:00", state=99)
    stage.hear("FIL01", "06:10:05")
    clock, data = stage.told("equipment.state", "FIL01")[-1]
    assert (clock, data["to"], data["cause"]) == ("06:10:00", "UNKNOWN", "UNMAPPED")


def test_a_bad_input_makes_the_state_unknown() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:10:00", total_in=65531)
    stage.core.effects.events.clear()
    from gateway.domain.values import Batch, TagChange

    bad = TagChange("FIL01.mode", None, 0x80050000, stage.now)
    stage.core.handle_changes("FIL01", Batch([bad], stage.now), stage.now)
    stage.hear("FIL01", "06:10:06")
    clock, data = stage.told("equipment.state", "FIL01")[-1]
    assert (clock, data["to"], data["cause"]) == ("06:10:00", "UNKNOWN", "BAD_QUALITY")


def test_a_short_loss_of_contact_changes_nothing() -> None:
    stage = Stage()
    stage.start_line()
    stage.hear("FIL01", "06:00:10")
    stage.disconnect("FIL01", "06:00:11")
    stage.pass_time("06:00:30")
    stage.connect("FIL01", "06:00:30")
    stage.show("FIL01", "06:00:30", **FIL01)
    assert stage.states("FIL01") == [("06:00:00", "IDLE")]
    assert [(c, d["device"], d["up"]) for c, d in stage.told("gateway.connection")] == [
        ("06:00:10", "FIL01", False), ("06:00:30", "FIL01", True),
    ]  # fmt: skip


def test_a_long_loss_is_unknown_since_the_last_contact_and_ends_with_the_next() -> None:
    stage = Stage()
    stage.start_line()
    stage.hear("FIL01", "11:00:00")
    stage.disconnect("FIL01", "11:00:00")
    stage.pass_time("11:00:29")
    assert stage.states("FIL01") == [("06:00:00", "IDLE")]
    stage.pass_time("11:02:00")
    assert stage.states("FIL01")[-1] == ("11:00:00", "UNKNOWN")
    stage.connect("FIL01", "11:02:00")
    stage.show("FIL01", "11:02:00", **{**FIL01, "state": 6})
    assert stage.states("FIL01")[1:] == [("11:00:00", "UNKNOWN"), ("11:02:00", "RUN")]
    causes = [data["cause"] for _, data in stage.told("equipment.state", "FIL01")]
    assert causes == [None, "NO_CONTACT", None]


def test_the_neighbours_of_a_lost_device_are_not_disturbed() -> None:
    stage = Stage()
    stage.start_line()
    stage.disconnect("FIL01", "06:00:10")
    for second in range(11, 60):
        stage.hear("LBL01", f"06:00:{second}")
        stage.hear("SCADA", f"06:00:{second}")
        stage.pass_time(f"06:00:{second}")
    assert stage.states("FIL01")[-1] == ("06:00:00", "UNKNOWN")
    assert (stage.states("LBL01"), stage.states("PAL01")) == ([("06:00:00", "IDLE")], [("06:00:00", "IDLE")])


def test_a_stale_heartbeat_is_unknown_although_the_link_is_up() -> None:
    stage = Stage()
    stage.start_line()
    stage.beating = False
    stage.hear("FIL01", *(f"06:00:{second:02}" for second in range(1, 31)))
    assert stage.states("FIL01") == [("06:00:00", "IDLE")]
    stage.hear("FIL01", "06:00:31", "06:00:36")
    clock, data = stage.told("equipment.state", "FIL01")[-1]
    assert (clock, data["to"], data["cause"]) == ("06:00:00", "UNKNOWN", "STALE_HEARTBEAT")


shown = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from([State.RUN, State.IDLE, State.STARVED, State.DOWN])),
    min_size=1, max_size=40,
)  # fmt: skip


def merged(rows: list[tuple[int, int, State]], debounce: int) -> list[tuple[int, State]]:
    """The rule by itself: join equal neighbours, drop excursions shorter than the debounce, until none is left."""
    while True:
        joined: list[tuple[int, int, State]] = []
        for start, end, state in rows:
            if joined and joined[-1][2] is state:
                joined[-1] = (joined[-1][0], end, state)
            else:
                joined.append((start, end, state))
        short = [i for i, (a, b, s) in enumerate(joined) if i and b - a < debounce and s is not State.DOWN]
        if not short:
            return [(start, state) for start, _, state in joined]
        first = short[0]
        joined[first] = (joined[first][0], joined[first][1], joined[first - 1][2])
        rows = joined


@given(shown)
def test_random_flicker_gives_the_intervals_of_the_rule_and_they_tile(steps: list[tuple[int, State]]) -> None:
    rows, clock = [], 0
    for length, state in steps:
        rows.append((clock, clock + length, state))
        clock += length
    tracker = StateTracker(StateSpec(rules=(), debounce=5), StateMemory())
    transitions = []
    for start, _, state in rows:
        transitions += tracker.see(Observation(state, start, debounce=0 if state is State.DOWN else 5))
    transitions += tracker.settle(clock)
    last = tracker.memory.candidate
    got = [(transition.at, transition.after.state) for transition in transitions]
    want = merged(rows, 5)
    if last is not None:  # the newest excursion is still too short to be judged
        want = [row for row in want if row[0] < last.since]
    assert got == want
    assert all(earlier[0] < later[0] and earlier[1] is not later[1] for earlier, later in pairwise(got))
