"""What passes between the record, the broker's link and the core: notices of what was lost, wishes to have it again."""

from typing import Literal

import msgspec
from msgspec import field

from gateway.domain.values import Timestamp

StreamKind = Literal["evt", "tel", "res"]
"""What is numbered and kept in order together: events, run parameters, answers; each per equipment."""


class DroppedMessages(msgspec.Struct, frozen=True, tag="dropped"):
    """Messages of one stream that had to go, unpublished, so that the record could go on: neighbours by number.

    `equipment` is the path; `first_at` and `last_at` are when they were dropped, in milliseconds UTC.
    """

    equipment: str | None
    stream: StreamKind
    from_seq: int
    to_seq: int
    messages: int
    first_at: Timestamp
    last_at: Timestamp


class QuarantinedMessages(msgspec.Struct, frozen=True, tag="quarantined"):
    """Messages on one topic that a broker refused for the same reason; `first` and `last` are their row numbers."""

    topic: str
    reason: str
    messages: int
    first: int
    last: int
    first_at: Timestamp
    last_at: Timestamp


class LostMessages(msgspec.Struct, frozen=True):
    """Numbers of one stream that a damaged file no longer gave; an end that nobody knows is null."""

    equipment: str | None
    stream: StreamKind
    from_seq: int
    to_seq: int | None
    messages: int | None


class SalvagedRecord(msgspec.Struct, frozen=True, tag="salvaged"):
    """What could be read of a damaged record and what not. `lost_rows` are ranges of row numbers, ends included."""

    reason: str
    file: str
    rows_saved: int
    lost_rows: tuple[tuple[int, int | None], ...]
    lost: tuple[LostMessages, ...]
    new_epoch: bool
    at: Timestamp


Notice = DroppedMessages | QuarantinedMessages | SalvagedRecord


class NumberedNotice(msgspec.Struct, frozen=True):
    """A notice that is in the store until the event that tells of it is. The number never comes twice."""

    number: int
    notice: Notice


class BrokerName(msgspec.Struct, frozen=True):
    """Which broker is in reach, as `host:port`, and what is spoken with it: `MQTT 5` or `MQTT 3.1.1`."""

    broker: str
    protocol: str


class ReplayRequest(msgspec.Struct, frozen=True, tag="replay"):
    """The command `cmd` wants the events `from_seq` to `to_seq` of one stream again; `equipment` is a path or None."""

    cmd: str
    equipment: str | None
    epoch: str
    from_seq: int
    to_seq: int


class RetryRequest(msgspec.Struct, frozen=True, tag="retry"):
    """The command `cmd` wants what is in quarantine sent again: of one topic, or (None) all of it."""

    cmd: str
    topic: str | None


UplinkRequest = ReplayRequest | RetryRequest
"""What the broker's link is to do for a command; what came of it goes back to the core."""


class UplinkMemory(msgspec.Struct):
    """What survives a restart of it."""

    pending: dict[str, UplinkRequest] = field(default_factory=dict)
    """What the broker's link was asked for and has not done yet, by the command that asked."""
    epochs: list[str] = field(default_factory=list)
    """Of the record, the current one last. A damaged record goes on under a new one, with what it has of the old."""
