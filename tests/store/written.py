"""Records that SQLite has written, for tests of what reads their pages without it."""

import random
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st

from gateway.store.salvaging.carving import Row, carve
from gateway.store.schema import PAGE, prepare

COLUMNS = "id, stream, seq, topic, payload, crc, critical, condition, settled_at, reason, correlation"
TABLES = (
    "meta", "tally", "checkpoint", "retained", "answer", "stream", "notice", "sqlite_sequence",
    "outbox_queued", "outbox_published", "outbox_quarantined", "outbox_numbered",
)  # fmt: skip

changes = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "long", "delete", "publish", "put aside", "remember", "answer", "merge"]),
        st.integers(0, 1 << 40),
    ),
    min_size=1,
    max_size=60,
)


def change(connection: sqlite3.Connection, what: str, number: int) -> None:
    """One transaction on the record, of `number` messages where it is about many."""
    some = number % 40 + 1
    dice = random.Random(number)
    match what:
        case "add" | "long":
            for _ in range(1 if what == "long" else some):
                payload = dice.randbytes(dice.randint(8_000, 90_000) if what == "long" else dice.randint(0, 900))
                values = (number % 5, number, f"mfg/ä/{number % 9}", payload, zlib.crc32(payload), dice.randint(0, 1))
                connection.execute(
                    "INSERT INTO outbox (stream, seq, topic, payload, crc, critical, settled_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, number),
                )  # fmt: skip
        case "delete":
            connection.execute("DELETE FROM outbox WHERE id % ? = 0", (some,))
        case "publish":
            connection.execute("UPDATE outbox SET condition = 1, settled_at = ? WHERE id % ? = 0", (number, some))
        case "put aside":
            connection.execute("UPDATE outbox SET condition = 2, reason = 'no' WHERE id % ? = 1", (some,))
        case "remember":
            value = dice.randbytes(dice.choice((10, 500, 30_000)))
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, 0)", (f"key {number % 200}", value))
            connection.execute("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, 0)", (f"{number % 50}", value, number))
        case "answer":
            connection.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", (f"C{number}", -number, b"{}", None)
            )
        case "merge":
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def filled(path: Path, *, page_size: int = PAGE, messages: int = 300) -> list[Row]:
    """A record with messages of one page and of many; returns its rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        prepare(connection, str(path), "first")
        connection.execute("PRAGMA synchronous = OFF")
        for number in range(messages // 30):
            change(connection, "add", 29 + 40 * number)
        for number in range(3):
            change(connection, "long", number)
        rows: list[Row] = connection.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY id").fetchall()
        if page_size != PAGE:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute("VACUUM")
    return rows


def carved_of(path: Path) -> list[Row]:
    found: list[Row] = []
    carve(path, bool, found.append)
    return sorted(found)
