"""What gateways tell of the streams themselves: last numbers, losses, quarantine."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec
from msgspec import field

from gateway.consumer.messages import EventMessage


class LastNumbers(msgspec.Struct):
    """Of one equipment, when the gateway connected."""

    place: str = field(name="eq")
    seq: int
    tel: int


class Birth(msgspec.Struct):
    """`gateway.birth`."""

    equipment: list[LastNumbers]


class LostRange(msgspec.Struct):
    """Messages of one stream that nobody will send; without an end, nobody knows how many."""

    stream: Literal["evt", "tel", "res"]
    from_seq: int
    to_seq: int | None = None
    place: str | None = field(name="eq", default=None)


class Losses(msgspec.Struct):
    """`gateway.dropped` or `gateway.salvaged`. `of_old_epoch`: the numbers are those of the record before."""

    lost: list[LostRange]
    reason: str
    of_old_epoch: bool = False


class Quarantine(msgspec.Struct):
    """`gateway.quarantined`: messages on that topic wait at the gateway until somebody sets them free."""

    topic: str
    reason: str


News = Birth | Losses | Quarantine


class _Dropped(msgspec.Struct):
    reason: str
    streams: list[LostRange]


class _Salvaged(msgspec.Struct):
    reason: str
    lost: list[LostRange]
    new_epoch: bool


def read_news(event: EventMessage) -> News | None:
    """What the event says of streams, None if it is no news of that kind. Raises `msgspec.DecodeError`."""
    reader = _READERS.get(event.type) if event.of_nobody else None
    return None if reader is None else reader(event.data)


def _dropped(data: msgspec.Raw) -> Losses:
    told = msgspec.json.decode(data, type=_Dropped)
    return Losses(told.streams, f"the gateway dropped it: {told.reason}")


def _salvaged(data: msgspec.Raw) -> Losses:
    told = msgspec.json.decode(data, type=_Salvaged)
    return Losses(told.lost, f"the gateway's record was damaged: {told.reason}", told.new_epoch)


_READERS: Final[Mapping[str, Callable[[msgspec.Raw], News]]] = {
    "gateway.birth": lambda data: msgspec.json.decode(data, type=Birth),
    "gateway.dropped": _dropped,
    "gateway.salvaged": _salvaged,
    "gateway.quarantined": lambda data: msgspec.json.decode(data, type=Quarantine),
}
