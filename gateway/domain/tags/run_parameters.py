"""Run parameters: values of one equipment that leave as they came, gathered per commit. The hot path.

Nearly every value of a plant takes this way and nothing else happens to it, so it costs one append when it arrives and
one small record when its batch ends. Neither is seen by the garbage collector: they hold no cycles, and collections
among ten thousand young rows cost more than making them.
"""

from collections.abc import Callable
from math import isfinite
from typing import Final

from gateway.domain.contract.envelope import FlaggedRow, Row, Telemetry
from gateway.domain.contract.events import OrderRef
from gateway.domain.times import MAX_LEAD
from gateway.domain.values import StatusCode, TagChange, TagId, Timestamp, Value


class RunParameters:
    """The `tel` messages of one equipment."""

    def __init__(self, path: str) -> None:
        self._path: Final = path
        self._names: Final[dict[TagId, str]] = {}
        self._arrived: Final[list[TagChange]] = []
        self._rows: list[Row | FlaggedRow] = []
        self._places: dict[str, int] = {}
        self._start: Timestamp = 0

    def sink(self, tag_id: TagId, name: str) -> Callable[[TagChange], None]:
        """Takes in the values of a tag that needs no conversion and that nothing else depends on."""
        self._names[tag_id] = name
        return self._arrived.append

    def end_batch(self, contact: Timestamp) -> None:
        """Make rows of what `sink` took in; `contact` stands in for a time that is missing or cannot be."""
        arrived = self._arrived
        if not arrived:
            return
        names, places, latest = self._names, self._places, contact + MAX_LEAD
        if not self._rows:
            first = arrived[0].source_timestamp
            self._start = contact if first is None or first > latest else first
        start = self._start
        append = self._rows.append
        for change in arrived:
            at = change.source_timestamp
            if at is None or at > latest:
                at = contact
            name = names[change.tag_id]
            place = places.get(name)
            if place is None:
                place = places[name] = len(places)
            value, status = change.value, change.status_code
            if value.__class__ is float and not isfinite(value):
                value, status = None, status or StatusCode.BAD_OUT_OF_RANGE
            append(FlaggedRow(at - start, place, value, status) if status else Row(at - start, place, value))
        arrived.clear()

    def add(self, name: str, value: Value, status_code: int, at: Timestamp) -> None:
        """One value that was converted, or looked at, before."""
        if not self._rows:
            self._start = at
        place = self._places.setdefault(name, len(self._places))
        offset = at - self._start
        self._rows.append(FlaggedRow(offset, place, value, status_code) if status_code else Row(offset, place, value))

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to be sent."""
        return not self._rows

    def close(self, number: int, order: OrderRef | None) -> Telemetry:
        """Everything since the last call, as the equipment's `number`-th message."""
        telemetry = Telemetry(self._path, number, order, self._start, list(self._places), self._rows)
        self._rows, self._places = [], {}
        return telemetry
