"""What a consumer makes of losses, repeats and gateways that say what became of their messages."""

import json

from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Reused, Told, Unread
from tests.consumer.fake_gateway import FakeGateway, Sent
from tests.consumer.hearing import Hearing

FIL, LBL = "ACME/HZ/PACK/L1/FIL01", "ACME/HZ/PACK/L1/LBL01"


def line(gateway: FakeGateway, eq: str = FIL, events: int = 10) -> list[Sent]:
    return [gateway.event(eq, n=number) for number in range(events)]


def test_a_stream_without_loss_is_told_once_in_its_order_and_nothing_is_asked() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.status(), *line(gateway))
    hearing.converse(gateway, 60)
    assert hearing.told == [("FIL01", number) for number in range(1, 11)]
    assert (gateway.asked, hearing.reconciler.missing) == ([], 0)


def test_repeats_are_dropped() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(*events[:6], *events[3:], *events)
    assert hearing.told == [("FIL01", number) for number in range(1, 11)]
    assert hearing.reconciler.tallies.of(FIL).repeats == 13


def test_a_hole_is_asked_for_after_its_grace_and_what_came_behind_it_waits() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[6:])
    hearing.wait(1.75)
    assert (hearing.told[-1], hearing.asked) == (("FIL01", 3), [])
    (asked,) = hearing.wait(0.25)
    assert asked.body == {"cmd": "c1-1", "eq": FIL, "epoch": "e1", "from_seq": 4, "to_seq": 6}
    assert (asked.site, asked.missing, asked.again) == ("ACME/HZ", 3, False)
    hearing.take(*gateway.replay(asked.body))
    assert hearing.told == [("FIL01", number) for number in range(1, 11)]
    assert not any(report.late for report in hearing.of(Told))
    assert hearing.filled == [(4, 6, 3)]
    assert hearing.reconciler.missing == 0


def test_another_stream_is_not_held_up() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    filler, labeller = line(gateway), line(gateway, LBL)
    hearing.take(*filler[:3], *filler[5:], *labeller)
    assert hearing.told[-1] == ("LBL01", 10)
    assert hearing.told.count(("FIL01", 6)) == 0


def test_a_birth_finds_the_holes_at_the_end_also_that_of_run_parameters() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    tel = [gateway.tel(FIL) for _ in range(5)]
    hearing.take(gateway.status(), *events[:8], *tel[:3], gateway.birth())
    assert hearing.wait(9.75) == []
    hearing.converse(gateway, 10)
    assert hearing.told[-3:] == [("HZ", 1), ("FIL01", 9), ("FIL01", 10)]
    assert hearing.given_up == [(4, 5, "run parameters are not sent again")]
    assert hearing.reconciler.missing == 2


def test_a_birth_finds_a_stream_of_which_nothing_came_since_the_birth_before() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    first = gateway.event(LBL)
    hearing.take(gateway.status(), gateway.birth())
    line(gateway, LBL, 3)
    hearing.take(gateway.birth())
    hearing.converse(gateway, 20)
    assert hearing.told == [("HZ", 1), ("HZ", 2), ("LBL01", 2), ("LBL01", 3), ("LBL01", 4)]
    hearing.take(first)
    assert hearing.told[-1] == ("LBL01", 1), "what is older than the record and comes by itself is no repeat"


def test_while_a_backlog_arrives_its_end_is_waited_for() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway, events=100)
    hearing.take(gateway.status(), gateway.birth())
    for event in events:
        hearing.take(event._replace(historical="outage"))
        hearing.wait(1.75)
    assert hearing.asked == []


def test_what_the_gateway_no_longer_keeps_is_given_up_and_named() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    gateway.forgotten = {(FIL, 4), (FIL, 5)}
    hearing.take(gateway.status(), *events[:3], *events[6:])
    hearing.converse(gateway)
    assert hearing.given_up == [(4, 5, "the gateway no longer keeps it")]
    assert hearing.told == [("FIL01", number) for number in (1, 2, 3, 6, 7, 8, 9, 10)]
    assert (len(gateway.asked), hearing.reconciler.missing, hearing.reconciler.may_yet_come) == (1, 2, 0)
    hearing.take(events[4])
    assert (hearing.told[-1], hearing.of(Told)[-1].late) == (("FIL01", 5), True)
    assert hearing.reconciler.missing == 1


