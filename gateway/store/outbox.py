"""The messages in the file: every statement about them. All of it runs on the store's one thread.

Conditions stand as literals in the statements (0 queued, 1 published, 2 quarantined, as `schema` names them), because
only a literal lets SQLite use the partial indexes.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from copy import copy
from itertools import groupby
from typing import Final, NamedTuple

from gateway.domain.uplink import DroppedMessages, StreamKind
from gateway.store.records import Backlog, OutboxMessage, OutboxRow, Statistics, StoredEvent, Waiting
from gateway.store.schema import PUBLISHED, QUARANTINED, StoreDamaged

TALLIES: Final = ("acknowledged", "dropped", "requeued", "forgotten")
"""Sums that no row tells any more; `forgotten` is the last row that was published and is no longer kept."""

_INSERT: Final = (
    "INSERT INTO outbox (id, stream, seq, topic, payload, crc, critical, correlation, settled_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ROW: Final = "SELECT id, topic, payload, correlation, stream, crc FROM outbox"


class Stream(NamedTuple):
    """What is kept in order together; `equipment` is empty where messages belong to none."""

    kind: StreamKind
    equipment: str


class Outbox:
    """The table `outbox` and its tallies. Methods that write run inside a transaction of `RecordFile`.

    `statistics` is changed with the rows; whoever undoes the transaction calls `undo` as well.
    """

    def __init__(self, connection: sqlite3.Connection, statistics: Statistics) -> None:
        self._connection = connection
        self._statistics = statistics
        self._streams: dict[Stream, int] = {}
        self._tallies: dict[str, int] = {}
        self._last_id = 0
        self._handed_out: set[int] = set()
        """Rows that somebody has read to send them: the broker may have them, so they are not dropped."""
        self._new_streams: list[Stream] = []
        self._before: tuple[Statistics, dict[str, int], int] = statistics, {}, 0

    def load(self) -> None:
        """Count what there is; no payload is read for it."""
        connection, counts = self._connection, self._statistics
        self._streams = {
            Stream(kind, equipment): number
            for number, kind, equipment in connection.execute("SELECT id, kind, equipment FROM stream")
        }
        self._tallies = dict.fromkeys(TALLIES, 0) | dict(connection.execute("SELECT key, value FROM tally"))
        given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        self._last_id = given[0] if given else 0
        waiting, kinds = self.backlog().streams, {number: stream.kind for stream, number in self._streams.items()}
        counts.queued_telemetry = sum(w.messages for number, w in waiting.items() if kinds[number] == "tel")
        counts.queued_critical = sum(w.messages for w in waiting.values()) - counts.queued_telemetry
        counts.published = self._count(PUBLISHED)
        counts.quarantined = self._count(QUARANTINED)
        self._sum_up()

    @property
    def last_id(self) -> int:
        """The number of the newest row, also while it is being written."""
        return self._last_id

    def begin(self) -> None:
        """A transaction begins: remember what `undo` goes back to."""
        self._before = copy(self._statistics), dict(self._tallies), self._last_id
        self._new_streams.clear()

    def undo(self) -> None:
        """The transaction was rolled back."""
        before, self._tallies, self._last_id = self._before
        for name in before.__struct_fields__:
            setattr(self._statistics, name, getattr(before, name))
        for stream in self._new_streams:
            del self._streams[stream]

    # --- writing ------------------------------------------------------------------------------------------------

    def insert(self, messages: Sequence[OutboxMessage], at: int) -> None:
        """Queue them, in this order; `settled_at` has a value from the beginning, so that a row keeps its size."""
        if not messages:
            return
        rows, number, critical = [], self._last_id, 0
        for message in messages:
            number += 1
            critical += message.critical
            rows.append(
                (
                    number, self._stream(Stream(message.kind, message.equipment or "")), message.seq, message.topic,
                    message.payload, zlib.crc32(message.payload), message.critical, message.correlation, at,
                )
            )  # fmt: skip
        self._connection.executemany(_INSERT, rows)
        self._last_id = number
        self._statistics.queued_critical += critical
        self._statistics.queued_telemetry += len(messages) - critical
        self._sum_up()

    def mark_published(self, ids: Sequence[int], at: int) -> None:
        """Keep critical ones as published at that time, delete the others."""
        keep = "UPDATE outbox SET condition = 1, settled_at = ? WHERE id = ? AND critical AND condition = 0"
        drop = "DELETE FROM outbox WHERE id = ? AND NOT critical AND condition = 0"
        kept = self._connection.executemany(keep, [(at, row_id) for row_id in ids]).rowcount
        gone = 0
        if kept < len(ids):
            gone = self._connection.executemany(drop, [(row_id,) for row_id in ids]).rowcount
        self._add("acknowledged", kept + gone)
        self._statistics.queued_critical -= kept
        self._statistics.published += kept
        self._statistics.queued_telemetry -= gone

    def let_go(self, ids: Sequence[int]) -> None:
        """They are on their way no more: what became of them is committed, or they were read and not sent."""
        self._handed_out.difference_update(ids)

    def quarantine(self, row_id: int, reason: str) -> str | None:
        """Put a queued message aside; returns its topic, None if it was not queued."""
        statement = (
            "UPDATE outbox SET condition = 2, reason = ? WHERE id = ? AND condition = 0 RETURNING topic, critical"
        )
        row = self._connection.execute(statement, (reason, row_id)).fetchone()
        if row is None:
            return None
        self._statistics.quarantined += 1
        if row[1]:
            self._statistics.queued_critical -= 1
        else:
            self._statistics.queued_telemetry -= 1
        return str(row[0])

    def requeue(self, topic: str | None, most: int) -> int:
        """Queue up to `most` quarantined messages again, at the end; returns how many."""
        chosen = (
            "SELECT id, stream, seq, topic, payload, crc, critical, correlation, settled_at FROM outbox "
            "INDEXED BY outbox_quarantined WHERE condition = 2 AND topic = COALESCE(?, topic) ORDER BY id LIMIT ?"
        )
        rows = self._connection.execute(chosen, (topic, most)).fetchall()
        if not rows:
            return 0
        self._connection.executemany("DELETE FROM outbox WHERE id = ?", [row[:1] for row in rows])
        again = [(self._last_id + place, *row[1:]) for place, row in enumerate(rows, 1)]
        self._connection.executemany(_INSERT, again)
        self._last_id += len(rows)
        self._add("requeued", len(rows))
        critical = sum(row[6] for row in rows)
        self._statistics.quarantined -= len(rows)
        self._statistics.queued_critical += critical
        self._statistics.queued_telemetry += len(rows) - critical
        return len(rows)

    def forget_published(self, before: int | None, most: int) -> int:
        """Delete up to `most` of what was published before that time, or of the oldest; returns how many."""
        statement = (
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox INDEXED BY outbox_published "
            "WHERE condition = 1 AND settled_at < COALESCE(?, 1 << 62) ORDER BY settled_at LIMIT ?) RETURNING id"
        )
        gone = [number for (number,) in self._connection.execute(statement, (before, most))]
        self._statistics.published -= len(gone)
        self._add("forgotten", max(0, max(gone, default=0) - self._tallies["forgotten"]))
        return len(gone)

    def drop_telemetry(self, most: int, at: int) -> list[DroppedMessages]:
        """Delete up to `most` of the oldest queued run parameters; returns what is to be told of it.

        None that is on its way to the broker: it would be told as dropped, and come all the same.
        """
        chosen = (
            "SELECT o.id, s.equipment, o.seq FROM (SELECT id, stream, seq FROM outbox INDEXED BY outbox_droppable "
            "WHERE condition = 0 AND NOT critical AND id NOT IN (SELECT value FROM json_each(?)) "
            "ORDER BY id LIMIT ?) o JOIN stream s ON s.id = o.stream "
            "ORDER BY s.equipment, o.seq"
        )
        rows = self._connection.execute(chosen, (str([*self._handed_out]), most)).fetchall()
        self._connection.executemany("DELETE FROM outbox WHERE id = ?", [row[:1] for row in rows])
        self._statistics.queued_telemetry -= len(rows)
        self._add("dropped", len(rows))
        return [
            DroppedMessages(equipment or None, "tel", first, last, last - first + 1, at, at)
            for equipment, of_one in groupby(rows, key=lambda row: row[1])
            for first, last in _ranges(row[2] for row in of_one)
        ]

    # --- reading ------------------------------------------------------------------------------------------------

    def backlog(self) -> Backlog:
        """What is queued."""
        statement = (
            "SELECT stream, MIN(id), MAX(id), COUNT(*) FROM outbox INDEXED BY outbox_queued WHERE condition = 0 "
            "GROUP BY stream"
        )
        streams = {stream: Waiting(*row) for stream, *row in self._connection.execute(statement)}
        return Backlog(streams, self._last_id)

    def unpublished(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The oldest queued messages behind `after_id`. Raises `StoreDamaged`."""
        statement = f"{_ROW} NOT INDEXED WHERE id > ? AND condition = 0 ORDER BY id LIMIT ?"
        return self._rows(statement, (after_id, limit))

    def unpublished_of(self, stream: int, after_id: int, up_to: int, limit: int) -> list[OutboxRow]:
        """The same of one stream, up to a row. Raises `StoreDamaged`."""
        statement = (
            f"{_ROW} INDEXED BY outbox_queued WHERE condition = 0 AND stream = ? AND id > ? AND id <= ? "
            "ORDER BY id LIMIT ?"
        )
        return self._rows(statement, (stream, after_id, up_to, limit))

    def unpublished_among(self, ids: Sequence[int]) -> list[OutboxRow]:
        """Those of these messages that are still queued, in order. Raises `StoreDamaged`."""
        statement = f"{_ROW} WHERE id IN (SELECT value FROM json_each(?)) AND condition = 0 ORDER BY id"  # noqa: S608
        return self._rows(statement, (str(list(ids)),))

    def events(self, equipment: str | None, first: int, last: int, limit: int) -> list[StoredEvent]:
        """Events of one stream by their numbers, ends included; others are kept no more. Raises `StoreDamaged`."""
        statement = (
            "SELECT id, crc, seq, topic, payload, condition FROM outbox INDEXED BY outbox_numbered "
            "WHERE critical AND seq > 0 AND stream = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
        )
        stream = self._streams.get(Stream("evt", equipment or ""))
        found = self._connection.execute(statement, (stream, first, last, limit))
        events = []
        for number, crc, *row in found:
            event = StoredEvent(*row)
            _check(number, event.topic, event.payload, crc)
            events.append(event)
        return events

    # --- inside -------------------------------------------------------------------------------------------------

    def _rows(self, statement: str, values: tuple[int | str, ...]) -> list[OutboxRow]:
        rows = []
        for number, topic, payload, correlation, stream, crc in self._connection.execute(statement, values):
            _check(number, topic, payload, crc)
            rows.append(OutboxRow(number, topic, payload, correlation, stream))
        self._handed_out.update(row.id for row in rows)
        return rows

    def _stream(self, stream: Stream) -> int:
        number = self._streams.get(stream)
        if number is None:
            made = self._connection.execute("INSERT INTO stream (kind, equipment) VALUES (?, ?)", stream)
            number = self._streams[stream] = int(made.lastrowid or 0)
            self._new_streams.append(stream)
        return number

    def _count(self, condition: int) -> int:
        statement = f"SELECT COUNT(*) FROM outbox WHERE condition = {condition:d}"  # noqa: S608 - a number, and a literal is what the index needs
        (count,) = self._connection.execute(statement).fetchone()
        return int(count)

    def _add(self, key: str, count: int) -> None:
        if count:
            self._tallies[key] += count
            self._connection.execute("INSERT OR REPLACE INTO tally VALUES (?, ?)", (key, self._tallies[key]))
            self._sum_up()

    def _sum_up(self) -> None:
        counts, tallies = self._statistics, self._tallies
        counts.ingested = self._last_id - tallies["requeued"]
        counts.acknowledged, counts.dropped = tallies["acknowledged"], tallies["dropped"]


def _check(number: int, topic: str, payload: bytes, crc: int) -> None:
    if zlib.crc32(payload) != crc:
        raise StoreDamaged(f"message {number} for {topic} is not as it was written")


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbours together; `numbers` rise."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges
