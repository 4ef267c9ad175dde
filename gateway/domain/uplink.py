"""What the store has to say of the messages in its care: dropped, put aside, lost with a damaged file."""

from typing import Literal

import msgspec

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