def test_no_answer_is_asked_again_ever_more_rarely_and_at_once_when_the_gateway_is_back() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[6:])
    hearing.wait(600)
    assert hearing.words[:2] == ["no answer came"] * 2
    assert 6 <= len(hearing.asked) <= 10
    assert set(hearing.asked) == {(4, 6)}
    assert len({report.cmd for report in hearing.of(type(hearing.reports[3]))}) == len(hearing.asked)
    hearing.take(gateway.birth())
    hearing.converse(gateway, 35)
    assert hearing.reconciler.missing == 0


def test_what_is_missing_too_long_holds_nothing_back_and_is_late_when_it_comes() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(*events[:3], *events[4:])
    hearing.wait(59)
    assert hearing.told[-1] == ("FIL01", 3)
    hearing.wait(2)
    assert hearing.told[-1] == ("FIL01", 10)
    hearing.take(events[3])
    assert (hearing.told[-1], hearing.of(Told)[-1].late) == (("FIL01", 4), True)


def test_a_large_hole_is_asked_for_in_pieces_one_at_a_time() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway, events=2_600)
    hearing.take(gateway.status(), events[0], events[-1])
    hearing.wait(3)
    assert hearing.asked == [(2, 1001)]
    hearing.take(*gateway.replay(hearing.reports[-1].body))
    hearing.converse(gateway, 1)
    assert hearing.asked == [(2, 1001), (1002, 2001), (2002, 2599)]
    assert len(hearing.told) == 2_600


def test_holes_close_to_each_other_are_asked_for_together_and_those_far_apart_are_not() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway, events=100)
    lost = {10, 12, 14, 60}
    hearing.take(gateway.status(), *(event for number, event in enumerate(events, 1) if number not in lost))
    hearing.converse(gateway, 10)
    assert hearing.asked == [(10, 14), (60, 60)]
    assert hearing.told == [("FIL01", number) for number in range(1, 101)]


def test_a_piece_of_which_something_is_lost_again_is_followed_by_a_smaller_one() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway, events=5_000)
    hearing.take(gateway.status(), events[0], events[-1])
    for _ in range(2_000):
        for report in hearing.wait(0.25):
            if type(report).__name__ == "Asked":
                answer = gateway.replay(report.body)
                hearing.take(answer[0], *answer[1:-1][:100], answer[-1])  # the broker's queue takes a hundred
    assert hearing.reconciler.missing == 0
    sizes = [last - first + 1 for first, last in hearing.asked]
    assert sizes[:5] == [1000, 500, 250, 125, 62]
    assert len(sizes) < 150


def test_busy_is_no_refusal() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[6:])
    (asked,) = hearing.wait(2)
    hearing.take(gateway.answer(asked.cmd, "rejected", ["busy"], ["16 are under way"]))
    assert (hearing.words, hearing.given_up) == (["the gateway says rejected: 16 are under way"], [])
    hearing.converse(gateway, 10)
    assert hearing.reconciler.missing == 0


def test_what_the_gateway_refuses_is_given_up_with_its_words() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[6:])
    (asked,) = hearing.wait(2)
    hearing.take(gateway.answer(asked.cmd, "rejected", ["beyond"], ["6 was not given yet"]))
    assert hearing.given_up == [(4, 6, "the gateway refuses: 6 was not given yet")]
    assert hearing.told[-1] == ("FIL01", 10)


def test_an_answer_to_somebody_elses_command_and_their_replay_change_nothing() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    other = gateway.replay({"cmd": "mes-7", "eq": FIL, "epoch": "e1", "from_seq": 1, "to_seq": 3})
    hearing.take(gateway.status(), *other, *events[4:], *other)
    assert hearing.told == [("FIL01", number) for number in range(5, 11)]
    assert hearing.wait(60) == []


def test_a_new_epoch_counts_from_one_and_the_holes_of_the_old_one_are_asked_for_by_its_name() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[6:])
    gateway.renew("e2")
    fresh = line(gateway)
    hearing.take(*fresh[2:])
    hearing.converse(gateway, 10)
    assert {(one["epoch"], one["from_seq"], one["to_seq"]) for one in gateway.asked} == {("e1", 4, 6), ("e2", 1, 2)}
    assert (len(hearing.told), hearing.reconciler.missing) == (20, 0)


