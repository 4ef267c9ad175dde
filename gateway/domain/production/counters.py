"""From counter readings to pieces: rollover, reset, correction, and what cannot be pieces."""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import field

from gateway.domain.values import Timestamp

KEPT_JUMPS: Final = 8
"""Jumps of one counter that wait to be settled; a counter that jumps more often needs another max_rate."""


class RestartPolicy(StrEnum):
    """What a reading below the previous one may mean."""

    WRAP = "wrap"
    RESET = "reset"
    BOTH = "both"


class CounterSpec(msgspec.Struct, frozen=True):
    """One counter of a machine.

    `max_value` is the highest reading before it wraps to 0. `max_rate` in pieces per second bounds what is
    believed; `tolerance` is the largest step down that counts as a correction.
    """

    name: str
    slot: int
    max_value: int
    max_rate: float
    policy: RestartPolicy = RestartPolicy.BOTH
    tolerance: int = 0


class Jump(msgspec.Struct, frozen=True):
    """A step that was not believed, until somebody says how many pieces it was."""

    previous: int
    value: int
    at: Timestamp


class CounterMemory(msgspec.Struct):
    """The baseline: the last reading and its source time; and the jumps that nobody has settled yet, oldest first.

    It survives restarts and reconnects.
    """

    reading: int
    at: Timestamp
    jumps: list[Jump] = field(default_factory=list)


class Step(msgspec.Struct, frozen=True):
    """What one reading adds. A suspect step adds nothing: `suspect` is the jump that was not believed."""

    delta: int
    flags: tuple[str, ...] = ()
    suspect: int | None = None


NO_STEP = Step(0)


def advance(spec: CounterSpec, memory: CounterMemory, reading: int, at: Timestamp, lag: int = 0) -> Step:
    """Take in a reading with its source time, which may be `lag` milliseconds too early, and move the baseline.

    A jump is believed if the machine could have made so many pieces since the last reading; one second more is
    allowed, since reading and counting are not in step.
    """
    previous = memory.reading
    step = _step(spec, previous, reading, spec.max_rate * ((max(0, at - memory.at) + lag) / 1000 + 1))
    memory.reading, memory.at = reading, max(at, memory.at)
    if step.suspect is not None:
        memory.jumps = [*memory.jumps, Jump(previous, reading, at)][-KEPT_JUMPS:]
    return step


def _step(spec: CounterSpec, previous: int, reading: int, plausible: float) -> Step:
    difference = reading - previous
    if difference == 0:
        return NO_STEP
    if difference > 0:
        return Step(difference) if difference <= plausible else Step(0, ("suspect",), difference)
    if -difference <= spec.tolerance:
        return Step(difference, ("correction",))
    wrapped = difference % (spec.max_value + 1)
    if spec.policy is not RestartPolicy.RESET and wrapped <= plausible:
        return Step(wrapped)
    if spec.policy is not RestartPolicy.WRAP and 0 <= reading <= plausible:
        return Step(reading, ("reset",))
    return Step(0, ("suspect",), difference)
