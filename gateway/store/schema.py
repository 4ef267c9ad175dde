"""The tables, and how a file becomes one of this version."""

import sqlite3
import zlib
from typing import Final

VERSION: Final = 4

APPLICATION_ID: Final = 0x53464757
"""`SFGW`, in the file's header: whether a SQLite file is a record of ours (SQLite file format §1.3.16)."""

PAGE: Final = 8192
"""Bytes of a page. An event has some 550: with SQLite's usual 4096, each page would end in half an event of nothing."""

LOG_PAGES: Final = 500
"""Pages of the log after which it is merged: 4 MB, which a full disk must still have once."""

PUBLISHED: Final = 1
"""Conditions of a message: 0 is queued."""
QUARANTINED: Final = 2

# AUTOINCREMENT: without it SQLite gives the ids of deleted rows again (trap D5), and order is told by the id. The last
# id given is also how many messages were ever taken in.
#
# The partial indexes hold everything that their condition is asked for, their own condition too, which SQLite would
# else look up in the row: so opening the file, which counts the rows, never reads one, and a damaged file tells which
# rows it had. SQLite ends each entry with the row's id, so a stream's rows come in their order.
#
# A tally is a sum over all time: of messages acknowledged, dropped, and taken from the quarantine under a new id.
# A notice is something that an event must yet tell; `taken` says that the event is being made.
_OUTBOX: Final = """
CREATE TABLE tally (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    equipment TEXT NOT NULL,
    UNIQUE (kind, equipment)
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    crc INTEGER NOT NULL,
    critical INTEGER NOT NULL,
    condition INTEGER NOT NULL DEFAULT 0,
    settled_at INTEGER,
    reason TEXT,
    correlation BLOB
);
CREATE INDEX outbox_queued ON outbox (stream, condition) WHERE condition = 0;
CREATE INDEX outbox_droppable ON outbox (id) WHERE condition = 0 AND NOT critical;
CREATE INDEX outbox_published ON outbox (settled_at, condition) WHERE condition = 1;
CREATE INDEX outbox_quarantined ON outbox (topic, condition) WHERE condition = 2;
CREATE INDEX outbox_numbered ON outbox (stream, seq, critical) WHERE critical AND seq > 0;
CREATE TABLE notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    data BLOB NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0
);
"""

_OTHERS: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE retained (
    topic TEXT PRIMARY KEY,
    payload BLOB NOT NULL,
    version INTEGER NOT NULL,
    sent_version INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX retained_unsent ON retained (topic) WHERE sent_version <> version;
CREATE TABLE checkpoint (key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE answer (cmd TEXT PRIMARY KEY, at INTEGER NOT NULL, payload BLOB NOT NULL, sender BLOB) WITHOUT ROWID;
"""

_KIND_OF_OLD: Final = "CASE WHEN NOT critical THEN 'tel' WHEN seq = 0 THEN 'res' ELSE 'evt' END"
"""The stream of a message in a record of version 2: answers had no number."""

_MIGRATIONS: Final[dict[int, str]] = {
    1: """
ALTER TABLE outbox ADD COLUMN correlation BLOB;
ALTER TABLE answer ADD COLUMN sender BLOB;
""",
    2: f"""
DROP INDEX outbox_queued;
DROP INDEX outbox_published;
DROP INDEX outbox_quarantined;
ALTER TABLE outbox RENAME TO older;
{_OUTBOX}
INSERT INTO stream (kind, equipment) SELECT DISTINCT {_KIND_OF_OLD}, COALESCE(equipment, '') FROM older;
INSERT INTO outbox
    SELECT o.id, stream.id, o.seq, o.topic, o.payload, crc32(o.payload), o.critical, o.condition, o.settled_at,
        o.reason, o.correlation
    FROM (SELECT *, {_KIND_OF_OLD} AS kind FROM older) o
    JOIN stream ON stream.kind = o.kind AND stream.equipment = COALESCE(o.equipment, '')
    ORDER BY o.id;
DELETE FROM sqlite_sequence WHERE name = 'outbox';
INSERT INTO sqlite_sequence (name, seq) SELECT 'outbox', seq FROM sqlite_sequence WHERE name = 'older';
INSERT INTO tally SELECT 'acknowledged', seq - (SELECT COUNT(*) FROM outbox WHERE condition <> 1)
    FROM sqlite_sequence WHERE name = 'outbox';
DROP TABLE older;
""",  # noqa: S608 - nothing in it comes from outside
    3: """
ALTER TABLE checkpoint ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
UPDATE checkpoint SET crc = crc32(value);
""",
}
"""By version, what makes the next one of it."""


class StoreError(Exception):
    """The record cannot be opened or written; the text says what to do."""


class StoreFull(StoreError):  # noqa: N818 - it says what happened
    """There is no room and nothing left that may be dropped; nothing was changed. It may be tried again later."""


class StoreDamaged(StoreError):  # noqa: N818 - the same
    """The file gives back something else than was written."""


def prepare(connection: sqlite3.Connection, path: str, new_epoch: str) -> tuple[str, bool]:
    """Set a new file up, or check that it is a record of ours and not newer than this gateway.

    Returns its epoch and whether it is new. Raises `StoreError`, or `sqlite3.DatabaseError` for what is no SQLite file.
    """
    # Held until the file is closed: with a second connection SQLite 3.40 can corrupt a WAL file (trap D1), and a
    # second gateway on the same record would publish everything twice.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last commits at power loss (trap D2)
    version, application = (_pragma(connection, name) for name in ("user_version", "application_id"))
    if (version, application) == (0, 0) and _is_empty(connection):
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        _create(connection, new_epoch)
        return new_epoch, True
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is not a record of this gateway; give it a path of its own, or move the file aside")
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer gateway (record version {version}, this one knows {VERSION}); "
            "start that version, or move the file aside to begin a new record"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    for step in range(version, VERSION):
        _migrate(connection, step)
    (epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    return str(epoch), False


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """From one version to the next, whole or not at all."""
    connection.create_function("crc32", 1, zlib.crc32, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    _execute_all(connection, _MIGRATIONS[version])
    connection.execute(f"PRAGMA user_version = {version + 1:d}")
    connection.execute("COMMIT")


def _create(connection: sqlite3.Connection, epoch: str) -> None:
    """Everything in one transaction: a crash leaves an empty file, never half a record."""
    connection.execute("BEGIN IMMEDIATE")
    _execute_all(connection, _OUTBOX + _OTHERS)
    connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (epoch,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    """One by one: `executescript` would commit first."""
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)
