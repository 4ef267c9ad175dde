"""Notifications of structures: one change for each tag that is a field, and only of those that changed.

A server tells a structure as a whole whenever anything in it moves. What did not move is no news of its tag.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua

from gateway.domain.values import StatusCode, TagChange, TagId, Timestamp, Value, is_bad
from gateway.drivers.base import Tag
from gateway.drivers.opcua.structured.fields import TYPE_UNKNOWN
from gateway.drivers.opcua.values import ValueDecoder, accepts

Times = tuple[Timestamp | None, Timestamp | None]
"""Of the source and of the server."""


class Fields(NamedTuple):
    """The tags of one monitored item; with `every_sample` each is news, changed or not (`trigger: timestamp`)."""

    tags: Sequence[Tag[Any]]
    every_sample: bool


class FieldDecoder:
    """Knows the items that are structures, by client handle; `handles` are all of them.

    `mistyped` are the tags whose fields came with a type that the configuration does not have, as in `ChangeDecoder`.
    """

    def __init__(self, items: Mapping[int, Fields], values: ValueDecoder) -> None:
        self.handles: Final = frozenset(items)
        self._items: Final = items
        self._values: Final = values
        self._told: dict[TagId, tuple[Value, int]] = {}
        self.mistyped: dict[TagId, int] = {}

    def decode(self, handle: int, data_value: ua.DataValue, times: Times) -> list[TagChange]:
        """The changes of one item."""
        tags, every_sample = self._items[handle]
        every_sample = every_sample or _has_overflowed(data_value)
        changes = [self._change(tag, data_value, times) for tag in tags]
        news = [change for change in changes if every_sample or self._is_news(change)]
        self._told |= {change.tag_id: (change.value, change.status_code) for change in news}
        return news

    def refuse(self, handle: int, kind: int) -> list[TagChange]:
        """A plain value of this variant type came where a structure was: Bad for all its tags."""
        tags = self._items[handle].tags
        self.mistyped |= {tag.tag_id: kind for tag in tags}
        self.forget()
        return [TagChange(tag.tag_id, None, StatusCode.BAD_TYPE_MISMATCH) for tag in tags]

    def forget(self) -> None:
        """What was told may not have arrived: everything is news once more."""
        self._told.clear()

    def _is_news(self, change: TagChange) -> bool:
        """Not if it was told already; what is of an unknown type always, for the driver asks about it."""
        return self._told.get(change.tag_id) != (change.value, change.status_code) or change.status_code == TYPE_UNKNOWN

    def _change(self, tag: Tag[Any], data_value: ua.DataValue, times: Times) -> TagChange:
        selected = self._values.select(tag, data_value)
        told = self._values.decode(tag.tag_id, selected)
        kind = selected.Value.VariantType.value if selected.Value is not None else 0
        if kind and not is_bad(told.status_code) and not accepts(tag.type, kind):
            self.mistyped[tag.tag_id] = kind
            return TagChange(tag.tag_id, None, StatusCode.BAD_TYPE_MISMATCH, *times)
        return TagChange(tag.tag_id, told.value, told.status_code, *times)


def _has_overflowed(data_value: ua.DataValue) -> bool:
    code = data_value.StatusCode.value if data_value.StatusCode is not None else 0
    return bool(code & StatusCode.OVERFLOW_BITS == StatusCode.OVERFLOW_BITS)
