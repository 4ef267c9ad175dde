"""The sequence-number handshake, as a machine plays it."""

from simulators.models.handshake import Handshake, Refusal, Status


class Machine:
    """A handshake of 2 s whose sequence numbers end at 5, and the moments at which it took a set."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refusal = Refusal.NONE
        self.handshake = Handshake(2, 5, lambda: self.refusal, self.taken.append)

    def answer(self) -> tuple[int, Status, Refusal]:
        return self.handshake.acknowledged, self.handshake.status, self.handshake.error


def test_a_command_is_busy_at_once_and_done_when_its_time_is_over() -> None:
    machine = Machine()
    machine.handshake.request(1, 10_000)
    assert machine.answer() == (1, Status.BUSY, Refusal.NONE)
    machine.handshake.advance(11_999)
    assert (machine.answer()[1], machine.taken) == (Status.BUSY, [])
    machine.handshake.advance(60_000)

    assert (machine.answer(), machine.taken) == ((1, Status.DONE, Refusal.NONE), [12_000])


def test_only_the_next_number_is_a_command() -> None:
    machine = Machine()
    for number in (0, 2, 5, -1):
        machine.handshake.request(number, 0)

    assert machine.answer() == (0, Status.IDLE, Refusal.NONE)


def test_a_command_that_comes_while_another_is_busy_waits_for_its_turn() -> None:
    machine = Machine()
    machine.handshake.request(1, 0)
    machine.handshake.request(2, 500)
    assert machine.answer() == (1, Status.BUSY, Refusal.NONE)
    machine.handshake.advance(2_000)
    assert machine.answer() == (2, Status.BUSY, Refusal.NONE)
    machine.handshake.advance(9_000)

    assert machine.taken == [2_000, 4_000]


def test_after_the_last_number_comes_one() -> None:
    machine = Machine()
    for turn, number in enumerate((1, 2, 3, 4, 5, 1)):
        machine.handshake.request(number, turn * 10_000)
        machine.handshake.advance(turn * 10_000 + 5_000)

    assert (machine.answer()[0], len(machine.taken)) == (1, 6)


def test_a_refused_command_is_acknowledged_and_the_next_one_can_be_taken() -> None:
    machine = Machine()
    machine.refusal = Refusal.NOT_REMOTE
    machine.handshake.request(1, 0)
    assert machine.answer() == (1, Status.REJECTED, Refusal.NOT_REMOTE)
    assert machine.handshake.due_ms is None
    machine.refusal = Refusal.NONE
    machine.handshake.request(2, 0)

    assert machine.answer() == (2, Status.BUSY, Refusal.NONE)
