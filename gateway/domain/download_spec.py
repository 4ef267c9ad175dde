"""How an equipment takes parameters, as the YAML says it: the write allow-list with its limits, and the handshake."""

from collections.abc import Mapping

import msgspec

from gateway.domain.conversion import Conversion
from gateway.domain.expressions import Compiled
from gateway.domain.values import CallResult, MethodCall, PlainValue, TagId, is_good, plain


class ParameterSpec(msgspec.Struct, frozen=True):
    """One entry of the write allow-list, with the machine's own limits. Without an entry nothing is written.

    A bool counts as 0 or 1.
    """

    name: str
    tag_id: TagId
    readback: TagId
    conversion: Conversion
    minimum: float
    maximum: float
    parameter_class: str = "golden"
    unit: str | None = None


class SequenceNumber(msgspec.Struct, frozen=True):
    """The sequence-number handshake: values first, then `command = acknowledged + 1`, then wait for both answers."""

    command: TagId
    acknowledged: TagId
    status: TagId
    error: TagId
    highest: int
    done: int = 2
    rejected: int = 3
    poll: int = 200
    acknowledge_timeout: int = 5_000
    done_timeout: int = 30_000


class MethodCommit(msgspec.Struct, frozen=True):
    """The handshake by method: values first, then one call that has the machine take them, and its answer.

    With `result` the first output argument must be that, for many a method answers Good and means no.
    """

    call: MethodCall
    result: PlainValue = None

    def refusal(self, answer: CallResult) -> str | None:
        """What the machine said against it; None if it took the values. Uncertain is no yes."""
        if not is_good(answer.status_code):
            return f"status 0x{answer.status_code:08X}"
        given = plain(answer.results[0]) if answer.results else None
        return None if self.result is None or given == self.result else f"the answer {given!r}, not {self.result!r}"


class Condition(msgspec.Struct, frozen=True):
    """A precondition; the command is rejected with its name as code unless it holds."""

    name: str
    when: Compiled


class DownloadSpec(msgspec.Struct, frozen=True):
    """How one equipment takes parameters. Without `handshake` or `commit` a write is verified by reading back alone."""

    device: str
    parameters: Mapping[str, ParameterSpec]
    conditions: tuple[Condition, ...] = ()
    permit: Compiled | None = None
    permit_timeout: int = 1_800_000
    handshake: SequenceNumber | None = None
    commit: MethodCommit | None = None