def test_a_fact_that_a_new_record_tells_again_is_the_same_fact() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.event(FIL, fact="stop-1"), gateway.event(FIL, fact="stop-2", rev=2))
    gateway.renew("e2")
    hearing.take(gateway.event(FIL, fact="stop-1"), gateway.event(FIL, fact="stop-2"))
    hearing.take(gateway.event(FIL, fact="stop-2", rev=3))
    assert [(told.event.id, told.event.rev) for told in hearing.of(Told)] == [
        ("stop-1", 1),
        ("stop-2", 2),
        ("stop-2", 3),
    ]
    tally = hearing.reconciler.tallies.of(FIL)
    assert (tally.events, tally.revisions, tally.repeats) == (3, 2, 2)


def test_one_number_for_two_facts_is_told_as_what_it_is() -> None:
    gateway, copy, hearing = FakeGateway(), FakeGateway(), Hearing()
    hearing.take(gateway.event(FIL, fact="a"), gateway.event(FIL, fact="b"))
    hearing.take(copy.event(FIL, fact="a"), copy.event(FIL, fact="c"))
    assert [(report.stream.place, report.seq) for report in hearing.of(Reused)] == [(FIL, 2)]
    assert [told.event.id for told in hearing.of(Told)] == ["a", "b", "c"], "a fact that nobody told is not dropped"


def test_dropped_run_parameters_are_named_as_such_before_or_after_they_are_missed() -> None:
    for told_first in (True, False):
        gateway, hearing = FakeGateway(), Hearing()
        tel = [gateway.tel(FIL) for _ in range(10)]
        streams = [{"eq": FIL, "stream": "tel", "from_seq": 3, "to_seq": 6, "messages": 4}]
        dropped = gateway.event(None, "gateway.dropped", reason="record_full", streams=streams)
        order = [tel[0], tel[1], dropped, tel[9]] if told_first else [tel[0], tel[1], tel[9], dropped]
        hearing.take(*order)
        hearing.wait(3)
        assert hearing.given_up == [
            (3, 6, "the gateway dropped it: record_full"),
            (7, 9, "run parameters are not sent again"),
        ]
        assert hearing.reconciler.missing == 7


def test_what_a_salvage_lost_is_not_asked_for() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    lost = [{"eq": FIL, "stream": "evt", "from_seq": 4, "to_seq": 5, "messages": 2}]
    salvaged = gateway.event(
        None, "gateway.salvaged", reason="page 7", file="x", rows_saved=1, lost=lost, lost_rows=[], new_epoch=False
    )
    hearing.take(gateway.status(), *events[:3], salvaged, *events[6:])
    hearing.converse(gateway, 10)
    assert hearing.given_up == [(4, 5, "the gateway's record was damaged: page 7")]
    assert hearing.asked == [(6, 6)]


def test_what_a_salvage_with_a_new_epoch_lost_is_of_the_old_one() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[6:])
    gateway.renew("e2")
    lost = [{"eq": FIL, "stream": "evt", "from_seq": 4, "to_seq": None, "messages": None}]
    salvaged = gateway.event(
        None, "gateway.salvaged", reason="page 7", file="x", rows_saved=1, lost=lost, lost_rows=[], new_epoch=True
    )
    events = line(gateway)
    hearing.take(events[5], salvaged)
    hearing.converse(gateway, 10)
    assert hearing.given_up == [(4, 6, "the gateway's record was damaged: page 7")]
    assert hearing.asked == [(1, 5)]


def test_what_is_not_kept_of_a_stream_with_quarantine_may_be_there() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    topic = f"mfg/v1/{FIL}/evt/equipment.state"
    told = gateway.event(None, "gateway.quarantined", topic=topic, reason="Not authorized", messages=1, first=4, last=4)
    gateway.forgotten = {(FIL, 4)}
    hearing.take(gateway.status(), told, *events[:3], *events[4:])
    hearing.converse(gateway, 10)
    assert hearing.given_up == [(4, 4, "the gateway no longer keeps it, or keeps it in quarantine: Not authorized")]


def test_run_parameters_that_begin_anew_are_not_taken_for_repeats() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    old = [gateway.tel(FIL, values=3) for _ in range(5)]
    hearing.take(*old, *old[3:])
    gateway.renew("e2")
    hearing.take(*[gateway.tel(FIL, values=3) for _ in range(4)])
    tally = hearing.reconciler.tallies.of(FIL)
    assert (tally.telemetry, tally.values, tally.repeats, hearing.reconciler.missing) == (9, 27, 2, 0)
    hearing.take(gateway.event(FIL), gateway.tel(FIL))
    assert (tally.telemetry, hearing.reconciler.missing) == (10, 0)


