"""Parameters that are changed at the machine after the gateway brought them down: told, never written back."""

import math
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import field

from gateway.domain.contract.param_events import ParamDeviation
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import PlainValue, TagId, plain
from gateway.domain.writing.download_spec import DownloadSpec


class DeviationMemory(msgspec.Struct):
    """What survives a restart: what was read back when the set became active, and what was told since, by name."""

    expected: dict[str, PlainValue] = field(default_factory=dict)
    told: dict[str, PlainValue] = field(default_factory=dict)


class Deviations:
    """Holds what the machine shows against what is active. All its memory is in `memory`."""

    def __init__(self, spec: DownloadSpec | None, slots: Mapping[TagId, int], memory: DeviationMemory) -> None:
        self.memory = memory
        parameters = spec.parameters if spec is not None and spec.job is None else {}
        self._names = {slots[parameter.readback]: name for name, parameter in parameters.items()}

    def expect(self, active: Mapping[str, PlainValue]) -> None:
        """A parameter set is active with these values."""
        self.memory.expected |= active
        for name in active:
            self.memory.told.pop(name, None)

    def take_scan(self, touched: set[int], inputs: Inputs) -> Iterator[ParamDeviation]:
        """What this scan shows to be another value than the active one, once for each such value."""
        for slot in touched & self._names.keys():
            name = self._names[slot]
            if name not in self.memory.expected or not inputs.usable(slot):
                continue
            expected, actual = self.memory.expected[name], plain(inputs.values[slot])
            if _same(expected, actual):
                self.memory.told.pop(name, None)
            elif name not in self.memory.told or not _same(self.memory.told[name], actual):
                self.memory.told[name] = actual
                yield ParamDeviation(n=name, expected=expected, actual=actual)


def _same(expected: PlainValue, actual: PlainValue) -> bool:
    """Equal, for numbers within what a float32 holds (trap A17)."""
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return math.isclose(expected, actual, rel_tol=1e-6, abs_tol=1e-9)
    return expected == actual
