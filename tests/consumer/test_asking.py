"""When, how often and how much is asked for."""

import pytest

from gateway.consumer.asking import Inquiry, named
from gateway.consumer.messages import ReplayAnswer
from gateway.consumer.numbers import Numbers
from gateway.consumer.reports import Asked
from tests.consumer.fake_gateway import FakeGateway
from tests.consumer.hearing import Hearing

FIL, LBL = "ACME/HZ/PACK/L1/FIL01", "ACME/HZ/PACK/L1/LBL01"


def with_holes(*holes: tuple[int, int]) -> tuple[Numbers, Inquiry]:
    """Holes that were found at 0."""
    numbers = Numbers(begin=1)
    for first, last in holes:
        numbers.take(first - 1, 0)
        numbers.take(last + 1, 0)
    numbers.holes = [hole for hole in numbers.holes if (hole.first, hole.last) in holes]
    return numbers, Inquiry(numbers)


def answer(verdict: str, *codes: str, detail: str = "") -> ReplayAnswer:
    return ReplayAnswer("c", verdict, verdict != "accepted", codes, (detail,) if detail else ())


def test_a_range_ends_where_nothing_more_is_missing() -> None:
    assert with_holes((2, 600), (1_500, 1_510))[1].wish(2_000) == (2, 600)
    assert with_holes((2, 600), (900, 1_500))[1].wish(2_000) == (2, 1_001)
    assert with_holes((1_050, 1_100), (2, 600))[1].wish(2_000) == (2, 600), "the oldest number first"


@pytest.mark.parametrize(
    ("detail", "ranges"),
    [
        ("no longer kept: 3", [(3, 3)]),
        ("no longer kept: 3, 10-12 and 4 more ranges", [(3, 3), (10, 12)]),
        ("3 events sent again", []),
        ("", []),
    ],
)
def test_an_answer_names_what_is_gone(detail: str, ranges: list[tuple[int, int]]) -> None:
    assert named(("9 events sent again", detail)) == ranges


def test_incomplete_without_ranges_that_can_be_read_means_all_that_did_not_come() -> None:
    numbers, inquiry = with_holes((2, 5))
    inquiry.ask("c", 2, 5, 2_000)
    numbers.take(3, 2_100)
    outcome = inquiry.answered(answer("done", "incomplete", detail="something in German"), 2_200)
    assert [(gone.first, gone.last) for gone in outcome.lost] == [(2, 2), (4, 5)]
    assert (outcome.came, numbers.missing) == (1, 0)


def test_only_what_is_named_is_given_up_and_only_within_what_was_asked_for() -> None:
    numbers, inquiry = with_holes((2, 5), (9, 9))
    inquiry.ask("c", 2, 5, 2_000)
    outcome = inquiry.answered(answer("done", "incomplete", detail="no longer kept: 4-9"), 2_200)
    assert [(gone.first, gone.last) for gone in outcome.lost] == [(4, 5)]
    assert [(hole.first, hole.last) for hole in numbers.holes] == [(2, 3), (9, 9)]


def test_after_a_piece_with_losses_it_waits_the_grace_and_pieces_grow_again_when_they_come_whole() -> None:
    numbers, inquiry = with_holes((2, 5_000))
    now, sizes = 2_000, []
    for lost in (1, 1, 0, 0, 0):
        wish = inquiry.wish(now)
        assert wish is not None
        first, last = wish
        sizes.append(last - first + 1)
        inquiry.ask("c", first, last, now)
        for number in range(first, last + 1 - lost):
            numbers.take(number, now)
        inquiry.answered(answer("done"), now)
        if lost:
            assert inquiry.wish(now + 1_999) is None
            now += 2_000
    assert sizes == [1_000, 500, 250, 500, 1_000]


def test_an_accepted_request_is_given_more_time() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = [gateway.event(FIL) for _ in range(5)]
    hearing.take(gateway.status(), events[0], events[4])
    (asked,) = hearing.wait(2)
    hearing.wait(20)
    hearing.take(gateway.answer(asked.cmd, "accepted"))
    hearing.wait(29.75)
    assert hearing.words == []
    hearing.wait(0.25)
    assert hearing.words == ["no answer came"]


def test_a_night_without_answers_costs_a_request_every_five_minutes() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = [gateway.event(FIL) for _ in range(5)]
    hearing.take(gateway.status(), events[0], events[4])
    hearing.wait(3 * 3600)
    assert len(hearing.of(Asked)) == pytest.approx(3 * 3600 / 330, abs=7)
    assert hearing.of(Asked)[-1].again


def test_what_an_unknown_epoch_misses_is_given_up_whole() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = [gateway.event(FIL) for _ in range(2_000)]
    hearing.take(gateway.status(), events[0], events[10], events[1_999])
    (asked,) = hearing.wait(2)
    assert (asked.first, asked.last) == (2, 1001)
    hearing.take(gateway.answer(asked.cmd, "rejected", ["unknown_epoch"], ["e1 is not kept here"]))
    reason = "the gateway refuses: e1 is not kept here"
    assert hearing.given_up == [(2, 10, reason), (12, 1999, reason)]
    assert hearing.reconciler.may_yet_come == 0


def test_a_refusal_of_the_broker_is_no_reason_to_ask_at_once() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = [gateway.event(FIL) for _ in range(5)]
    hearing.take(gateway.status(), events[0], events[4])
    (asked,) = hearing.wait(2)
    hearing.reports += hearing.reconciler.could_not_ask(asked.cmd, "Not authorized", hearing.now)
    assert hearing.words == ["Not authorized"]
    assert hearing.wait(1.75) == []
    assert len(hearing.wait(0.25)) == 1
