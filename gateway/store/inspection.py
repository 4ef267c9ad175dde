"""Looking at a record that no gateway holds at the moment; nothing in it is changed."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from gateway.store.salvaging.integrity import is_damage, log_of, was_left_open
from gateway.store.schema import APPLICATION_ID, PUBLISHED, VERSION, StoreDamaged, StoreError

Connection = sqlite3.Connection

PATIENCE: Final = 0.5
"""Seconds to wait for a gateway that is just ending."""

WHEN_SALVAGED: Final = (
    "the gateway salvages what can be read when it meets that, and at its next start after: gateway store salvage"
)

CONDITIONS: Final = ("queued", "published", "quarantined")
"""By number, as `schema` has them."""


class StreamStatus(msgspec.Struct, frozen=True):
    """One stream: how many messages in which condition, the first and last number that is there, when it begins."""

    kind: str
    equipment: str
    queued: int
    published: int
    quarantined: int
    first: int
    last: int
    oldest_queued: int | None
    """When the oldest queued message was committed, in milliseconds UTC."""


class Inspection(msgspec.Struct, frozen=True):
    """What there is. `ingested` and so on as in `Statistics`; `quarantine` by topic and reason.

    `log_is_missing`: the gateway did not close it, and what it committed last is in a file that is not here.
    """

    epoch: str
    file_bytes: int
    log_bytes: int
    log_is_missing: bool
    ingested: int
    acknowledged: int
    queued: int
    dropped: int
    quarantined: int
    published: int
    kept_since: int | None
    """When the oldest published message was acknowledged."""
    retained: int
    answers: int
    notices: int
    streams: list[StreamStatus]
    quarantine: list[tuple[str, str, int]]

    @property
    def unaccounted(self) -> int:
        """0, or the record has lost count."""
        return self.ingested - self.acknowledged - self.queued - self.dropped - self.quarantined


class Message(msgspec.Struct, frozen=True):
    """One message with what became of it; `settled_at` is when it was published, before that when it was committed."""

    row: int
    stream: str
    equipment: str | None
    seq: int
    condition: str
    settled_at: int | None
    reason: str | None
    topic: str
    payload: msgspec.Raw


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, to be read only. Raises `StoreError`, also for what comes up while it is read."""
    if not path.is_file():
        raise StoreError(f"{path} is not there; no gateway has run on it yet, or gateway: store: names another file")
    had_log, written_at = log_of(path).exists(), path.stat().st_mtime_ns
    # Otherwise SQLite would make a log, and the next start could not see any more that there was none.
    mode = "mode=ro" if had_log else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=PATIENCE, isolation_level=None)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(f"{path} is not a record of this gateway")
        if version != VERSION:
            raise StoreError(
                f"{path} has the version {version} and not {VERSION}; the gateway that wrote it can read it"
            )
        yield connection
        _is_as_it_was(path, written_at)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise StoreError(
                f"{path} is held by a running gateway, which tells its figures itself: retained on …/now/messages, and "
                "with gateway run --report; end it, or look at a copy of the file and its -wal"
            ) from error
        _is_as_it_was(path, written_at)
        if is_damage(error):
            raise StoreDamaged(f"{path} is damaged: {error}; {WHEN_SALVAGED}") from error
        beside = "; SQLite keeps a file beside it, so its folder must be writable" if had_log else ""
        raise StoreError(f"{path} cannot be read: {error}{beside}") from error
    finally:
        connection.close()


def _is_as_it_was(path: Path, written_at: int) -> None:
    """A record without a log is read without a lock, so that no gateway that starts is held up by it."""
    if path.stat().st_mtime_ns != written_at:
        raise StoreError(f"a gateway has begun to write {path} meanwhile, so nothing of this holds; look at a copy")


