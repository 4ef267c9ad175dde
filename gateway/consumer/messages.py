"""What a consumer reads from the topics of gateways: events, run parameters, answers to replays, where gateways are."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, field

from gateway.mqtt.probes import SELF_TEST

Number = Annotated[int, Meta(ge=1)]


class EventMessage(msgspec.Struct, frozen=True):
    """An event. `place` is its equipment, or its site where it belongs to no equipment (`of_nobody`).

    `payload` is the message as it came, `data` the event's own fields, undecoded.
    """

    gateway: str
    epoch: str
    place: str
    of_nobody: bool
    seq: int
    id: str
    rev: int
    type: str
    payload: bytes
    data: msgspec.Raw
    historical: str | None = None


class RunParameters(msgspec.Struct, frozen=True):
    """A `tel` message of an equipment: its number, how many values it has, its bytes. It names no gateway, no epoch."""

    place: str
    seq: int
    values: int
    payload: bytes
    historical: str | None = None


class ReplayAnswer(msgspec.Struct, frozen=True):
    """What a gateway says of a replay."""

    cmd: str
    answer: str
    final: bool
    codes: tuple[str, ...] = ()
    detail: tuple[str, ...] = ()


class GatewayStatus(msgspec.Struct, frozen=True):
    """A gateway is at this site; the message is retained, so it comes behind what the broker had for us before."""

    gateway: str
    site: str
    online: bool


class Unreadable(msgspec.Struct, frozen=True):
    """A message that cannot be what its topic says."""

    topic: str
    reason: str


Message = EventMessage | RunParameters | ReplayAnswer | GatewayStatus | Unreadable


class _Envelope(msgspec.Struct):
    """The envelope of an event, as far as a consumer needs it (docs/contract.yaml)."""

    id: str
    type: str
    gw: str
    epoch: str
    seq: Number
    data: msgspec.Raw
    eq: str | None
    rev: Number = 1


class _Telemetry(msgspec.Struct):
    equipment: str = field(name="eq")
    rows: list[msgspec.Raw]
    seq: Number | None = None
    type: str | None = None


class _Status(msgspec.Struct):
    state: str
    type: str | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope)
_telemetry: Final = msgspec.json.Decoder(_Telemetry)
_answer: Final = msgspec.json.Decoder(ReplayAnswer)
_status: Final = msgspec.json.Decoder(_Status)


def read(root: str, topic: str, payload: bytes, historical: str | None = None) -> Message | None:
    """The message on a topic below the root; None if it is none of a consumer's affairs. Nothing is raised."""
    path, _, last = topic.removeprefix(f"{root}/").rpartition("/")
    place, _, kind = path.rpartition("/")
    site, at_gateway, gateway = place.partition("/_gw/")
    try:
        if kind == "evt" and last != SELF_TEST:
            return _read_event(topic, site if at_gateway else place, last, payload, historical)
        if last == "tel":
            return _read_telemetry(topic, path, payload, historical)
        if kind == "res" and last == "replay" and at_gateway:
            return _answer.decode(payload)
        site, at_gateway, gateway = path.partition("/_gw/")
        if last == "status" and at_gateway:
            return _read_status(gateway, site, payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Unreadable(topic, str(error))
    return None


def _read_event(topic: str, place: str, kind: str, payload: bytes, historical: str | None) -> Message:
    """The topic has to fit the event: a broker checks who may write where, and nobody checks what stands inside."""
    event = _envelope.decode(payload)
    if event.type != kind:
        return Unreadable(topic, f"it says that it is a {event.type!r}")
    if event.eq not in (None, place):
        return Unreadable(topic, f"it says that it is of {event.eq!r}")
    return EventMessage(
        event.gw, event.epoch, place, event.eq is None, event.seq, event.id, event.rev, kind, payload, event.data,
        historical,
    )  # fmt: skip


def _read_telemetry(topic: str, place: str, payload: bytes, historical: str | None) -> Message | None:
    message = _telemetry.decode(payload)
    if message.type == SELF_TEST:
        return None
    if message.seq is None:
        return Unreadable(topic, "it has no seq")
    if message.equipment != place:
        return Unreadable(topic, f"it says that it is of {message.equipment!r}")
    return RunParameters(place, message.seq, len(message.rows), payload, historical)


def _read_status(gateway: str, site: str, payload: bytes) -> Message | None:
    status = _status.decode(payload) if payload else None  # empty: somebody took a retained one away
    if status is None or status.type == SELF_TEST:
        return None
    return GatewayStatus(gateway, site, status.state == "online")
