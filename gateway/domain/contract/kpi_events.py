"""Key performance indicators of ISO 22400-2, per order and per shift; told where the equipment says `kpi:`."""

from typing import Annotated, ClassVar

from msgspec import Meta, field

from gateway.domain.contract.event_data import EventData, Seconds, UtcTime

Ratio = Annotated[float, Meta(description="1 is the plan")]


class Indicators(EventData, frozen=True, kw_only=True):
    """Times, pieces and ratios of one stretch of time. A ratio is null where `why_null` says why."""

    apt_s: Annotated[Seconds, Meta(description="actual production time APT, seconds")]
    aust_s: Annotated[Seconds, Meta(description="actual unit setup time AUST, seconds")]
    adet_s: Annotated[Seconds, Meta(description="actual unit delay time ADET, seconds")]
    adot_s: Annotated[Seconds, Meta(description="actual unit down time ADOT, seconds")]
    pbt_s: Annotated[Seconds, Meta(description="planned busy time PBT = APT + AUST + ADET + ADOT, seconds")]
    not_planned_s: Annotated[Seconds, Meta(description="time in which nothing was planned, seconds")]
    unknown_s: Annotated[Seconds, Meta(description="time of which nothing is known; in no other time here, seconds")]
    planned_s: Annotated[Seconds | None, Meta(description="what the pieces should have taken, PRI * PQ, seconds")]
    produced: Annotated[int | None, Meta(description="produced quantity PQ: good, scrap and rework")]
    good: Annotated[int | None, Meta(description="good quantity GQ")]
    scrap: Annotated[int | None, Meta(description="scrap quantity SQ")]
    rework: Annotated[int | None, Meta(description="rework quantity RQ")]
    availability: Annotated[Ratio | None, Meta(description="APT / PBT")]
    effectiveness: Annotated[Ratio | None, Meta(description="PRI * PQ / APT")]
    quality: Annotated[Ratio | None, Meta(description="GQ / PQ")]
    oee: Annotated[Ratio | None, Meta(description="PRI * GQ / PBT = availability * effectiveness * quality")]
    why_null: Annotated[dict[str, str], Meta(description="reason by ratio")]


class OrderKpi(Indicators, frozen=True, kw_only=True):
    """Indicators of an order on this equipment, when it is completed."""

    type: ClassVar = "kpi.order"
    key: ClassVar = ("order", "op", "run")

    run: int


class ShiftKpi(Indicators, frozen=True, kw_only=True):
    """Indicators of a shift on this equipment, when it ends."""

    type: ClassVar = "kpi.shift"
    key: ClassVar = ("shift", "start")

    shift: str
    start: UtcTime = field(name="from")
    end: UtcTime = field(name="to")
