"""All streams that a consumer hears: whose they are, where they begin, and what gateways say of them."""

from collections.abc import Iterable, Iterator

from gateway.consumer.course import Course, Telemetry
from gateway.consumer.messages import EventMessage, RunParameters
from gateway.consumer.news import Birth, LostRange, Quarantine
from gateway.consumer.numbers import Numbers
from gateway.consumer.reports import StreamName
from gateway.consumer.tally import Tallies

MOST_EPOCHS = 4
"""Epochs of one stream that are looked at; a gateway gets a new record once in years."""

WITHOUT_END = 2**63
"""Beyond every number."""


class Streams:
    """Courses by name, run parameters by equipment. `places`: only these equipments; all if None."""

    def __init__(self, tallies: Tallies, places: Iterable[str] | None) -> None:
        self.courses: dict[StreamName, Course] = {}
        self.telemetry: dict[str, Telemetry] = {}
        self._tallies = tallies
        self._places = None if places is None else frozenset(places)
        self._epochs: dict[tuple[str, str, bool], list[StreamName]] = {}
        self._sites: dict[str, set[str]] = {}
        self._quarantines: dict[tuple[str, str], str] = {}

    def __iter__(self) -> Iterator[tuple[StreamName, Numbers]]:
        yield from ((name, course.numbers) for name, course in self.courses.items())
        for place, telemetry in self.telemetry.items():
            yield StreamName("", telemetry.epoch, place, "tel"), telemetry.numbers

    def find_gateway(self, gateway: str, site: str) -> None:
        """There is a gateway of that name at that site."""
        self._sites.setdefault(gateway, set()).add(site)

    def site_of(self, name: StreamName) -> str | None:
        """Where the gateway of a stream takes commands; None until it was heard of."""
        if name.of_nobody:
            return name.place
        sites = (site for site in self._sites.get(name.gateway, ()) if name.place.startswith(f"{site}/"))
        return max(sites, key=len, default=None)

    def course_of(self, event: EventMessage) -> Course | None:
        """Where the event belongs; None where it is no affair of ours."""
        name = StreamName(event.gateway, event.epoch, event.place, "evt", event.of_nobody)
        if event.of_nobody:
            self.find_gateway(event.gateway, event.place)
        elif self._places is not None and event.place not in self._places:
            return None
        if event.historical == "replay" and name not in self.courses:
            return None  # somebody else asked for what was before our time
        return self._course(name)

    def newest(self) -> list[Course]:
        """Each stream of events in the epoch that was heard of last."""
        return [self.courses[epochs[-1]] for epochs in self._epochs.values()]

    def restore(self, name: StreamName, numbers: Numbers) -> None:
        """A stream of which something is known from an earlier run, older epochs first."""
        self.courses[name] = Course(name, numbers)
        if name.of_nobody:
            self.find_gateway(name.gateway, name.place)
        self._epochs.setdefault((name.gateway, name.place, name.of_nobody), []).append(name)

    def take_telemetry(self, message: RunParameters, now: int) -> None:
        """Count them."""
        if self._places is not None and message.place not in self._places:
            return
        telemetry = self.telemetry.get(message.place)
        if telemetry is None:
            telemetry = self.telemetry[message.place] = Telemetry(Numbers(), self._epoch_of(message.place))
        elif telemetry.contradicts(message):
            telemetry = self._renumber(message.place, "")
        tally, numbers = self._tallies.of(message.place), telemetry.numbers
        if numbers.has(message.seq):
            tally.repeats += 1
        else:
            tally.telemetry += 1
            tally.values += message.values
        telemetry.take(message, now)

    def hear_birth(self, birth: Birth, by: EventMessage, now: int) -> None:
        """The last numbers that the gateway had given out."""
        for last in birth.equipment:
            if self._places is None or last.place in self._places:
                self._course(StreamName(by.gateway, by.epoch, last.place)).numbers.hear(last.seq, now)
                telemetry = self.telemetry.get(last.place)
                if telemetry is None:
                    telemetry = self.telemetry[last.place] = Telemetry(Numbers(), by.epoch)
                if telemetry.epoch == by.epoch:
                    telemetry.numbers.hear(last.tel, now)

    def announce(self, lost: LostRange, reason: str, by: EventMessage, *, of_old_epoch: bool) -> None:
        """The gateway says that these are lost."""
        last = WITHOUT_END if lost.to_seq is None else lost.to_seq
        place, of_nobody = (by.place, True) if lost.place is None else (lost.place, False)
        if lost.stream == "tel":
            telemetry = self.telemetry.get(place)
            if telemetry is not None:
                telemetry.numbers.announce(lost.from_seq, last, reason)
        elif lost.stream == "evt":
            for name in self._epochs.get((by.gateway, place, of_nobody), ()):
                if (name.epoch != by.epoch) is of_old_epoch:
                    self.courses[name].numbers.announce(lost.from_seq, last, reason)

    def suspect(self, quarantine: Quarantine, by: EventMessage) -> None:
        """Something of one stream may be in quarantine; its numbers are not told."""
        self._quarantines[by.gateway, quarantine.topic.partition("/evt/")[0]] = quarantine.reason

    def quarantine_of(self, name: StreamName) -> str | None:
        """Why messages of that stream are in quarantine, None if none are."""
        heads = (f"/{name.place}", f"/{name.place}/_gw/{name.gateway}" if name.of_nobody else f"/{name.place}")
        told = (one for one in self._quarantines.items() if one[0][0] == name.gateway and one[0][1].endswith(heads))
        return next((reason for _, reason in told), None)

    def _course(self, name: StreamName) -> Course:
        """Known or new. Of a gateway that is known with another epoch, the numbers begin with 1."""
        course = self.courses.get(name)
        if course is not None:
            return course
        epochs = self._epochs.setdefault((name.gateway, name.place, name.of_nobody), [])
        course = self.courses[name] = Course(name, Numbers(begin=1) if epochs else Numbers())
        epochs.append(name)
        if len(epochs) > MOST_EPOCHS and not self.courses[epochs[0]].held:
            self._tallies.of(name.place).lost_before += self.courses.pop(epochs.pop(0)).numbers.left
        if not name.of_nobody:
            self._bind(name.place, name.epoch)
        return course

    def _bind(self, place: str, epoch: str) -> None:
        """The equipment's gateway has this epoch: its run parameters belong to it, or begin anew."""
        telemetry = self.telemetry.get(place)
        if telemetry is None or telemetry.epoch == epoch:
            return
        if telemetry.epoch:
            self._renumber(place, epoch)
        else:
            telemetry.epoch = epoch

    def _renumber(self, place: str, epoch: str) -> Telemetry:
        self._tallies.of(place).lost_before += self.telemetry[place].numbers.left
        telemetry = self.telemetry[place] = Telemetry(Numbers(begin=1), epoch)
        return telemetry

    def _epoch_of(self, place: str) -> str:
        return next((name.epoch for name in reversed(self.courses) if name.place == place), "")
