"""Whatever a broker does to the messages, the record ends as if it had done nothing."""

import os
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.consumer.memory import Memory, recall, remember
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, LastAsked, Told
from gateway.consumer.streams import MOST_EPOCHS
from tests.consumer.fake_gateway import FakeGateway, Sent
from tests.consumer.hearing import Hearing

PLACES = ["ACME/HZ/L1/A", "ACME/HZ/L1/B", None]
EXAMPLES = 1_000 if os.environ.get("FULL") else 25


class Broker:
    """Loses messages, brings them twice, mixes the streams; each stream keeps its order."""

    def __init__(self, chance: Any, loss: float) -> None:
        self.chance = chance
        self.loss = loss
        self._queues: dict[str | None, list[Sent]] = {}

    def publish(self, stream: str | None, *messages: Sent) -> None:
        self._queues.setdefault(stream, []).extend(messages)

    def passed_on(self) -> list[Sent]:
        """What reaches the consumer of all that was published since the last time."""
        queues, out = [queue for queue in self._queues.values() if queue], []
        self._queues = {}
        while queues:
            queue = self.chance.choice(queues)
            some = [queue.pop(0) for _ in range(min(len(queue), self.chance.randint(1, 4)))]
            queues = [queue for queue in queues if queue]
            out += [one for one in some if self.chance.random() >= self.loss] * self.chance.choice([1, 1, 1, 2])
        return out


class Line:
    """A gateway, a broker, and a consumer that is restarted now and then with nothing but its memory."""

    def __init__(self, chance: Any, loss: float) -> None:
        self.chance = chance
        self.gateway = FakeGateway(places=[place for place in PLACES if place])
        self.broker = Broker(chance, loss)
        self.consumer = Hearing()
        self.runs = 1
        self.consumer.take(self.gateway.status(), self.gateway.birth())

    def live(self) -> None:
        """Things happen, some of them for the second time."""
        for _ in range(self.chance.randint(0, 30)):
            eq = self.chance.choice(PLACES)
            known = {"fact": f"{eq}-{self.chance.randint(1, 8)}"} if self.chance.random() < 0.3 else {}
            kind, rev = "equipment.state" if eq else "change.accepted", self.chance.choice([1, 1, 1, 2])
            self.broker.publish(eq, self.gateway.event(eq, kind, rev=rev, **known))
        self.consumer.take(*self.broker.passed_on())

    def converse(self, seconds: float) -> None:
        """Time passes, and the gateway answers what it is asked."""
        for report in self.consumer.wait(seconds):
            if isinstance(report, (Asked, LastAsked)):
                self.broker.publish("replay", *self.gateway.replay(report.body))
        self.consumer.take(*self.broker.passed_on())

    def renew(self) -> None:
        """The gateway gets a new record. The end of the old one is told: nobody could know of it otherwise."""
        self.consumer.take(self.gateway.birth())
        self.gateway.renew(f"e{len(self.gateway.epochs) + 1}")
        self.broker.publish(None, self.gateway.birth())

    def restart(self) -> None:
        self.runs += 1
        memory = msgspec.json.encode(remember(self.consumer.reconciler, "c", "mfg/v1"))
        self.consumer.reconciler = Reconciler(f"c{self.runs}")
        recall(msgspec.json.decode(memory, type=Memory), self.consumer.reconciler, self.consumer.now)
        self.consumer.take(self.gateway.status())
        self.consumer.reconciler.call_roll(self.consumer.now)

    def published(self) -> dict[str, int]:
        """Every fact with its highest revision."""
        bodies = [msgspec.json.decode(sent.payload) for stream in self.gateway.kept.values() for sent in stream]
        return {body["id"]: body["rev"] for body in sorted(bodies, key=lambda body: body["rev"])}


@settings(max_examples=EXAMPLES)
@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.booleans())
def test_any_delivery_ends_in_the_record_of_the_one_without_loss(chance: Any, loss: float, restarts: bool) -> None:
    line = Line(chance, loss)
    for _ in range(6):
        if chance.random() < 0.2 and len(line.gateway.epochs) < MOST_EPOCHS:
            line.renew()
        line.live()
        line.converse(chance.choice([0.25, 1, 20]))
        if restarts and chance.random() < 0.5:
            line.restart()
    line.broker.loss = 0
    line.consumer.take(line.gateway.birth())
    line.converse(11)
    for _ in range(400):
        line.converse(1)
        if line.consumer.reconciler.may_yet_come == 0:
            break
    assert line.consumer.reconciler.missing == 0
    told = line.consumer.of(Told)
    facts = [(report.event.id, report.event.rev) for report in told]
    assert dict(sorted(facts, key=lambda fact: fact[1])) == line.published()
    if not restarts:
        assert len(facts) == len(set(facts)), "a fact was told twice"
        in_order(told)


def in_order(told: list[Told]) -> None:
    """Each stream comes in its order but for what is marked as late, and no revision after a higher one."""
    numbers: dict[tuple[str, str], int] = {}
    revisions: dict[str, int] = {}
    for report in told:
        event = report.event
        if not report.late:
            assert event.seq > numbers.get((event.epoch, event.place), 0)
            numbers[event.epoch, event.place] = event.seq
        assert event.rev > revisions.get(event.id, 0)
        revisions[event.id] = event.rev


@settings(max_examples=EXAMPLES)
@given(st.randoms(use_true_random=False), st.sampled_from([0.1, 0.5]))
def test_the_count_of_run_parameters_is_exact_whatever_is_lost(chance: Any, loss: float) -> None:
    gateway, consumer, broker = FakeGateway(), Hearing(), Broker(chance, loss)
    consumer.take(gateway.birth(), gateway.event(PLACES[0]), gateway.tel("ACME/HZ/L1/A"))
    for _ in range(chance.randint(0, 100)):
        broker.publish("tel", gateway.tel("ACME/HZ/L1/A"))
    came = broker.passed_on()
    consumer.take(*came, gateway.tel("ACME/HZ/L1/A"))
    consumer.wait(3)
    lost = gateway.telemetry["ACME/HZ/L1/A"] - 2 - len(set(came))
    assert consumer.reconciler.missing == lost
    assert sum(last - first + 1 for first, last, _ in consumer.given_up) == lost
    assert consumer.reconciler.tallies.of("ACME/HZ/L1/A").repeats == len(came) - len(set(came))
