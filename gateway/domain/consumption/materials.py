"""Material that is used up by counting: reels, drums, magazines; called off once per container before it runs out."""

import msgspec

from gateway.domain.contract.events import MaterialLow
from gateway.domain.contract.supply_events import MaterialShortageRisk
from gateway.domain.tags.expressions import Inputs
from gateway.domain.times import format_timestamp, parse_timestamp
from gateway.domain.values import PlainValue, Timestamp, plain


class MaterialSpec(msgspec.Struct, frozen=True):
    """One material: each piece of `counter` uses one; `container` is the slot whose change says that a full one is on.

    Low means that at most `low` of `capacity` are left.
    """

    material: str
    counter: str
    capacity: int
    low: int
    container: int | None = None
    call_off: int | None = None
    dock: str | None = None
    lot: int | None = None
    """The slot with the lot of the container, where the machine knows it; else it is the one delivered last."""


class MaterialMemory(msgspec.Struct):
    """What survives a restart: how much of the present container is used, and whether it was called off."""

    used: int = 0
    container: PlainValue = None
    number: int = 1
    lot: str | None = None
    is_called: bool = False
    runs_out: Timestamp | None = None
    """When the container will be empty, as estimated at its call-off."""
    is_short: bool = False
    """True if it was told that the next one comes too late."""


def follow_container(spec: MaterialSpec, memory: MaterialMemory, inputs: Inputs, delivered: str | None) -> None:
    """Notice a new container: it is full, and of the lot that was delivered last."""
    if spec.container is None or not inputs.usable(spec.container):
        return
    shown = plain(inputs.values[spec.container])
    if memory.container is not None and shown != memory.container:
        memory.used, memory.is_called, memory.number, memory.lot = 0, False, memory.number + 1, delivered
        memory.runs_out, memory.is_short = None, False
    memory.container = shown
    if spec.lot is not None and inputs.usable(spec.lot):
        memory.lot = str(inputs.values[spec.lot] or "").strip() or memory.lot


def use(spec: MaterialSpec, memory: MaterialMemory, pieces: int, rate: float) -> MaterialLow | None:
    """Use that many, at `rate` pieces per second; the call-off if this made the container low."""
    memory.used += pieces
    remaining = spec.capacity - memory.used
    if memory.is_called or remaining > spec.low:
        return None
    memory.is_called = True
    return MaterialLow(
        material=spec.material, remaining=max(0, remaining), runout_in_s=round(remaining / rate) if rate > 0 else None,
        call_off=spec.call_off or spec.capacity, dock=spec.dock, container=memory.number,
    )  # fmt: skip


def shortage(spec: MaterialSpec, memory: MaterialMemory, eta: str | None) -> MaterialShortageRisk | None:
    """The risk, once per container, that it is empty before the material arrives that is announced for `eta`."""
    if memory.is_short or memory.runs_out is None or eta is None or parse_timestamp(eta) <= memory.runs_out:
        return None
    memory.is_short = True
    return MaterialShortageRisk(
        material=spec.material, container=memory.number, runs_out=format_timestamp(memory.runs_out),
        eta=format_timestamp(parse_timestamp(eta)), dock=spec.dock,
    )  # fmt: skip
