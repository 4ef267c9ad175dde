"""The clock of the box is set: the gateway's own never goes back, and what it waits for is neither early nor late."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.clock_jump import TIMERS, move_timers
from gateway.domain.equipment import EquipmentMemory
from gateway.domain.shared import SharedRecord
from gateway.domain.writing.download_memory import DownloadMemory
from gateway.domain.writing.handshake_player import HandshakeMemory
from gateway.runtime.clock import JUMP, SLOWER, SystemClock
from gateway.runtime.clock_watch import ClockWatch
from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.store import Store
from tests.stage import Stage

HOUR = 3_600_000
BEGIN = 1_772_431_200_000


class Box:
    """A box whose wall clock the test sets; the monotonic one only runs."""

    def __init__(self) -> None:
        self.wall = BEGIN
        self.monotonic = 5_000
        self.clock = SystemClock(lambda: self.wall * 1_000_000, lambda: self.monotonic * 1_000_000)
        self.told: list[tuple[int, int]] = []
        self.watch = ClockWatch(self.clock, lambda by, ahead: self.told.append((by, ahead)), None)  # type: ignore[arg-type]

    def run(self, milliseconds: int, step: int = 500) -> None:
        """Time passes; the watch looks as it does, every half second."""
        for _ in range(milliseconds // step):
            self.wall += step
            self.monotonic += step
            self.watch.look()


# --- the clock ----------------------------------------------------------------------------------------------------


def test_left_alone_it_is_the_wall_clock() -> None:
    box = Box()
    box.run(10 * HOUR)
    assert (box.clock.now(), box.told) == (box.wall, [])


def test_set_forward_it_goes_on_as_before_until_it_was_told() -> None:
    box = Box()
    box.wall += HOUR
    assert box.clock.now() == BEGIN
    box.run(500)
    assert (box.clock.now(), box.clock.jumped) == (BEGIN + HOUR + 500, HOUR)
    assert box.told == [(HOUR, 0)]
    box.run(HOUR)
    assert box.told == [(HOUR, 0)], "once"


def test_set_back_it_goes_on_a_hundredth_slower_until_the_wall_has_come_up() -> None:
    box = Box()
    box.wall -= 2 * HOUR
    box.run(HOUR)
    assert box.clock.now() == pytest.approx(BEGIN + HOUR - HOUR // SLOWER, abs=10)
    assert box.told == [(pytest.approx(-2 * HOUR, abs=10), pytest.approx(2 * HOUR, abs=10))], "once"
    box.run(210 * HOUR)
    assert box.clock.now() == box.wall
    assert len(box.told) == 1


def test_forward_and_back_again_and_further_back_are_three_jumps() -> None:
    box = Box()
    box.wall += HOUR
    box.run(1_000)
    box.wall -= HOUR
    box.run(1_000)
    box.wall -= HOUR
    box.run(1_000)
    assert [by for by, _ in box.told] == pytest.approx([HOUR, -HOUR, -HOUR], abs=50)
    assert box.told[-1][1] == pytest.approx(2 * HOUR, abs=50)


def test_what_a_time_service_sets_right_by_itself_is_no_jump() -> None:
    box = Box()
    for step in (1_500, -1_500, 900, -400, 30):
        box.wall += step
        before = box.clock.now()
        box.run(5_000)
        assert box.clock.now() >= before
    assert box.told == []
    assert abs(box.clock.ahead) < JUMP


def test_a_box_that_wakes_up_in_the_past_begins_where_its_record_ends() -> None:
    box = Box()
    box.clock.begin_after(BEGIN + 30 * HOUR)
    assert box.clock.now() == BEGIN + 30 * HOUR
    box.run(1_000)
    assert box.told == [(pytest.approx(-30 * HOUR, abs=10), pytest.approx(30 * HOUR, abs=10))]
    box.wall += 40 * HOUR  # the time service has found the year
    box.run(1_000)
    assert box.clock.now() == box.wall
    assert [by for by, _ in box.told][1:] == pytest.approx([10 * HOUR], abs=50)


@given(st.lists(st.tuples(st.integers(-10 * HOUR, 10 * HOUR), st.integers(0, 100_000)), max_size=20))
def test_whatever_the_wall_does_time_never_goes_back_and_never_stands(jumps: list[tuple[int, int]]) -> None:
    box, last = Box(), BEGIN
    for by, pause in jumps:
        box.wall += by
        for _ in range(3):
            assert box.clock.now() >= last
            last = box.clock.now()
        box.run(pause // 500 * 500)
        assert box.clock.now() >= last + pause // 500 * 495
        last = box.clock.now()


# --- what is measured on it ---------------------------------------------------------------------------------------


def test_every_struct_with_timers_names_them_so_that_they_are_found() -> None:
    """Whatever says when something is due, in anything that the core remembers, has one of three names."""
    timed = {name for struct in structs(EquipmentMemory) | structs(SharedRecord) for name in timers_of(struct)}
    assert timed == TIMERS


def structs(root: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    """All structs within a struct."""
    found: set[type[msgspec.Struct]] = set()
    waiting: list[Any] = [root]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and one not in found:
            found.add(one)
            waiting += [part for field in msgspec.structs.fields(one) for part in parts(field.type)]
    return found


def parts(kind: Any) -> list[Any]:
    return [kind, *(part for argument in getattr(kind, "__args__", ()) for part in parts(argument))]


def timers_of(struct: type[msgspec.Struct]) -> set[str]:
    return {
        name for name in struct.__struct_fields__ if name in TIMERS or name.endswith(("_deadline", "timeout", "due"))
    }


def test_timers_are_moved_wherever_they_are_and_nothing_else_is() -> None:
    memory = EquipmentMemory()
    memory.download = DownloadMemory(
        cmd="D1", type="params.download", order=None, set="S", rev="A", requested={}, targets={"deadline": 7},
        handshake=HandshakeMemory(deadline=50, next_look=None), deadline=100, give_up=300,
    )  # fmt: skip
    move_timers(memory, 1_000)
    assert (memory.download.deadline, memory.download.next_look, memory.download.give_up) == (1_100, None, 1_300)
    assert (memory.download.handshake.deadline, memory.download.handshake.next_look) == (1_050, None)
    assert memory.download.targets == {"deadline": 7}


@pytest.mark.case("R21", "E4")
def test_an_hour_forward_makes_no_machine_unknown_and_loses_no_piece() -> None:
    """Every machine was heard a moment ago, and is heard again soon: only the clock says something else."""
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "06:00:10", state=6, processed=110)
    before = len(stage.events)
    stage.now += HOUR
    stage.core.handle_clock_jump(HOUR, 0, stage.now)
    stage.core.handle_deadline(stage.now)
    stage.commit()
    (clock,) = [event for event in stage.events[before:] if event.type == "gateway.clock"]
    assert (clock.data.jump_s, clock.data.ahead_s) == (3600.0, 0.0)
    assert "UNKNOWN" not in {state for unit in ("FIL01", "LBL01", "PAL01") for _, state in stage.states(unit)}
    stage.show("FIL01", "07:00:20", state=6, processed=130)
    stage.pass_time("07:00:25")
    assert stage.states("FIL01")[-1][1] == "RUN"
    stage.pass_time("07:02:00")
    assert stage.states("FIL01")[-1] == ("07:00:20", "UNKNOWN"), "silence is silence as ever, since the last contact"
    assert (
        sum(data["delta"] for _, data in stage.told("production.count", "FIL01") if data["counter"] == "produced") == 30
    )


@pytest.mark.case("R21")
async def test_what_the_record_keeps_for_days_is_kept_as_long_as_before(tmp_path: Path) -> None:
    """A command that comes again is still known, and an event can still be asked for, although the year is another."""
    year = 365 * 24 * HOUR
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        event = OutboxMessage("t", b"{}", "evt", "M", 1)
        await store.commit(Transaction(messages=[event], answers=[StoredAnswer("C1", BEGIN, b"{}")], at=BEGIN))
        await store.mark_published([1], at=BEGIN)
        box = Box()
        box.watch = ClockWatch(box.clock, lambda by, ahead: None, store)
        box.wall += year
        assert box.watch.look() == year
        await box.watch._move_record(year)
        assert await store.forget_published(box.clock.now() - 72 * HOUR) == 0
        assert [answer.cmd for answer in await store.answers(box.clock.now() - 7 * 24 * HOUR)] == ["C1"]
        assert await store.forget_published(box.clock.now() + 1) == 1
