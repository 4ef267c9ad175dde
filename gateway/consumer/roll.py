"""The roll call: which number was the last one, asked stream by stream when we have been away.

A broker whose queue for us ran over lost the newest messages. The next one of each stream would show it, but a machine
that stands may not say anything for hours, and until then nobody could say that nothing is missing.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from gateway.consumer.course import Course
from gateway.consumer.messages import ReplayAnswer
from gateway.consumer.reports import LastAsked
from gateway.consumer.streams import Streams

PATIENCE: Final = 5_000
"""Milliseconds to wait for the first answer, and double as many each time: a gateway that is away finds all questions
when it is back."""

LONGEST: Final = 600_000
"""Milliseconds after which a question is put again in any case."""

PAUSE: Final = 500
"""Milliseconds before the first question: at first a broker has its queue for us to empty, and what does not fit into
a full one, such as an answer, it drops."""

MOST_CALLS: Final = 8
"""Questions at once."""

_LAST: Final = re.compile(r"the last one is (\d+)")


class RollCall:
    """Asks each stream once after `begin`, and again while nobody answers. `name` begins the ids of the questions."""

    def __init__(self, name: str, streams: Streams) -> None:
        self._name = name
        self._streams = streams
        self._numbers = count(1)
        self._not_before = 0
        self._open: dict[Course, int] = {}
        self._asked: dict[str, tuple[Course, int]] = {}
        self.was_answered = False
        """Somebody has answered since the beginning: what the broker had kept for us came before that."""

    def begin(self, courses: Iterable[Course], now: int) -> None:
        """The streams are to be asked, from now on."""
        self._not_before = now + PAUSE
        self._open = dict.fromkeys(courses, 0)
        self._asked.clear()
        self.was_answered = False

    @property
    def open(self) -> int:
        """How many streams have not been answered for."""
        return len(self._open)

    def is_in_vain(self, questions: int) -> bool:
        """Whether every stream was answered for, or asked for so often that nobody will."""
        return all(asked > questions for asked in self._open.values())

    def due(self, now: int) -> Iterator[LastAsked]:
        """Questions to be sent now."""
        if now < self._not_before:
            return
        self._asked = {cmd: (course, until) for cmd, (course, until) in self._asked.items() if now < until}
        waiting = {course for course, _ in self._asked.values()}
        for course, asked in sorted(self._open.items(), key=lambda item: item[1]):
            site = self._streams.site_of(course.name)
            if len(self._asked) >= MOST_CALLS:
                return
            if site is not None and course not in waiting:
                cmd = f"{self._name}-last-{next(self._numbers)}"
                self._asked[cmd] = course, now + min(LONGEST, PATIENCE << min(asked, 10))
                self._open[course] = asked + 1
                yield LastAsked(course.name, site, cmd)

    def take(self, answer: ReplayAnswer) -> tuple[Course, int | None] | None:
        """The stream that the answer is about, and its last number if it is known; None if we did not ask.

        A gateway that does not know the epoch or the equipment any more has nothing more of it either.
        """
        if answer.cmd not in self._asked:
            return None
        course, _ = self._asked.pop(answer.cmd)
        self.was_answered = True
        if "busy" in answer.codes:
            return course, None
        self._open.pop(course, None)
        told = _LAST.search(" ".join(answer.detail)) if "beyond" in answer.codes else None
        return course, int(told[1]) if told else None

    def could_not_ask(self, cmd: str) -> Course | None:
        """The broker does not take the question; it is put again when an answer would be overdue."""
        course, _ = self._asked.get(cmd, (None, 0))
        return course
