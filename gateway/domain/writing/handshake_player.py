"""Plays one part of a handshake table: which tag is written next, what is looked at, and when it has gone wrong."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import field

from gateway.domain.values import MethodCall, PlainValue, TagId, TagWrite, Timestamp
from gateway.domain.writing.handshake import (
    Call,
    Checksum,
    Following,
    Handshake,
    Held,
    Length,
    Move,
    Opposite,
    Pause,
    Put,
    Sent,
    Setting,
    Source,
    Test,
    Wait,
)
from gateway.domain.writing.recipe_buffer import CHECKSUMS


class Part(StrEnum):
    """Which moves of the table are being played."""

    CLEAR = "clear"
    COMMIT = "commit"
    RELEASE = "release"


class Verdict(StrEnum):
    """What the player says when there is nothing to write."""

    LOOK = "look"
    """Read the tags of the handshake."""
    PASSED = "passed"
    """This part of the table is through."""
    NOT_MADE = "not made"
    """After a crash: the machine has not got what was to be written last, or has forgotten it."""
    IN_DOUBT = "in doubt"
    """After a crash: the machine takes such a write back by itself, so nobody can see whether it was made."""


class Failure(msgspec.Struct, frozen=True):
    """The machine refused, or did not answer in time."""

    code: str
    detail: tuple[str, ...] = ()


SECOND_LOOK: Final = 4
"""The part of the pause between two looks after which an answer that may be old is looked at again."""

Next = TagWrite | MethodCall | Verdict | Failure | None
"""What is to be done; None is to wait for `next_timer`."""


class HandshakeMemory(msgspec.Struct):
    """Journalled with the download. `seen` and `sent` are by the table's names of tags."""

    part: Part = Part.CLEAR
    move: int = 0
    seen: dict[str, PlainValue] = field(default_factory=dict)
    sent: dict[str, PlainValue] = field(default_factory=dict)
    before: dict[str, PlainValue] = field(default_factory=dict)
    """What was seen when this part began: no answer to what it says, until it was seen to be something else."""
    moved: list[str] = field(default_factory=list)
    deadline: Timestamp | None = None
    next_look: Timestamp | None = None
    is_last_look: bool = False
    is_second_look: bool = False


