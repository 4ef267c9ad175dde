"""The tables, and how a file becomes one of this version."""

import sqlite3
from typing import Final

VERSION: Final = 2

APPLICATION_ID: Final = 0x53464757
"""`SFGW`, in the file's header: whether a SQLite file is a record of ours (SQLite file format §1.3.16)."""

PUBLISHED: Final = 1
"""Conditions of a message: 0 is queued."""
QUARANTINED: Final = 2

# AUTOINCREMENT: without it SQLite gives the ids of deleted rows again (trap D5), and order is told by the id.
# Each partial index holds everything that its condition is asked for, so that opening the file, which counts the
# rows, and finding the next message never read payloads.
_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    critical INTEGER NOT NULL,
    equipment TEXT,
    seq INTEGER NOT NULL,
    condition INTEGER NOT NULL DEFAULT 0,
    settled_at INTEGER,
    reason TEXT,
    correlation BLOB
);
CREATE INDEX outbox_queued ON outbox (id, critical) WHERE condition = 0;
CREATE INDEX outbox_published ON outbox (settled_at) WHERE condition = 1;
CREATE INDEX outbox_quarantined ON outbox (id) WHERE condition = 2;
CREATE TABLE retained (
    topic TEXT PRIMARY KEY,
    payload BLOB NOT NULL,
    version INTEGER NOT NULL,
    sent_version INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX retained_unsent ON retained (topic) WHERE sent_version <> version;
CREATE TABLE checkpoint (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE answer (cmd TEXT PRIMARY KEY, at INTEGER NOT NULL, payload BLOB NOT NULL, sender BLOB) WITHOUT ROWID;
"""

_MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {
    1: ("ALTER TABLE outbox ADD COLUMN correlation BLOB", "ALTER TABLE answer ADD COLUMN sender BLOB"),
}
"""By version, what makes the next one of it."""


class StoreError(Exception):
    """The record cannot be opened or written; the text says what to do."""


def prepare(connection: sqlite3.Connection, path: str, new_epoch: str) -> tuple[str, bool]:
    """Set a new file up, or check that it is a record of ours and not newer than this gateway.

    Returns its epoch and whether it is new. Raises `StoreError`, or `sqlite3.DatabaseError` for what is no SQLite file.
    """
    # Held until the file is closed: with a second connection SQLite 3.40 can corrupt a WAL file (trap D1), and a
    # second gateway on the same record would publish everything twice.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last commits at power loss (trap D2)
    version, application = (_pragma(connection, name) for name in ("user_version", "application_id"))
    if (version, application) == (0, 0) and _is_empty(connection):
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
    connection.execute("BEGIN IMMEDIATE")
    for statement in _MIGRATIONS[version]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version + 1:d}")
    connection.execute("COMMIT")


def _create(connection: sqlite3.Connection, epoch: str) -> None:
    """Everything in one transaction: a crash leaves an empty file, never half a record."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (epoch,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
