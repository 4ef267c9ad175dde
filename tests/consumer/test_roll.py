"""The roll call: who was away asks for the last numbers."""

from gateway.consumer.reports import LastAsked
from tests.consumer.fake_gateway import FakeGateway
from tests.consumer.hearing import Hearing

FIL, LBL = "ACME/HZ/PACK/L1/FIL01", "ACME/HZ/PACK/L1/LBL01"


def away() -> tuple[FakeGateway, Hearing]:
    """A consumer that knows three streams, and missed the end of one while it was away."""
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.status(), gateway.birth(), gateway.event(FIL), gateway.event(LBL))
    for _ in range(4):
        gateway.event(FIL)
    hearing.reconciler.call_roll(hearing.now)
    return gateway, hearing


def test_the_end_that_was_missed_is_found_and_asked_for() -> None:
    gateway, hearing = away()
    assert hearing.wait(0.25) == []
    questions = hearing.wait(0.25)
    assert sorted(str(question.body["eq"]) for question in questions) == [FIL, LBL, "None"]
    assert {question.body["from_seq"] for question in questions} == {9007199254740991}
    assert hearing.reconciler.roll_call.open == 3
    assert not hearing.reconciler.roll_call.was_answered
    for question in questions:
        hearing.take(*gateway.replay(question.body))
    assert (hearing.reconciler.roll_call.open, hearing.reconciler.roll_call.was_answered) == (0, True)
    hearing.converse(gateway, 3)
    assert hearing.asked == [(2, 5)]
    assert hearing.reconciler.missing == 0
    assert hearing.wait(60) == []


def test_while_nobody_answers_it_is_asked_again_and_nothing_is_claimed() -> None:
    _, hearing = away()
    roll = hearing.reconciler.roll_call
    hearing.wait(10)
    assert (len(hearing.of(LastAsked)), hearing.reconciler.waits_in_vain(2)) == (6, False)
    hearing.wait(590)
    assert len({question.cmd for question in hearing.of(LastAsked)}) == 7 * 3, "after 5 s, 10 s, 20 s …"
    assert (roll.open, roll.was_answered, hearing.reconciler.waits_in_vain(2)) == (3, False, True)
    assert hearing.reconciler.missing == 0, "nothing is known to be, but three streams are open"


def test_busy_is_asked_again_and_an_epoch_that_is_gone_is_not() -> None:
    gateway, hearing = away()
    first, second, third = hearing.wait(0.5)
    hearing.take(
        gateway.answer(first.cmd, "rejected", ["busy"], ["later"]),
        gateway.answer(second.cmd, "rejected", ["unknown_epoch"], ["e1 is not kept here"]),
        gateway.answer(third.cmd, "rejected", ["beyond"], ["9 was not given yet; the last one is 1"]),
    )
    assert hearing.reconciler.roll_call.open == 1
    assert [question.stream for question in hearing.wait(1)] == [first.stream]


def test_what_the_broker_does_not_take_is_not_asked_again_at_once() -> None:
    _, hearing = away()
    for question in hearing.wait(0.5):
        hearing.reports += hearing.reconciler.could_not_ask(question.cmd, "Not authorized", hearing.now)
    assert hearing.words == ["Not authorized"] * 3
    assert hearing.wait(4.75) == []
    assert len(hearing.wait(0.25)) == 3


def test_no_more_than_eight_questions_are_open() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.status(), *[gateway.event(f"ACME/HZ/L/M{number}") for number in range(20)])
    hearing.reconciler.call_roll(hearing.now)
    assert len(hearing.wait(4)) == 8
    for _ in range(2):
        for question in hearing.of(LastAsked):
            hearing.take(*gateway.replay(question.body))
        hearing.wait(0.25)
    assert len(hearing.of(LastAsked)) == 20


def test_a_gateway_of_which_no_site_is_known_is_not_asked() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.event(FIL))
    hearing.reconciler.call_roll(hearing.now)
    assert hearing.wait(1) == []
    hearing.take(gateway.status())
    (question,) = hearing.wait(0.25)
    assert question.site == "ACME/HZ"


def test_a_new_connection_begins_anew_and_an_answer_of_before_says_nothing() -> None:
    gateway, hearing = away()
    questions = hearing.wait(0.5)
    hearing.reconciler.call_roll(hearing.now)
    for question in questions:
        hearing.take(*gateway.replay(question.body))
    assert (hearing.reconciler.roll_call.open, hearing.reconciler.roll_call.was_answered) == (3, False)
    assert len(hearing.wait(0.5)) == 3
