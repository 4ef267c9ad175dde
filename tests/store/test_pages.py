"""Pages read without SQLite: what it wrote is read as it reads it."""

import shutil
import sqlite3
import tempfile
import tracemalloc
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.salvaging.carving import Row, carve, is_whole
from gateway.store.salvaging.log_frames import committed_frames
from gateway.store.salvaging.page_cells import TABLE_LEAF, Torn, decoded
from gateway.store.salvaging.pages import PageFile
from gateway.store.salvaging.tables import PageTables, SqlTables, all_of, roots
from gateway.store.schema import PAGE, prepare
from tests.store.written import COLUMNS, TABLES, carved_of, change, changes, filled


@settings(max_examples=20)
@given(changes)
def test_every_table_is_read_from_its_pages_as_sqlite_reads_it(made: list[tuple[str, int]]) -> None:
    """With long payloads, with what was deleted and changed, and with a log that is not merged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            prepare(connection, str(path), "first")
            connection.execute("PRAGMA synchronous = OFF")
            for what, number in made:
                change(connection, what, number)
            sql = SqlTables(connection)
            rows = connection.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY id").fetchall()
            with PageFile(path, PAGE) as pages:
                tables = PageTables(pages)
                for name in TABLES:
                    assert all_of(tables, name) == all_of(sql, name)
                    assert all_of(tables, name)[1], f"{name} is whole"
                outbox = list(pages.table(roots(connection)["outbox"]))
            assert [(row_id, *values[1:]) for row_id, values in outbox] == rows
            carved: list[Row] = []
            carve(path, bool, carved.append)
            assert {*rows} <= {*carved}, "wherever they are; what was deleted may be there, too"
            assert all(is_whole(row) for row in carved)


@settings(max_examples=40)
@given(
    st.lists(
        st.one_of(
            st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-300, 300), st.text(max_size=80),
            st.binary(max_size=80),
        ), min_size=1, max_size=200,
    )
)  # fmt: skip
def test_a_record_means_what_sqlite_put_into_it(values: list[Any]) -> None:
    columns = ", ".join(f"c{place}" for place in range(len(values)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"CREATE TABLE any ({columns})")
            places = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO any VALUES ({places})", values)
            connection.execute(f"INSERT INTO any (rowid, {columns}) VALUES (-5, {places})", values)
            connection.commit()
            root = roots(connection)["any"]
        with PageFile(path, 4096) as pages:
            assert list(pages.table(root)) == [(-5, values), (1, values)]


def test_records_of_every_length_are_put_together_where_they_go_on_over_other_pages(tmp_path: Path) -> None:
    """How much of one is on its own page depends on its length, differently in a table and in an index (§1.6)."""
    path = tmp_path / "any.db"
    lengths = [*range(960, 1_020), *range(4_030, 4_080), *range(4_600, 4_620), *range(8_100, 8_200)]
    values = [f"{length:06}".encode().ljust(length, b"x") for length in lengths]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("CREATE TABLE some (id INTEGER PRIMARY KEY, value BLOB)")
        connection.execute("CREATE TABLE others (value BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.executemany("INSERT INTO some (value) VALUES (?)", [(value,) for value in values])
        connection.executemany("INSERT INTO others VALUES (?)", [(value,) for value in values])
        connection.commit()
        where = roots(connection)
    with PageFile(path, 4096) as pages:
        assert [value for _, (_, value) in pages.table(where["some"])] == values
        assert [value for (value,) in pages.index(where["others"])] == values


@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_are_refused_and_nothing_worse(noise: bytes) -> None:
    with suppress(Torn, IndexError, UnicodeDecodeError):
        decoded(noise)


def test_of_a_log_only_what_was_committed_counts(tmp_path: Path) -> None:
    """A frame behind the last commit, one of an earlier round, and one with a wrong checksum are no pages."""
    path, log = tmp_path / "record.db", tmp_path / "copy.db-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        prepare(connection, str(path), "first")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ends = []
        for number in range(4):
            connection.execute("BEGIN")
            change(connection, "add", 29 + 40 * number)
            connection.execute("COMMIT")
            ends.append(path.with_name("record.db-wal").stat().st_size)
        shutil.copy(path.with_name("record.db-wal"), log)
    data = log.read_bytes()
    whole = committed_frames(log, PAGE)
    assert whole
    assert max(whole.values()) == ends[3] - PAGE
    log.write_bytes(data[: ends[3] - 1])
    assert max(committed_frames(log, PAGE).values()) == ends[2] - PAGE, "the last commit is not whole"
    log.write_bytes(data[: ends[1] + 40] + b"?" + data[ends[1] + 41 :])
    assert max(committed_frames(log, PAGE).values()) == ends[1] - PAGE, "what follows a wrong checksum is none"
    log.write_bytes(data[: ends[1] + 8] + b"salt" + data[ends[1] + 12 :])
    assert max(committed_frames(log, PAGE).values()) == ends[1] - PAGE, "an earlier round"
    log.write_bytes(b"?" + data[1:])
    assert committed_frames(log, PAGE) == {}
    log.write_bytes(data[:12] + b"what" + data[16:])
    assert committed_frames(log, PAGE) == {}, "SQLite would not begin to read it"
    log.write_bytes(data)
    assert committed_frames(log, 4096) == {}


def test_a_length_that_no_file_holds_is_not_believed(tmp_path: Path) -> None:
    """Two pages: a cell that claims 100 MB, and one that leads to itself."""
    path = tmp_path / "record.db"
    cell = bytes([0xB2, 0x80, 0x80, 0x00, 0x01]).ljust(5 + 2_072, b"x") + (2).to_bytes(4, "big")
    leaf = bytes([TABLE_LEAF, 0, 0, 0, 1, 0, 0, 0, 0x10, 0]).ljust(0x1000, b"\0") + cell
    path.write_bytes(leaf.ljust(PAGE, b"\0") + (2).to_bytes(4, "big").ljust(PAGE, b"\0"))
    with PageFile(path, PAGE) as pages:
        tracemalloc.start()
        try:
            assert list(pages.rows(pages.page(1))) == []
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 1_000_000


def test_a_tree_that_leads_in_a_ring_or_to_another_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    filled(path, messages=300)
    with closing(sqlite3.connect(path)) as connection:
        where = roots(connection)
    data = bytearray(path.read_bytes())
    root = (where["outbox"] - 1) * PAGE
    for wrong in (where["outbox"], where["meta"], 0, 99_999):
        data[root + 8 : root + 12] = wrong.to_bytes(4, "big")
        path.write_bytes(data)
        with PageFile(path, PAGE) as pages, pytest.raises(Torn):
            list(pages.table(where["outbox"]))


@pytest.mark.parametrize(
    "record",
    [b"\x02\x01", b"\x02\x01\x05\x05", b"\x03\x01\x05", b"\x02\x07" + bytes(8), b"\x02\x0a", b"\x02\x0f\xff", b""],
    ids=["ends too early", "too long", "head too long", "fraction", "reserved", "no text", "nothing"],
)
def test_a_record_that_is_not_exactly_its_bytes_is_none(record: bytes) -> None:
    assert decoded(b"\x02\x01\x05") == [5]
    with pytest.raises((Torn, IndexError, UnicodeDecodeError)):
        decoded(record)


def test_a_page_of_an_index_of_numbers_has_no_entries_to_be_known_by_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        where = roots(connection)
        connection.execute("INSERT INTO checkpoint VALUES ('a', x'7b7d', 0)")
        connection.commit()
    with PageFile(path, PAGE) as pages:
        assert list(pages.entries(pages.page(where["outbox_queued"]))) == []
        assert list(pages.entries(pages.page(where["checkpoint"]))) == [["a", b"{}", 0]]


@pytest.mark.parametrize("has_head", [True, False])
def test_a_page_in_the_log_takes_the_place_of_the_file_s_where_the_numbers_of_pages_are_sure(
    tmp_path: Path, has_head: bool
) -> None:
    """Otherwise both count: the file's may be another page, and what is on it would be lost."""
    path, copy = tmp_path / "record.db", tmp_path / "copy.db"
    filled(path, messages=60)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        change(connection, "publish", 40)
        for name in ("record.db", "record.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / name.replace("record", "copy"))
    if not has_head:
        copy.write_bytes(bytes(PAGE) + copy.read_bytes()[PAGE:])
    found = carved_of(copy)
    assert {(row[0], row[7]) for row in found} >= {(1, 1), (2, 1)}
    assert ((1, 0) in {(row[0], row[7]) for row in found}) == (not has_head)


def test_tables_that_are_elsewhere_are_not_taken_for_those_of_a_new_record(tmp_path: Path) -> None:
    """A record that an earlier version made: its pages are not where a new one has them."""
    path = tmp_path / "record.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE older (x)")
        prepare_beside(connection)
    with PageFile(path, PAGE) as pages:
        tables = PageTables(pages)
        assert [all_of(tables, name) for name in TABLES] == [([], False)] * len(TABLES)


def prepare_beside(connection: sqlite3.Connection) -> None:
    """The tables of a record behind another one."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        prepare(new, "", "first")
        statements = [sql for (sql,) in new.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    connection.execute(f"PRAGMA page_size = {PAGE}")
    for sql in statements:
        if "sqlite_sequence" not in sql:
            connection.execute(sql)
    connection.execute("INSERT INTO meta VALUES ('epoch', 'first')")
