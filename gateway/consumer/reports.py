"""What a consumer is told of its record: events, each once, and what became of those that did not come."""

from typing import Final, Literal, NamedTuple

import msgspec

from gateway.consumer.messages import EventMessage

NO_NUMBER: Final = 2**53 - 1
"""Higher than any event's number, and exact in every JSON reader."""


class StreamName(NamedTuple):
    """Messages that are numbered together, by one record of one gateway.

    `place` is the equipment, or the site for the events of no equipment (`of_nobody`). Run parameters (`tel`) name
    neither gateway nor epoch: both are empty until an event tells.
    """

    gateway: str
    epoch: str
    place: str
    kind: Literal["evt", "tel"] = "evt"
    of_nobody: bool = False

    def __str__(self) -> str:
        who = f"gateway {self.gateway}" if self.of_nobody else self.place
        return f"{who} tel" if self.kind == "tel" else who


class Told(msgspec.Struct, frozen=True):
    """An event of the record. `late`: higher numbers of its stream were told before it."""

    event: EventMessage
    late: bool


class Asked(msgspec.Struct, frozen=True):
    """Events are missing, and are asked for: `missing` of those from `first` to `last`. The command is `body`."""

    stream: StreamName
    site: str
    first: int
    last: int
    missing: int
    cmd: str
    again: bool

    @property
    def body(self) -> dict[str, object]:
        """The command `replay` of the contract."""
        place = None if self.stream.of_nobody else self.stream.place
        return {"cmd": self.cmd, "eq": place, "epoch": self.stream.epoch, "from_seq": self.first, "to_seq": self.last}


class LastAsked(msgspec.Struct, frozen=True):
    """A gateway is asked for the last number of a stream."""

    stream: StreamName
    site: str
    cmd: str

    @property
    def body(self) -> dict[str, object]:
        """A `replay` of a number that no event has: it is rejected as `beyond`, and `detail` says the last one."""
        place = None if self.stream.of_nobody else self.stream.place
        return {"cmd": self.cmd, "eq": place, "epoch": self.stream.epoch, "from_seq": NO_NUMBER, "to_seq": NO_NUMBER}


class Filled(msgspec.Struct, frozen=True):
    """What came of a request: so many `messages` of the `missing` ones."""

    stream: StreamName
    first: int
    last: int
    messages: int
    missing: int


class GivenUp(msgspec.Struct, frozen=True):
    """These are lost, as far as anybody knows."""

    stream: StreamName
    first: int
    last: int
    reason: str


class NotTaken(msgspec.Struct, frozen=True):
    """What was asked for did not come; it is asked for again later."""

    stream: StreamName
    reason: str


class Reused(msgspec.Struct, frozen=True):
    """One number for two events: two gateways have one name, or one runs on an old copy of its record."""

    stream: StreamName
    seq: int


class Unread(msgspec.Struct, frozen=True):
    """A message that cannot be what its topic says."""

    topic: str
    reason: str


Report = Told | Asked | LastAsked | Filled | GivenUp | NotTaken | Reused | Unread
