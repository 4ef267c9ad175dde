"""The tables, and how a file becomes one of this version."""

import sqlite3
from typing import Final

VERSION: Final = 1

PUBLISHED: Final = 1
"""Conditions of a message: 0 is queued."""
QUARANTINED: Final = 2

# AUTOINCREMENT: without it SQLite gives the ids of deleted rows again (trap D5), and order is told by the id.
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
    reason TEXT
);
CREATE INDEX outbox_queued ON outbox (id) WHERE condition = 0;
CREATE INDEX outbox_published ON outbox (settled_at) WHERE condition = 1;
CREATE TABLE retained (
    topic TEXT PRIMARY KEY,
    payload BLOB NOT NULL,
    version INTEGER NOT NULL,
    sent_version INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE checkpoint (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE answer (cmd TEXT PRIMARY KEY, at INTEGER NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The record cannot be opened or written; the text says what to do."""


def prepare(connection: sqlite3.Connection, path: str, new_epoch: str) -> tuple[str, bool]:
    """Set the file up or check that it is ours. Returns its epoch and whether it is new."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last commits at power loss (trap D2)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer gateway (record version {version}, this one knows {VERSION}); "
            "start that version, or move the file aside to begin a new record"
        )
    if version == VERSION:
        (epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        return str(epoch), False
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (new_epoch,))
        connection.execute(f"PRAGMA user_version = {VERSION}")
    return new_epoch, True
