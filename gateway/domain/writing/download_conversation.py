"""What a download asks of its device, turn by turn: only the answer to the last question counts."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from gateway.domain.operations import Operation
from gateway.domain.values import MethodCall, PlainValue, TagChange, TagId, TagWrite, is_bad, plain
from gateway.domain.writing.download_memory import DownloadMemory
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.download_values import DownloadValues


class Conversation:
    """Makes the operations of one download. `signals` are the tags of its handshake."""

    def __init__(
        self, spec: DownloadSpec, memory: DownloadMemory, values: DownloadValues, signals: Sequence[TagId], prefix: str
    ) -> None:
        self._spec = spec
        self._memory = memory
        self._values = values
        self._signals = signals
        self._prefix = prefix
        self._turn = 0

    @property
    def token(self) -> str:
        """The token of the last question."""
        return f"{self._prefix}|download|{self._memory.cmd}|{self._turn}"

    def read(self, names: Iterable[str]) -> Operation:
        """What these parameters are written to, what shows them if that is beside it, and the handshake."""
        spec, values = self._spec, self._values
        tags = [values.tag(name) for name in names]
        if spec.readback_device == spec.device:
            tags += [values.readback(name) for name in self._memory.targets]
        return self._next(Operation(spec.device, "", reads=tuple(dict.fromkeys([*tags, *self._signals]))))

    def look(self) -> Operation:
        """The handshake alone."""
        return self._next(Operation(self._spec.device, "", reads=tuple(self._signals)))

    def read_back(self) -> Operation:
        """What the machine works with."""
        tags = tuple(self._values.readback(name) for name in self._memory.targets)
        return self._next(Operation(self._spec.readback_device, "", reads=tags))

    def write(self, writes: Sequence[TagWrite]) -> Operation:
        """These values, in this order."""
        back = self._memory.is_rolling_back
        return self._next(Operation(self._spec.device, "", writes=tuple(writes), restores=back))

    def call(self, call: MethodCall) -> Operation:
        """The method, with the names of this download in its arguments."""
        memory = self._memory
        names = {"{order}": memory.order or "", "{set}": memory.set, "{rev}": memory.rev}
        given = tuple(
            msgspec.structs.replace(argument, value=names.get(argument.value, argument.value))
            if isinstance(argument.value, str)
            else argument
            for argument in call.arguments
        )
        return self._next(Operation(self._spec.device, "", calls=(msgspec.structs.replace(call, arguments=given),)))

    def _next(self, operation: Operation) -> Operation:
        self._turn += 1
        return msgspec.structs.replace(operation, token=self.token)


def usable(change: TagChange) -> bool:
    """True if there is a value to go by: Bad, nothing at all and NaN are none."""
    value = plain(change.value)
    is_number = not isinstance(value, float) or math.isfinite(value)
    return not is_bad(change.status_code) and value is not None and is_number


def values_of(reads: Sequence[TagChange]) -> dict[TagId, PlainValue]:
    """The usable ones, by tag."""
    return {change.tag_id: plain(change.value) for change in reads if usable(change)}


def unreadable(reads: Sequence[TagChange]) -> list[str]:
    """The others, as people are told."""
    return [f"{change.tag_id} cannot be read" for change in reads if not usable(change)]
