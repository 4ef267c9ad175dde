"""Reading what can still be read of a damaged record, and finding exactly what cannot (trap D7).

SQLite stops at the first page that makes no sense. So the messages are read by ranges of their ids, forwards and
backwards up to the damage, and what lies between is halved until it is found. The indexes are pages of their own: they
tell which messages were there. What is missing then is looked for on every page of the file (`carving`).
"""

import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.domain.packing import unpacked
from gateway.domain.uplink import Notice
from gateway.store.carving import MOST_ID, Carved, Row, carve, is_whole
from gateway.store.schema import StoreError

MOST_TRIES: Final = 20_000
"""Ranges that are tried; a file that is torn in more places is given up from there on, and that is said."""

COLUMNS: Final = "id, stream, seq, topic, payload, crc, critical, condition, settled_at, reason, correlation"
_INDEXES: Final = (
    ("outbox_queued", "stream", 0),
    ("outbox_published", "settled_at", 1),
    ("outbox_quarantined", "topic", 2),
)
"""Index, what it is sorted by before the id, condition."""

_UNREADABLE: Final = (sqlite3.Error, OverflowError, MemoryError)
"""What SQLite raises for bytes that make no sense; it believes a length of terabytes, too."""

Ranges = list[tuple[int, int]]


class Rescued(msgspec.Struct):
    """What was read besides the messages, and what of them was not. Tables are as far as they could be read."""

    saved: int
    lost: Ranges
    """Rows that were there and cannot be read; with `sure` False some of them were perhaps not there any more."""
    sure: bool
    queued_lost: int
    """How many of the lost rows no broker had."""
    lost_numbers: dict[int, Ranges]
    """Numbers of lost events by stream."""
    last_id: int
    is_last: bool
    """Whether there was no row behind `last_id`; otherwise nobody knows."""
    newest_numbers: dict[int, int]
    """The highest number of an event that was found, by stream, where `is_last` is False."""
    streams: dict[int, tuple[str, str]]
    """By number: kind and equipment."""
    tallies: dict[str, int]
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
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    with closing(connection):
        connection.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that ends too early
        return _Reader(connection, path, keep).read()