class HandshakePlayer:
    """Goes through the moves of one part after the other. `buffer` gives the bytes that a checksum is made over."""

    def __init__(self, handshake: Handshake, memory: HandshakeMemory, buffer: Callable[[], bytes]) -> None:
        self._handshake = handshake
        self._memory = memory
        self._buffer = buffer

    @property
    def tags(self) -> tuple[TagId, ...]:
        """What is read at each look."""
        return tuple(self._handshake.tags.values())

    def see(self, values: Mapping[TagId, PlainValue]) -> None:
        """The tags were read; what is not among the values could not be."""
        memory = self._memory
        memory.seen = {name: self._signal(name, values.get(tag)) for name, tag in self._handshake.tags.items()}
        memory.moved += [
            name
            for name, value in memory.seen.items()
            if name not in memory.moved and value is not None and value != memory.before.get(name)
        ]

    def begin(self, part: Part, now: Timestamp, *, fresh: bool) -> Next:
        """Play this part; `fresh` says that what was seen is from now."""
        memory = self._memory
        memory.part, memory.move = part, 0
        memory.before, memory.moved = dict(memory.seen), []
        self._end_move()
        return self._go_on(now, fresh=fresh)

    def look(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Next:
        """The tags were read: go on as far as they allow."""
        self.see(values)
        return self._go_on(now, fresh=True)

    def done(self, now: Timestamp) -> Next:
        """What was to be written was taken, or the call was answered with yes."""
        memory, move = self._memory, self._moves[self._memory.move]
        if isinstance(move, Put):
            memory.seen[move.tag] = memory.sent[move.tag]
        memory.move += 1
        return self._go_on(now, fresh=False)

    def handle_timer(self, now: Timestamp) -> Next:
        """A deadline, or the next look."""
        memory = self._memory
        if memory.deadline is not None and now >= memory.deadline:
            return self._end_time(self._moves[memory.move], now)
        if memory.next_look is not None and now >= memory.next_look:
            memory.next_look = None
            return Verdict.LOOK
        return None

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        return min((at for at in (self._memory.deadline, self._memory.next_look) if at is not None), default=None)

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self._end_move()

    # --- after a crash or a lost link ---------------------------------------------------------------------------

    def resume(self, now: Timestamp) -> Next:
        """Find out by what was just seen how far the commit got, and go on from there."""
        memory = self._memory
        made = self._moves[: memory.move + 1]
        last = next((move for move in reversed(made) if isinstance(move, Put) and move.tag in memory.sent), None)
        if isinstance(made[-1], Call):
            return Verdict.IN_DOUBT
        is_consumed = last is not None and self._handshake.profile.signals[last.tag].is_consumed
        is_there = last is None or memory.seen.get(last.tag) == memory.sent[last.tag]
        self._end_move()
        if isinstance(made[-1], Put):
            if not is_there:
                return Verdict.IN_DOUBT if is_consumed else Verdict.NOT_MADE
            memory.move += 1
        elif not is_there and not is_consumed:
            return Verdict.IN_DOUBT  # it had been there: the machine may have taken the values and forgotten the signal
        return self._go_on(now, fresh=True)

    def repeat(self) -> Next:
        """Write again what did not reach the machine."""
        last = next(move for move in reversed(self._moves[: self._memory.move + 1]) if isinstance(move, Put))
        self._memory.move = self._moves.index(last)
        return TagWrite(self._handshake.tags[last.tag], self._memory.sent[last.tag])

    def _signal(self, name: str, value: PlainValue) -> PlainValue:
        """The value of a signal; one that is a bit of a word arrives as the word."""
        bit = self._handshake.bits.get(name)
        return value if bit is None or not isinstance(value, int) else bool(value >> bit & 1)

    # --- moves --------------------------------------------------------------------------------------------------

    @property
    def _moves(self) -> tuple[Move, ...]:
        profile = self._handshake.profile
        return {Part.CLEAR: profile.clear, Part.COMMIT: profile.commit, Part.RELEASE: profile.release}[
            self._memory.part
        ]

    def _go_on(self, now: Timestamp, *, fresh: bool) -> Next:
        memory, moves = self._memory, self._moves
        while memory.move < len(moves):
            move = moves[memory.move]
            match move:
                case Put():
                    step = self._put(move)
                case Wait():
                    step = self._wait(move, now, fresh=fresh)
                case Pause():
                    step = self._pause(move, now)
                case Call():
                    assert self._handshake.method is not None
                    step = self._handshake.method.call
            if step is not Verdict.PASSED:
                return step
            self._end_move()
            memory.move += 1
        return Verdict.PASSED

    def _put(self, move: Put) -> Next:
        if move.tag not in self._handshake.tags:
            return Verdict.PASSED
        value = self._value(move.value)
        if value is None:
            return Failure(
                "unreadable", (f"what {move.tag} must be cannot be told: a tag of the handshake is unreadable",)
            )
        self._memory.sent[move.tag] = value
        if self._memory.seen.get(move.tag) == value:
            return Verdict.PASSED
        return TagWrite(self._handshake.tags[move.tag], value)

    def _wait(self, move: Wait, now: Timestamp, *, fresh: bool) -> Next:
        memory, times = self._memory, self._handshake.times
        until, refused = self._handshake.tests(move.until), self._handshake.tests(move.refused)
        if not until:
            return Verdict.PASSED
        if fresh and refused and all(map(self._holds, refused)) and self._believes(refused, now):
            self.stop()
            return Failure("device_error", (f"the machine rejected it with error {memory.seen.get('error')!r}",))
        if fresh and all(map(self._holds, until)) and self._believes(until, now):
            return Verdict.PASSED
        if memory.is_last_look:
            error = memory.seen.get("error")
            missed = Failure(move.code or "", (f"the machine's error is {error!r}",) if error else ())
            return Verdict.PASSED if move.code is None else missed
        if memory.deadline is None:
            memory.deadline = now + times[move.within]
        if memory.next_look is None or memory.next_look <= now:
            memory.next_look = now + times["poll"]
        return None

    def _believes(self, tests: tuple[Test, ...], now: Timestamp) -> bool:
        """What was so already before the machine was told anything may be old: it is believed at a second look."""
        memory, signals = self._memory, self._handshake.profile.signals
        is_new = any(signals[test.tag].is_ours or test.tag in memory.moved for test in tests)
        if is_new or memory.is_second_look or memory.is_last_look or memory.part is not Part.COMMIT:
            return True
        memory.is_second_look = True
        memory.next_look = now + self._handshake.times["poll"] // SECOND_LOOK
        return False

    def _end_time(self, move: Move, now: Timestamp) -> Next:
        """The time of a wait is over: the machine is looked at once more before it is said to be late."""
        memory = self._memory
        self._end_move()
        if isinstance(move, Wait):
            memory.is_last_look = True
            return Verdict.LOOK
        memory.move += 1
        return self._go_on(now, fresh=False)

    def _pause(self, move: Pause, now: Timestamp) -> Next:
        if self._memory.deadline is None:
            self._memory.deadline = now + self._handshake.times[move.time]
        return None

    def _end_move(self) -> None:
        memory = self._memory
        memory.deadline = memory.next_look = None
        memory.is_last_look = memory.is_second_look = False

    def _holds(self, test: Test) -> bool:
        actual = self._memory.seen.get(test.tag)
        if actual is None:
            return False
        return (actual == self._value(test.value)) is not test.is_not

    def _value(self, source: Source) -> PlainValue:
        memory, handshake = self._memory, self._handshake
        match source:
            case Setting(key):
                return handshake.settings[key]
            case Sent(other):
                return memory.sent.get(other)
            case Held(other):
                return memory.seen.get(other)
            case Opposite(other):
                held = memory.seen.get(other)
                return None if held is None else not held
            case Following(acknowledged):
                return handshake.number_after(memory.seen.get(acknowledged))
            case Checksum():
                assert handshake.layout is not None
                return CHECKSUMS[handshake.layout.algorithm](self._buffer())
            case Length():
                return len(self._buffer())
            case _:
                return source
