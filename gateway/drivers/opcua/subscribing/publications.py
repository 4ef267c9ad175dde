"""What one publish response says, decoded: the frame here, the values in `decoder`.

The usual response is read at fixed places. Whatever differs (events, diagnostics, a header with more in it, lengths
that do not add up) is read again by asyncua, which knows every form and says what is wrong with a damaged one.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from gateway.domain.values import ConditionChange, TagChange, TimeQuality
from gateway.drivers.base import Tag
from gateway.drivers.opcua.structured.field_decoder import FieldDecoder, Fields
from gateway.drivers.opcua.subscribing.conditions import decode_condition
from gateway.drivers.opcua.subscribing.decoder import ChangeDecoder, Malformed
from gateway.drivers.opcua.values import ValueDecoder

_HEADER: Final = struct.Struct("<4s8x4xIBi3s")
"""Type id; ResponseHeader: timestamp, request handle, service result, diagnostics mask, strings, additional header."""
_PUBLISH_RESPONSE: Final = b"\x01\x00\x3d\x03"
_NOTHING: Final = b"\x00\x00\x00"
_IDENTITY: Final = struct.Struct("<Ii")
_MESSAGE: Final = struct.Struct("<?I8xi")
"""More notifications, sequence number, publish time, number of notifications."""
_DATA_CHANGE: Final = struct.Struct("<4sBii")
"""Type id, encoding, length, number of monitored items."""
_DATA_CHANGE_ID: Final = b"\x01\x00\x2b\x03"
_COUNT: Final = struct.Struct("<i")


@dataclass(frozen=True, slots=True)
class Publication:
    """One publish response: `changes` in the server's order; `status` is set when the subscription itself ended.

    A keep-alive has neither and carries the number that the next notification will have (OPC 10000-4 §5.14.1.1).
    `available` are the numbers of the notifications that the server still keeps for Republish, `more` says that it
    has others ready. `overflows` are the changes before which the server's own queue lost some (trap A12, A13).
    `time_quality` says by whose clock the changes are dated.
    """

    subscription_id: int
    sequence_number: int
    changes: list[TagChange]
    is_keep_alive: bool
    status: int | None = None
    available: Sequence[int] = ()
    more: bool = False
    overflows: list[TagChange] = field(default_factory=list)
    conditions: Sequence[ConditionChange] = ()
    time_quality: TimeQuality = "source"


class PublicationDecoder:
    """Decodes publish responses for a fixed list of tags; the client handle of a tag is its place in that list.

    Where several tags are fields of one structure, they are in `fields` by the place of the first of them.
    """

    def __init__(
        self, tags: Sequence[Tag[Any]], values: ValueDecoder, fields: Mapping[int, Fields] | None = None
    ) -> None:
        self._values: Final = values
        self._fields: Final = FieldDecoder(fields or {}, values)
        self._changes: Final = ChangeDecoder(tags, values, self._fields)

    def date_by(self, offset: int | None) -> None:
        """Add so many milliseconds to the device's source times from now on; None leaves them out."""
        self._changes.offset = offset

    def take_mistyped(self) -> dict[str, int]:
        """The tags whose values came with another type than configured, and that variant type; each told once."""
        mistyped = self._changes.mistyped | self._fields.mistyped
        self._changes.mistyped, self._fields.mistyped = {}, {}
        return mistyped

    def decode(self, body: Buffer) -> Publication:
        """Raises whatever asyncua's decoder raises when the body is damaged."""
        self._changes.overflows, mistyped = [], dict(self._changes.mistyped)
        try:
            return self._decode_usual(bytes(body))
        except (Malformed, IndexError, struct.error):
            self._changes.mistyped = mistyped
            self._changes.strays.clear()
            self._fields.forget()
            return self.decode_any(body)

    def _decode_usual(self, data: bytes) -> Publication:
        type_id, result, diagnostics, strings, additional = _HEADER.unpack_from(data)
        usual = type_id == _PUBLISH_RESPONSE and additional == _NOTHING
        if not usual or result or diagnostics or not _is_empty(strings):
            raise Malformed
        position = _HEADER.size
        subscription_id, count = _IDENTITY.unpack_from(data, position)
        position += _IDENTITY.size
        available = struct.unpack_from(f"<{_length(count)}I", data, position)
        position += 4 * len(available)
        more, number, notifications = _MESSAGE.unpack_from(data, position)
        position += _MESSAGE.size
        changes: list[TagChange] = []
        for _ in range(_length(notifications)):
            some, position = self._decode_data_change(data, position)
            changes = some if not changes else changes + some
        self._check_end(data, position)
        overflows, is_keep_alive = self._changes.overflows, notifications <= 0
        return Publication(subscription_id, number, changes, is_keep_alive, None, available, more, overflows)

    def _decode_data_change(self, data: bytes, position: int) -> tuple[list[TagChange], int]:
        type_id, encoding, length, items = _DATA_CHANGE.unpack_from(data, position)
        if type_id != _DATA_CHANGE_ID or encoding != 1 or items < 0:
            raise Malformed
        begin = position + _DATA_CHANGE.size - _COUNT.size
        changes, position = self._changes.decode(data, position + _DATA_CHANGE.size, items)
        (diagnostics,) = _COUNT.unpack_from(data, position)
        position += _COUNT.size
        if not _is_empty(diagnostics) or position != begin + length:
            raise Malformed
        if self._changes.strays:
            changes += self._changes.strays
            self._changes.strays.clear()
        return changes, position

    def _check_end(self, data: bytes, position: int) -> None:
        """What the server made of the acknowledgements, which changes nothing, and no diagnostics."""
        (results,) = _COUNT.unpack_from(data, position)
        (diagnostics,) = _COUNT.unpack_from(data, position + _COUNT.size + 4 * _length(results))
        if not _is_empty(diagnostics):
            raise Malformed

    def decode_any(self, body: Buffer) -> Publication:
        """The same by asyncua's decoder alone, whatever the response holds."""
        response = struct_from_binary(ua.PublishResponse, body).Parameters
        available, more = response.AvailableSequenceNumbers or (), response.MoreNotifications
        return self.from_message(response.SubscriptionId, response.NotificationMessage, available, more)

    def from_message(
        self, subscription_id: int, message: Any, available: Sequence[int] = (), more: bool = False
    ) -> Publication:
        """What a notification message says that asyncua has decoded."""
        self._changes.overflows = []
        changes: list[TagChange] = []
        conditions: list[ConditionChange] = []
        status: int | None = None
        for notification in message.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                for item in notification.MonitoredItems:
                    changes += self._changes.all_from_library(item.ClientHandle, item.Value)
            elif isinstance(notification, ua.EventNotificationList):
                namespaces = self._values.namespaces
                told = (decode_condition(event.EventFields, namespaces) for event in notification.Events)
                conditions += [condition for condition in told if condition is not None]
            elif isinstance(notification, ua.StatusChangeNotification):
                status = notification.Status.value
        return Publication(
            subscription_id, message.SequenceNumber, changes, not message.NotificationData, status, available, more,
            self._changes.overflows, conditions,
        )  # fmt: skip


def _length(count: int) -> int:
    """How many elements an array has; -1 is a null array (OPC 10000-6 §5.2.5)."""
    if count < -1:
        raise Malformed
    return max(count, 0)


def _is_empty(count: int) -> bool:
    return count in (-1, 0)
