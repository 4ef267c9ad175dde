"""One machine that takes two parameters by its way: its memory, one scan, and a log of what was written."""

from typing import Final, NamedTuple

from simulators.models.handshakes.faults import Faults
from simulators.models.handshakes.ways import BAD_SEAL, WAYS, Seal, Tags, Value

PARAMETERS: Final = {"speed": 100, "oven": 1700}
"""What a new machine works with. Each is written to `…_set` and shown, as the machine works with it, in `…_now`."""


class Write(NamedTuple):
    """What a client wrote, when (milliseconds of the machine's clock), and whether it was answered with Good."""

    at_ms: int
    tag: str
    value: Value
    accepted: bool


class Machine:
    """Takes its parameters in the way of that name. `work_ms` lie between what it heard and what it has done.

    `taken` are the recipes that it worked with so far, in order; the first is the one of its start.
    """

    def __init__(self, way: str, faults: Faults = Faults(), work_ms: int = 0, seal: Seal = Seal()) -> None:  # noqa: B008 - both are frozen
        self.name = way
        self.faults = faults
        self.work_ms = work_ms
        self.seal = seal
        self.writes: list[Write] = []
        self.tags: Tags = {}
        self.reset()

    @property
    def active(self) -> dict[str, int]:
        """What it works with."""
        return {name: self.tags[f"{name}_now"] for name in PARAMETERS}

    @property
    def written(self) -> dict[str, int]:
        """What it was given last."""
        return {name: self.tags[f"{name}_set"] for name in PARAMETERS}

    @property
    def writable(self) -> frozenset[str]:
        """The tags that clients write."""
        return self._way.writable | {f"{name}_set" for name in PARAMETERS}

    def reset(self) -> None:
        """As it left the factory; the log of writes is empty."""
        self._way = WAYS[self.name]
        self.writes.clear()
        self.restart(is_retentive=False)
        self.taken = [self.active]

    def restart(self, *, is_retentive: bool) -> None:
        """The power was away: its memory is kept, or all tags are as they were when it was new."""
        self._asked_ms: int | None = None
        if is_retentive:
            return
        self.tags.update(self._way.tags)
        for name, value in PARAMETERS.items():
            self.tags.update({f"{name}_set": value, f"{name}_now": value})

    def leave_stale(self) -> None:
        """Its signals are as a crash of either side leaves them, with an answer to something long past."""
        self.tags.update(self._way.stale)

    def ask(self) -> None:
        """A machine that pulls asks for parameters, unless the last answer still stands: it would take that again."""
        self.tags["request"] = not self.tags["answered"]

    def write(self, tag: str, value: Value, now_ms: int) -> bool:
        """A client writes; False where that is refused."""
        is_refused = tag in self.faults.refused
        self.writes.append(Write(now_ms, tag, value, not is_refused))
        if not is_refused and tag not in self.faults.ignored:
            self.tags[tag] = value
        return not is_refused

    def scan(self, now_ms: int) -> None:
        """One scan: hear what is asked, work, answer."""
        if self.name == "none":
            self._take_what_is_there()
        if not self._way.is_asked(self.tags):
            self._asked_ms = None
            self._way.rest(self.tags)
            return
        if self.faults.is_deaf:
            return
        if self._asked_ms is None:
            self._asked_ms = now_ms
        waited_ms = now_ms - self._asked_ms - self.faults.late_ms
        if waited_ms >= 0:
            self._way.accept(self.tags)
        if waited_ms >= self.work_ms:
            self._finish()

    def call(self) -> int:
        """The method that applies what was written: 0, or the error. A deaf machine says 0 and does nothing."""
        if not self.faults.is_deaf and not self.faults.error:
            self._take()
        return self.faults.error

    def _finish(self) -> None:
        self._asked_ms = None
        error = self.faults.error or self._seal_error()
        if not error:
            self._take()
        self._way.finish(self.tags, error)

    def _seal_error(self) -> int:
        if self.name != "recipe_buffer":
            return 0
        values = list(self.written.values())
        is_whole = self.tags["length"] == len(self.seal.content(values))
        return 0 if is_whole and self.tags["checksum"] == self.seal.checksum(values) else BAD_SEAL

    def _take_what_is_there(self) -> None:
        if not self.faults.is_deaf and not self.faults.error and self._possible() != self.active:
            self._take()

    def _take(self) -> None:
        self.tags.update({f"{name}_now": value for name, value in self._possible().items()})
        self.taken.append(self.active)

    def _possible(self) -> dict[str, int]:
        """What it was given, as far as it goes along with it."""
        ceilings = self.faults.ceilings
        return {name: min(value, ceilings.get(name, value)) for name, value in self.written.items()}