def test_an_event_of_the_new_epoch_begins_run_parameters_anew_and_the_lost_ones_count() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    old = [gateway.tel(FIL) for _ in range(4)]
    hearing.take(gateway.event(FIL), old[0], old[3])
    gateway.renew("e2")
    hearing.take(gateway.event(FIL))
    gateway.tel(FIL)
    hearing.take(gateway.tel(FIL))
    assert hearing.wait(1.75) == []
    assert not hearing.reconciler.waits_in_vain(0), "it may yet be told what became of them"
    hearing.wait(0.25)
    assert hearing.given_up == [(1, 1, "run parameters are not sent again")]
    assert hearing.reconciler.waits_in_vain(0)
    assert hearing.reconciler.missing == 2 + 1


def test_what_cannot_be_read_is_told_and_counted_and_the_rest_goes_on() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    good = gateway.event(FIL)
    topic = f"mfg/v1/{LBL}/evt/equipment.state"
    half = json.loads(good.payload)
    del half["seq"]
    hearing.take(
        Sent(topic, b"\xff"), Sent(topic, b"{}"), Sent(topic, good.payload), Sent(good.topic, json.dumps(half).encode()),
        Sent(f"mfg/v1/{FIL}/evt/alarm.raised", good.payload), Sent(f"mfg/v1/{FIL}/tel", b'{"eq":"x","seq":1,"rows":[]}'),
        Sent(f"{gateway.base}/evt/gateway.birth", b"[]"), Sent(f"mfg/v1/{FIL}/now/state", b"whatever"), good,
    )  # fmt: skip
    assert hearing.reconciler.tallies.unreadable == len(hearing.of(Unread)) == 7
    assert [report.reason for report in hearing.of(Unread)][2] == f"it says that it is of {FIL!r}"
    assert hearing.told == [("FIL01", 1)]


def test_only_the_equipment_that_was_chosen_counts() -> None:
    gateway, hearing = FakeGateway(), Hearing(Reconciler("c1", [LBL]))
    hearing.take(gateway.status(), gateway.event(FIL), gateway.event(LBL), gateway.tel(FIL), gateway.birth())
    line(gateway, FIL)
    hearing.take(gateway.birth())
    assert hearing.wait(60) == []
    assert hearing.told == [("LBL01", 1), ("HZ", 1), ("HZ", 2)]


def test_more_events_than_may_be_held_are_told_behind_the_hole() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.event(FIL))
    gateway.event(FIL)
    for event in line(gateway, events=20_100):
        hearing.take(event)
    assert len(hearing.told) == 1
    hearing.wait(0.25)
    assert len(hearing.told) == 20_101


def test_no_more_than_eight_requests_at_once_reach_a_gateway() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.status())
    for number in range(20):
        events = line(gateway, f"ACME/HZ/PACK/L1/M{number}", 3)
        hearing.take(events[0], events[2])
    hearing.wait(5)
    assert len(hearing.asked) == 8
    for report in [report for report in hearing.reports if type(report).__name__ == "Asked"]:
        hearing.take(*gateway.replay(report.body))
    hearing.converse(gateway, 5)
    assert (len(hearing.asked), hearing.reconciler.missing) == (20, 0)


def test_what_is_left_of_a_hole_is_as_old_as_the_hole() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway)
    hearing.take(gateway.status(), *events[:3], *events[8:])
    hearing.wait(1.5)
    hearing.take(events[3])
    hearing.wait(0.25)
    assert hearing.asked == []
    hearing.wait(0.25)
    assert hearing.asked == [(5, 8)]
    hearing.wait(57.75)
    assert hearing.told[-1] == ("FIL01", 4)
    hearing.wait(0.25)
    assert hearing.told[-1] == ("FIL01", 10)


def test_ranges_are_bounded_the_oldest_are_given_up_and_still_counted() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = line(gateway, events=2_201)
    hearing.take(gateway.status(), *events[::2])
    hearing.wait(0.25)
    assert {reason for _, _, reason in hearing.given_up} == {"there are more than 1,000 holes"}
    assert [(first, last) for first, last, _ in hearing.given_up] == [(2 * n, 2 * n) for n in range(1, 101)]
    assert hearing.reconciler.missing == 1_100
    numbers = hearing.reconciler.streams.newest()[0].numbers
    for number in range(1_500):
        numbers.announce(10_000 + number, 10_000 + number, "lost")
    assert len(numbers.announced) == 1_000
