"""What travels on the topics that carry neither an event, a command nor an answer, as the contract describes it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from gateway.domain.contract.event_data import CauseName, OrderRef, StateName, UtcTime
from gateway.domain.values import PlainValue


class RunParameterBatch(msgspec.Struct, kw_only=True):
    """Values of one equipment's tags with `publish: true`; one message holds what one commit held.

    It may be dropped when the outbox overflows, and then `seq` has a hole; events never are.
    """

    v: Annotated[int, Meta(description="version of the contract")]
    equipment: str = field(name="eq")
    seq: Annotated[int, Meta(description="1, 2, 3 … per equipment, counted apart from the events")]
    order: OrderRef | None
    start: UtcTime = field(name="t0")
    names: Annotated[list[str], Meta(description="of the tags, in the order of their first row")]
    rows: Annotated[
        list[Annotated[list[Any], Meta(min_length=3, max_length=4)]],
        Meta(description="[milliseconds after t0, place in names, value], and the OPC UA status code if not Good"),
    ]


class CurrentState(msgspec.Struct, kw_only=True):
    """The equipment's state. Retained: a subscriber gets it at once."""

    state: StateName
    since: UtcTime
    reason: str | None
    cause: CauseName | None


class CurrentOrder(msgspec.Struct, kw_only=True):
    """The job order that runs on the equipment, null between orders. Retained."""

    order: OrderRef | None
    since: UtcTime | None


class CurrentParameters(msgspec.Struct, kw_only=True):
    """The parameter set that is active on the equipment, with the values read back. Retained.

    Without `set` nobody knows what the machine holds: a download could neither be ended nor taken back.
    """

    set: str | None
    rev: str | None
    items: dict[str, PlainValue]


class TagUnit(msgspec.Struct, kw_only=True):
    """What the numbers of one tag are measured in."""

    unit: Annotated[str, Meta(description="UCUM, such as kW.h, Cel, /min, {pcs}")]
    code: Annotated[str | None, Meta(description="common code of UN/CEFACT Recommendation 20, such as KWH")]


class CurrentUnits(msgspec.Struct, kw_only=True):
    """The units of the run parameters in `tel` that have one, by the names of their tags. Retained."""

    tags: dict[str, TagUnit]


class LockedDevice(msgspec.Struct, kw_only=True):
    """A write lock: nothing is written to the device while it holds."""

    device: Annotated[str | None, Meta(description="null: every device")]
    reason: str
    by: str
    since: UtcTime


class GatewayStatus(msgspec.Struct, kw_only=True):
    """Online, or offline by the gateway's own word or its last will. Retained."""

    state: Annotated[str, Meta(description="online or offline")]
    gateway: str = field(name="gw")
    version: str
    configuration: str = field(name="cfg")
    epoch: str
    equipment: list[str] = field(name="eq")
    in_clear: Annotated[list[str], Meta(description="devices whose conversation is neither signed nor encrypted")]
    locks: Annotated[list[LockedDevice], Meta(description="write locks that hold: `gateway lock`")]


class MessageCounts(msgspec.Struct, kw_only=True):
    """What became of every message that the gateway took in for publishing. Retained; told anew when it has changed.

    ingested = acknowledged + queued + dropped + quarantined, always. Sums are over the life of the record. The
    retained topics and the status are not counted: of them only the newest matters.
    """

    ingested: Annotated[int, Meta(description="committed to the record: events, `tel`, answers")]
    acknowledged: Annotated[int, Meta(description="a broker has them")]
    queued: Annotated[int, Meta(description="on their way")]
    dropped: Annotated[int, Meta(description="`tel` that had to go, told by gateway.dropped")]
    quarantined: Annotated[int, Meta(description="refused by a broker, told by gateway.quarantined")]
    file_bytes: Annotated[int, Meta(description="size of the record")]
    at: UtcTime = field(name="t")
