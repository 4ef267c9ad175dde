"""What the gateway says of itself, its links and what was lost on them. These events belong to no equipment."""

from typing import ClassVar

from msgspec import field

from gateway.domain.event_data import EventData, Level, Seconds, UtcTime


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
    """A certificate of the gateway or of a device ends soon, or has ended: `days_left` is negative then. Once a day."""

    type: ClassVar = "gateway.certificate"
    key: ClassVar = ("thumbprint", "day")
    levels: ClassVar = (Level.GATEWAY,)

    subject: str
    thumbprint: str
    valid_until: UtcTime
    days_left: int
    day: str
