"""Every event of the contract: one struct each, with its wire names, its natural key and its place in the topics.

The envelope and the data fields are those of the message contract, version 1. Wire names that are short or reserved
(`eq`, `from`) are given by `field(name=…)`; the code uses the long ones.
"""

from typing import Annotated, ClassVar, Final

from msgspec import Meta, field

from gateway.domain.contract.event_data import (
    CauseName,
    EventData,
    Kwh,
    OrderRef,
    Seconds,
    StateName,
    StateSeconds,
    UtcTime,
    WholeSeconds,
)
from gateway.domain.contract.gateway_events import (
    DataGap,
    DeviceClock,
    GatewayBirth,
    GatewayCertificate,
    GatewayClock,
    GatewayConnection,
    GatewayDropped,
    GatewayLock,
    GatewayOutage,
    GatewayQuarantined,
    GatewayRestarted,
    GatewaySalvaged,
    TagDrift,
)
from gateway.domain.contract.kpi_events import OrderKpi, ShiftKpi
from gateway.domain.contract.param_events import (
    ChangeAccepted,
    ChangeApplied,
    JobStateChange,
    ParamDeviation,
    ParamResult,
)
from gateway.domain.contract.supply_events import MaterialShortageRisk
from gateway.domain.values import PlainValue

__all__ = ["EVENT_TYPES", "EventData", "OrderRef"]


class EquipmentState(EventData, frozen=True, kw_only=True):
    """The equipment entered a canonical state at `t_src`. `rev` > 1 brings a reason that arrived later."""

    type: ClassVar = "equipment.state"
    key: ClassVar = ("t_src", "to")

    from_state: StateName | None = field(name="from")
    to: StateName
    reason: str | None
    cause: CauseName | None = None
    raw: dict[str, PlainValue] = field(default_factory=dict)
    initial: bool = False


class DowntimeClosed(EventData, frozen=True, kw_only=True):
    """A stop ended at `t_src`."""

    type: ClassVar = "downtime.closed"
    key: ClassVar = ("state", "start")

    state: StateName
    reason: str | None
    start: UtcTime
    dur_s: Seconds
    micro: bool


class ProductionCount(EventData, frozen=True, kw_only=True):
    """Pieces of one counter in one window; one window never holds two orders."""

    type: ClassVar = "production.count"
    key: ClassVar = ("counter", "window_end")

    counter: str
    delta: int
    order_total: int | None
    shift_total: int | None = None
    window_end: UtcTime
    unit: str
    flags: tuple[str, ...] = ()


class ShiftSummary(EventData, frozen=True, kw_only=True):
    """A shift ended at `t_src`: how its time was spent, which adds up to its length exactly, and what was counted."""

    type: ClassVar = "shift.summary"
    key: ClassVar = ("shift", "start")

    shift: str
    day: Annotated[str, Meta(description="date on which it began, by the plant's clocks")]
    start: UtcTime = field(name="from")
    end: UtcTime = field(name="to")
    times_s: StateSeconds
    counts: Annotated[dict[str, int], Meta(description="pieces per counter, with and without an order")]
    unit: str


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

    window_end: UtcTime
    planned: int | None
    rate_per_min: float
    eta: UtcTime | None
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
    times_s: StateSeconds = field(default_factory=dict)
    kwh: Kwh | None = None
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
    """A pallet, case or other container was closed; flagged `bad_sscc` where the check digit says it was misread."""

    type: ClassVar = "container.completed"
    key: ClassVar = ("sscc",)

    sscc: str
    qty: int
    unit: str
    cases: int | None
    full: bool
    lot: str | None
    quality: str
    flags: tuple[str, ...] = ()


class CounterSuspect(EventData, frozen=True, kw_only=True):
    """A counter moved in a way that pieces cannot explain; the difference is not counted."""

    type: ClassVar = "counter.suspect"
    key: ClassVar = ("counter", "t_src")

    counter: str
    previous: int
    value: int
    plausible: int


