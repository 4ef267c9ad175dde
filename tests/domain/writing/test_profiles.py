"""Every handshake profile against a machine that speaks it: the good way, every fault, and a crash at every step."""

from pathlib import Path

import pytest

from gateway.domain.operations import OperationResult
from gateway.domain.writing.profiles import PROFILES
from tests.domain.profile_cell import Cell
from tests.domain.profile_machines import NEW, OLD, SCANS


def test_there_is_a_machine_for_every_profile() -> None:
    assert set(SCANS) == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_machine_takes_its_parameters_and_is_ready_for_the_next_set(tmp_path: Path, profile: str) -> None:
    cell = Cell(tmp_path, profile)
    cell.download()
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())
    assert len(cell.machine.taken) == 1
    cell.stage.events.clear()
    cell.machine.memory |= {"request": True} if profile == "machine_pull" else {}
    cell.show()
    cell.download("C2", OLD)
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]
    assert cell.machine.active == OLD
    assert cell.machine.taken == [NEW, OLD]


CLAMPED = ("FAILED", ("readback",))
NO_ANSWER = ("FAILED", ("ack_timeout",))
REFUSED = ("FAILED", ("device_error",))
NOT_DONE = ("FAILED", ("done_timeout",))
FAULTS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "clamp speed": {
        "machine_pull": ("FAILED", ("readback", "not_asked", "rollback_failed")),  # it cannot be given the old ones
        **dict.fromkeys(set(PROFILES) - {"machine_pull"}, CLAMPED),
    },
    "ignore speed_set": {
        "recipe_buffer": REFUSED,  # the checksum tells it
        "machine_pull": ("FAILED", ("readback", "not_asked", "rollback_failed")),
        **dict.fromkeys(set(PROFILES) - {"machine_pull", "recipe_buffer"}, CLAMPED),
    },
    "refuse oven_set": dict.fromkeys(PROFILES, ("FAILED", ("write_refused",))),
    "error": {
        **dict.fromkeys(("sequence_number", "request_bits", "data_ready", "recipe_buffer", "method"), REFUSED),
        "packml": NOT_DONE,
        "scada_trigger": NOT_DONE,
    },
    "deaf": {
        **dict.fromkeys(("sequence_number", "request_bits", "packml", "recipe_buffer"), NO_ANSWER),
        **dict.fromkeys(("data_ready", "machine_pull", "scada_trigger"), NOT_DONE),
        "none": CLAMPED,
    },
}


@pytest.mark.parametrize(
    ("fault", "profile", "ends"), [(fault, *row) for fault, rows in FAULTS.items() for row in sorted(rows.items())]
)
def test_what_goes_wrong_is_told_by_name_and_the_old_values_are_back(
    tmp_path: Path, fault: str, profile: str, ends: tuple[str, tuple[str, ...]]
) -> None:
    cell = Cell(tmp_path, profile, fault)
    cell.download()
    cell.play()
    assert cell.check_truth() == ends
    assert (cell.machine.active == OLD) is ("rollback_failed" not in ends[1])


COMMITS = {
    "sequence_number": "command", "request_bits": "request", "data_ready": "ready", "packml": "request",
    "recipe_buffer": "checksum", "machine_pull": "answered", "scada_trigger": "trigger",
}  # fmt: skip


@pytest.mark.parametrize(("profile", "signal"), COMMITS.items())
def test_a_signal_that_the_machine_does_not_let_the_gateway_write_means_that_nothing_was_taken(
    tmp_path: Path, profile: str, signal: str
) -> None:
    cell = Cell(tmp_path, profile, f"refuse {signal}")
    cell.download()
    cell.play()
    assert cell.check_truth() == ("FAILED", ("commit_refused",))
    assert cell.machine.taken == []
    assert f"M1.{signal}: status 0x803B0000" in cell.stage.answers[-1].detail


@pytest.mark.parametrize("profile", PROFILES)
def test_old_values_that_the_machine_does_not_take_back_are_not_called_rolled_back(
    tmp_path: Path, profile: str
) -> None:
    cell = Cell(tmp_path, profile, "clamp speed", "refuse oven_set 1700")
    cell.download()
    cell.play()
    asked_no_more = ("not_asked",) if profile == "machine_pull" else ()
    assert cell.check_truth()[1] == ("readback", *asked_no_more, "write_refused", "rollback_failed")
    assert "oven is not back at its old value" in cell.stage.answers[-1].detail


@pytest.mark.parametrize("hidden", ["oven_set", "status"])
def test_a_machine_that_cannot_be_read_gets_no_value(tmp_path: Path, hidden: str) -> None:
    cell = Cell(tmp_path, "sequence_number", f"hide {hidden}")
    cell.download()
    cell.play()
    assert cell.check_truth() == ("REJECTED", ("unreadable",))
    assert (cell.machine.written, cell.stage.answers[-1].detail) == ([], (f"M1.{hidden} cannot be read",))


def test_another_download_is_told_how_far_the_first_one_is(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "sequence_number", "deaf")
    cell.download()
    told = []
    for moment in range(1, 5):
        cell.play(until=moment)
        cell.download(f"X{moment}")
        told += cell.stage.answers[-1].detail
    steps = [text.rsplit(" ", 1)[1] for text in told]
    assert steps == ["WRITE", "COMMIT", "WAIT_ACK", "WAIT_ACK"]


