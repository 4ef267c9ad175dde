"""Every message of the contract: one struct each, with its wire names, its natural key and its class.

The envelope and the data fields are those of the message contract, version 1. Wire names that are short or reserved
(`eq`, `from`) are given by `field(name=…)`; the code uses the long ones.
"""

from typing import ClassVar, Final

import msgspec
from msgspec import field

from gateway.domain.values import PlainValue


class OrderRef(msgspec.Struct, frozen=True):
    """The job order a fact belongs to: order, operation and lot."""

    id: str
    op: str | None = None
    lot: str | None = None


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says. `key` names the parts of its natural key, each a field here or in the envelope."""

    type: ClassVar[str]
    key: ClassVar[tuple[str, ...]]


class EquipmentState(EventData, frozen=True, kw_only=True):
    """The equipment entered a canonical state at `t_src`. `rev` > 1 brings a reason that arrived later."""

    type: ClassVar = "equipment.state"
    key: ClassVar = ("t_src", "to")

    from_state: str | None = field(name="from")
    to: str
    reason: str | None
    cause: str | None = None
    raw: dict[str, PlainValue] = field(default_factory=dict)
    initial: bool = False


class DowntimeClosed(EventData, frozen=True, kw_only=True):
    """A stop ended at `t_src`."""

    type: ClassVar = "downtime.closed"
    key: ClassVar = ("state", "start")

    state: str
    reason: str | None
    start: str
    dur_s: float
    micro: bool


class ProductionCount(EventData, frozen=True, kw_only=True):
    """Pieces of one counter in one window; one window never holds two orders."""

    type: ClassVar = "production.count"
    key: ClassVar = ("counter", "window_end")

    counter: str
    delta: int
    order_total: int | None
    shift_total: int | None = None
    window_end: str
    unit: str
    flags: tuple[str, ...] = ()


class OrderStarted(EventData, frozen=True, kw_only=True):
    """The first Execute, batch id or scan of a job order on this equipment."""

    type: ClassVar = "order.started"
    key: ClassVar = ("order", "op", "run")

    run: int
    trigger: str
    params: dict[str, str] | None = None


class OrderProgress(EventData, frozen=True, kw_only=True):
    """How far the running order is, once per window."""

    type: ClassVar = "order.progress"
    key: ClassVar = ("order", "op", "window_end")

    window_end: str
    planned: int | None
    rate_per_min: float
    eta: str | None
    produced: int | None = None
    good: int | None = None
    scrap: int | None = None
    rework: int | None = None


class OrderCompleted(EventData, frozen=True, kw_only=True):
    """The totals of a finished order on this equipment; null where nothing is counted."""

    type: ClassVar = "order.completed"
    key: ClassVar = ("order", "op", "run")

    run: int
    planned: int | None
    produced: int | None = None
    good: int | None = None
    scrap: int | None = None
    rework: int | None = None
    times_s: dict[str, float] = field(default_factory=dict)
    kwh: float | None = None
    partial: bool = False


class OrderInterrupted(EventData, frozen=True, kw_only=True):
    """The running order was held."""

    type: ClassVar = "order.interrupted"
    key: ClassVar = ("order", "op", "run", "t_src")

    run: int
    cause: str | None


class OrderResumed(EventData, frozen=True, kw_only=True):
    """The held order goes on."""

    type: ClassVar = "order.resumed"
    key: ClassVar = ("order", "op", "run", "t_src")

    run: int


class ContainerCompleted(EventData, frozen=True, kw_only=True):
    """A pallet, case or other container was closed."""

    type: ClassVar = "container.completed"
    key: ClassVar = ("sscc",)

    sscc: str
    qty: int
    unit: str
    cases: int | None
    full: bool
    lot: str | None
    quality: str


class CounterSuspect(EventData, frozen=True, kw_only=True):
    """A counter moved in a way that pieces cannot explain; the difference is not counted."""

    type: ClassVar = "counter.suspect"
    key: ClassVar = ("counter", "t_src")

    counter: str
    previous: int
    value: int
    plausible: int


class AlarmRaised(EventData, frozen=True, kw_only=True):
    """An alarm is up since `t_src`; `initial` if it was up already when the gateway first looked."""

    type: ClassVar = "alarm.raised"
    key: ClassVar = ("code", "t_src")

    code: str
    text: str
    sev: int
    alarm_class: str = field(name="class", default="process")
    occ: str
    initial: bool = False


class AlarmAcked(EventData, frozen=True, kw_only=True):
    """Somebody acknowledged the occurrence."""

    type: ClassVar = "alarm.acked"
    key: ClassVar = ("occ",)

    code: str
    occ: str
    by: str | None = None
    comment: str | None = None
    reason: str | None = None


class AlarmCleared(EventData, frozen=True, kw_only=True):
    """The occurrence's cause is gone."""

    type: ClassVar = "alarm.cleared"
    key: ClassVar = ("occ",)

    code: str
    occ: str
    dur_s: float


