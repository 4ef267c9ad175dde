"""Every command of the contract: one struct each, with its wire names."""

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, field

from gateway.domain.contract.job_states import Action
from gateway.domain.values import PlainValue

Pieces = Annotated[int, Meta(ge=1, le=2**53)]
Priority = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]


class ParameterItem(msgspec.Struct, frozen=True, kw_only=True):
    """One process parameter of a set, with the limits of PLM. Its class is golden, trim, constant or order."""

    name: str
    value: PlainValue
    unit: str | None = None
    min: float | None = None
    max: float | None = None
    parameter_class: str | None = field(name="class", default=None)


class ParamsDownload(msgspec.Struct, frozen=True, kw_only=True):
    """Command: bring this parameter set into the machine."""

    type: ClassVar = "params.download"

    cmd: str
    eq: str
    set: str
    rev: str
    items: tuple[ParameterItem, ...]
    order: str | None = None
    hash: str | None = None
    by: Annotated[str | None, Meta(description="who changes a machine constant")] = None
    corr: str | None = None
    valid_until: str | None = None


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """Another value of one `trim` parameter of the active set."""

    name: str
    value: PlainValue
    unit: str | None = None


class ParamsAdjust(msgspec.Struct, frozen=True, kw_only=True):
    """Command: adjust `trim` parameters of the set that is active on the machine, within the bands of its revision.

    It is a download of these values only: set and revision stay, and it ends in a `param.result`.
    """

    type: ClassVar = "params.adjust"

    cmd: str
    eq: str
    items: tuple[Adjustment, ...]
    by: Annotated[str, Meta(pattern=r"\S", description="who adjusts")]
    order: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class ParamsConfirm(msgspec.Struct, frozen=True, kw_only=True):
    """Command: a person has looked at this machine with the alarm ROLLBACK_FAILED, and knows what it holds.

    Its parameters are read and told in `detail`, nothing is written, and the alarm is over.
    """

    type: ClassVar = "params.confirm"

    cmd: str
    eq: str
    by: Annotated[str, Meta(pattern=r"\S", description="who has looked at the machine")]
    corr: str | None = None
    valid_until: str | None = None


class AlarmAck(msgspec.Struct, frozen=True, kw_only=True):
    """Command: acknowledge this occurrence of an alarm condition in the name of `user`, or confirm it."""

    type: ClassVar = "alarm.ack"

    cmd: str
    eq: str
    occ: str
    user: str
    comment: str = ""
    confirm: bool = False
    corr: str | None = None
    valid_until: str | None = None


class OrderStart(msgspec.Struct, frozen=True, kw_only=True):
    """Command: from `t` on (now, if that is not said) this equipment runs that order. `t` may be over, up to a day."""

    type: ClassVar = "order.start"

    cmd: str
    eq: str
    order: str
    t: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class OrderEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Command: from `t` on (now, if that is not said) this equipment runs no order. `t` may be over, up to a day."""

    type: ClassVar = "order.end"

    cmd: str
    eq: str
    t: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class JobControl(msgspec.Struct, frozen=True, kw_only=True):
    """Command: have the machine start, stop, pause, resume, abort, cancel, clear, update or revoke_start this order.

    `order` is the order, or its JobOrderID in the machine's list. Done means that the list shows it.
    """

    type: ClassVar = "job.control"

    cmd: str
    eq: str
    order: str
    action: Action
    comment: str = ""
    corr: str | None = None
    valid_until: str | None = None


class CounterRebase(msgspec.Struct, frozen=True, kw_only=True):
    """Command: a jump of a counter, told as `counter.suspect`, was so many `pieces`; counting goes on from where it is.

    `t` is the `t_src` of the `counter.suspect`; it may be left out where only one jump is open.
    """

    type: ClassVar = "counter.rebase"

    cmd: str
    eq: str
    counter: str
    pieces: Annotated[int, Meta(ge=0)] = 0
    t: str | None = None
    by: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class DispatchOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a dispatched order: which equipment, and which parameter set."""

    op: str
    eq: str
    set: str | None = None
    rev: str | None = None


