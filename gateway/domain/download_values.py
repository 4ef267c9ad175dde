"""The values of one download: what is asked for, what the device held before, and whether the two are the same."""

from collections.abc import Mapping, Sequence

from gateway.domain.conversion import same_value, to_engineering
from gateway.domain.download_memory import DownloadMemory
from gateway.domain.download_spec import DownloadSpec
from gateway.domain.recipe_buffer import buffer_bytes
from gateway.domain.values import PlainValue, TagChange, TagId, TagWrite, plain


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

    def tag(self, name: str) -> TagId:
        """The tag that a parameter is written to."""
        return self._spec.parameters[name].tag_id

    def readback(self, name: str) -> TagId:
        """The tag that shows what the machine works with."""
        return self._spec.parameters[name].readback

    def engineering(self, name: str, raw: PlainValue) -> PlainValue:
        """In the unit that people know."""
        return plain(to_engineering(TagChange("", raw), self._spec.parameters[name].conversion)[0])

    def is_same(self, name: str, value: PlainValue, other: PlainValue) -> bool:
        """Whether the device cannot tell the two apart."""
        return same_value(value, other, self._spec.parameters[name].conversion.type)

    def changed(self) -> list[str]:
        """The parameters of which the set says something else than the device holds."""
        memory = self._memory
        return [name for name in memory.targets if not self.is_same(name, memory.targets[name], memory.snapshot[name])]

    def differences(self, names: Sequence[str]) -> list[str]:
        """What was read back and is not what was asked for, in words."""
        requested, actual = self._memory.requested, self._memory.actual
        return [f"{n}: requested {requested[n]!r}, the device holds {self.engineering(n, actual[n])!r}" for n in names]
