"""What the core asks of a device, and what came of it: one form for downloads, holds and alarm methods."""

import msgspec

from gateway.domain.values import CallResult, MethodCall, TagChange, TagId, TagWrite, WriteResult


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


class OperationResult(msgspec.Struct, frozen=True):
    """What came of an operation. `lost` says that the link broke, so nobody knows how far it got."""

    token: str
    reads: tuple[TagChange, ...] = ()
    writes: tuple[WriteResult, ...] = ()
    lost: bool = False
    calls: tuple[CallResult, ...] = ()
