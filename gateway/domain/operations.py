"""What the core asks of a device, for whom, and what came of it: one form for downloads, holds and alarm methods."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import field

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.param_events import ParamItem
from gateway.domain.values import CallResult, MethodCall, PlainValue, TagChange, TagId, TagWrite, WriteResult


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """For whom an operation is done, as the audit tells it; a fact that the command does not name is None.

    `action` is what it is a step of: write, commit, rollback, hold, acknowledge … `old` are the raw values that the
    device held before, by tag, as far as they were read.
    """

    cmd: str | None = None
    type: str | None = None
    order: str | None = None
    by: str | None = None
    corr: str | None = None
    action: str | None = None
    old: Mapping[TagId, PlainValue] = field(default_factory=dict)


NOBODY = Purpose()


class Operation(msgspec.Struct, frozen=True):
    """What the device link shall do next; its result comes back under the same token.

    First all writes, then the calls if every write was taken, one after the other until one is refused, then the
    reads.
    """

    device: str
    token: str
    reads: tuple[TagId, ...] = ()
    writes: tuple[TagWrite, ...] = ()
    calls: tuple[MethodCall, ...] = ()
    purpose: Purpose = NOBODY
    restores: bool = False
    """True for values that the device held before: those may lie outside the limits."""

    @property
    def changes(self) -> bool:
        """True if it may change something in the device; one that only reads never does."""
        return bool(self.writes or self.calls)


class OperationResult(msgspec.Struct, frozen=True):
    """What came of an operation. `lost` says that the link broke, so nobody knows how far it got.

    `refused` is why the gateway itself did not carry it out: then nothing of it reached the device.
    """

    token: str
    reads: tuple[TagChange, ...] = ()
    writes: tuple[WriteResult, ...] = ()
    lost: bool = False
    calls: tuple[CallResult, ...] = ()
    refused: Objection | None = None


class CommandEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a command that writes ended, for the audit: `items` with what was asked for and what was read back."""

    purpose: Purpose
    device: str | None
    result: str
    codes: Sequence[str] = ()
    detail: Sequence[str] = ()
    items: Sequence[ParamItem] = ()