class _Reader:
    def __init__(self, connection: sqlite3.Connection, path: Path, keep: Callable[[list[Row]], None]) -> None:
        self._connection = connection
        self._path = path
        self._keep = keep
        self._tries = 0
        self._found: dict[int, bool] = {}
        """Ids of what was handed on, and whether it was settled."""
        self._spoiled: set[int] = set()
        self._numbers: dict[int, array[int]] = {}
        """Numbers of the events that were found, by stream."""
        self._streams: dict[int, tuple[str, str]] = {}

    def read(self) -> Rescued:
        streams = _of_kinds(self._all("id, kind, equipment FROM stream")[0], int, str, str)
        self._streams = {number: (kind, path) for number, kind, path in streams if kind in ("evt", "tel", "res")}
        known, queued, sure = self._known_ids()
        given = self._ids("seq FROM sqlite_sequence WHERE name = 'outbox'")
        last_id = max([*known, *given, *self._ids("MAX(id) FROM outbox NOT INDEXED")], default=0)
        unreadable = self._read_rows(last_id)
        tallies = dict(_of_kinds(self._all("key, value FROM tally")[0], str, int))
        answers = _of_kinds(self._all("cmd, at, payload, sender FROM answer")[0], str, int, bytes)
        carved = Carved()
        if not sure or self._found.keys() != known:
            carved = self._carve(known if sure else None)
            tallies = carved.tallies | tallies
            answers = list((carved.answers | {answer[0]: answer for answer in answers}).values())
            given += [] if carved.last_id is None else [carved.last_id]
            last_id = max(last_id, *given, *self._found) if given or self._found else last_id
        gone = {number for number in known | self._spoiled if number not in self._found}
        lost, queued_lost = ranges(sorted(gone)), len(queued - self._found.keys())
        if not sure:  # then whatever is not there may have been: more is told than is lost, never less
            doubtful = [*unreadable, (tallies.get("forgotten", 0) + 1, last_id)]
            found = sorted(self._found)
            absent = [hole for first, last in doubtful for hole in _holes(found, first, last)]
            lost = _joined(sorted(lost + absent))
            queued_lost = sum(last - first + 1 for first, last in lost)
        meta = dict(_of_kinds(self._all("key, value FROM meta")[0], str, str))
        is_last = sure or bool(given)
        lost_numbers = self._lost_numbers(sure=sure, is_whole_life="forgotten" not in tallies)
        newest = {} if is_last else {stream: max(numbers) for stream, numbers in self._numbers.items()}
        return Rescued(
            saved=len(self._found), lost=lost, sure=sure, queued_lost=queued_lost, lost_numbers=lost_numbers,
            newest_numbers=newest, last_id=last_id, is_last=is_last, streams=self._streams,
            tallies=tallies, epoch=meta.get("epoch"),
            checkpoints=self._checkpoints(),
            retained=_of_kinds(self._all("topic, payload FROM retained")[0], str, bytes),
            answers=answers,
            notices=[one for one in self._all("key, data FROM notice ORDER BY id")[0] if _is_notice(one)],
        )  # fmt: skip

    # --- messages -----------------------------------------------------------------------------------------------

    def _read_rows(self, last_id: int) -> Ranges:
        """Every message whose bytes are as they were written; returns the ranges of ids that raise."""
        unreadable: Ranges = []
        waiting = [(1, last_id)] if last_id else []
        while waiting:
            first, last = waiting.pop()
            if self._tries >= MOST_TRIES:
                unreadable.append((first, last))
                continue
            reached, whole = self._scan(first, last, "ASC")
            if whole:
                continue
            first = max(first, reached + 1)
            reached, _ = self._scan(first, last, "DESC")
            last = min(last, reached - 1) if reached else last
            if first == last:
                unreadable.append((first, last))
            elif first < last:
                middle = (first + last) // 2
                waiting += [(middle + 1, last), (first, middle)]
        return _joined(sorted(unreadable))

    def _scan(self, first: int, last: int, way: str) -> tuple[int, bool]:
        """Read in one direction; returns the last id reached (0: none) and whether there was no damage on the way."""
        self._tries += 1
        reached = 0
        statement = f"SELECT {COLUMNS} FROM outbox NOT INDEXED WHERE id BETWEEN ? AND ? ORDER BY id {way}"  # noqa: S608
        cursor = self._connection.cursor()
        try:
            cursor.execute(statement, (first, last))
            while rows := cursor.fetchmany(1):
                (row,) = rows
                if not first <= row[0] <= last:
                    return reached, False
                reached = row[0]
                self._take(row)
        except _UNREADABLE:
            return reached, False
        return reached, True

    def _take(self, row: Any) -> None:
        """Hand it on if it is as it was written, and newer than what was found of that id (see `carving`)."""
        if not is_whole(row):
            self._spoiled.add(row[0])
            return
        is_settled = row[7] != 0
        was_settled = self._found.get(row[0])
        if was_settled is not None and (was_settled or not is_settled):
            return
        if row[1] not in self._streams:
            self._streams[row[1]] = _stream_of(row[3], row[4])
        if was_settled is None and row[6] and row[2] > 0:
            self._numbers.setdefault(row[1], array("q")).append(row[2])
        self._found[row[0]] = is_settled
        self._keep([row])

    def _carve(self, known: set[int] | None) -> Carved:
        """What the pages give besides. `known`: all that there was, so any other row was deleted."""

        def take(row: Row) -> None:
            if known is None or (row[0] in known and row[0] not in self._found):
                self._take(row)

        return carve(self._path, take)

    def _known_ids(self) -> tuple[set[int], set[int], bool]:
        """The ids that the indexes name, those of queued messages, and whether every index has an end."""
        known: set[int] = set()
        queued: set[int] = set()
        sure = True
        for index, key, condition in _INDEXES:
            found, whole = self._all(f"{key}, id FROM outbox INDEXED BY {index} WHERE condition = {condition:d}")
            ids = {number for _, number in found if isinstance(number, int) and 0 < number < MOST_ID}
            known |= ids
            if condition == 0:
                queued = ids
            sure = sure and whole and len(ids) == len(found) and _is_sorted(found)
        return known, queued, sure

    def _ids(self, what: str) -> list[int]:
        return [number for (number,) in self._all(what)[0] if isinstance(number, int) and 0 < number < MOST_ID]

    def _lost_numbers(self, *, sure: bool, is_whole_life: bool) -> dict[int, Ranges]:
        """Of events. Not `sure`: whatever number was not found, from 1 on if nothing was ever forgotten."""
        statement = "stream, seq, id FROM outbox INDEXED BY outbox_numbered WHERE critical AND seq > 0"
        lost: dict[int, Ranges] = {}
        for stream, seq, number in _of_kinds(self._all(statement)[0], int, int, int):
            if 0 < number < MOST_ID and number not in self._found:
                lost.setdefault(stream, []).append((seq, seq))
        if not sure:
            for stream, numbers in self._numbers.items():
                found = sorted(numbers)
                lost.setdefault(stream, []).extend(_holes(found, 1 if is_whole_life else found[0], found[-1]))
        return {stream: joined for stream, parts in lost.items() if (joined := _joined(sorted(parts)))}

    # --- the rest -----------------------------------------------------------------------------------------------

    def _checkpoints(self) -> dict[str, bytes] | None:
        found, whole = self._all("key, value FROM checkpoint")
        if not whole or len(_of_kinds(found, str, bytes)) < len(found):
            return None
        return dict(found) if all(_is_json(value) for _, value in found) else None

    def _all(self, what: str) -> tuple[list[Any], bool]:
        """What a SELECT gives before it meets damage, and whether it meets none."""
        rows: list[Any] = []
        try:
            cursor = self._connection.execute(f"SELECT {what}")
            while found := cursor.fetchmany(1):
                rows += found
        except _UNREADABLE:
            return rows, False
        return rows, True


def _is_sorted(entries: list[Any]) -> bool:
    """Whether an index is in its own order: an entry that was changed is hardly ever."""
    try:
        return all(first < second for first, second in pairwise(entries))
    except TypeError:
        return False


def ranges(numbers: Iterable[int]) -> Ranges:
    """Neighbours together; the numbers rise."""
    return _joined((number, number) for number in numbers)


def _joined(parts: Iterable[tuple[int, int]]) -> Ranges:
    joined: Ranges = []
    for first, last in parts:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined


def _holes(found: list[int], first: int, last: int) -> Ranges:
    """What of `first` to `last` is not among the found ones, which rise."""
    inside = found[bisect_left(found, first) : bisect_right(found, last)]
    edges = [first - 1, *inside, last + 1]
    return [(before + 1, after - 1) for before, after in pairwise(edges) if after > before + 1]


def _of_kinds(rows: list[Any], *kinds: type) -> list[Any]:
    """The rows whose first columns are of these kinds."""
    return [row for row in rows if all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=False))]


def _is_notice(row: Any) -> bool:
    try:
        msgspec.json.decode(row[1], type=Notice)
    except (msgspec.DecodeError, TypeError, ValueError):
        return False
    return isinstance(row[0], str)


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(unpacked(value))
    except (msgspec.DecodeError, ValueError):
        return False
    return True


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
