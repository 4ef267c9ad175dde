"""Every handshake profile against a machine that speaks it: the good way, every fault, and a crash at every step."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_plant
from gateway.domain.operations import OperationResult
from gateway.domain.profiles import PROFILES
from tests.domain.profile_machines import NEW, OLD, SCANS, ProfileMachine, yaml_of
from tests.stage import Stage

M1 = "ACME/HZ/A/L1/M1"


class Cell:
    """A gateway core and one machine; time passes in steps of 100 ms."""

    def __init__(self, folder: Path, profile: str, *faults: str, extra: str = "", **held: Any) -> None:
        (folder / "plant.yaml").write_text(yaml_of(profile, extra), encoding="utf-8")
        self.stage = Stage(load_plant(folder))
        self.stage.beating = False
        self.machine = ProfileMachine(profile, frozenset(faults))
        self.machine.memory |= held
        self.carried_out = 0
        self.stage.connect("M1", "06:00:00")
        self.show()

    def show(self) -> None:
        """What the gateway's subscription tells it."""
        clock = f"06:{self.stage.now // 60000 % 60:02}:{self.stage.now // 1000 % 60:02}.{self.stage.now % 1000:03}"
        self.stage.show("M1", clock, unit="M1", **self.machine.memory)

    def download(self, cmd: str = "C1", values: dict[str, int] = NEW, **more: Any) -> None:
        items = [{"name": name, "value": value} for name, value in values.items()]
        self.stage.command("params.download", cmd=cmd, eq="M1", set="S", rev="A", items=items, **more)

    def perform(self, *, lost: bool = False) -> None:
        """The machine carries out the oldest operation; with `lost` nobody hears of it."""
        operation = self.stage.operations.pop(0)
        result = self.machine.answer(operation)
        self.carried_out += 1
        if not lost:
            self.stage.core.handle_operation(result, self.stage.now)
            self.stage.commit()

    def play(self, seconds: float = 120, until: int | None = None) -> None:
        """Let both go on until the download has ended, or `until` operations have been carried out."""
        for _ in range(round(seconds * 10)):
            while self.stage.operations:
                if until is not None and self.carried_out >= until:
                    return
                self.perform()
            if self.outcomes:
                return
            self.stage.now += 100
            self.machine.scan()
            self.stage.core.handle_deadline(self.stage.now)
            self.stage.commit()

    def die(self, *, performed: bool) -> None:
        """Kill the gateway; the operation it was at is carried out or not. It starts again and finds the machine."""
        if performed and self.stage.operations:
            self.perform(lost=True)
        self.stage.operations.clear()
        minutes = self.stage.now // 60_000 % 60
        self.stage.kill_and_restart(f"06:{minutes + 1:02}:00")
        self.machine.scan()
        self.stage.connect("M1")
        self.show()

    @property
    def outcomes(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(data["result"], tuple(data["codes"])) for _, data in self.stage.told("param.result")]

    def check_truth(self) -> tuple[str, tuple[str, ...]]:
        """One outcome, one final answer; both say what the machine works with, and no value was written twice."""
        ((result, codes),) = self.outcomes
        finals = [answer.answer for answer in self.stage.answers if answer.cmd == "C1" and answer.final]
        assert finals == [{"ACTIVE": "done", "REJECTED": "rejected", "FAILED": "failed"}[result]]
        (_, told) = self.stage.told("param.result")[0]
        if result == "ACTIVE":
            assert self.machine.active == NEW
        elif told["rolled_back"] is not None:
            assert told["rolled_back"] == OLD == self.machine.active
        elif result == "REJECTED":
            assert self.machine.active == OLD
        else:
            assert {"rollback_failed", "in_doubt"} & set(codes)
        if "in_doubt" not in codes:
            assert self.machine.raised == [], "what the gateway raised it takes back"
        for name in OLD:
            values = self.machine.writes_of(f"{name}_set")
            assert len(set(values)) == len(values), f"{name} was written {values}"
        return result, codes


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
        "machine_pull": ("FAILED", ("readback", "rollback_failed")),  # it asks no more, so it cannot be given the old
        **dict.fromkeys(set(PROFILES) - {"machine_pull"}, CLAMPED),
    },
    "ignore speed_set": {
        "recipe_buffer": REFUSED,  # the checksum tells it
        "machine_pull": ("FAILED", ("readback", "rollback_failed")),
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
    assert cell.check_truth()[1] == ("readback", "write_refused", "rollback_failed")
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


# --- machines that ask ----------------------------------------------------------------------------------------------


def asking(folder: Path) -> Cell:
    return Cell(folder, "machine_pull", request=False)


def ask(cell: Cell) -> None:
    cell.machine.memory["request"] = True
    cell.stage.now += 1_000
    cell.show()


def test_a_machine_that_asks_is_given_what_the_mes_had_ready(tmp_path: Path) -> None:
    cell = asking(tmp_path)
    cell.download(order="4711")
    cell.play(seconds=5)
    assert cell.machine.written == [], "nothing is written before the machine asks"
    ask(cell)
    cell.play()
    assert cell.check_truth() == ("ACTIVE", ())
    assert cell.machine.memory["answered"] is False


def test_a_machine_that_asks_again_in_the_middle_of_an_order_is_given_the_same_set_again(tmp_path: Path) -> None:
    cell = asking(tmp_path)
    cell.download(order="4711")
    ask(cell)
    cell.play()
    cell.stage.events.clear()
    cell.machine.memory |= {"speed_set": 0, "speed_now": 0, "oven_set": 0, "oven_now": 0}
    ask(cell)
    cell.play()
    ((_, result),) = cell.stage.told("param.result")
    assert result["cmd"].startswith("pull:4711:M1:")
    assert (result["result"], cell.machine.active) == ("ACTIVE", NEW)


def test_a_machine_that_goes_on_asking_is_given_the_set_once_and_then_told_that_there_is_no_more(
    tmp_path: Path,
) -> None:
    cell = asking(tmp_path)
    cell.download(order="4711")
    ask(cell)
    cell.play()
    cell.stage.events.clear()
    cell.machine.faults = frozenset({"deaf"})
    ask(cell)
    cell.play()
    assert cell.outcomes == [("FAILED", ("done_timeout",))]
    for _ in range(5):
        cell.show()
        while cell.stage.operations:
            cell.perform()
    assert len(cell.outcomes) == 1
    assert cell.machine.memory["refused"] is True


def test_a_machine_that_asks_for_nothing_there_is_told_so_until_it_asks_no_more(tmp_path: Path) -> None:
    cell = asking(tmp_path)
    ask(cell)
    cell.perform()
    ask(cell)
    assert (cell.machine.written, cell.stage.operations) == ([("refused", True)], [])
    cell.machine.memory["request"] = False
    cell.show()
    cell.perform()
    assert cell.machine.written == [("refused", True), ("refused", False)]


def test_a_refusal_that_a_restart_left_up_is_taken_back(tmp_path: Path) -> None:
    cell = asking(tmp_path)
    ask(cell)
    cell.perform()
    cell.stage.kill_and_restart("06:01:00")
    cell.machine.memory["request"] = False
    cell.stage.connect("M1")
    cell.show()
    cell.perform()
    assert cell.machine.writes_of("refused") == [True, False]
