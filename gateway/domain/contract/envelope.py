"""What leaves the gateway around and beside the events: the envelope with its id, run parameters, answers."""

import hashlib
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta, field

from gateway.domain.contract.events import EventData, OrderRef
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp, Value

NAMESPACE: Final = UUID("6f1b1c52-6a0e-5d3c-9d6e-2f4f0a7c51b8")
"""The one namespace of all event ids."""
_PREFIX: Final = NAMESPACE.bytes


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. `equipment` is the full path, None for what belongs to no equipment."""

    id: Annotated[str, Meta(description="uuid5 of the natural key: the same for the same fact, also after a crash")]
    type: str
    v: Annotated[int, Meta(description="version of the contract")] = 1
    rev: Annotated[int, Meta(description="1, and one more for each time this fact became better known")] = 1
    gw: Annotated[str, Meta(description="the gateway's id")]
    cfg: Annotated[str, Meta(description="hash of the configuration that was in force")]
    epoch: Annotated[str, Meta(description="of the gateway's store; `seq` begins anew with it")]
    equipment: Annotated[str | None, Meta(description="full path of the equipment")] = field(name="eq")
    seq: Annotated[int, Meta(description="1, 2, 3 … per equipment over all types; a hole is a lost message")]
    source_time: Timestamp = field(name="t_src")
    gateway_time: Timestamp = field(name="t_gw")
    time_quality: Annotated[
        str, Meta(description="by whose clock `t_src` is: source, gateway, estimated or history")
    ] = field(name="t_q", default="source")
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
    return _uuid5("|".join([data.type, equipment or "", *parts]))


def _uuid5(name: str) -> str:
    """What `str(uuid.uuid5(NAMESPACE, name))` says (RFC 9562 §5.5), at a quarter of the cost."""
    digits = hashlib.sha1(_PREFIX + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


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
    corr: Annotated[str | None, Meta(description="as the command has it")] = None
    at: Timestamp = field(name="t")


class Sender(msgspec.Struct, frozen=True):
    """What of a command's message its answers need: what they carry back, and where they go besides the `res` topic.

    `digest` tells whether the same id comes again with the same content. `topic` and `correlation` are the Response
    Topic and the Correlation Data of MQTT 5 (§4.10).
    """

    corr: str | None = None
    digest: str = ""
    topic: str | None = None
    correlation: bytes | None = None


NOBODY: Final = Sender()
"""For what the gateway does by itself."""


class Kept(msgspec.Struct, frozen=True):
    """The newest answer to a command, and who is to get the next one."""

    answer: Answer
    sender: Sender = NOBODY
