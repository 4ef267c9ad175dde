"""What is said of the way to the broker: a birth at every connect, and what became of messages on it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final, TypeVar

from gateway.domain.contract.event_data import Report
from gateway.domain.contract.gateway_events import (
    DroppedRange,
    GatewayBirth,
    GatewayDropped,
    GatewayQuarantined,
    GatewaySalvaged,
    LastNumbers,
    LostRange,
)
from gateway.domain.effects import GatewayIdentity, Recorder
from gateway.domain.times import format_timestamp
from gateway.domain.uplink import (
    BrokerName,
    DroppedMessages,
    NumberedNotice,
    QuarantinedMessages,
    SalvagedRecord,
)
from gateway.domain.values import Timestamp

MOST: Final = 500
"""Streams or ranges in one event: with paths of 60 characters it has 60 kB, less than any broker takes by default."""

_Item = TypeVar("_Item")


def births(
    to: BrokerName,
    at: Timestamp,
    identity: GatewayIdentity,
    recorders: Mapping[str | None, Recorder],
    messages: Mapping[str, int],
) -> Iterator[Report]:
    """What a broker is told at a connect; `messages` are the numbers of each equipment's last `tel` message."""
    streams = [
        LastNumbers(equipment=path, seq=recorder.last, tel=messages.get(path, 0))
        for path, recorder in recorders.items()
        if path is not None
    ]
    parts = _parts(streams)
    for number, part in enumerate(parts, 1):
        data = GatewayBirth(
            configuration=identity.configuration, version=identity.version, broker=to.broker, protocol=to.protocol,
            part=number, parts=len(parts), equipment=part,
        )  # fmt: skip
        yield Report(data, at)


def reports(notices: Iterable[NumberedNotice]) -> Iterator[Report]:
    """The events that tell of these notices.

    A broker that refuses even `gateway.quarantined` is not told so by another one, which it would refuse as well.
    """
    dropped: list[tuple[int, DroppedMessages]] = []
    for numbered in notices:
        match notice := numbered.notice:
            case DroppedMessages():
                dropped.append((numbered.number, notice))
            case QuarantinedMessages() if not notice.topic.endswith(f"/{GatewayQuarantined.type}"):
                yield Report(_quarantined(notice), notice.last_at)
            case SalvagedRecord():
                yield from _salvaged(notice)
    for part in _parts(dropped) if dropped else ():
        yield _dropped(part[0][0], [notice for _, notice in part])


def _quarantined(notice: QuarantinedMessages) -> GatewayQuarantined:
    return GatewayQuarantined(
        topic=notice.topic, reason=notice.reason, messages=notice.messages, first=notice.first, last=notice.last
    )


def _dropped(number: int, notices: Sequence[DroppedMessages]) -> Report:
    streams = tuple(
        DroppedRange(
            equipment=one.equipment, stream=one.stream, from_seq=one.from_seq, to_seq=one.to_seq, messages=one.messages
        )
        for one in notices
    )
    end = max(one.last_at for one in notices)
    data = GatewayDropped(
        number=number, reason="record_full", streams=streams, messages=sum(one.messages for one in notices),
        start=format_timestamp(min(one.first_at for one in notices)), end=format_timestamp(end),
    )  # fmt: skip
    return Report(data, end)


def _salvaged(notice: SalvagedRecord) -> Iterator[Report]:
    lost = [
        LostRange(
            equipment=one.equipment, stream=one.stream, from_seq=one.from_seq, to_seq=one.to_seq, messages=one.messages
        )
        for one in notice.lost
    ]
    parts = list(zip_longest(_parts(lost), _parts(notice.lost_rows)))
    for number, (messages, rows) in enumerate(parts, 1):
        data = GatewaySalvaged(
            reason=notice.reason, file=notice.file, rows_saved=notice.rows_saved, lost=messages or (),
            lost_rows=rows or (), new_epoch=notice.new_epoch, part=number, parts=len(parts),
        )  # fmt: skip
        yield Report(data, notice.at)


def _parts(items: Sequence[_Item]) -> list[tuple[_Item, ...]]:
    """As many events as they need, one at least."""
    return [tuple(items[start : start + MOST]) for start in range(0, len(items) or 1, MOST)]
