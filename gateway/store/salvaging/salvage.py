"""A damaged record is moved aside, never deleted, and one made of what could be read takes its place.

A crash in the middle begins the salvage anew: a mark beside the record says what was moved where.
"""

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final, cast
from zlib import crc32

import msgspec

from gateway.domain.renumbering import renumbered
from gateway.domain.uplink import LostMessages, SalvagedRecord, StreamKind
from gateway.store.salvaging.carving import Row
from gateway.store.salvaging.integrity import log_of, mark, marked, unmark
from gateway.store.salvaging.rescue import COLUMNS, Rescued, rescue
from gateway.store.schema import prepare

_BESIDE: Final = " is in "
"""Between the reason and the name of the file that was moved aside, in the mark."""


def salvage(path: Path, reason: str, new_epoch: str) -> SalvagedRecord:
    """Make the record at `path` usable again. What could not be saved is in the answer, and in a notice inside.

    The epoch stays if everything that the record remembers could be read; otherwise its numbers are not to be trusted.
    """
    aside = _moved_aside(path, reason)
    fresh = path.with_name(path.name + ".salvage")
    for leftover in (fresh, log_of(fresh)):
        leftover.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        prepare(connection, str(fresh), new_epoch)
        connection.execute("PRAGMA synchronous = OFF")  # it counts once it is whole, and is synchronised then
        connection.execute("BEGIN")
        rescued = rescue(aside, lambda rows: _insert(connection, rows))
        told = _report(rescued, reason.split(_BESIDE, maxsplit=1)[0], aside.name)
        _fill(connection, rescued, told)
        connection.execute("COMMIT")
    _synchronise(fresh)
    fresh.replace(path)
    _synchronise(path.parent)
    unmark(path)
    return told


def without_log(connection: sqlite3.Connection, path: Path, new_epoch: str) -> SalvagedRecord:
    """The record is whole, but its newest commits were in a log that is gone: their numbers must not come twice."""
    given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    last_id = int(given[0]) if given else 0
    newest = connection.execute(
        "SELECT s.kind, s.equipment, MAX(o.seq) FROM outbox o JOIN stream s ON s.id = o.stream "
        "WHERE o.seq > 0 GROUP BY o.stream ORDER BY s.kind, s.equipment"
    ).fetchall()
    lost = tuple(LostMessages(path or None, kind, last + 1, None, None) for kind, path, last in newest)
    told = SalvagedRecord("its log is missing", path.name, 0, ((last_id + 1, None),), lost, True, _now())
    checkpoints = renumbered(dict(connection.execute("SELECT key, value FROM checkpoint")))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (new_epoch,))
    _keep_checkpoints(connection, checkpoints)
    _note(connection, told)
    connection.execute("COMMIT")
    return told


def from_nothing(connection: sqlite3.Connection, path: Path) -> SalvagedRecord:
    """There was a file with nothing in it: whatever a record held is gone."""
    told = SalvagedRecord("its file was empty", path.name, 0, ((1, None),), (), True, _now())
    _note(connection, told)
    return told


def _moved_aside(path: Path, reason: str) -> Path:
    """The damaged file under its new name; its log goes with it, and the mark first, so that a crash is no matter."""
    _, _, name = (marked(path) or "").partition(_BESIDE)
    if not name:
        stamp = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        names = (f"{stamp}-{number}" if number else stamp for number in count())
        name = next(name for name in names if not path.with_name(name).exists())
        mark(path, f"{reason}{_BESIDE}{name}")
    aside = path.with_name(name)
    if not aside.exists():
        path.rename(aside)
    if log_of(path).exists() and not log_of(aside).exists():
        log_of(path).rename(log_of(aside))
    return aside


def _insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    places = ", ".join("?" * len(COLUMNS.split(", ")))
    statement = f"INSERT OR REPLACE INTO outbox ({COLUMNS}) VALUES ({places})"  # noqa: S608 - constants
    connection.executemany(statement, rows)


def _fill(connection: sqlite3.Connection, rescued: Rescued, told: SalvagedRecord) -> None:
    """Everything but the messages."""
    streams = [(number, *stream) for number, stream in rescued.streams.items()]
    connection.executemany("INSERT OR IGNORE INTO stream VALUES (?, ?, ?)", streams)
    connection.executemany(
        "INSERT OR IGNORE INTO retained (topic, payload, version) VALUES (?, ?, 1)", rescued.retained
    )
    connection.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)", rescued.answers)
    connection.executemany("INSERT INTO notice (key, data) VALUES (?, ?)", rescued.notices)
    if not told.new_epoch:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (rescued.epoch,))
    _keep_checkpoints(connection, (rescued.checkpoints or {}) if not told.new_epoch else {})
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?)", (rescued.last_id,))
    (waiting,) = connection.execute("SELECT COUNT(*) FROM outbox WHERE condition <> 1").fetchone()
    requeued, dropped = rescued.tallies.get("requeued", 0), rescued.tallies.get("dropped", 0)
    most_dropped = dropped + rescued.queued_lost
    if rescued.has_all_tallies and rescued.is_last:  # then what is neither acknowledged nor there any more is known
        gone = rescued.last_id - requeued - rescued.tallies.get("acknowledged", 0) - waiting
        most_dropped = max(dropped, min(gone, most_dropped))
    tallies = {
        "acknowledged": rescued.last_id - requeued - most_dropped - waiting, "dropped": most_dropped,
        "requeued": requeued, "forgotten": rescued.tallies.get("forgotten", 0),
    }  # fmt: skip
    connection.executemany("INSERT INTO tally VALUES (?, ?)", list(tallies.items()))
    _note(connection, told)


def _keep_checkpoints(connection: sqlite3.Connection, checkpoints: Mapping[str, bytes]) -> None:
    connection.execute("DELETE FROM checkpoint")
    kept = [(key, value, crc32(value)) for key, value in checkpoints.items()]
    connection.executemany("INSERT INTO checkpoint VALUES (?, ?, ?)", kept)


def _note(connection: sqlite3.Connection, told: SalvagedRecord) -> None:
    connection.execute("INSERT INTO notice (key, data) VALUES ('salvaged', ?)", (msgspec.json.encode(told),))


def _report(rescued: Rescued, reason: str, name: str) -> SalvagedRecord:
    lost_rows: list[tuple[int, int | None]] = list(rescued.lost)
    if not rescued.is_last:
        lost_rows.append((rescued.last_id + 1, None))
    lost = []
    new_epoch = rescued.checkpoints is None or rescued.epoch is None
    newest = rescued.newest_numbers if new_epoch else {}  # in an epoch that goes on, the next number shows a hole
    for stream in sorted(rescued.lost_numbers.keys() | newest.keys()):
        kind, equipment = rescued.streams.get(stream, ("evt", ""))
        path, kind_of_it = equipment or None, cast("StreamKind", kind)
        lost += [
            LostMessages(path, kind_of_it, first, last, last - first + 1)
            for first, last in rescued.lost_numbers.get(stream, [])
        ]
        if stream in newest:
            lost.append(LostMessages(path, kind_of_it, newest[stream] + 1, None, None))
    return SalvagedRecord(reason, name, rescued.saved, tuple(lost_rows), tuple(lost), new_epoch, _now())


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> int:
    return time.time_ns() // 1_000_000
