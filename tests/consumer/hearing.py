"""A reconciler with somebody who listens: what it reports, by kind, on a clock that is moved by hand."""

from typing import Any

from gateway.consumer.messages import read
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, Filled, GivenUp, NotTaken, Report, Told
from tests.consumer.fake_gateway import ROOT, FakeGateway, Sent


class Hearing:
    """`now` is in milliseconds."""

    def __init__(self, reconciler: Reconciler | None = None) -> None:
        self.reconciler = reconciler or Reconciler("c1")
        self.now = 1_000_000
        self.reports: list[Report] = []

    def take(self, *messages: Sent) -> "Hearing":
        for message in messages:
            read_message = read(ROOT, message.topic, message.payload, message.historical)
            if read_message is not None:
                self.reports += self.reconciler.take(read_message, self.now)
        return self

    def wait(self, seconds: float) -> list[Report]:
        """Let time pass; returns what was reported then."""
        before = len(self.reports)
        end = self.now + round(seconds * 1000)
        while self.now < end:
            self.now = min(end, self.now + 250)
            self.reports += self.reconciler.due(self.now)
        return self.reports[before:]

    def converse(self, gateway: FakeGateway, seconds: float = 30) -> None:
        """Let time pass with a gateway that answers what it is asked, losing nothing."""
        end = self.now + round(seconds * 1000)
        while self.now < end:
            for report in self.wait(0.25):
                if isinstance(report, Asked):
                    self.take(*gateway.replay(report.body))

    def of(self, kind: type[Any]) -> list[Any]:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def told(self) -> list[tuple[str, int]]:
        """Events in the order in which they were told: place and number."""
        return [(report.event.place.rpartition("/")[2], report.event.seq) for report in self.of(Told)]

    @property
    def asked(self) -> list[tuple[int, int]]:
        return [(report.first, report.last) for report in self.of(Asked)]

    @property
    def filled(self) -> list[tuple[int, int, int]]:
        return [(report.first, report.last, report.messages) for report in self.of(Filled)]

    @property
    def given_up(self) -> list[tuple[int, int, str]]:
        return [(report.first, report.last, report.reason) for report in self.of(GivenUp)]

    @property
    def words(self) -> list[str]:
        return [report.reason for report in self.of(NotTaken)]
