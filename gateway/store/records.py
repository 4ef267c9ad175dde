"""What goes into the store and what comes out."""

import msgspec
from msgspec import field

from gateway.domain.uplink import StreamKind


class OutboxMessage(msgspec.Struct, frozen=True):
    """One message to be published, the `seq`-th of its stream; answers have no number, it is 0.

    Events and answers are critical: they are never dropped, and kept after their acknowledgement. Run parameters are
    neither.
    """

    topic: str
    payload: bytes
    kind: StreamKind
    equipment: str | None
    seq: int
    correlation: bytes | None = None
    """Correlation Data of MQTT 5, for an answer to whoever asked for it."""

    @property
    def critical(self) -> bool:
        """Whether it may be dropped when there is no room."""
        return self.kind != "tel"


class StoredAnswer(msgspec.Struct, frozen=True):
    """The newest answer to a command id, and who sent that command; `at` in milliseconds UTC."""

    cmd: str
    at: int
    payload: bytes
    sender: bytes | None = None


class Transaction(msgspec.Struct, frozen=True):
    """What is committed together or not at all.

    `retained` holds the newest payload by topic: of a retained topic only the newest is ever sent. `checkpoints`
    holds what must be remembered by key; None deletes a key. `notices_told` are the numbers of notices whose events
    are among the messages. `at` is the time, in milliseconds UTC, for what has to be dropped to make room.
    """

    messages: list[OutboxMessage] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[str, bytes | None] = field(default_factory=dict)
    answers: list[StoredAnswer] = field(default_factory=list)
    notices_told: list[int] = field(default_factory=list)
    at: int = 0


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """A message that waits for its acknowledgement; ids rise in the order of commits and never come twice."""

    id: int
    topic: str
    payload: bytes
    correlation: bytes | None = None
    stream: int = 0


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event for whoever asks for it again; `condition` as in `schema`: a queued one has not gone out yet."""

    seq: int
    topic: str
    payload: bytes
    condition: int


class Waiting(msgspec.Struct, frozen=True):
    """What of one stream waits for the broker: the first and the last row, and how many there are."""

    first: int
    last: int
    messages: int


class Backlog(msgspec.Struct, frozen=True):
    """What waits for the broker, by the number of its stream, and the last row that was written by then."""

    streams: dict[int, Waiting]
    last_id: int

    @property
    def messages(self) -> int:
        """How many there are in all."""
        return sum(waiting.messages for waiting in self.streams.values())


class RetainedRow(msgspec.Struct, frozen=True):
    """The newest payload of a retained topic. `version` tells whether it is still the newest when it was sent."""

    topic: str
    payload: bytes
    version: int


class Statistics(msgspec.Struct):
    """What became of the messages, and how large the file is, as of the last commit.

    `ingested`, `acknowledged` and `dropped` are sums over the life of the record; the others are what is in it.
    `published` are the acknowledged ones that are still kept for replay.
    """

    ingested: int = 0
    acknowledged: int = 0
    dropped: int = 0
    queued_critical: int = 0
    queued_telemetry: int = 0
    published: int = 0
    quarantined: int = 0
    file_bytes: int = 0

    @property
    def queued(self) -> int:
        """Everything that waits for the broker."""
        return self.queued_critical + self.queued_telemetry

    @property
    def unaccounted(self) -> int:
        """0, or the record has lost count: every message taken in is acknowledged, queued, dropped or quarantined."""
        return self.ingested - self.acknowledged - self.queued - self.dropped - self.quarantined
