"""What every event is made of: its class, the order it belongs to, and field types that carry their unit.

A description or pattern given here stands in the contract (`gateway contract`) wherever the type is used.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple

import msgspec
from msgspec import Meta

from gateway.domain.values import Timestamp

UtcTime = Annotated[
    str,
    Meta(
        description="UTC, with milliseconds and Z",
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
    ),
]
StateName = Annotated[
    str,
    Meta(
        description="canonical state",
        pattern="^(RUN|IDLE|STARVED|BLOCKED|HELD|DOWN|SETUP|MAINT|OFF|UNKNOWN)$",
    ),
]
CauseName = Annotated[
    str,
    Meta(
        description="why the state is UNKNOWN",
        pattern="^(NO_CONTACT|BAD_QUALITY|STALE_HEARTBEAT|UNMAPPED|GATEWAY_DOWN)$",
    ),
]
Seconds = Annotated[float, Meta(description="seconds")]
WholeSeconds = Annotated[int, Meta(description="seconds")]
Kwh = Annotated[float, Meta(description="kWh")]
StateSeconds = Annotated[dict[str, float], Meta(description="seconds per canonical state")]


class Level(StrEnum):
    """Whose topics an event appears below."""

    EQUIPMENT = "equipment"
    SITE = "site"
    GATEWAY = "gateway"


class OrderRef(msgspec.Struct, frozen=True):
    """The job order a fact belongs to: order, operation and lot."""

    id: str
    op: str | None = None
    lot: str | None = None


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says. `key` names the parts of its natural key, each a field here or in the envelope."""

    type: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    levels: ClassVar[tuple[Level, ...]] = (Level.EQUIPMENT,)


class Report(NamedTuple):
    """What is told, and when it happened."""

    data: EventData
    at: Timestamp
