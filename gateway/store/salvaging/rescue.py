"""Reading what can still be read of a damaged record, and finding exactly what cannot (trap D7).

SQLite stops at the first page that makes no sense. So the messages are read forwards and backwards up to the damage.
The indexes are pages of their own: they tell which messages were there, and in which condition. What is missing then,
and is not known to be spoiled, is looked for on every page of the file (`carving`).

Where an index has no end either, what lies between is halved until the damage is found, so that only there messages may
have been lost that nobody can name. And nobody knows what was deleted: every copy of a message is believed; of two the
settled one, for no message becomes queued again under the same id. A message that was deleted may come again: its id is
known to whoever had it, and one that never comes is lost.
"""

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from gateway.domain.production.packing import unpacked
from gateway.domain.uplink import Notice
from gateway.store.salvaging.carving import MOST_ID, Carved, Row, carve, layout_of
from gateway.store.salvaging.found import FoundMessages
from gateway.store.salvaging.known import KnownMessages, numbered
from gateway.store.salvaging.page_cells import Torn
from gateway.store.salvaging.pages import PageFile
from gateway.store.salvaging.row_ids import Ranges, RowIds, count, holes, joined
from gateway.store.salvaging.tables import UNREADABLE, PageTables, SqlTables, Tables, all_of, roots
from gateway.store.schema import StoreError

MOST_TRIES: Final = 4_000
"""Ranges that are tried; a file that is torn in more places is given up from there on, and that is said."""

COLUMNS: Final = "id, stream, seq, topic, payload, crc, critical, condition, settled_at, reason, correlation"


class Rescued(msgspec.Struct):
    """What was read besides the messages, and what of them was not. Tables are as far as they could be read."""

    saved: int
    lost: Ranges
    """Rows that were there and cannot be read; where nobody knows what was there, everything that was not found."""
    queued_lost: int
    """How many of the lost rows no broker had; that many at most, where nobody knows."""
    lost_numbers: dict[int, Ranges]
    """Numbers of lost events by stream."""
    newest_numbers: dict[int, int]
    """The highest number of an event that was found, by stream, where nobody knows whether it was the last."""
    last_id: int
    is_last: bool
    """Whether there was no row behind `last_id`; otherwise nobody knows."""
    streams: dict[int, tuple[str, str]]
    """By number: kind and equipment."""
    tallies: dict[str, int]
    has_all_tallies: bool
    epoch: str | None
    checkpoints: dict[str, bytes] | None
    """All of them or, where one cannot be read, None."""
    retained: list[tuple[str, bytes]]
    answers: list[tuple[str, int, bytes, bytes | None]]
    notices: list[tuple[str, bytes]]


def rescue(path: Path, keep: Callable[[list[Row]], None]) -> Rescued:
    """Read what there is; messages go to `keep` as they are found, some at a time, in no order.

    One may come twice: first queued, then, of a newer copy, settled.
    """
    with ExitStack() as to_close:
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be opened: {error}") from error
        to_close.enter_context(closing(connection))
        connection.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that ends too early
        if _has_schema(connection):
            return _Reader(path, keep, SqlTables(connection), connection).read()
        pages = to_close.enter_context(PageFile(path, *layout_of(path)))
        return _Reader(path, keep, PageTables(pages), None).read()


def _has_schema(connection: sqlite3.Connection) -> bool:
    try:
        return "outbox" in roots(connection)
    except UNREADABLE:
        return False


