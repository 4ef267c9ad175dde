"""Whose stream is which: several gateways, several sites, several records, and what is remembered of them."""

from gateway.consumer.course import RECENT
from gateway.consumer.facts import MOST_FACTS, Facts, Verdict
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, StreamName, Told
from gateway.consumer.streams import MOST_EPOCHS
from gateway.consumer.topics import filters, sites_of, status_filters
from tests.consumer.fake_gateway import FakeGateway, Sent
from tests.consumer.hearing import Hearing

FIL = "ACME/HZ/PACK/L1/FIL01"


def elsewhere(sent: Sent) -> Sent:
    """The same of a gateway with the same name at another site."""
    return Sent(sent.topic.replace("ACME/HZ", "ACME/BO"), sent.payload.replace(b"ACME/HZ", b"ACME/BO"), sent.historical)


def test_two_gateways_with_one_name_at_two_sites_are_asked_where_they_are() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = [gateway.event(FIL) for _ in range(3)]
    for status in (gateway.status(), elsewhere(gateway.status())):
        hearing.take(status)
    hearing.take(events[0], events[2], elsewhere(events[0]), elsewhere(events[2]))
    hearing.wait(2)
    assert {(report.site, report.stream.place) for report in hearing.of(Asked)} == {
        ("ACME/HZ", FIL), ("ACME/BO", FIL.replace("HZ", "BO"))
    }  # fmt: skip


def test_a_replay_of_what_was_before_our_time_is_not_told_not_even_later() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    events = [gateway.event(FIL) for _ in range(5)]
    hearing.take(events[2], events[1]._replace(historical="replay"), events[3], events[4])
    assert [seq for _, seq in hearing.told] == [3, 4, 5]
    assert hearing.reconciler.tallies.of(FIL).repeats == 1


def test_a_message_from_far_back_is_of_a_record_that_began_anew() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(*[gateway.tel(FIL) for _ in range(RECENT + 10)])
    telemetry = hearing.reconciler.streams.telemetry[FIL]
    hearing.take(FakeGateway().tel(FIL))
    assert hearing.reconciler.streams.telemetry[FIL] is not telemetry
    assert len(telemetry._recent) == RECENT


def test_a_birth_of_an_older_record_says_nothing_of_the_run_parameters_of_this_one() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.event(FIL), *[gateway.tel(FIL) for _ in range(9)])
    late = gateway.birth()
    gateway.renew("e2")
    hearing.take(gateway.event(FIL), gateway.tel(FIL), late)
    hearing.wait(15)
    assert hearing.given_up == []
    assert hearing.reconciler.missing == 0


def test_run_parameters_of_others_are_not_counted() -> None:
    gateway, hearing = FakeGateway(), Hearing(Reconciler("c", ["ACME/HZ/PACK/L1/LBL01"]))
    hearing.take(gateway.tel(FIL))
    assert hearing.reconciler.streams.telemetry == {}


def test_so_many_records_of_one_gateway_are_looked_at_and_the_losses_of_older_ones_still_count() -> None:
    gateway, hearing = FakeGateway(), Hearing()
    for number in range(MOST_EPOCHS + 3):
        events = [gateway.event(FIL) for _ in range(3)]
        hearing.take(events[0], events[2])
        hearing.wait(61)
        gateway.renew(f"e{number + 2}")
    assert len(hearing.reconciler.streams.courses) == MOST_EPOCHS
    assert hearing.reconciler.missing == MOST_EPOCHS + 3


def test_a_quarantine_of_another_gateway_explains_nothing() -> None:
    gateway, other, hearing = FakeGateway(), FakeGateway("edge-02"), Hearing()
    topic = f"mfg/v1/{FIL}/evt/equipment.state"
    told = other.event(None, "gateway.quarantined", topic=topic, reason="Not authorized", messages=1, first=4, last=4)
    hearing.take(told, gateway.event(FIL))
    streams = hearing.reconciler.streams
    assert streams.quarantine_of(StreamName("edge-01", "e1", FIL)) is None
    assert streams.quarantine_of(StreamName("edge-02", "e1", FIL)) == "Not authorized"


def test_facts_are_forgotten_least_recently_used_first() -> None:
    facts = Facts()
    for number in range(MOST_FACTS):
        facts.judge(f"f{number}", 1)
    assert facts.judge("f0", 1) is Verdict.REPEATED
    facts.judge("one more", 1)
    assert len(facts.known) == MOST_FACTS
    assert facts.judge("f0", 1) is Verdict.REPEATED
    assert facts.judge("f0", 2) is Verdict.NEWS
    assert facts.judge("f0", 1) is Verdict.OUTDATED
    assert facts.judge("f1", 1) is Verdict.NEWS, "it was forgotten"


def test_a_self_test_of_a_gateway_is_passed_over() -> None:
    hearing = Hearing()
    body = (
        b'{"type":"gateway.selftest","v":1,"gw":"edge-01","eq":"%s","test":"6f","state":"offline","names":[],"rows":[]}'
    )
    probe = body % FIL.encode()
    for topic in (f"{FIL}/evt/gateway.selftest", f"{FIL}/tel", "ACME/HZ/_gw/edge-01/status"):
        hearing.take(Sent(f"mfg/v1/{topic}", probe))
    hearing.take(Sent("mfg/v1/ACME/HZ/_gw/edge-01/status", b""))
    assert hearing.reports == []
    assert hearing.reconciler.streams._sites == {}


def test_only_what_is_read_is_subscribed_to_and_nothing_twice() -> None:
    assert filters("r", ["A/B"], ["A/B/L/M"]) == [
        "r/A/B/evt/+", "r/A/B/_gw/+/res/replay", "r/A/B/_gw/+/evt/+", "r/A/B/L/M/evt/+", "r/A/B/L/M/tel",
    ]  # fmt: skip
    everything = filters("r")
    assert len(everything) == len(set(everything))
    assert "r/+/+/_gw/+/evt/+" not in everything, "it is among the events at that depth"
    assert not [topic for topic in everything if "now" in topic or "cmd" in topic or "#" in topic]
    assert status_filters("r") == ["r/+/+/_gw/+/status", "r/+/+/+/_gw/+/status"]
    assert sites_of(["A/B/C/D", "A/B/E"]) == ["A/B", "A/B/C"]


def test_an_event_of_before_a_birth_that_is_no_replay_is_told() -> None:
    gateway, hearing = FakeGateway(places=[FIL]), Hearing()
    first = gateway.event(FIL)
    hearing.take(gateway.birth())
    second = gateway.event(FIL)
    hearing.take(second, first)
    assert [report.event.payload for report in hearing.of(Told)][1:] == [second.payload, first.payload]
