"""What goes into the store and what comes out."""

import msgspec
from msgspec import field


class OutboxMessage(msgspec.Struct, frozen=True):
    """One message to be published. A critical one is kept after its acknowledgement, for replay; others are not."""

    topic: str
    payload: bytes
    critical: bool
    equipment: str | None
    seq: int
    correlation: bytes | None = None
    """Correlation Data of MQTT 5, for an answer to whoever asked for it."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """The newest answer to a command id, and who sent that command; `at` in milliseconds UTC."""

    cmd: str
    at: int
    payload: bytes
    sender: bytes | None = None


class Transaction(msgspec.Struct, frozen=True):
    """What is committed together or not at all.

    `retained` holds the newest payload by topic: of a retained topic only the newest is ever sent. `checkpoints`
    holds what must be remembered by key; None deletes a key.
    """

    messages: list[OutboxMessage] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[str, bytes | None] = field(default_factory=dict)
    answers: list[StoredAnswer] = field(default_factory=list)


class OutboxRow(msgspec.Struct, frozen=True):
    """A message that waits for its acknowledgement; ids rise in the order of commits and never come twice."""

    id: int
    topic: str
    payload: bytes
    correlation: bytes | None = None


class RetainedRow(msgspec.Struct, frozen=True):
    """The newest payload of a retained topic. `version` tells whether it is still the newest when it was sent."""

    topic: str
    payload: bytes
    version: int


class Statistics(msgspec.Struct):
    """How many messages are in which condition, and how large the file is, as of the last commit."""

    queued_critical: int = 0
    queued_telemetry: int = 0
    published: int = 0
    quarantined: int = 0
    file_bytes: int = 0

    @property
    def queued(self) -> int:
        """Everything that waits for the broker."""
        return self.queued_critical + self.queued_telemetry