class _Reader:
    """Without a connection, because SQLite finds no tables, the messages are only looked for on the pages."""

    def __init__(
        self, path: Path, keep: Callable[[list[Row]], None], tables: Tables, connection: sqlite3.Connection | None
    ) -> None:
        self._path = path
        self._tables = tables
        self._connection = connection
        self._tries = 0
        self._is_in_order = True
        """Whether SQLite gave rising ids; otherwise it does not find what is there, and says nothing."""
        streams, self._has_streams = all_of(tables, "stream")
        kinds = ("evt", "tel", "res")
        self._found = FoundMessages(keep, {number: (kind, eq) for number, kind, eq in streams if kind in kinds})
        self._known = KnownMessages(tables)
        tallies, self._has_tallies = all_of(tables, "tally")
        self._tallies: dict[str, int] = dict(tallies)
        given, _ = all_of(tables, "sqlite_sequence")
        self._given = [last for _, name, last in given if name == "outbox" and 0 < last < MOST_ID]
        """The last id that was given, if that can be read."""
        self._is_indexed = self._has_true_indexes()

    def read(self) -> Rescued:
        """Everything, the messages first."""
        highest = self._highest()
        last_id = max([*self._given, *highest, self._known.ids.highest])
        unreadable = self._read_rows(last_id)
        is_scanned = bool(self._given or highest) and not unreadable and not self._missing()
        sure = self._is_indexed or is_scanned
        carved = Carved() if sure and not self._missing() else self._carve()
        self._found.flush()
        given = self._given + ([] if carved.last_id is None else [carved.last_id])
        last_id, is_last = max([last_id, *given, self._found.ids.highest]), sure or bool(given)
        tallies = carved.tallies | self._tallies
        lost = self._lost([] if sure else [*unreadable, (tallies.get("forgotten", 0) + 1, last_id)])
        lost_numbers, newest_numbers = self._lost_numbers(sure=sure) if lost or not is_last else ({}, {})
        answers, has_all_answers = all_of(self._tables, "answer")
        meta: dict[str, str] = dict(all_of(self._tables, "meta")[0])
        return Rescued(
            saved=len(self._found.ids), lost=lost,
            queued_lost=len(self._known.queued - self._found.ids) if self._is_indexed else count(lost),
            lost_numbers=lost_numbers, newest_numbers=newest_numbers, last_id=last_id, is_last=is_last,
            streams=self._found.streams | ({} if self._has_streams else carved.streams),
            tallies=tallies, has_all_tallies=self._has_tallies,
            epoch=meta.get("epoch"), checkpoints=self._checkpoints(),
            retained=[(topic, payload) for topic, payload, *_ in all_of(self._tables, "retained")[0]],
            answers=answers if has_all_answers else list((carved.answers | {one[0]: one for one in answers}).values()),
            notices=[(key, data) for _, key, data, _ in all_of(self._tables, "notice")[0] if _is_notice(data)],
        )  # fmt: skip

    # --- messages -----------------------------------------------------------------------------------------------

    def _highest(self) -> list[int]:
        """The highest id that SQLite finds, if it can."""
        if self._connection is None:
            return []
        try:
            (highest,) = self._connection.execute("SELECT MAX(id) FROM outbox NOT INDEXED").fetchone()
        except UNREADABLE:
            return []
        return [highest] if isinstance(highest, int) and 0 < highest < MOST_ID else []

    def _read_rows(self, last_id: int) -> Ranges:
        """Every message that SQLite gives; returns the ranges of ids where it stops."""
        if self._connection is None:
            return [(1, last_id)] if last_id else []
        unreadable: Ranges = []
        waiting = [(1, last_id)] if last_id else []
        while waiting:
            first, last = waiting.pop()
            if self._tries >= MOST_TRIES:
                unreadable.append((first, last))
                continue
            reached, whole = self._scan(self._connection, first, last, "ASC")
            if whole:
                continue
            first = max(first, reached + 1)
            reached, _ = self._scan(self._connection, first, last, "DESC")
            last = min(last, reached - 1) if reached else last
            if first == last:
                unreadable.append((first, last))
            elif first < last and not self._is_indexed:
                middle = (first + last) // 2
                waiting += [(middle + 1, last), (first, middle)]
        return joined(sorted(unreadable)) if self._is_in_order else [(1, last_id)]

    def _scan(self, connection: sqlite3.Connection, first: int, last: int, way: str) -> tuple[int, bool]:
        """Read in one direction; returns the last id reached (0: none) and whether there was no damage on the way."""
        self._tries += 1
        reached, step = 0, 1 if way == "ASC" else -1
        statement = f"SELECT {COLUMNS} FROM outbox NOT INDEXED WHERE id BETWEEN ? AND ? ORDER BY id {way}"  # noqa: S608
        try:
            for row in connection.execute(statement, (first, last)):
                if not first <= row[0] <= last or (reached and (row[0] - reached) * step <= 0):
                    self._is_in_order = False
                    return reached, False
                reached = row[0]
                self._take(row)
        except UNREADABLE:
            return reached, False
        return reached, True

    def _missing(self) -> RowIds:
        """What the indexes name and SQLite did not give, not even spoiled."""
        return self._known.ids - self._found.ids - self._found.spoiled

    def _has_true_indexes(self) -> bool:
        """Whether the indexes name every message there was: they are whole, and so is the sum, and none says more."""
        known = self._known
        if not known.is_whole:
            return False
        if self._has_tallies and self._given and not known.adds_up(self._tallies, self._given[0]):
            return False
        return not known.ids - (known.queued | known.published | known.quarantined)

    def _take(self, row: Row) -> None:
        """Where all is known that there was, a message with another id is one that was deleted, or whose id changed."""
        if not self._is_indexed:
            self._found.take(row)
        elif row[0] in self._known.ids:
            self._found.take(self._known.as_known(row))

    def _carve(self) -> Carved:
        """What the pages give besides."""
        if not self._is_indexed:
            return carve(self._path, bool, self._take)
        missing = self._missing()

        def take(row: Row) -> None:
            if row[0] in missing and row[0] not in self._found.ids:
                self._take(row)

        return carve(self._path, missing.__contains__ if self._has_streams else bool, take)

    def _lost(self, doubtful: Ranges) -> Ranges:
        """Rows that were there and were not found, and of the doubtful ranges all that was not found."""
        found, known = self._found, self._known
        gone = (known.ids if self._is_indexed else known.ids | found.spoiled) - found.ids
        there = found.ids.ranges()
        return joined(sorted(gone.ranges() + [hole for first, last in doubtful for hole in holes(there, first, last)]))

    def _lost_numbers(self, *, sure: bool) -> tuple[dict[int, Ranges], dict[int, int]]:
        """Of events by stream: what was lost, and behind which number nobody knows whether there was another.

        Where that is not known for certain, it is whatever number was not found.
        """
        found, lost, is_known = self._found, dict[int, RowIds](), sure
        try:
            for stream, seq, row_id in numbered(self._tables):
                if row_id not in found.ids:
                    lost.setdefault(stream, RowIds()).add(seq)
        except Torn:
            is_known = False
        told = {stream: numbers.ranges() for stream, numbers in lost.items()}
        if is_known:
            return told, {}
        for stream, numbers in found.numbers.items():
            absent = holes(numbers.ranges(), 1, numbers.highest)
            told[stream] = joined(sorted(told.get(stream, []) + absent))
        newest = {stream: numbers.highest for stream, numbers in found.numbers.items()}
        return {stream: ranges for stream, ranges in told.items() if ranges}, newest

    # --- the rest -----------------------------------------------------------------------------------------------

    def _checkpoints(self) -> dict[str, bytes] | None:
        found, is_whole = all_of(self._tables, "checkpoint")
        if found or is_whole:
            is_whole = is_whole and all(crc32(value) == crc for _, value, crc in found)
            return {key: value for key, value, _ in found} if is_whole else None
        older, is_whole = all_of(self._tables, "checkpoint_of_version_3")
        return dict(older) if is_whole and all(_is_json(value) for _, value in older) else None


def _is_notice(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=Notice)
    except (msgspec.DecodeError, ValueError):
        return False
    return True


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(unpacked(value))
    except (msgspec.DecodeError, ValueError):
        return False
    return True
