"""Messages known by their shape: all that SQLite wrote are found, and nothing else is ever believed."""

import random
import shutil
import sqlite3
import tempfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.salvaging.carving import Layout, Row, carve, is_whole, layout_of
from gateway.store.salvaging.page_cells import TABLE_LEAF, Torn
from gateway.store.salvaging.pages import PageFile
from gateway.store.salvaging.tables import roots
from gateway.store.schema import PAGE, prepare
from tests.store.written import COLUMNS, carved_of, change, filled


@settings(max_examples=30)
@given(st.integers(), st.integers(1, 40))
def test_a_page_of_noise_gives_nothing_that_is_believed(seed: int, count: int) -> None:
    page = bytes([TABLE_LEAF, 0, 0, 0, count]) + random.Random(seed).randbytes(PAGE - 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.db"
        path.write_bytes(page * 2)
        carve(path, bool, lambda row: pytest.fail(f"{row} was believed"))


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


def test_of_two_copies_of_an_answer_or_a_sum_the_later_one_counts_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    filled(path, messages=30)
    versions = []
    for at in (1, 2):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT OR REPLACE INTO answer VALUES ('C1', ?, x'7b7d', NULL)", (at,))
            connection.execute("INSERT OR REPLACE INTO tally VALUES ('acknowledged', ?), ('stranger', 9)", (at * 100,))
            connection.execute("INSERT OR IGNORE INTO stream VALUES (1, 'evt', 'S/M1'), (2, 'strange', 'S/M2')")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            where = roots(connection)
            last_id = connection.execute("SELECT MAX(id) FROM outbox").fetchone()[0]
        versions.append(path.read_bytes())
    pages = [
        [data[(where[name] - 1) * PAGE :][:PAGE] for name in ("answer", "tally", "stream", "sqlite_sequence")]
        for data in versions
    ]
    for order in (pages[0] + pages[1], pages[1] + pages[0]):
        path.write_bytes(bytes(PAGE) + b"".join(order))
        carved = carve(path, bool, lambda row: pytest.fail(f"{row} is none"))
        assert carved.answers == {"C1": ("C1", 2, b"{}", None)}
        assert carved.tallies == {"acknowledged": 200}
        assert carved.streams == {1: ("evt", "S/M1")}
        assert carved.last_id == last_id


def whole_row(**changes: object) -> Any:
    """A message as it should be, but for what is said."""
    columns = {
        "id": 5, "stream": 1, "seq": 4, "topic": "mfg/x", "payload": b"{}", "crc": zlib.crc32(b"{}"), "critical": 1,
        "condition": 0, "settled_at": 17, "reason": None, "correlation": None,
    }  # fmt: skip
    return tuple((columns | changes).values())


def test_a_message_is_whole_with_every_column_of_its_kind_and_the_checksum_of_its_payload() -> None:
    assert is_whole(whole_row())
    assert is_whole(whole_row(condition=2, reason="refused", correlation=b"c", settled_at=None, critical=0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 0}, {"id": 1 << 48}, {"stream": None}, {"seq": "4"}, {"topic": b"mfg/x"}, {"payload": "{}"},
        {"payload": b"[]"}, {"crc": 1}, {"critical": 2}, {"condition": 3}, {"settled_at": "17"}, {"reason": 1},
        {"correlation": "c"}, {"more": 1},
    ], ids=str,
)  # fmt: skip
def test_and_with_one_that_is_not_it_is_none(wrong: dict[str, object]) -> None:
    assert not is_whole(whole_row(**wrong))


def test_only_rows_that_are_wanted_are_given(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    rows = filled(path)
    found: list[Row] = []
    carve(path, {7, 9}.__contains__, found.append)
    assert found == [row for row in rows if row[0] in (7, 9)]
