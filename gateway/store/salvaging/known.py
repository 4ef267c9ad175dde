"""Which messages a damaged record had, as far as its indexes tell. Each is looked up on pages of its own."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.store.salvaging.carving import MOST_ID, Row
from gateway.store.salvaging.page_cells import Torn
from gateway.store.salvaging.row_ids import RowIds
from gateway.store.salvaging.tables import Tables, entries
from gateway.store.schema import PUBLISHED, QUARANTINED

_INDEXES: Final = ("outbox_queued", "outbox_published", "outbox_quarantined")
"""By the condition of the messages in it."""


class KnownMessages:
    """What the indexes name. `is_whole`: each of them has an end, and is in order."""

    def __init__(self, tables: Tables) -> None:
        self.is_whole = True
        self.queued, self.published, self.quarantined = self._by_condition = RowIds(), RowIds(), RowIds()
        for condition, (index, ids) in enumerate(zip(_INDEXES, self._by_condition, strict=True)):
            try:
                for *_, told, row_id in entries(tables, index):
                    if told != condition or not 0 < row_id < MOST_ID:
                        raise Torn(index)
                    ids.add(row_id)
            except Torn:
                self.is_whole = False
        events = RowIds()
        try:
            for _, _, row_id in numbered(tables):
                events.add(row_id)
        except Torn:
            self.is_whole = False
        self.ids = self.queued | self.published | self.quarantined | events

    def adds_up(self, tallies: Mapping[str, int], last_id: int) -> bool:
        """Whether everything that was ever taken in is somewhere: what left no row was acknowledged or dropped."""
        gone = sum(tallies.get(key, 0) for key in ("acknowledged", "dropped", "requeued"))
        return gone + len(self.queued) + len(self.quarantined) == last_id

    def as_known(self, row: Row) -> Row:
        """A copy of a message with the condition that its index tells: it may be an older one, or not as written."""
        condition = self._condition(row[0])
        if row[7] == condition:
            return row
        reason = (row[9] or "no longer known") if condition == QUARANTINED else row[9]
        return *row[:7], condition, row[8], reason, row[10]

    def _condition(self, row_id: int) -> int:
        return 0 if row_id in self.queued else PUBLISHED if row_id in self.published else QUARANTINED


def numbered(tables: Tables) -> Iterator[tuple[int, int, int]]:
    """Of each event: stream, number, row id. Raises `Torn` in the end if those are not all."""
    is_whole = True
    for stream, seq, critical, row_id in entries(tables, "outbox_numbered"):
        if seq > 0 and critical == 1 and 0 < row_id < MOST_ID:
            yield stream, seq, row_id
        else:
            is_whole = False
    if not is_whole:
        raise Torn("outbox_numbered")