class QualitySample(EventData, frozen=True, kw_only=True):
    """One subgroup, with the limits it was held against and the verdict on its mean."""

    type: ClassVar = "quality.sample"
    key: ClassVar = ("char", "subgroup")

    char: str
    subgroup: str
    n: int
    values: tuple[float, ...]
    unit: str | None
    lsl: float | None
    usl: float | None
    in_spec: bool | None
    gage: str


class MaterialConsumed(EventData, frozen=True, kw_only=True):
    """Material used in one window of counting."""

    type: ClassVar = "material.consumed"
    key: ClassVar = ("material", "order", "window_end")

    material: str
    lot: str | None
    qty: int
    unit: str
    method: str
    window_end: str


class MaterialLow(EventData, frozen=True, kw_only=True):
    """A container of material is nearly empty: call-off, once per container."""

    type: ClassVar = "material.low"
    key: ClassVar = ("material", "container")

    material: str
    remaining: int
    runout_in_s: int | None
    call_off: int = field(name="callOffQty")
    dock: str | None
    container: int


class EnergyInterval(EventData, frozen=True, kw_only=True):
    """Energy by the meter's difference; an interval never holds two orders."""

    type: ClassVar = "energy.interval"
    key: ClassVar = ("meter", "end")

    kwh: float
    start: str = field(name="from")
    end: str = field(name="to")
    medium: str
    meter: str


class ParamItem(msgspec.Struct, frozen=True):
    """One parameter of a result: requested and read back."""

    n: str
    req: PlainValue
    rb: PlainValue = None


class ParamResult(EventData, frozen=True, kw_only=True):
    """How a parameter download ended: ACTIVE, REJECTED (nothing was written) or FAILED."""

    type: ClassVar = "param.result"
    key: ClassVar = ("cmd",)

    cmd: str
    set: str
    rev: str
    result: str
    codes: tuple[str, ...] = ()
    items: tuple[ParamItem, ...] = ()
    rolled_back: dict[str, PlainValue] | None = None


class DataGap(EventData, frozen=True, kw_only=True):
    """Values of a device were lost between two moments; `cause` is overflow, sequence or session.

    `notifications` is how many notifications are missing, `tags` how many queues ran over, where that is known;
    `notification` is the number of the one that told of it.
    """

    type: ClassVar = "data.gap"
    key: ClassVar = ("device", "cause", "start", "notification")

    device: str
    cause: str
    start: str = field(name="from")
    end: str = field(name="to")
    notification: int
    notifications: int | None
    tags: int | None
    first: tuple[str, ...] = ()


class TagDrift(EventData, frozen=True, kw_only=True):
    """A device changed under the configuration: the type of a tag, or the index of a namespace.

    Values of another type than configured are Bad until the device or the configuration is mended; a namespace is
    found again by its URI.
    """

    type: ClassVar = "tag.drift"
    key: ClassVar = ("device", "what", "name", "after", "t_src")

    device: str
    what: str
    name: str
    before: str
    after: str


class ChangeAccepted(EventData, frozen=True, kw_only=True):
    """A change notice was taken in."""

    type: ClassVar = "change.accepted"
    key: ClassVar = ("cn",)

    cn: str


class ChangeApplied(EventData, frozen=True, kw_only=True):
    """The first download with a changed revision is active for an order."""

    type: ClassVar = "change.applied"
    key: ClassVar = ("cn", "for_order")

    cn: str
    set: str
    rev: str
    for_order: str | None = field(name="order")


class GatewayConnection(EventData, frozen=True, kw_only=True):
    """The link to a device, known to be up or down until now, changed."""

    type: ClassVar = "gateway.connection"
    key: ClassVar = ("device", "t_src", "up")  # a link may be lost in the very moment in which it came

    device: str
    up: bool
    since: str
    detail: str | None = None


class GatewayOutage(EventData, frozen=True, kw_only=True):
    """The broker is back; what happened meanwhile follows in sequence order."""

    type: ClassVar = "gateway.outage"
    key: ClassVar = ("start",)

    start: str = field(name="from")
    end: str = field(name="to")
    buffered_discrete: int


class GatewayRestarted(EventData, frozen=True, kw_only=True):
    """The gateway is back with its record, after a stop or a crash."""

    type: ClassVar = "gateway.restarted"
    key: ClassVar = ("t_src",)

    version: str
    last_alive: str | None


class GatewayCertificate(EventData, frozen=True, kw_only=True):
    """A certificate of the gateway or of a device ends soon, or has ended: `days_left` is negative then. Once a day."""

    type: ClassVar = "gateway.certificate"
    key: ClassVar = ("thumbprint", "day")

    subject: str
    thumbprint: str
    valid_until: str
    days_left: int
    day: str


EVENT_TYPES: Final[tuple[type[EventData], ...]] = (
    EquipmentState, DowntimeClosed, ProductionCount, OrderStarted, OrderProgress, OrderCompleted, OrderInterrupted,
    OrderResumed,
    AlarmRaised, AlarmAcked, AlarmCleared, QualitySample, MaterialConsumed, MaterialLow, EnergyInterval,
    ContainerCompleted, CounterSuspect, ParamResult, ChangeAccepted, ChangeApplied,
    DataGap, TagDrift, GatewayConnection, GatewayOutage, GatewayRestarted, GatewayCertificate,
)  # fmt: skip
