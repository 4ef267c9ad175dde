"""Machines that ask for their parameters by themselves: what was ready, the same again, or that there is nothing."""

from pathlib import Path

from tests.domain.profile_cell import Cell
from tests.domain.profile_machines import NEW


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
