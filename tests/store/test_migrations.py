"""A record that an earlier version wrote goes on: nothing of it is lost, and what is new is empty."""

import sqlite3
from pathlib import Path

import pytest

from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.schema import APPLICATION_ID, VERSION
from gateway.store.store import Store

VERSION_1 = """
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
CREATE TABLE answer (cmd TEXT PRIMARY KEY, at INTEGER NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 'old');
INSERT INTO outbox (topic, payload, critical, equipment, seq) VALUES ('t/1', x'31', 1, 'e', 1), ('t/2', x'32', 0, 'e', 2);
INSERT INTO checkpoint VALUES ('gateway', x'7b7d');
INSERT INTO answer VALUES ('C1', 1000, x'7b7d');
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as the first version left it."""
    path = tmp_path / "record.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(VERSION_1)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    return path


async def test_a_record_of_the_first_version_keeps_its_messages_answers_and_epoch(old: Path) -> None:
    async with Store(old, new_epoch="new") as store:
        assert (store.epoch, store.is_new, store.statistics.queued) == ("old", False, 2)
        assert [(row.topic, row.payload, row.correlation) for row in await store.unpublished(0, 9)] == [
            ("t/1", b"1", None), ("t/2", b"2", None),
        ]  # fmt: skip
        assert await store.answers(0) == [StoredAnswer("C1", 1000, b"{}", None)]
        assert await store.checkpoints() == {"gateway": b"{}"}
        answered = OutboxMessage("mes/1", b"3", "res", None, 0, b"\x00\xff")
        await store.commit(Transaction(messages=[answered], answers=[StoredAnswer("C2", 2000, b"{}", b'{"corr":"m"}')]))
    async with Store(old, new_epoch="new") as store:
        assert [row.correlation for row in await store.unpublished(0, 9)] == [None, None, b"\x00\xff"]
        assert [answer.sender for answer in await store.answers(0)] == [None, b'{"corr":"m"}']


async def test_a_migrated_file_is_as_a_new_one(old: Path, tmp_path: Path) -> None:
    def shape(path: Path) -> tuple[int, list[tuple[str, ...]]]:
        connection = sqlite3.connect(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = ("meta", "outbox", "retained", "checkpoint", "answer")
        columns = [tuple(row[1:4]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
        connection.close()
        return version, columns

    for path in (old, tmp_path / "new.db"):
        async with Store(path, new_epoch="e"):
            pass
    assert shape(old) == shape(tmp_path / "new.db")
    assert shape(old)[0] == VERSION
