"""A job order receiver as the machine plays it (ISA-95 Job Control, OPC 10031-4 v2.00): its list, and what may happen.

The machine runs one order at a time, the one of the highest priority that is allowed to start, oldest first. Faults
are what such machines do when they are badly made: they say yes and do nothing, change what was asked, say nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final


class State(Enum):
    """The top-level states, by number and name."""

    NOT_ALLOWED = (1, "NotAllowedToStart")
    ALLOWED = (2, "AllowedToStart")
    RUNNING = (3, "Running")
    INTERRUPTED = (4, "Interrupted")
    ENDED = (5, "Ended")
    ABORTED = (6, "Aborted")

    @property
    def number(self) -> int:
        """As the standard counts them."""
        return self.value[0]

    @property
    def text(self) -> str:
        """As the standard calls them."""
        return self.value[1]


class Fault(StrEnum):
    """What goes wrong with the methods that change something."""

    IGNORE = "ignore"
    """It returns success, and nothing happens."""
    REFUSE = "refuse"
    """It is unable to accept: bit 4, or 4."""
    CLAMP = "clamp"
    """The first number of the order is cut by a tenth."""
    STRANGE_STATE = "strange_state"
    """Its states have numbers and names of its own."""
    STAY = "stay"
    """Cancel, Abort and Clear return success, and the order stays."""


class Answer(Enum):
    """What a method comes to: the bit of the standard, and the number of machines where 0 is success."""

    GOOD = (0, 0)
    UNKNOWN = (1, 1)
    INVALID_STATE = (3, 3)
    NOT_ACCEPTED = (4, 4)

    def code(self, *, zero_is_success: bool) -> int:
        """The ReturnStatus."""
        return self.value[1] if zero_is_success else 1 << self.value[0]


_OPEN: Final = (State.NOT_ALLOWED, State.ALLOWED, State.RUNNING, State.INTERRUPTED)
_TRANSITIONS: Final[Mapping[str, tuple[tuple[State, ...], State | None]]] = {
    "Start": ((State.NOT_ALLOWED,), State.ALLOWED),
    "RevokeStart": ((State.ALLOWED,), State.NOT_ALLOWED),
    "Pause": ((State.RUNNING,), State.INTERRUPTED),
    "Resume": ((State.INTERRUPTED,), State.RUNNING),
    "Stop": ((State.RUNNING, State.INTERRUPTED), State.ENDED),
    "Abort": (_OPEN, State.ABORTED),
    "Cancel": ((State.NOT_ALLOWED, State.ALLOWED), None),
    "Clear": ((State.ENDED, State.ABORTED), None),
}
"""Method: from which states, to which; None takes the order out of the list."""
_UNDOING: Final = frozenset({"Cancel", "Abort", "Clear"})


@dataclass(slots=True)
class Entry:
    """One order of the list. `content` is the order as the server keeps it, `parameters` the values in it."""

    id: str
    parameters: dict[str, Any]
    content: Any
    priority: int = 0
    state: State = State.NOT_ALLOWED


@dataclass(slots=True)
class JobReceiver:
    """The list of one machine. `called` says who asked for what, in order; `runs` is off while it starts nothing."""

    capacity: int = 4
    zero_is_success: bool = False
    runs: bool = True
    entries: dict[str, Entry] = field(default_factory=dict)
    faults: set[Fault] = field(default_factory=set)
    called: list[tuple[str, str]] = field(default_factory=list)

    def store(self, entry: Entry, *, start: bool) -> Answer:
        """Store, StoreAndStart: one more order, if there is room."""
        self.called.append(("StoreAndStart" if start else "Store", entry.id))
        if Fault.IGNORE in self.faults:
            return Answer.GOOD
        is_full = sum(one.state in _OPEN for one in self.entries.values()) >= self.capacity
        if Fault.REFUSE in self.faults or is_full or entry.id in self.entries:
            return Answer.NOT_ACCEPTED
        entry.state = State.ALLOWED if start else State.NOT_ALLOWED
        self.entries[entry.id] = self._kept(entry)
        return Answer.GOOD

    def update(self, entry: Entry) -> Answer:
        """Other content for an order that has not started."""
        self.called.append(("Update", entry.id))
        known = self.entries.get(entry.id)
        if known is None:
            return Answer.UNKNOWN
        if known.state not in (State.NOT_ALLOWED, State.ALLOWED):
            return Answer.INVALID_STATE
        if Fault.REFUSE in self.faults:
            return Answer.NOT_ACCEPTED
        if Fault.IGNORE not in self.faults:
            entry.state = known.state
            self.entries[entry.id] = self._kept(entry)
        return Answer.GOOD

    def change(self, method: str, job: str) -> Answer:
        """Any of the methods that take an order's id."""
        self.called.append((method, job))
        known = self.entries.get(job)
        if known is None:
            return Answer.UNKNOWN
        before, after = _TRANSITIONS[method]
        if known.state not in before:
            return Answer.INVALID_STATE
        if Fault.REFUSE in self.faults:
            return Answer.NOT_ACCEPTED
        if Fault.IGNORE in self.faults or (Fault.STAY in self.faults and method in _UNDOING):
            return Answer.GOOD
        if after is None:
            del self.entries[job]
        else:
            known.state = after
        return Answer.GOOD

    def step(self) -> bool:
        """Let the next order run where none does; True if something changed."""
        is_busy = any(one.state in (State.RUNNING, State.INTERRUPTED) for one in self.entries.values())
        allowed = [one for one in self.entries.values() if one.state is State.ALLOWED]
        if is_busy or not allowed or not self.runs:
            return False
        max(allowed, key=_priority).state = State.RUNNING
        return True

    def finish(self, job: str) -> None:
        """The order is done by itself."""
        self.entries[job].state = State.ENDED

    def shown(self, entry: Entry) -> tuple[int, str]:
        """Number and name of its state, as this machine has them."""
        if Fault.STRANGE_STATE in self.faults:
            return 40 + entry.state.number, f"S{entry.state.number}"
        return entry.state.number, entry.state.text

    def _kept(self, entry: Entry) -> Entry:
        if Fault.CLAMP in self.faults:
            number = next((name for name, value in entry.parameters.items() if isinstance(value, float)), None)
            if number is not None:
                entry.parameters[number] *= 0.9
        return entry


def _priority(entry: Entry) -> int:
    return entry.priority
