"""The counters of one scan, those of the machine and derived ones: readings to steps, pieces with their flags."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TypeGuard

from gateway.domain.contract.events import CounterSuspect
from gateway.domain.production.counters import CounterMemory, CounterSpec, Step, advance
from gateway.domain.production.windows import Derived
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import Timestamp, Value


class Counting:
    """The counters of one equipment or lane. All its memory is in `memory`, by counter."""

    def __init__(
        self,
        counters: tuple[CounterSpec, ...],
        derived: tuple[Derived, ...],
        memory: dict[str, CounterMemory],
        inputs: Inputs,
    ) -> None:
        self.counters = counters
        self.names = (*(counter.name for counter in counters), *(item.name for item in derived))
        self._derived = derived
        self._memory = memory
        self._inputs = inputs

    def take(self, touched: set[int], at: Timestamp, lag: int) -> tuple[dict[str, Step], list[CounterSuspect]]:
        """What the scan at `at` adds to each counter, and the jumps that nobody can believe.

        Readings may be younger than `at` by `lag`: until then the machine went on counting.
        """
        steps: dict[str, Step] = {}
        suspects = []
        for counter in self.counters:
            reading = self._inputs.values[counter.slot]
            if counter.slot not in touched or not self._inputs.usable(counter.slot) or not is_reading(reading):
                continue
            memory = self._memory.get(counter.name)
            if memory is None:
                self._memory[counter.name] = CounterMemory(reading, at)
                continue
            previous, elapsed = memory.reading, max(0, at - memory.at) + lag
            step = advance(counter, memory, reading, at, lag)
            if step.suspect is not None:
                plausible = int(counter.max_rate * (elapsed / 1000 + 1))
                suspects.append(
                    CounterSuspect(counter=counter.name, previous=previous, value=reading, plausible=plausible)
                )
            steps[counter.name] = step
        for derived in self._derived:
            if any(name in steps for name in (*derived.plus, *derived.minus)):
                steps[derived.name] = _derive(derived, steps)
        return {name: step for name, step in steps.items() if step.delta or step.flags}, suspects

    def is_old(self, counter: CounterSpec, at: Timestamp) -> bool:
        """True for a reading of before the last one that was taken."""
        memory = self._memory.get(counter.name)
        return memory is not None and at < memory.at

    def made_before(
        self, counter: CounterSpec, reading: int, later: Iterable[tuple[Timestamp, int]]
    ) -> tuple[int, Timestamp]:
        """How many pieces of the first of the `later` steps an old reading shows to have been made before it, and

        when that step was. 0 where the reading says nothing new, or contradicts what was read after it.
        """
        steps = [(moment, pieces) for moment, pieces in later if pieces]
        if not steps:
            return 0, 0
        known = self._memory[counter.name].reading - sum(pieces for _, pieces in steps)
        earlier = (reading - known) % (counter.max_value + 1)
        moment, pieces = steps[0]
        return (earlier, moment) if 0 < earlier <= pieces else (0, 0)

    def shares(self, counter: str, pieces: int) -> dict[str, int]:
        """Pieces of one counter, with what they mean for the derived ones."""
        shares = {counter: pieces}
        for derived in self._derived:
            if counter in derived.plus:
                shares[derived.name] = shares.get(derived.name, 0) + pieces
            if counter in derived.minus:
                shares[derived.name] = shares.get(derived.name, 0) - pieces
        return shares


def is_reading(value: Value) -> TypeGuard[int]:
    """True for what a counter can show."""
    return isinstance(value, int) and not isinstance(value, bool)


def _derive(derived: Derived, steps: Mapping[str, Step]) -> Step:
    plus = sum(steps[name].delta for name in derived.plus if name in steps)
    minus = sum(steps[name].delta for name in derived.minus if name in steps)
    flags = dict.fromkeys(
        chain.from_iterable(steps[name].flags for name in (*derived.plus, *derived.minus) if name in steps)
    )
    if plus < minus:
        flags["correction"] = None
    return Step(plus - minus, tuple(flags))
