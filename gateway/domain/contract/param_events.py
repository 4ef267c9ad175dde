"""What became of parameters, of changes to them, and of the job orders that carry them."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, field

from gateway.domain.contract.event_data import EventData, Level
from gateway.domain.values import PlainValue


class ParamItem(msgspec.Struct, frozen=True):
    """One parameter of a result: requested and read back."""

    n: str
    req: PlainValue
    rb: PlainValue = None


class ParamResult(EventData, frozen=True, kw_only=True):
    """How a parameter download ended: ACTIVE, REJECTED (nothing was written) or FAILED."""

    type: ClassVar = "param.result"
    key: ClassVar = ("cmd",)
    levels: ClassVar = (Level.EQUIPMENT, Level.SITE)  # at the site where the equipment is unknown

    cmd: str
    set: str
    rev: str
    result: str
    codes: tuple[str, ...] = ()
    items: tuple[ParamItem, ...] = ()
    rolled_back: dict[str, PlainValue] | None = None


class ParamDeviation(EventData, frozen=True, kw_only=True):
    """A parameter of the active set was changed, and not by the gateway: once for each other value that is seen."""

    type: ClassVar = "param.deviation"
    key: ClassVar = ("n", "t_src")

    n: str
    expected: Annotated[PlainValue, Meta(description="read back when the set became active")]
    actual: PlainValue
    source: Annotated[str, Meta(description="who changed it: HMI, somebody at the machine")] = "HMI"


class ChangeAccepted(EventData, frozen=True, kw_only=True):
    """A change notice was taken in."""

    type: ClassVar = "change.accepted"
    key: ClassVar = ("cn",)
    levels: ClassVar = (Level.SITE,)

    cn: str


class JobStateChange(EventData, frozen=True, kw_only=True):
    """The machine's list shows this job order in another state: `to` a state of ISA-95 Job Control, or `Removed`.

    `from` is null for one that was not in the list before. `raw` is the state in the machine's own words.
    """

    type: ClassVar = "job.state"
    key: ClassVar = ("job", "to", "substate", "t_src")

    job: Annotated[str, Meta(description="JobOrderID in the machine's list")]
    for_order: str = field(name="order")
    before: str | None = field(name="from")
    to: str
    substate: str | None = None
    raw: str | None = None


class ChangeApplied(EventData, frozen=True, kw_only=True):
    """The first download with a changed revision is active for an order."""

    type: ClassVar = "change.applied"
    key: ClassVar = ("cn", "for_order")
    levels: ClassVar = (Level.SITE,)

    cn: str
    set: str
    rev: str
    for_order: str | None = field(name="order")
