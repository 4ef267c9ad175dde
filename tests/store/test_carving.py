"""Pages read without SQLite: what it wrote is read as it reads it, and what is none of it is never believed."""

import random
import shutil
import sqlite3
import tempfile
import tracemalloc
import zlib
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.carving import Layout, Row, carve, is_whole, layout_of
from gateway.store.log_frames import committed_frames
from gateway.store.page_cells import TABLE_LEAF, Torn, decoded
from gateway.store.pages import PageFile
from gateway.store.schema import PAGE, prepare
from gateway.store.tables import PageTables, SqlTables, all_of, roots

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
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (f"key {number % 200}", value))
            connection.execute("INSERT OR REPLACE INTO retained VALUES (?, ?, ?, 0)", (f"{number % 50}", value, number))
        case "answer":
            connection.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", (f"C{number}", -number, b"{}", None)
            )
        case "merge":
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


@settings(max_examples=30)
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
            connection.execute(f"INSERT INTO any VALUES ({', '.join('?' * len(values))})", values)
            connection.commit()
            root = roots(connection)["any"]
        with PageFile(path, 4096) as pages:
            assert list(pages.table(root)) == [(1, values)]


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


@given(st.integers(), st.integers(1, 40))
def test_a_page_of_noise_gives_nothing_that_is_believed(seed: int, count: int) -> None:
    page = bytes([TABLE_LEAF, 0, 0, 0, count]) + random.Random(seed).randbytes(PAGE - 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.db"
        path.write_bytes(page * 2)
        carve(path, bool, lambda row: pytest.fail(f"{row} was believed"))


def filled(path: Path, *, page_size: int = PAGE, messages: int = 300) -> list[Row]:
    """A record with messages of one page and of many; returns its rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        prepare(connection, str(path), "first")
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


@pytest.mark.parametrize("page_size", [4096, PAGE])
@pytest.mark.parametrize("before", [0, 100, 4096])
def test_pages_are_found_where_no_header_tells_their_size_or_where_they_begin(
    tmp_path: Path, page_size: int, before: int
) -> None:
    path = tmp_path / "record.db"
    rows = filled(path, page_size=page_size)
    data = path.read_bytes()
    path.write_bytes(bytes(before) + bytes(page_size) + data[page_size:])
    assert layout_of(path) == Layout(page_size, before % page_size)
    assert carved_of(path) == rows if before < page_size else {*carved_of(path)} <= {*rows}


@pytest.mark.parametrize("told", [b"\x00\x00", b"\x20\x01", b"\xff\xff"])
def test_a_size_that_no_page_has_is_not_believed(tmp_path: Path, told: bytes) -> None:
    path = tmp_path / "record.db"
    rows = filled(path)
    data = path.read_bytes()
    path.write_bytes(data[:16] + told + data[18:])
    assert carved_of(path) == rows


def test_where_all_messages_are_in_the_log_it_tells_the_size_of_pages(tmp_path: Path) -> None:
    path, copy = tmp_path / "record.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        prepare(connection, str(path), "first")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        change(connection, "add", 5)
        rows = connection.execute(f"SELECT {COLUMNS} FROM outbox").fetchall()
        shutil.copy(tmp_path / "record.db-wal", tmp_path / "copy.db-wal")
        copy.write_bytes(bytes(PAGE) + path.read_bytes()[PAGE:])
    assert {*carved_of(copy)} == {*rows}


def test_where_pages_are_missing_before_it_a_message_of_several_pages_is_not_put_together_of_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record.db"
    rows = filled(path)
    path.write_bytes(path.read_bytes()[3 * PAGE :])
    found = carved_of(path)
    assert found == [row for row in rows if len(row[4]) < 7_000]


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
    log.write_bytes(data[:24] + b"sums" + data[28:])
    assert committed_frames(log, PAGE) == {}, "SQLite would not begin to read it"
    log.write_bytes(data)
    assert committed_frames(log, 4096) == {}


def test_pages_that_lead_in_a_ring_come_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    rows = filled(path)
    long = next(row for row in rows if len(row[4]) > 3 * PAGE)
    data = bytearray(path.read_bytes())
    place = data.index(long[4][-4_000:-3_000]) // PAGE * PAGE
    number = (place // PAGE + 1).to_bytes(4, "big")
    for page in range(PAGE, len(data), PAGE):
        if data[page] == 0:
            data[page : page + 4] = number  # every overflow page leads to the same one
    path.write_bytes(data)
    assert long not in carved_of(path)


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
    filled(path, messages=1_500)
    with closing(sqlite3.connect(path)) as connection:
        where = roots(connection)
    data = bytearray(path.read_bytes())
    root = (where["outbox"] - 1) * PAGE
    for wrong in (where["outbox"], where["meta"], 0, 99_999):
        data[root + 8 : root + 12] = wrong.to_bytes(4, "big")
        path.write_bytes(data)
        with PageFile(path, PAGE) as pages, pytest.raises(Torn):
            list(pages.table(where["outbox"]))


@pytest.mark.parametrize("nowhere", [b"\0\0", b"\xff\xff"])
def test_a_page_with_a_cell_that_is_nowhere_is_torn_for_a_table_and_the_others_are_found_all_the_same(
    tmp_path: Path, nowhere: bytes
) -> None:
    path = tmp_path / "record.db"
    rows = filled(path, messages=60)
    with closing(sqlite3.connect(path)) as connection:
        where = roots(connection)["outbox"]
    data = bytearray(path.read_bytes())
    leaf = next(at for at in range(PAGE, len(data), PAGE) if data[at] == TABLE_LEAF and b"mfg" in data[at : at + PAGE])
    data[leaf + 10 : leaf + 12] = nowhere
    path.write_bytes(data)
    with PageFile(path, PAGE) as pages, pytest.raises(Torn):
        list(pages.table(where))
    assert len({*rows} - {*carved_of(path)}) == 1


def test_only_rows_that_are_wanted_are_given(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    rows = filled(path)
    found: list[Row] = []
    carve(path, {7, 9}.__contains__, found.append)
    assert found == [row for row in rows if row[0] in (7, 9)]


def test_a_page_of_an_index_of_numbers_has_no_entries_to_be_known_by_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        where = roots(connection)
        connection.execute("INSERT INTO checkpoint VALUES ('a', x'7b7d')")
        connection.commit()
    with PageFile(path, PAGE) as pages:
        assert list(pages.entries(pages.page(where["outbox_queued"]))) == []
        assert list(pages.entries(pages.page(where["checkpoint"]))) == [["a", b"{}"]]


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
