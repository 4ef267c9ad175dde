"""What every driver offers, and nothing more: five verbs on an open link, and browsing where the protocol has it.

A driver is made unconnected, once for its device, and opened with `async with`. It never reconnects by itself: when
the link is gone it raises `LinkLost`, and whoever supervises it enters it again, so that it may go on with what the
device has kept for it. A bad value or a refused write is data, not an error.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from gateway.domain.times import parse_duration
from gateway.domain.values import (
    Batch,
    CallResult,
    DataType,
    MethodCall,
    TagChange,
    TagId,
    TagWrite,
    Timestamp,
    WriteResult,
)

Seconds = Annotated[float, BeforeValidator(parse_duration)]
"""A duration in seconds, written `500ms`, `5s`, `30min` in YAML."""


class LinkLost(Exception):  # noqa: N818 - it says what happened, and reads so where it is caught
    """The device is out of reach; the text says where it was and why, for people."""


class Clock(Protocol):
    """The one source of time. In a played scenario it runs `rate` times as fast as the wall."""

    @property
    def rate(self) -> float:
        """Seconds of plant time per second of wall time."""
        ...

    @property
    def jumped(self) -> int:
        """Milliseconds by which it was set forward in all, since it was made."""
        ...

    def now(self) -> Timestamp:
        """The plant's time in milliseconds UTC; it never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep that many seconds of plant time."""
        ...


class DeviceSettings(BaseModel):
    """What the YAML says of one device; each driver extends it with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def beside(self, store: Path) -> Self:
        """The same settings, with the files that the YAML does not name looked for beside the record's file."""
        return self

    @property
    def is_in_clear(self) -> bool:
        """True if whoever is on the way can read what is said, and say something else."""
        return True


class TagAddress(BaseModel):
    """What the YAML says of one tag's place in its device; each driver extends it with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def shown(self) -> str:
        """The place as the audit names it; each driver says it in the words of its protocol."""
        return ", ".join(f"{key} {value}" for key, value in self if key in self.model_fields_set)

    def overlaps(self, other: Self) -> bool:
        """True if writing the one changes the other, both being in one place (`DriverEntry.place`)."""
        return True

    def value_type(self, data_type: DataType) -> DataType:
        """The type of the values that the driver gives and takes, for a tag that has `data_type` in its device."""
        return data_type


AddressT = TypeVar("AddressT", bound=TagAddress)


@dataclass(frozen=True, slots=True)
class Tag(Generic[AddressT]):
    """One tag as its driver sees it: scale, bits and meaning are the domain's affair."""

    tag_id: TagId
    type: DataType
    address: AddressT


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a device itself says of one place that has a value. None is "it does not say": Modbus has no types.

    `type_name` is for people and also there when the type is one that no tag can have; `change` is the value with
    status and timestamps, its tag id empty where the place is no tag. `labels` are the texts of an enumeration's codes.
    `problem` says in words why there is no such
    place, where the driver knows.
    """

    change: TagChange
    type: DataType | None = None
    type_name: str = ""
    is_array: bool = False
    readable: bool | None = None
    writable: bool | None = None
    problem: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BrowsedNode:
    """One node as browsing met it: names from the start on, address as YAML has it; `facts` None is a mere folder."""

    path: tuple[str, ...]
    address: str
    facts: NodeFacts | None


class Driver(Protocol):
    """One link to one device.

    `changes` yields one batch per publish response or poll; asking for the next batch says that the one before is
    committed, so only then may it be acknowledged to the device. `read`, `write` and `call` answer one by one, in the
    order asked, and may be called while `changes` is being iterated. All of them raise `LinkLost` when the link is
    gone.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def changes(self) -> AsyncIterator[Batch]:
        """What the device says by itself or when polled, batch by batch, until the link is lost."""
        ...

    async def read(self, tag_ids: Sequence[TagId]) -> list[TagChange]:
        """The values that the device has now."""
        ...

    async def write(self, writes: Sequence[TagWrite]) -> list[WriteResult]:
        """What the device said to each write, carried out in the order given."""
        ...

    async def call(self, calls: Sequence[MethodCall]) -> list[CallResult]:
        """What the device said to each method call, one after the other; behind one that is refused none is made.

        Those are `BadRequestCancelledByClient`. A device without methods refuses with `BadNotSupported`.
        """
        ...

    async def inspect(self, tag_ids: Sequence[TagId]) -> list[NodeFacts]:
        """What the device says of each tag: value, type and rights, as far as its protocol knows them."""
        ...


class BrowsingDriver(Driver, Protocol):
    """A driver of a protocol whose devices can be asked what they have."""

    def browse(self, start: str | None = None) -> AsyncIterator[list[BrowsedNode]]:
        """Everything below `start` (an address; default: all), in batches, parents before their children."""
        ...
