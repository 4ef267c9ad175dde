"""State rules, debounce and the intervals of one equipment's canonical state.

The rules say what the machine shows right now; the tracker turns that into transitions whose times are true and whose
intervals tile time exactly: an excursion shorter than the debounce merges into its neighbour and leaves no trace, a
longer one keeps its true start.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.domain.tags.expressions import Compiled, Inputs, NoValue
from gateway.domain.values import PlainValue, Timestamp, plain


class State(StrEnum):
    """The canonical states (architecture, contracts)."""

    RUN = "RUN"
    IDLE = "IDLE"
    STARVED = "STARVED"
    BLOCKED = "BLOCKED"
    HELD = "HELD"
    DOWN = "DOWN"
    SETUP = "SETUP"
    MAINT = "MAINT"
    OFF = "OFF"
    UNKNOWN = "UNKNOWN"


class Cause(StrEnum):
    """Why a state is UNKNOWN."""

    NO_CONTACT = "NO_CONTACT"
    BAD_QUALITY = "BAD_QUALITY"
    STALE_HEARTBEAT = "STALE_HEARTBEAT"
    UNMAPPED = "UNMAPPED"
    GATEWAY_DOWN = "GATEWAY_DOWN"


STOPS: Final = frozenset({State.DOWN, State.STARVED, State.BLOCKED, State.HELD})
"""The states that end in a `downtime.closed`."""


class StateRule(msgspec.Struct, frozen=True):
    """First match wins. `reason` is a fixed reason, or `reason_slot` the tag that carries a reason code."""

    to: State
    when: Compiled
    debounce: int | None = None
    reason: str | None = None
    reason_slot: int | None = None


class StateSpec(msgspec.Struct, frozen=True):
    """How one equipment's state is read. Durations are milliseconds."""

    rules: tuple[StateRule, ...]
    needs: tuple[int, ...] = ()
    """Slots of the tags that the rules use: until all were heard of, there is no state."""
    evidence: tuple[int, ...] = ()
    """Slots of the tags that are published as `raw`."""
    reasons: Mapping[PlainValue, str | None] = msgspec.field(default_factory=dict)
    debounce: int = 5_000
    micro_stop: int = 120_000
    stale_after: int = 30_000
    reason_window: int = 10_000
    model: str = ""
    """For people: the ready-made model, and which tag plays which role in it."""

    @property
    def watched(self) -> set[int]:
        """The slots whose change can change what is observed: those of the rules and of the reasons."""
        return {*self.needs, *(rule.reason_slot for rule in self.rules if rule.reason_slot is not None)}


class Observation(msgspec.Struct):
    """What the rules say of one scan; also the memory of a state that is or may become current."""

    state: State
    since: Timestamp
    reason: str | None = None
    cause: Cause | None = None
    raw: dict[str, PlainValue] = msgspec.field(default_factory=dict)
    debounce: int = 0


class StateMemory(msgspec.Struct):
    """What survives a restart."""

    current: Observation | None = None
    candidate: Observation | None = None


class Transition(msgspec.Struct, frozen=True):
    """The state changed at `at`; with `revision` > 1 the reason of the current state became known later."""

    before: Observation | None
    after: Observation
    revision: int = 1

    @property
    def at(self) -> Timestamp:
        """When the new state truly began."""
        return self.after.since


def observe(spec: StateSpec, inputs: Inputs, at: Timestamp) -> Observation:
    """Apply the rules to one scan. A rule that needs a tag without a value makes the state UNKNOWN, never a guess."""
    raw = {inputs.names[slot]: plain(inputs.values[slot]) for slot in spec.evidence}
    try:
        rule = next((rule for rule in spec.rules if rule.when(inputs)), None)
    except NoValue as missing:
        return Observation(State.UNKNOWN, at, f"no value of {missing.tag}", Cause.BAD_QUALITY, raw, spec.debounce)
    if rule is None or rule.to is State.UNKNOWN:
        cause = Cause.UNMAPPED if rule is None or rule is spec.rules[-1] else Cause.BAD_QUALITY
        return Observation(State.UNKNOWN, at, None, cause, raw, spec.debounce)
    debounce = spec.debounce if rule.debounce is None else rule.debounce
    return Observation(rule.to, at, _reason(spec, rule, inputs), None, raw, debounce)


def _reason(spec: StateSpec, rule: StateRule, inputs: Inputs) -> str | None:
    if rule.reason_slot is None or not inputs.usable(rule.reason_slot):
        return rule.reason
    code = plain(inputs.values[rule.reason_slot])
    if code in spec.reasons:
        return spec.reasons[code]
    return None if code in (0, "", None) else str(code)


class StateTracker:
    """Debounces observations into transitions. All its memory is in `memory`."""

    def __init__(self, spec: StateSpec, memory: StateMemory) -> None:
        self.spec = spec
        self.memory = memory

    def see(self, seen: Observation) -> list[Transition]:
        """Take in what one scan shows; observations come in order of time."""
        done = self.settle(seen.since)
        current, candidate = self.memory.current, self.memory.candidate
        if current is None or current.cause is Cause.NO_CONTACT or current.cause is Cause.GATEWAY_DOWN:
            self.memory.candidate = None
            return [*done, *self._enter(seen)]
        if seen.state is current.state and seen.cause is current.cause:
            self.memory.candidate = None
            return [*done, *self._late_reason(current, seen)]
        if candidate is None or candidate.state is not seen.state:
            self.memory.candidate = seen
        elif seen.reason is not None:
            candidate.reason, candidate.raw = candidate.reason or seen.reason, seen.raw
        return [*done, *self.settle(seen.since)]

    def settle(self, at: Timestamp) -> list[Transition]:
        """Everything is known up to `at`: a candidate that lasted its debounce time becomes current."""
        candidate = self.memory.candidate
        if candidate is None or candidate.since + candidate.debounce > at:
            return []
        return self._enter(candidate)

    def lose_contact(self, last_contact: Timestamp, cause: Cause) -> list[Transition]:
        """Nothing is known from `last_contact` on. What was last seen then stands, however short it lasted."""
        done = self._enter(self.memory.candidate) if self.memory.candidate else []
        current = self.memory.current
        if current is None or current.state is not State.UNKNOWN:
            since = last_contact if current is None else max(last_contact, current.since)
            return [*done, *self._enter(Observation(State.UNKNOWN, since, cause=cause))]
        return done

    def deadline(self) -> Timestamp | None:
        """When the candidate becomes current if nothing else is seen."""
        candidate = self.memory.candidate
        return candidate.since + candidate.debounce if candidate else None

    def settled_until(self) -> Timestamp | None:
        """Up to when the state can no longer change, None for ever."""
        return self.memory.candidate.since if self.memory.candidate else None

    def _enter(self, seen: Observation) -> list[Transition]:
        before, self.memory.current, self.memory.candidate = self.memory.current, seen, None
        return [Transition(before, seen)]

    def _late_reason(self, current: Observation, seen: Observation) -> list[Transition]:
        in_window = seen.since - current.since <= self.spec.reason_window
        if current.reason is not None or seen.reason is None or not in_window:
            return []
        current.reason, current.raw = seen.reason, seen.raw
        return [Transition(current, current, revision=2)]