def inspect(connection: sqlite3.Connection, path: Path) -> Inspection:
    """Count what there is."""

    def one(statement: str) -> int:
        found = connection.execute(statement).fetchone()
        return int(found[0]) if found and found[0] is not None else 0

    tallies = dict(connection.execute("SELECT key, value FROM tally"))
    by_condition = dict(connection.execute("SELECT condition, COUNT(*) FROM outbox GROUP BY condition"))
    streams = connection.execute(
        "SELECT s.kind, s.equipment, SUM(o.condition = 0), SUM(o.condition = 1), SUM(o.condition = 2), MIN(o.seq), "
        "MAX(o.seq), MIN(CASE WHEN o.condition = 0 THEN o.settled_at END) FROM outbox o "
        "JOIN stream s ON s.id = o.stream GROUP BY o.stream ORDER BY s.equipment, s.kind"
    )
    return Inspection(
        epoch=str(connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]),
        file_bytes=path.stat().st_size, log_bytes=log_of(path).stat().st_size if log_of(path).exists() else 0,
        log_is_missing=was_left_open(connection) and not log_of(path).exists(),
        ingested=one("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'") - tallies.get("requeued", 0),
        acknowledged=tallies.get("acknowledged", 0), dropped=tallies.get("dropped", 0),
        queued=by_condition.get(0, 0), published=by_condition.get(1, 0), quarantined=by_condition.get(2, 0),
        kept_since=one("SELECT MIN(settled_at) FROM outbox WHERE condition = 1") or None,
        retained=one("SELECT COUNT(*) FROM retained"), answers=one("SELECT COUNT(*) FROM answer"),
        notices=one("SELECT COUNT(*) FROM notice"), streams=[StreamStatus(*row) for row in streams],
        quarantine=list(
            connection.execute(
                "SELECT topic, COALESCE(reason, ''), COUNT(*) FROM outbox WHERE condition = 2 "
                "GROUP BY 1, 2 ORDER BY 1, 2"
            )
        ),
    )  # fmt: skip


def flaws(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    """Everything that is not as it should be, each with its place; a whole record gives nothing. Reads every byte."""
    for (text,) in connection.execute("PRAGMA integrity_check(100)"):
        if text != "ok":
            yield f"{path}: {text}"
    found = inspect(connection, path)
    if found.log_is_missing:
        yield f"{path}: {log_of(path).name} is missing, and with it what was committed last; a copy needs both files"
    if found.unaccounted:
        yield f"{path}: {found.unaccounted:+,} messages are accounted for by nothing"
    last: dict[int, int] = {}
    names = {number: f"{kind} of {path or 'the gateway'}" for number, kind, path in _streams(connection)}
    for row in connection.execute("SELECT id, stream, seq, payload, crc, critical, condition FROM outbox ORDER BY id"):
        number, stream, seq, payload, crc, critical, condition = row
        if zlib.crc32(payload) != crc:
            yield f"{path}: row {number}, {names.get(stream, stream)} {seq}: not as it was written"
            continue
        try:
            msgspec.json.decode(payload)
        except (msgspec.DecodeError, ValueError) as error:
            yield f"{path}: row {number}, {names.get(stream, stream)} {seq}: is not JSON: {error}"
        # What was published may have been forgotten, and what was put aside comes again under a later row.
        if critical and seq and condition != PUBLISHED:
            before = last.get(stream, seq - 1)
            if seq > before + 1 and condition == 0:
                yield f"{path}: row {number}: {names.get(stream, stream)} goes from {before} to {seq}"
            last[stream] = max(seq, before)
    for key, value, crc in connection.execute("SELECT key, value, crc FROM checkpoint"):
        if zlib.crc32(value) != crc:
            yield f"{path}: what it remembers of {key} is not as it was kept"


def messages(
    connection: sqlite3.Connection, equipment: str | None, condition: str | None, first: int, last: int
) -> Iterator[Message]:
    """In the order of their commits: of one equipment (a path or its last level), in one condition, by number."""
    statement = (
        "SELECT o.id, s.kind, s.equipment, o.seq, o.condition, o.settled_at, o.reason, o.topic, o.payload "
        "FROM outbox o JOIN stream s ON s.id = o.stream WHERE o.seq BETWEEN ? AND ? ORDER BY o.id"
    )
    for number, kind, path, seq, state, settled_at, reason, topic, payload in connection.execute(
        statement, (first, last)
    ):
        if equipment is not None and equipment not in (path, path.rpartition("/")[2]):
            continue
        if condition is None or CONDITIONS[state] == condition:
            yield Message(
                number, kind, path or None, seq, CONDITIONS[state], settled_at, reason, topic, msgspec.Raw(payload)
            )


def equipment_in(connection: sqlite3.Connection) -> list[str]:
    """Every equipment that ever had a message in it, by path."""
    return sorted({path for _, _, path in _streams(connection) if path})


def _streams(connection: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    yield from connection.execute("SELECT id, kind, equipment FROM stream")
