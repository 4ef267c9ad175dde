"""How a record that is not as it was left is noticed, without reading all of it at every start."""

import sqlite3
from pathlib import Path
from typing import Final

DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""What SQLite says where a file's bytes make no sense; the low byte of its extended codes."""

_OPEN_KEY: Final = "open"
_EVIDENCE: Final = (b"CREATE TABLE outbox", b'"epoch":"')
_PIECE: Final = 1 << 20


def is_damage(error: BaseException) -> bool:
    """Whether SQLite complains of the file and not of what it was asked."""
    return isinstance(error, sqlite3.DatabaseError) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in DAMAGE


def mark(path: Path, reason: str) -> None:
    """Note beside the record that it is damaged: the next start salvages it."""
    _mark_of(path).write_text(reason, encoding="utf-8")


def marked(path: Path) -> str | None:
    """What was noted, None if nothing was."""
    return _mark_of(path).read_text(encoding="utf-8") if _mark_of(path).exists() else None


def unmark(path: Path) -> None:
    """It was salvaged."""
    _mark_of(path).unlink(missing_ok=True)


def is_ours(path: Path) -> bool:
    """Whether a file that SQLite cannot open has bytes in it that only a record has: a stranger's is left alone."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if any(evidence in rest + piece for evidence in _EVIDENCE):
                return True
            rest = piece[-32:]
    return False


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log of that file."""
    return path.with_name(path.name + "-wal")


def note_open(connection: sqlite3.Connection) -> bool:
    """Note in the file itself that it is in use; returns whether it was so already: it was not closed."""
    was_open = was_left_open(connection)
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (_OPEN_KEY,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # out of the log, whose absence it is to prove
    return was_open


def was_left_open(connection: sqlite3.Connection) -> bool:
    """Whether nobody has closed it: then its newest commits are in the log alone."""
    return connection.execute("SELECT 1 FROM meta WHERE key = ?", (_OPEN_KEY,)).fetchone() is not None


def note_closed(connection: sqlite3.Connection) -> None:
    """It is closed in good order; after that the log may be gone."""
    connection.execute("DELETE FROM meta WHERE key = ?", (_OPEN_KEY,))


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + "-damaged")
