"""The messages that were found in a damaged record: each handed on once as it is, or twice, queued and then settled."""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.store.salvaging.carving import MOST_ID, Row, is_whole
from gateway.store.salvaging.row_ids import RowIds

_TOGETHER: Final = 500
"""Messages that are handed on at a time."""


class FoundMessages:
    """Takes rows as they are found, and hands on to `keep` what is as it was written, some at a time."""

    def __init__(self, keep: Callable[[list[Row]], None], streams: dict[int, tuple[str, str]]) -> None:
        self.ids = RowIds()
        """What was handed on."""
        self.spoiled = RowIds()
        """What was there, but not as it was written."""
        self.numbers: dict[int, RowIds] = {}
        """Numbers of the events among them, by stream."""
        self.streams = streams
        """Kind and equipment by number; what only messages tell of is added."""
        self._keep = keep
        self._settled = RowIds()
        self._waiting: list[Row] = []

    def take(self, row: Row) -> None:
        """Hand it on unless it is spoiled or known; of two copies of a message the settled one counts."""
        row_id = row[0]
        if not is_whole(row):
            if 0 < row_id < MOST_ID:
                self.spoiled.add(row_id)
            return
        is_settled = row[7] != 0
        if row_id in self.ids and (not is_settled or row_id in self._settled):
            return
        self.ids.add(row_id)
        if is_settled:
            self._settled.add(row_id)
        if row[1] not in self.streams:
            self.streams[row[1]] = _stream_of(row[3], row[4])
        if row[6] and row[2] > 0:
            self.numbers.setdefault(row[1], RowIds()).add(row[2])
        self._waiting.append(row)
        if len(self._waiting) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Hand on what waits."""
        self._keep(self._waiting)
        self._waiting = []


class _Envelope(msgspec.Struct):
    eq: str | None = None


def _stream_of(topic: str, payload: bytes) -> tuple[str, str]:
    """Kind and equipment of a stream that only its messages tell of."""
    kind = "tel" if topic.endswith("/tel") else "evt" if "/evt/" in topic else "res"
    try:
        equipment = msgspec.json.decode(payload, type=_Envelope).eq
    except (msgspec.DecodeError, ValueError):
        equipment = None
    return kind, (equipment or "") if kind != "res" else ""