@pytest.mark.parametrize("fault", ["", "clamp speed", "error", "deaf"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_crash_at_any_step_ends_in_one_true_answer_and_no_value_is_written_twice(
    tmp_path: Path, profile: str, fault: str
) -> None:
    told: dict[int, tuple[str, tuple[str, ...]]] = {}
    for moment in range(40):
        for performed in (False, True):
            cell = Cell(tmp_path, profile, fault)
            cell.download()
            cell.play(until=moment)
            if cell.outcomes:
                assert moment >= 3, "a download has at least snapshot, write and read-back"
                return
            cell.die(performed=performed)
            cell.play()
            told[moment] = cell.check_truth()
    raise AssertionError(f"this download never ends: {told}")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_link_that_breaks_at_any_step_is_picked_up_where_the_machine_says_it_is(tmp_path: Path, profile: str) -> None:
    for moment in range(40):
        cell = Cell(tmp_path, profile)
        cell.download()
        cell.play(until=moment)
        if cell.outcomes:
            assert moment >= 3
            return
        if cell.stage.operations:
            operation = cell.stage.operations.pop(0)
            cell.machine.answer(operation)
            cell.stage.core.handle_operation(OperationResult(operation.token, lost=True), cell.stage.now)
        cell.stage.core.handle_link("M1", False, cell.stage.now, cell.stage.now)
        cell.stage.now += 2_000
        cell.machine.scan()
        cell.stage.connect("M1")
        cell.show()
        cell.play()
        assert cell.check_truth()[1] in ((), ("interrupted",))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_machine_that_restarts_in_the_middle_never_makes_the_answer_a_lie(tmp_path: Path, profile: str) -> None:
    for moment in range(40):
        cell = Cell(tmp_path, profile)
        cell.download()
        cell.play(until=moment)
        if cell.outcomes:
            return
        cell.stage.operations.clear()
        cell.stage.core.handle_link("M1", False, cell.stage.now, cell.stage.now)
        cell.machine.restart()
        cell.machine.scan()
        cell.stage.now += 2_000
        cell.stage.connect("M1")
        cell.show()
        cell.play()
        cell.check_truth()


@pytest.mark.parametrize(
    ("moment", "ends"), [(0, ("REJECTED", ("no_contact",))), (2, ("FAILED", ("in_doubt",)))], ids=["unread", "written"]
)
@pytest.mark.parametrize("restart", [False, True], ids=["link lost", "gateway restarted"])
def test_a_machine_that_does_not_come_back_leaves_no_command_without_an_answer(
    tmp_path: Path, moment: int, ends: tuple[str, tuple[str, ...]], restart: bool
) -> None:
    cell = Cell(tmp_path, "sequence_number", extra="      contact_timeout: 60s\n")
    cell.download()
    cell.play(until=moment)
    operation = cell.stage.operations.pop(0)
    if restart:
        cell.stage.kill_and_restart("06:00:10")
    else:
        cell.stage.core.handle_operation(OperationResult(operation.token, lost=True), cell.stage.now)
        cell.stage.disconnect("M1", "06:00:10")
    cell.stage.pass_time("06:00:50")
    assert cell.outcomes == []
    cell.stage.pass_time("06:01:11")
    assert cell.check_truth() == ends


@pytest.mark.parametrize("left", [{"request": True}, {"request": True, "acknowledged": True, "done": True}])
def test_a_request_that_a_crash_left_up_is_taken_back_before_the_first_value(
    tmp_path: Path, left: dict[str, bool]
) -> None:
    cell = Cell(tmp_path, "request_bits", "deaf")
    cell.machine.memory |= left
    cell.download()
    cell.play(until=1)
    cell.machine.faults = frozenset()
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())
    assert cell.machine.written[:2] == [("request", False), ("speed_set", 120)]
    assert cell.machine.taken == [NEW]


def test_a_machine_that_never_drops_its_old_answer_gets_no_value(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "request_bits", "deaf")
    cell.machine.memory |= {"acknowledged": True}
    cell.download()
    cell.play()
    assert cell.check_truth() == ("REJECTED", ("stale_answer",))
    assert cell.machine.written == []


def test_a_buffer_is_sealed_over_all_that_it_holds_also_what_the_set_does_not_name(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "recipe_buffer")
    cell.download(values={"oven": 1750})
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]
    assert cell.machine.taken == [{"speed": 100, "oven": 1750}]
    assert cell.machine.memory["length"] == 8


def test_a_pulse_lasts_as_long_as_the_yaml_says_and_then_the_plc_is_believed(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "scada_trigger")
    cell.download()
    cell.play(until=2)
    cell.perform()
    assert (cell.machine.memory["trigger"], cell.stage.operations) == (True, [])
    cell.stage.pass_time("06:00:00.499")
    assert cell.stage.operations == []
    cell.play()
    assert cell.machine.writes_of("trigger") == [True, False]
    assert cell.outcomes == [("ACTIVE", ())]