class CounterRebased(EventData, frozen=True, kw_only=True):
    """An operator settled a jump of a counter: so many pieces it was, and they are counted where it happened."""

    type: ClassVar = "counter.rebased"
    key: ClassVar = ("counter", "jump")

    counter: str
    jump: Annotated[UtcTime, Meta(description="`t_src` of the `counter.suspect`")]
    previous: int
    value: int
    pieces: int
    by: str | None


class AlarmRaised(EventData, frozen=True, kw_only=True):
    """An alarm is up since `t_src`; `initial` if it was up already when the gateway first looked.

    `suppressed` is how often the code was up too briefly to be told, since it was told last.
    """

    type: ClassVar = "alarm.raised"
    key: ClassVar = ("code", "t_src")

    code: str
    text: str
    sev: int
    alarm_class: str = field(name="class", default="process")
    occ: str
    initial: bool = False
    suppressed: int = 0


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
    """The occurrence's cause is gone since `t_src`; `repeats` is how often it came again before that was for good."""

    type: ClassVar = "alarm.cleared"
    key: ClassVar = ("occ",)

    code: str
    occ: str
    dur_s: Seconds
    repeats: int = 0


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
    window_end: UtcTime


class MaterialLow(EventData, frozen=True, kw_only=True):
    """A container of material is nearly empty: call-off, once per container."""

    type: ClassVar = "material.low"
    key: ClassVar = ("material", "container")

    material: str
    remaining: int
    runout_in_s: WholeSeconds | None
    call_off: int = field(name="callOffQty")
    dock: str | None
    container: int


class GenealogyLink(EventData, frozen=True, kw_only=True):
    """One thing went into another: so much of a lot of material until `t_src`, or a part that a scanner read."""

    type: ClassVar = "genealogy.link"
    key: ClassVar = ("parent", "child", "t_src")

    parent: Annotated[str | None, Meta(description="lot or serial number of what it went into")]
    child: Annotated[str, Meta(description="lot or serial number; NOREAD where the scanner could not read it")]
    rel: Annotated[str, Meta(description="consumed, or what the configuration says of the scanner")]
    qty: int
    position: Annotated[str | None, Meta(description="where it was read; null for consumption")]


class ToolWear(EventData, frozen=True, kw_only=True):
    """A tool passed a percentage of what it lasts."""

    type: ClassVar = "tool.wear"
    key: ClassVar = ("tool", "serial", "threshold")

    tool: str
    serial: str | None
    threshold: Annotated[float, Meta(description="the percentage that it passed")]
    used: int
    limit: int
    unit: str
    remaining_pct: Annotated[float, Meta(description="negative beyond the limit")]
    spare: str | None


class EnergyInterval(EventData, frozen=True, kw_only=True):
    """Energy by the meter's difference; an interval never holds two orders."""

    type: ClassVar = "energy.interval"
    key: ClassVar = ("meter", "end")

    kwh: Kwh
    start: UtcTime = field(name="from")
    end: UtcTime = field(name="to")
    medium: str
    meter: str


EVENT_TYPES: Final[tuple[type[EventData], ...]] = (
    EquipmentState, DowntimeClosed, ProductionCount, OrderStarted, OrderProgress, OrderCompleted, OrderInterrupted,
    OrderResumed, ShiftSummary, OrderKpi, ShiftKpi,
    AlarmRaised, AlarmAcked, AlarmCleared, QualitySample, MaterialConsumed, MaterialLow, EnergyInterval,
    MaterialShortageRisk, GenealogyLink, ToolWear,
    ContainerCompleted, CounterSuspect, CounterRebased, ParamResult, ParamDeviation, ChangeAccepted, ChangeApplied,
    JobStateChange,
    DataGap, TagDrift, DeviceClock, GatewayConnection, GatewayOutage, GatewayRestarted, GatewayCertificate,
    GatewayLock, GatewayClock, GatewayBirth, GatewayDropped, GatewayQuarantined, GatewaySalvaged,
)  # fmt: skip
