"""What the gateway says of itself, its links and what was lost on them. These events belong to no equipment."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, field

from gateway.domain.contract.event_data import EventData, Level, Seconds, UtcTime
from gateway.domain.uplink import StreamKind


class DataGap(EventData, frozen=True, kw_only=True):
    """Values of a device were lost between two moments; `cause` is overflow, sequence or session.

    `notifications` is how many notifications are missing, `tags` how many queues ran over, where that is known;
    `notification` is the number of the one that told of it. With `filled`, so many values of the gap came from the
    device's history, and `tags` is how many tags have none.
    """

    type: ClassVar = "data.gap"
    key: ClassVar = ("device", "cause", "start", "notification")
    levels: ClassVar = (Level.GATEWAY,)

    device: str
    cause: str
    start: UtcTime = field(name="from")
    end: UtcTime = field(name="to")
    notification: int
    notifications: int | None
    tags: int | None
    first: tuple[str, ...] = ()
    filled: int | None = None


class TagDrift(EventData, frozen=True, kw_only=True):
    """A device changed under the configuration: the type of a tag, or the index of a namespace.

    Values of another type than configured are Bad until the device or the configuration is mended; a namespace is
    found again by its URI.
    """

    type: ClassVar = "tag.drift"
    key: ClassVar = ("device", "what", "name", "after", "t_src")
    levels: ClassVar = (Level.GATEWAY,)

    device: str
    what: str
    name: str
    before: str
    after: str


class DeviceClock(EventData, frozen=True, kw_only=True):
    """A device's clock differs from the gateway's by more than is trusted, differs otherwise, or is right again.

    `corrected` says that the times of its events are put right by it; they have `t_q` estimated.
    """

    type: ClassVar = "device.clock"
    key: ClassVar = ("device", "t_src")
    levels: ClassVar = (Level.GATEWAY,)

    device: str
    ahead_s: Seconds
    before_s: Seconds
    corrected: bool


class GatewayConnection(EventData, frozen=True, kw_only=True):
    """The link to a device, known to be up or down until now, changed."""

    type: ClassVar = "gateway.connection"
    key: ClassVar = ("device", "t_src", "up")  # a link may be lost in the very moment in which it came
    levels: ClassVar = (Level.GATEWAY,)

    device: str
    up: bool
    since: UtcTime
    detail: str | None = None


class GatewayOutage(EventData, frozen=True, kw_only=True):
    """The broker is back; what happened meanwhile follows in sequence order."""

    type: ClassVar = "gateway.outage"
    key: ClassVar = ("start",)
    levels: ClassVar = (Level.GATEWAY,)

    start: UtcTime = field(name="from")
    end: UtcTime = field(name="to")
    buffered_discrete: int


class GatewayLock(EventData, frozen=True, kw_only=True):
    """Somebody locked a device (`device` null: all of them) against every write, or unlocked it.

    `reason`, `by` and `since` are those of the lock. While it holds, commands that would write are rejected with the
    code `locked`.
    """

    type: ClassVar = "gateway.lock"
    key: ClassVar = ("device", "t_src", "locked")
    levels: ClassVar = (Level.GATEWAY,)

    device: str | None
    locked: bool
    reason: str
    by: str
    since: UtcTime


class GatewayRestarted(EventData, frozen=True, kw_only=True):
    """The gateway is back with its record, after a stop or a crash."""

    type: ClassVar = "gateway.restarted"
    key: ClassVar = ("t_src",)
    levels: ClassVar = (Level.GATEWAY,)

    version: str
    last_alive: UtcTime | None


class GatewayCertificate(EventData, frozen=True, kw_only=True):
    """A certificate of gateway, device or broker ends soon, or has ended: `days_left` is negative then. Once a day."""

    type: ClassVar = "gateway.certificate"
    key: ClassVar = ("thumbprint", "day")
    levels: ClassVar = (Level.GATEWAY,)

    subject: str
    thumbprint: str
    valid_until: UtcTime
    days_left: int
    day: str


class LastNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The last numbers given in two streams of one equipment (or lane); 0 where there was none yet."""

    equipment: str = field(name="eq")
    seq: Annotated[int, Meta(description="of its events")]
    tel: Annotated[int, Meta(description="of its `tel` messages")]


