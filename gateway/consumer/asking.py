"""When and how much to ask for what is missing in one stream: after a grace, in pieces, one request at a time.

**The grace.** QoS 1 keeps the order of a stream on every connection, and after a reconnect gateway and broker go on
with the oldest that was not acknowledged. So a number that was skipped does not come by itself, with two exceptions:
a message that somebody set free from quarantine, and a broker of several nodes that reorders for an instant. Two
seconds cover the second; the first is rare, and costs one replay.

**The pieces.** A replay goes to every subscriber, through the same queue of the broker that ran over before. So no
more than `MOST_AT_ONCE` numbers are asked for at once, half as many after a piece of which something is still missing,
and double as many after one that came whole.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.consumer.messages import ReplayAnswer
from gateway.consumer.numbers import Gone, Numbers

GRACE: Final = 2_000
"""Milliseconds after which a hole is asked for."""

PATIENCE: Final = 30_000
"""Milliseconds to wait for the next word on a request: a gateway that is in reach gives it in a few."""

LONGEST_PAUSE: Final = 300_000
"""Milliseconds between two requests that brought nothing."""

MOST_AT_ONCE: Final = 1_000
"""Numbers in one request: mosquitto keeps as many for a slow consumer by default (`max_queued_messages`)."""

LEAST_AT_ONCE: Final = 10

_HOPELESS: Final = "the gateway no longer keeps it"
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")


class Request(msgspec.Struct):
    """A request that is under way; `until` is when it counts as unanswered."""

    cmd: str
    first: int
    last: int
    missing: int
    until: int
    is_filled: bool = False


class Outcome(NamedTuple):
    """What an answer says: how many `came`, what is `lost`, and why the others did not come, if there is a reason."""

    request: Request
    came: int = 0
    lost: Sequence[Gone] = ()
    trouble: str = ""


class Inquiry:
    """Asks for what is missing in one stream."""

    def __init__(self, numbers: Numbers) -> None:
        self.request: Request | None = None
        self._numbers = numbers
        self._at_once = MOST_AT_ONCE
        self._in_vain = 0
        self._not_before = 0

    @property
    def in_vain(self) -> int:
        """How many requests in a row brought nothing."""
        return self._in_vain

    def wish(self, now: int) -> tuple[int, int] | None:
        """The range to be asked for now: of the oldest hole, and of those behind it that make up half of a range."""
        ripe = [hole for hole in self._numbers.holes if now - hole.found >= GRACE]
        if self.request is not None or not ripe or now < self._not_before:
            return None
        first = min(hole.first for hole in ripe)
        last = missing = 0
        for start, end in sorted((hole.first, hole.last) for hole in ripe):
            end = min(end, first + self._at_once - 1)  # noqa: PLW2901
            missing += max(0, end - start + 1)
            if end < start or 2 * missing < end - first + 1:
                break
            last = end
        return first, last

    def ask(self, cmd: str, first: int, last: int, now: int) -> int:
        """It is asked for; returns how many of the range are missing."""
        missing = self._numbers.missing_in(first, last)
        self.request = Request(cmd, first, last, missing, now + PATIENCE)
        return missing

    def filled(self) -> Request | None:
        """The request of which everything has come; said once."""
        request = self.request
        if request is None or request.is_filled or self._numbers.missing_in(request.first, request.last):
            return None
        request.is_filled = True
        return request

    def answered(self, answer: ReplayAnswer, now: int) -> Outcome:
        """The gateway's word on the request."""
        request = self.request
        assert request is not None
        if not answer.final:
            request.until = now + PATIENCE
            return Outcome(request)
        self.request = None
        words = "; ".join(answer.detail) or ", ".join(answer.codes)
        if answer.answer == "done":
            came = request.missing - self._numbers.missing_in(request.first, request.last)
            lost = self._not_kept(answer, request)
            self._judge(request, now, came)
            return Outcome(request, came, lost)
        if answer.answer == "rejected" and "busy" not in answer.codes:
            first, last = (0, self._numbers.top) if "unknown_epoch" in answer.codes else (request.first, request.last)
            return Outcome(request, lost=self._numbers.give_up(first, last, f"the gateway refuses: {words}"))
        self._wait(now)
        return Outcome(request, trouble=f"the gateway says {answer.answer}: {words}")

    def failed(self, now: int) -> None:
        """It could not be asked, or nobody answered."""
        self.request = None
        self._wait(now)

    def encourage(self, now: int) -> None:
        """The gateway is back."""
        self._not_before = min(self._not_before, now)

    def _judge(self, request: Request, now: int, came: int) -> None:
        """What came of a request that was done. The broker had its events before the gateway said so."""
        rest = self._numbers.missing_in(request.first, request.last)
        if rest == 0:
            self._at_once = min(MOST_AT_ONCE, self._at_once * 2)
        else:
            self._at_once = max(LEAST_AT_ONCE, self._at_once // 2)
        if came or rest == 0:
            self._in_vain = 0
            self._not_before = now if rest == 0 else now + GRACE
        else:
            self._wait(now)

    def _wait(self, now: int) -> None:
        self._not_before = now + min(LONGEST_PAUSE, GRACE << self._in_vain)
        self._in_vain = min(self._in_vain + 1, 10)

    def _not_kept(self, answer: ReplayAnswer, request: Request) -> list[Gone]:
        """What the answer names as gone; all that is missing of the range, if it names nothing that can be read."""
        if "incomplete" not in answer.codes:
            return []
        ranges = named(answer.detail) or [(request.first, request.last)]
        inside = [(max(first, request.first), min(last, request.last)) for first, last in ranges]
        return [gone for first, last in inside for gone in self._numbers.give_up(first, last, _HOPELESS)]


def named(detail: tuple[str, ...]) -> list[tuple[int, int]]:
    """The ranges in `no longer kept: 3, 10-12 and 4 more ranges`; those that are only counted come with the next one.

    They are asked for once more then, in a request that no longer holds the others.
    """
    for text in detail:
        before, found, after = text.partition("no longer kept: ")
        if found and not before:
            listed = after.partition(" and ")[0]
            return [(int(match[1]), int(match[2] or match[1])) for match in _RANGE.finditer(listed)]
    return []
