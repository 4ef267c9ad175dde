"""The values of one download: what is asked for, what the device held before, and whether the two are the same."""

import math
import struct
from collections.abc import Mapping, Sequence

from gateway.domain.contract.param_events import ParamItem
from gateway.domain.tags.conversion import Conversion, same_value, to_engineering
from gateway.domain.values import PlainValue, TagChange, TagId, TagWrite, plain
from gateway.domain.writing.download_memory import DownloadMemory, Outcome
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.recipe_buffer import buffer_bytes


class DownloadValues:
    """Raw values by parameter name, as the memory has them, in the device's own types."""

    def __init__(self, spec: DownloadSpec, memory: DownloadMemory) -> None:
        self._spec = spec
        self._memory = memory

    @property
    def wanted(self) -> dict[str, PlainValue]:
        """What the device shall hold in the end: the targets, or on the way back what it held before."""
        memory = self._memory
        return {name: memory.snapshot[name] for name in memory.targets} if memory.is_rolling_back else memory.targets

    @property
    def touched(self) -> list[str]:
        """The parameters that the machine will take: those of the set, or of a buffer all."""
        whole = self._spec.handshake.profile.is_whole
        return [*self._spec.parameters] if whole else [*self._memory.targets]

    def writes(self, held: Mapping[TagId, PlainValue] | None) -> list[TagWrite]:
        """What is wanted, on the way back in reverse, without what the device is known to hold."""
        wanted = self.wanted
        names = [*reversed(wanted)] if self._memory.is_rolling_back else [*wanted]
        if held is not None:
            names = [name for name in names if not self.is_same(name, wanted[name], held.get(self.tag(name)))]
        return [TagWrite(self.tag(name), wanted[name]) for name in names]

    def buffer(self) -> bytes:
        """The machine's buffer as it will be, in the order of the YAML."""
        layout = self._spec.handshake.layout
        assert layout is not None
        held = self._memory.snapshot | self.wanted
        raw = ((parameter.conversion.type, held[name]) for name, parameter in self._spec.parameters.items())
        return buffer_bytes(raw, layout.byte_order)

    def unsealable(self) -> str | None:
        """Why no checksum can be made over the buffer as it will be; None if one can, or none is asked for."""
        if self._spec.handshake.layout is None:
            return None
        try:
            self.buffer()
        except struct.error as error:
            return f"the machine's buffer holds what its types cannot: {error}"
        return None

    def tag(self, name: str) -> TagId:
        """The tag that a parameter is written to."""
        return self._spec.parameters[name].tag_id

    def readback(self, name: str) -> TagId:
        """The tag that shows what the machine works with."""
        return self._spec.parameters[name].readback

    def engineering(self, name: str, raw: PlainValue) -> PlainValue:
        """What is written, in the unit that people know."""
        return _in_engineering(raw, self._spec.parameters[name].conversion)

    def shown(self, name: str, raw: PlainValue) -> PlainValue:
        """What is read back, in the unit that people know."""
        parameter = self._spec.parameters[name]
        return _in_engineering(raw, parameter.shown or parameter.conversion)

    def is_shown(self, name: str, value: PlainValue, shown: PlainValue) -> bool:
        """Whether the machine works with the raw value, by what it shows, maybe in another type or scale."""
        if self._spec.parameters[name].shown is None:
            return self.is_same(name, value, shown)
        wanted, actual = self.engineering(name, value), self.shown(name, shown)
        if isinstance(wanted, int | float) and isinstance(actual, int | float):
            return math.isclose(wanted, actual, rel_tol=1e-6, abs_tol=1e-9)
        return wanted == actual

    def all_echoed(self) -> bool:
        """Whether the machine shows all that it works with elsewhere than where it is written."""
        return all(self._spec.parameters[name].is_echoed for name in self._memory.targets)

    def is_same(self, name: str, value: PlainValue, other: PlainValue) -> bool:
        """Whether the device cannot tell the two apart."""
        return same_value(value, other, self._spec.parameters[name].conversion.type)

    def changed(self) -> list[str]:
        """The parameters of which the set says something else than the device holds."""
        memory = self._memory
        return [name for name in memory.targets if not self.is_same(name, memory.targets[name], memory.snapshot[name])]

    def change(self, name: str) -> tuple[PlainValue, PlainValue]:
        """What the device holds and what it shall hold, in the unit that people know."""
        memory = self._memory
        return self.engineering(name, memory.snapshot[name]), self.engineering(name, memory.targets[name])

    def differences(self, names: Sequence[str]) -> list[str]:
        """What was read back and is not what was asked for, in words."""
        requested, actual = self._memory.requested, self._memory.actual
        return [f"{n}: requested {requested[n]!r}, the device holds {self.shown(n, actual[n])!r}" for n in names]

    def outcome(self, result: str, code: str | None, detail: Sequence[str], *, rolled_back: bool = False) -> Outcome:
        """How it ended, in the units that people know; with `rolled_back` the old values are known to be back."""
        memory = self._memory
        items = tuple(
            ParamItem(name, requested, self.shown(name, memory.actual.get(name)))
            for name, requested in memory.requested.items()
        )
        held = {name: self.engineering(name, memory.snapshot[name]) for name in memory.targets} if rolled_back else None
        codes = dict.fromkeys([*memory.codes, code] if code else memory.codes)
        return Outcome(result, tuple(codes), (*memory.detail, *detail), items, held)


def _in_engineering(raw: PlainValue, conversion: Conversion) -> PlainValue:
    return plain(to_engineering(TagChange("", raw), conversion)[0])