class GatewayClock(EventData, frozen=True, kw_only=True):
    """The clock of the gateway's box was set by `jump_s`; `t_src` is the gateway's own time behind that.

    Set forward, the gateway follows at once. Set back, it does not: it never tells a time twice, is `ahead_s` ahead and
    loses a hundredth of each second until the box has come up with it. Order is told by `seq` alone.
    """

    type: ClassVar = "gateway.clock"
    key: ClassVar = ("t_src", "jump_s")
    levels: ClassVar = (Level.GATEWAY,)

    jump_s: Seconds
    ahead_s: Seconds


class GatewayBirth(EventData, frozen=True, kw_only=True):
    """The gateway is connected to a broker, and these are the last numbers it gave out by then.

    So a consumer finds holes at the end of a stream too: whatever is missing up to these numbers is on its way or lost.
    The event's own `seq` says it for the events of no equipment. Beyond 500 streams there are several `parts`.
    """

    type: ClassVar = "gateway.birth"
    key: ClassVar = ("broker", "t_src", "part")
    levels: ClassVar = (Level.GATEWAY,)

    configuration: str
    version: str
    broker: Annotated[str, Meta(description="host:port")]
    protocol: Annotated[str, Meta(description="MQTT 5 or MQTT 3.1.1")]
    part: Annotated[int, Meta(description="1, 2 … of `parts`")] = 1
    parts: int = 1
    equipment: tuple[LastNumbers, ...]


class DroppedRange(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of one stream that were never published: neighbours by number, ends included."""

    equipment: str | None = field(name="eq")
    stream: StreamKind
    from_seq: int
    to_seq: int
    messages: int


class GatewayDropped(EventData, frozen=True, kw_only=True):
    """The record was full and messages had to go unpublished, oldest first, between two moments.

    `reason` is `record_full`. Only `tel` is dropped, never an event or an answer. `number` tells two apart that are
    alike otherwise.
    """

    type: ClassVar = "gateway.dropped"
    key: ClassVar = ("number", "t_src")
    levels: ClassVar = (Level.GATEWAY,)

    number: Annotated[int, Meta(description="of this notice in the gateway's record")]
    reason: str
    streams: tuple[DroppedRange, ...]
    messages: int
    start: UtcTime = field(name="from")
    end: UtcTime = field(name="to")


class GatewayQuarantined(EventData, frozen=True, kw_only=True):
    """A broker would not take messages on this topic: they are put aside, and the others go on.

    `first` and `last` are their numbers in the gateway's record. `quarantine.retry` sends them once more.
    """

    type: ClassVar = "gateway.quarantined"
    key: ClassVar = ("topic", "first", "t_src")
    levels: ClassVar = (Level.GATEWAY,)

    topic: str
    reason: str
    messages: int
    first: int
    last: int


class LostRange(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of one stream that a damaged record no longer gave; null is what nobody knows any more."""

    equipment: str | None = field(name="eq")
    stream: StreamKind
    from_seq: int
    to_seq: int | None
    messages: int | None


RowRange = Annotated[
    tuple[int | None, ...], Meta(description="first and last row; null: nobody knows", min_length=2, max_length=2)
]


class GatewaySalvaged(EventData, frozen=True, kw_only=True):
    """The record was damaged: what could be read of it is in a new file, the old one is kept as `file`.

    `lost` are the messages that it no longer gave, `lost_rows` the same as row numbers of that file, ends included.
    With `new_epoch` all numbers begin anew. Beyond 500 ranges there are several `parts`.
    """

    type: ClassVar = "gateway.salvaged"
    key: ClassVar = ("file", "t_src", "part")
    levels: ClassVar = (Level.GATEWAY,)

    reason: str
    file: str
    rows_saved: int
    lost: tuple[LostRange, ...]
    lost_rows: tuple[RowRange, ...]
    new_epoch: bool
    part: Annotated[int, Meta(description="1, 2 … of `parts`")] = 1
    parts: int = 1