class AutoDownload(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway brings the sets down by itself, in these states.

    The permit that the YAML demands is waited for in any case: no message from afar stands for the operator's consent.
    """

    when: tuple[str, ...] = ("IDLE", "SETUP")


class DispatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Command: this order is going to run; its quantity, lot and operations are known from now on.

    `unit` is what its machines count in, or one of which master data says how many pieces it is. Of the orders that
    wait for an equipment the one with the highest `prio` is next, then the earliest `start`.
    """

    type: ClassVar = "dispatch.order"

    cmd: str
    order: str
    qty: Pieces
    material: str | None = None
    lot: str | None = None
    unit: str = "pcs"
    prio: Priority | None = None
    start: str | None = None
    ops: tuple[DispatchOperation, ...] = ()
    auto_download: AutoDownload | None = None
    corr: str | None = None
    valid_until: str | None = None


class DispatchChange(msgspec.Struct, frozen=True, kw_only=True):
    """Command: cancel, hold, resume, resequence (`prio`, `start`) or update (`qty`, `lot`) a dispatched order.

    It is cancelled only while it has started nowhere; on hold it is not loaded where it is not loaded yet.
    """

    type: ClassVar = "dispatch.change"

    cmd: str
    order: str
    action: Literal["cancel", "hold", "resume", "resequence", "update"]
    prio: Priority | None = None
    start: str | None = None
    qty: Pieces | None = None
    unit: str = "pcs"
    lot: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class ReleasedSet(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a parameter set."""

    set: str
    rev: str
    items: tuple[ParameterItem, ...]
    hash: str | None = None


class ParamsRelease(msgspec.Struct, frozen=True, kw_only=True):
    """Command from PLM: these revisions are released; those of a change wait for its notice."""

    type: ClassVar = "params.release"

    cmd: str
    sets: tuple[ReleasedSet, ...]
    change: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class ChangeItem(msgspec.Struct, frozen=True, kw_only=True):
    """One set of a change notice."""

    set: str
    before: str | None = field(name="from", default=None)
    to: str


class Effectivity(msgspec.Struct, frozen=True, kw_only=True):
    """When a change holds: `immediate`, `at_time` with `t`, `next_order`, or `from_lot` with `lot`.

    `next_order` spares every order that has begun on any machine, on the others too. `from_lot` waits until the first
    order of that lot is loaded.
    """

    mode: str = "immediate"
    t: str | None = None
    lot: str | None = None


class ChangeNotice(msgspec.Struct, frozen=True, kw_only=True):
    """Command from PLM: from then on these revisions are the current ones. A running order keeps its own."""

    type: ClassVar = "change.notice"

    cmd: str
    cn: str
    items: tuple[ChangeItem, ...]
    effective: Effectivity = Effectivity()
    corr: str | None = None
    valid_until: str | None = None


class LotScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a hold covers."""

    lot: str


class QualityHold(msgspec.Struct, frozen=True, kw_only=True):
    """Command from QMS: this lot is on hold; its machines are asked to stop, its containers are marked."""

    type: ClassVar = "quality.hold"

    cmd: str
    scope: LotScope
    reason: str | None = None
    action: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class QualityRelease(msgspec.Struct, frozen=True, kw_only=True):
    """Command from QMS: the hold is over."""

    type: ClassVar = "quality.release"

    cmd: str
    scope: LotScope
    corr: str | None = None
    valid_until: str | None = None


class MaterialArrival(msgspec.Struct, frozen=True, kw_only=True):
    """Command from SCM: material is on its way."""

    type: ClassVar = "material.arrival"

    cmd: str
    material: str
    eta: str
    qty: int | None = None
    dock: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class StockTask(msgspec.Struct, frozen=True, kw_only=True):
    """Command from WMS: a delivery task and how far it is; a delivered lot is what is used next."""

    type: ClassVar = "stock.task"

    cmd: str
    task: str
    kind: str
    material: str
    status: str
    lot: str | None = None
    corr: str | None = None
    valid_until: str | None = None


class MasterdataSync(msgspec.Struct, frozen=True, kw_only=True):
    """Command: master data of one kind in this version; all of it if `full`, else in addition to what is known.

    `material`: `{material}`. `unit`: `{unit, factor, material}`, one of the unit is so many pieces, of that material
    or of every one. The gateway has no use for other kinds.
    """

    type: ClassVar = "masterdata.sync"

    cmd: str
    kind: str
    version: Annotated[int, Meta(ge=0, le=2**53)]
    items: tuple[dict[str, Any], ...]
    full: bool = False
    corr: str | None = None
    valid_until: str | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Command to the gateway: publish these stored events again as they were. Done when the broker has the last one.

    `eq` null: the events of no equipment, the gateway's own and the site's, which are numbered together.
    """

    type: ClassVar = "replay"

    cmd: str
    eq: Annotated[str | None, Meta(description="equipment or lane, null for the events of none")]
    from_seq: Annotated[int, Meta(ge=1, le=2**53)]
    to_seq: Annotated[int, Meta(ge=1, le=2**53, description="included")]
    epoch: Annotated[str | None, Meta(description="whose numbers these are; the current one's if left out")] = None
    corr: str | None = None
    valid_until: str | None = None


class QuarantineRetry(msgspec.Struct, frozen=True, kw_only=True):
    """Command to the gateway: send what a broker refused once more. Done when it is queued again, behind all others."""

    type: ClassVar = "quarantine.retry"

    cmd: str
    topic: Annotated[str | None, Meta(description="only what is for this topic; all of it if null")] = None
    corr: str | None = None
    valid_until: str | None = None


Command = (
    ParamsDownload | ParamsAdjust | ParamsConfirm | DispatchOrder | DispatchChange | MasterdataSync | ParamsRelease
    | ChangeNotice | QualityHold | QualityRelease | MaterialArrival | StockTask | AlarmAck | OrderStart | OrderEnd
    | JobControl | CounterRebase | Replay | QuarantineRetry
)  # fmt: skip
COMMAND_TYPES: Final[dict[str, Any]] = {
    kind.type: kind
    for kind in (
        ParamsDownload, ParamsAdjust, ParamsConfirm, DispatchOrder, DispatchChange, MasterdataSync, ParamsRelease,
        ChangeNotice, QualityHold, QualityRelease, MaterialArrival, StockTask, AlarmAck, OrderStart, OrderEnd,
        JobControl, CounterRebase, Replay, QuarantineRetry,
    )
}  # fmt: skip
EQUIPMENT_COMMANDS: Final = (
    ParamsDownload, ParamsAdjust, ParamsConfirm, AlarmAck, OrderStart, OrderEnd, JobControl, CounterRebase,
)  # fmt: skip
"""Those that are sent to one equipment, and answered there."""
GATEWAY_COMMANDS: Final = (Replay, QuarantineRetry)
"""Those that are sent to the gateway itself, and answered there. All others are for the site."""
