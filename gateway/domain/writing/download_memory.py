"""What is journalled of a download, and how it ends."""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import field

from gateway.domain.contract.param_events import ParamItem
from gateway.domain.values import PlainValue, Timestamp
from gateway.domain.writing.handshake_player import HandshakeMemory

LOOK_AGAIN: Final = 1_000
"""Milliseconds until a device is looked at again that did not say enough, or whose link broke only for one request."""


class Step(StrEnum):
    """Where a download is. The names of design and handbook; CLEAR and RELEASE are the ends of a handshake."""

    WAIT_PERMIT = "WAIT_PERMIT"
    SNAPSHOT = "SNAPSHOT"
    CLEAR = "CLEAR"
    WRITE = "WRITE"
    COMMIT = "COMMIT"
    WAIT_ACK = "WAIT_ACK"
    RELEASE = "RELEASE"
    READBACK = "READBACK"
    ENDED = "ENDED"


class DownloadMemory(msgspec.Struct):
    """One download, journalled. `targets` and `snapshot` are raw values by parameter name.

    `is_written` says that the first value may be in the machine, `is_committed` that the machine may have taken them;
    `is_restored` and `is_recommitted` say the same of the way back. `looks` is set while the device is read to find
    out how far it got, `in_doubt` when only the read-back can tell whether it was taken, `is_unconfirmed` when the same
    holds for the old values. `spec` is the fingerprint of the configuration that it was begun with.
    """

    cmd: str
    type: str
    order: str | None
    set: str
    rev: str
    requested: dict[str, PlainValue]
    targets: dict[str, PlainValue]
    spec: str = ""
    corr: str | None = None
    by: str | None = None
    cancelled: bool = False
    """True if its order was cancelled while it waited for the permit."""
    classes: dict[str, str] = field(default_factory=dict)
    """The classes that the set gives its parameters, beside those of the YAML."""
    step: Step = Step.SNAPSHOT
    handshake: HandshakeMemory = field(default_factory=HandshakeMemory)
    is_written: bool = False
    is_committed: bool = False
    is_rolling_back: bool = False
    is_restored: bool = False
    is_recommitted: bool = False
    looks: bool = False
    in_doubt: bool = False
    is_unconfirmed: bool = False
    deadline: Timestamp | None = None
    next_look: Timestamp | None = None
    give_up: Timestamp | None = None
    limits: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    snapshot: dict[str, PlainValue] = field(default_factory=dict)
    actual: dict[str, PlainValue] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)
    """The methods of Job Control that were called, in this order: none of them twice."""
    codes: list[str] = field(default_factory=list)
    detail: list[str] = field(default_factory=list)


class Outcome(msgspec.Struct, frozen=True):
    """The end of a download: ACTIVE, REJECTED (nothing was written) or FAILED."""

    result: str
    codes: tuple[str, ...]
    detail: tuple[str, ...]
    items: tuple[ParamItem, ...]
    rolled_back: dict[str, PlainValue] | None = None
