"""The rules by which a consumer makes one record of what brokers bring it: everything once, in order, holes known.

Messages come at least once, and a broker may lose them after it acknowledged them (its queue for us ran over). What
tells is in the messages:

* `seq` counts 1, 2, 3 … per stream: the events of one equipment, the events of no equipment, the `tel` messages of one
  equipment; each per `epoch`, which is one life of the gateway's record. A number that was here before is a repeat, a
  number that was skipped is a hole.
* `gateway.birth` has the last number of each stream, so that holes at the end are found too.
* The same (`id`, `rev`) is the same fact, whatever its number; a higher `rev` replaces what was said before.
* Who was away asks for the last numbers by himself: see `roll`.
* A hole in a stream of events is asked for (`cmd/replay`), unless the gateway says itself that it is lost.

No input or output here, and no clock: `now` is milliseconds by a clock that does not jump.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

import msgspec

from gateway.consumer.asking import GRACE
from gateway.consumer.course import Course
from gateway.consumer.facts import Facts, Verdict
from gateway.consumer.messages import EventMessage, GatewayStatus, Message, ReplayAnswer, RunParameters, Unreadable
from gateway.consumer.news import Birth, Losses, Quarantine, read_news
from gateway.consumer.numbers import MOST_RANGES, Gone, Numbers, Place
from gateway.consumer.reports import (
    Asked,
    Filled,
    GivenUp,
    NotTaken,
    Report,
    Reused,
    StreamName,
    Told,
    Unread,
)
from gateway.consumer.roll import RollCall
from gateway.consumer.streams import Streams
from gateway.consumer.tally import Tallies

TAIL_GRACE: Final = 10_000
"""Milliseconds to wait for what a birth told of; then it is missing, unless a backlog is on its way to us."""

BACKLOG_PAUSE: Final = 2_000
"""Milliseconds without a message of before an outage after which the backlog is through: it comes without a pause."""

TELEMETRY_GRACE: Final = 2_000
"""Milliseconds after which run parameters that were skipped are lost: they have no replay."""

MOST_HELD: Final = 20_000
"""Events that are held back at once, of all streams: some 15 MB."""

MOST_REQUESTS: Final = 8
"""Requests to one gateway at once. It takes 16, and there may be other consumers."""

_NO_REPLAY: Final = "run parameters are not sent again"


class Reconciler:
    """Takes messages in as they come, and says what to do. `places`: only these equipments; all if None.

    `name` begins the ids of commands, and has to be another one in each run: a known id gets its old answer.
    Reports must be read to their end, for work is done on the way.
    """

    def __init__(self, name: str, places: Iterable[str] | None = None) -> None:
        self.facts = Facts()
        self.tallies = Tallies()
        self.streams = Streams(self.tallies, places)
        self._name = name
        self.roll_call = RollCall(name, self.streams)
        self._requests: dict[str, Course] = {}
        self._command_numbers = count(1)
        self._backlog_at = -BACKLOG_PAUSE

    def take(self, message: Message, now: int) -> Iterator[Report]:
        """One message."""
        match message:
            case EventMessage():
                yield from self._take_event(message, now)
            case RunParameters():
                self._notice_backlog(message.historical, now)
                self.streams.take_telemetry(message, now)
            case ReplayAnswer():
                yield from self._take_answer(message, now)
            case GatewayStatus():
                self.streams.find_gateway(message.gateway, message.site)
            case Unreadable():
                self.tallies.unreadable += 1
                yield Unread(message.topic, message.reason)

    def due(self, now: int) -> Iterator[Report]:
        """What time asks for; to be called a few times a second."""
        is_quiet = now - self._backlog_at >= BACKLOG_PAUSE
        for name, numbers in list(self.streams):
            if numbers.tail and is_quiet and now - numbers.told_at >= TAIL_GRACE:
                numbers.expect_tail(now - GRACE)  # it was waited for long enough
            if numbers.holes:
                yield from _given_up(name, numbers.settle_announced())
                yield from self._attend(name, numbers, now)
        yield from self._hold_less(now)
        yield from self.roll_call.due(now)

    def call_roll(self, now: int) -> None:
        """We have been away: see whether something is missing at the end of a stream."""
        self.roll_call.begin(self.streams.newest(), now)

    def could_not_ask(self, cmd: str, reason: str, now: int) -> Iterator[Report]:
        """The broker does not take that command, or the connection is gone."""
        course = self._requests.pop(cmd, None)
        if course is not None:
            course.inquiry.failed(now)
        else:
            course = self.roll_call.could_not_ask(cmd)
        if course is not None:
            yield NotTaken(course.name, reason)

    @property
    def missing(self) -> int:
        """How many messages are not here, whether they may yet come or not."""
        before = sum(tally.lost_before for tally in self.tallies.by_place.values())
        return before + sum(numbers.left for _, numbers in self.streams)

    @property
    def may_yet_come(self) -> int:
        """How many events are waited for."""
        return sum(numbers.missing for name, numbers in self.streams if name.kind == "evt")

    def waits_in_vain(self, requests: int) -> bool:
        """Whether nothing is waited for, or only what so many requests in a row did not bring."""
        if not self.roll_call.is_in_vain(requests):
            return False
        if any(numbers.holes for name, numbers in self.streams if name.kind == "tel"):
            return False
        courses = self.streams.courses.values()
        return all(course.numbers.missing == 0 or course.inquiry.in_vain >= requests for course in courses)

    # --- events -------------------------------------------------------------------------------------------------

    def _take_event(self, event: EventMessage, now: int) -> Iterator[Report]:
        self._notice_backlog(event.historical, now)
        course = self.streams.course_of(event)
        if course is None:
            return
        place = course.take(event, now)
        if place is Place.HAD and course.contradicts(event):
            yield Reused(course.name, event.seq)
            yield from self._tell(event, late=True)
        elif place is Place.HAD or (place is Place.BEFORE and event.historical == "replay"):
            self.tallies.of(event.place).repeats += 1
        elif place is Place.BEFORE:
            yield from self._tell(event, late=False)
        else:
            yield from self._heed(event, now)
            yield from self._release(course)

    def _release(self, course: Course) -> Iterator[Report]:
        """Tell what is no longer held back."""
        for event, late in course.release():
            yield from self._tell(event, late=late)
        request = course.inquiry.filled()
        if request is not None:
            yield Filled(course.name, request.first, request.last, request.missing, request.missing)

    def _tell(self, event: EventMessage, *, late: bool) -> Iterator[Report]:
        tally = self.tallies.of(event.place)
        if self.facts.judge(event.id, event.rev) is Verdict.NEWS:
            tally.events += 1
            tally.revisions += event.rev > 1
            yield Told(event, late)
        else:
            tally.repeats += 1

    def _heed(self, event: EventMessage, now: int) -> Iterator[Report]:
        """What a gateway says of streams holds at once, also while the event itself is held back."""
        try:
            news = read_news(event)
        except msgspec.DecodeError as error:
            yield Unread(event.type, str(error))
            return
        match news:
            case Birth():
                self.streams.hear_birth(news, event, now)
                self._encourage(event.gateway, now)
            case Losses(lost, reason, of_old_epoch):
                for one in lost:
                    self.streams.announce(one, reason, event, of_old_epoch=of_old_epoch)
            case Quarantine():
                self.streams.suspect(news, event)

    def _notice_backlog(self, historical: str | None, now: int) -> None:
        if historical == "outage":
            self._backlog_at = now

    # --- what is missing ----------------------------------------------------------------------------------------

    def _attend(self, name: StreamName, numbers: Numbers, now: int) -> Iterator[Report]:
        """Ask for it, or give it up."""
        if len(numbers.holes) > MOST_RANGES:
            last = sorted(hole.last for hole in numbers.holes)[-MOST_RANGES - 1]
            yield from _given_up(name, numbers.give_up(0, last, f"there are more than {MOST_RANGES:,} holes"))
        course = self.streams.courses.get(name)
        if course is None:
            ripe = [hole for hole in numbers.holes if now - hole.found >= TELEMETRY_GRACE]
            for hole in ripe:
                yield from _given_up(name, numbers.give_up(hole.first, hole.last, _NO_REPLAY))
            return
        request = course.inquiry.request
        if request is not None and now >= request.until:
            yield from self.could_not_ask(request.cmd, "no answer came", now)
        yield from self._ask(course, now)
        course.pass_by(now)
        yield from self._release(course)

    def _ask(self, course: Course, now: int) -> Iterator[Report]:
        wish, site = course.inquiry.wish(now), self.streams.site_of(course.name)
        if wish is None or site is None:
            return
        gateway = course.name.gateway
        if sum(other.name.gateway == gateway for other in self._requests.values()) >= MOST_REQUESTS:
            return
        cmd = f"{self._name}-{next(self._command_numbers)}"
        again = course.inquiry.in_vain > 0
        missing = course.inquiry.ask(cmd, *wish, now)
        self._requests[cmd] = course
        yield Asked(course.name, site, *wish, missing, cmd, again)

    def _take_answer(self, answer: ReplayAnswer, now: int) -> Iterator[Report]:
        called = self.roll_call.take(answer)
        if called is not None:
            asked, last = called
            if last is not None:
                asked.numbers.hear(last, now - TAIL_GRACE + GRACE)  # what is under way to us is here by then
        course = self._requests.get(answer.cmd)
        if course is None:
            return
        outcome = course.inquiry.answered(answer, now)
        request = outcome.request
        if answer.final:
            del self._requests[answer.cmd]
        if outcome.came and not request.is_filled:
            yield Filled(course.name, request.first, request.last, outcome.came, request.missing)
        quarantine = self.streams.quarantine_of(course.name)
        reason = f", or keeps it in quarantine: {quarantine}" if quarantine else ""
        yield from _given_up(course.name, [Gone(one.first, one.last, one.reason + reason) for one in outcome.lost])
        if outcome.trouble:
            yield NotTaken(course.name, outcome.trouble)
        yield from self._release(course)

    def _encourage(self, gateway: str, now: int) -> None:
        """It is connected again: what it did not answer may be asked at once."""
        for name, course in self.streams.courses.items():
            if name.gateway == gateway:
                course.inquiry.encourage(now)

    def _hold_less(self, now: int) -> Iterator[Report]:
        """Keep memory within bounds: who holds most, holds back no more."""
        courses = self.streams.courses.values()
        while sum(len(course.held) for course in courses) > MOST_HELD:
            fullest = max(courses, key=lambda course: len(course.held))
            fullest.pass_by(now, hold=0)
            yield from self._release(fullest)


def _given_up(name: StreamName, lost: Iterable[Gone]) -> Iterator[Report]:
    return (GivenUp(name, one.first, one.last, one.reason) for one in lost)
