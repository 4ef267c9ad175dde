"""What leaves the gateway around and beside the events: the envelope with its id, run parameters, answers."""

from typing import Final
from uuid import UUID, uuid5

import msgspec
from msgspec import field

from gateway.domain.events import EventData, OrderRef
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp, Value

NAMESPACE: Final = UUID("6f1b1c52-6a0e-5d3c-9d6e-2f4f0a7c51b8")
"""The one namespace of all event ids."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. `equipment` is the full path, None for what belongs to no equipment."""

    id: str
    type: str
    v: int = 1
    rev: int = 1
    gw: str
    cfg: str
    epoch: str
    equipment: str | None = field(name="eq")
    seq: int
    source_time: Timestamp = field(name="t_src")
    gateway_time: Timestamp = field(name="t_gw")
    time_quality: str = field(name="t_q", default="source")
    order: OrderRef | None = None
    corr: str | None = None
    data: EventData


def event_id(data: EventData, equipment: str | None, source_time: Timestamp, order: OrderRef | None) -> str:
    """The id of an event, the same for the same fact: uuid5 over `type|eq|natural key`."""
    envelope = {
        "t_src": format_timestamp(source_time),
        "order": order.id if order else "",
        "op": (order.op if order else None) or "",
    }
    parts = [str(envelope[name] if name in envelope else getattr(data, name)) for name in data.key]
    return str(uuid5(NAMESPACE, "|".join([data.type, equipment or "", *parts])))


class Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One Good value of a run parameter: milliseconds after the message's `t0`, place of its name, value."""

    offset: int
    name: int
    value: Value


class FlaggedRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One value whose status code is not Good."""

    offset: int
    name: int
    value: Value
    status_code: int


class Telemetry(msgspec.Struct, frozen=True):
    """What one commit held of one equipment's run parameters. It is the `seq`-th such message."""

    equipment: str
    seq: int
    order: OrderRef | None
    start: Timestamp
    names: list[str]
    rows: list[Row | FlaggedRow]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a command: accepted, rejected, done or failed. Exactly one is final."""

    cmd: str
    type: str
    answer: str
    codes: tuple[str, ...] = ()
    detail: tuple[str, ...] = ()
    final: bool
    at: Timestamp = field(name="t")
