"""What is believed of a damaged record where its parts contradict each other, on records of a few pages."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.store.records import OutboxMessage, Transaction
from gateway.store.salvaging.carving import Row
from gateway.store.salvaging.page_cells import TABLE_LEAF, cells, varint
from gateway.store.salvaging.rescue import Rescued, rescue
from gateway.store.salvaging.row_ids import count
from gateway.store.schema import PAGE
from gateway.store.store import Store

pytestmark = pytest.mark.case("D7")


def message(number: int) -> OutboxMessage:
    """Events of one machine; every tenth is an answer, which has no number, and those from 91 on run parameters."""
    kind = "tel" if number > 90 else "res" if number % 10 == 0 else "evt"
    text = msgspec.json.encode({"eq": "S/M1", "seq": number, "data": f"<{number:03}>" + "x" * 400})
    return OutboxMessage(f"mfg/{kind}", text, kind, None if kind == "res" else "S/M1", number * (kind != "res"))  # type: ignore[arg-type]


async def small(path: Path) -> None:
    """Rows 1 to 100: 21 to 40 are published, 10 and 41 to 90 wait; the others are over, up to 20 forgotten."""
    async with Store(path, new_epoch="first") as store:
        await store.commit(Transaction(messages=[message(number) for number in range(1, 101)]))
        await store.mark_published([*range(1, 10), *range(11, 21)], at=1)
        await store.forget_published(2)
        await store.mark_published([*range(21, 41), *range(91, 101)], at=3)


LEFT = {10, *range(21, 91)}


class Torn:
    """The bytes of the record, and what is done to them."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            self._roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master"))
        self._path = path
        self.data = bytearray(path.read_bytes())

    def blank(self, at: int) -> None:
        """Nothing is left of the page that this byte is on."""
        start = at // PAGE * PAGE
        self.data[start : start + PAGE] = bytes(PAGE)

    def root(self, name: str) -> int:
        return int(self._roots[name] - 1) * PAGE

    def place_of(self, row: int) -> int:
        """Where its payload is."""
        return self.data.index(b"<%03d>" % row)

    def lose_entry(self, index: str, chosen: Callable[[bytes], bool]) -> None:
        """One cell of an index of one page is not pointed to any more, and nothing else tells of that."""
        root = self.root(index)
        cell_count = int.from_bytes(self.data[root + 3 : root + 5], "big")
        places = [int.from_bytes(self.data[at : at + 2], "big") for at in range(root + 8, root + 8 + 2 * cell_count, 2)]
        kept = [place for place in places if not chosen(bytes(self.data[root + place : root + place + 16]))]
        assert len(kept) == len(places) - 1
        self.data[root + 3 : root + 5] = len(kept).to_bytes(2, "big")
        self.data[root + 8 : root + 8 + 2 * len(kept)] = b"".join(place.to_bytes(2, "big") for place in kept)

    def rescue(self) -> tuple[dict[int, int], Rescued]:
        """Conditions by row, and what else there was."""
        self._path.write_bytes(self.data)
        found: list[Row] = []
        rescued = rescue(self._path, found.extend)
        return {row[0]: row[7] for row in found}, rescued


@pytest.fixture
async def torn(tmp_path: Path) -> Torn:
    await small(tmp_path / "record.db")
    return Torn(tmp_path / "record.db")


def told(rescued: Rescued) -> set[int]:
    return {row for first, last in rescued.lost for row in range(first, last + 1)}


def test_undamaged_it_gives_all_there_is(torn: Torn) -> None:
    found, rescued = torn.rescue()
    assert ({*found}, rescued.lost, rescued.last_id) == (LEFT, [], 100)
    assert {row for row, condition in found.items() if condition == 0} == {10, *range(41, 91)}


@pytest.mark.parametrize("has_head", [True, False])
def test_a_message_older_than_the_newest_forgotten_one_is_told_too_where_no_index_names_it(
    torn: Torn, has_head: bool
) -> None:
    torn.blank(torn.place_of(10))
    torn.blank(torn.root("outbox_queued"))
    if not has_head:
        torn.blank(0)
    found, rescued = torn.rescue()
    assert LEFT - found.keys() <= told(rescued)
    assert 10 in told(rescued)


def test_a_spoiled_message_is_told_where_no_index_names_it(torn: Torn) -> None:
    torn.data[torn.place_of(50) + 1] ^= 1
    torn.blank(torn.root("outbox_queued"))
    found, rescued = torn.rescue()
    assert ({*found}, told(rescued)) == (LEFT - {50}, {50})
    assert rescued.lost_numbers == {}, "it is an answer, which has no number"


def test_a_spoiled_event_is_told_by_its_number_where_the_index_of_numbers_is_torn(torn: Torn) -> None:
    torn.data[torn.place_of(51) + 1] ^= 1
    torn.blank(torn.root("outbox_numbered"))
    found, rescued = torn.rescue()
    assert ({*found}, told(rescued)) == (LEFT - {51}, {51})
    (numbers,) = rescued.lost_numbers.values()
    assert any(first <= 51 <= last for first, last in numbers)


def test_where_nobody_is_sure_every_number_that_was_not_found_is_told(torn: Torn) -> None:
    """Also one that the index of numbers forgot."""
    torn.lose_entry("outbox_numbered", lambda cell: cell[cell[0]] == 71)
    torn.blank(torn.place_of(71))
    torn.blank(torn.root("outbox_queued"))
    found, rescued = torn.rescue()
    assert 71 not in found
    (numbers,) = rescued.lost_numbers.values()
    assert any(first <= 71 <= last for first, last in numbers)


@pytest.mark.parametrize(("index", "row"), [("outbox_queued", 60), ("outbox_published", 33)])
def test_a_message_that_an_index_forgot_is_not_taken_for_a_deleted_one(torn: Torn, index: str, row: int) -> None:
    """The sum of what waits tells of the one, an answer; the index of numbers of the other, an event."""
    torn.lose_entry(index, lambda cell: cell[cell[0]] == row)
    found, rescued = torn.rescue()
    assert ({*found}, rescued.lost) == (LEFT, [])
    assert found[row] == (index == "outbox_published")


def test_an_event_that_its_index_forgot_and_whose_page_is_gone_is_told(torn: Torn) -> None:
    torn.lose_entry("outbox_published", lambda cell: cell[cell[0]] == 33)
    torn.blank(torn.place_of(33))
    found, rescued = torn.rescue()
    assert 33 in LEFT - {*found}
    assert LEFT - {*found} <= told(rescued)


def test_a_page_that_is_a_copy_of_another_is_noticed_by_the_order_of_its_rows(torn: Torn) -> None:
    """SQLite reads it without a word; the indexes are torn, too, and tell nothing."""
    there, copied = (torn.place_of(row) // PAGE * PAGE for row in (60, 30))
    torn.data[there : there + PAGE] = torn.data[copied : copied + PAGE]
    for index in ("outbox_queued", "outbox_numbered"):
        torn.blank(torn.root(index))
    found, rescued = torn.rescue()
    assert 60 in LEFT - {*found}
    assert LEFT - {*found} <= told(rescued)


def test_a_message_whose_id_changed_does_not_come_out_under_that(torn: Torn) -> None:
    at = torn.place_of(70) // PAGE * PAGE
    page = bytes(torn.data[at : at + PAGE])
    (place,) = (cell for cell in cells(page, TABLE_LEAF) if varint(page, varint(page, cell)[1])[0] == 70)
    torn.data[at + varint(page, place)[1]] = 15
    found, rescued = torn.rescue()
    assert ({*found}, told(rescued)) == (LEFT - {70}, {70})


def test_without_its_first_page_the_last_id_and_streams_of_deleted_messages_are_known_by_their_shape(
    torn: Torn,
) -> None:
    del torn.data[:PAGE]
    found, rescued = torn.rescue()
    assert found.keys() >= LEFT
    assert (rescued.last_id, rescued.is_last) == (100, True), "91 to 100 are over"
    assert {*rescued.streams.values()} == {("evt", "S/M1"), ("res", ""), ("tel", "S/M1")}
    assert rescued.tallies["forgotten"] == 20


async def test_the_sums_stay_exact_where_it_is_not_known_what_was_lost(tmp_path: Path, torn: Torn) -> None:
    """All that the sums leave over was queued: some of the 50 that wait, and not all that is told."""
    torn.blank(torn.place_of(50))
    torn.blank(torn.root("outbox_queued"))
    path = tmp_path / "record.db"
    path.write_bytes(torn.data)
    path.with_name("record.db-damaged").write_text("for the test")
    async with Store(path, new_epoch="second") as store:
        assert store.salvaged is not None
        assert store.epoch == "first"
        assert all(one.to_seq for one in store.salvaged.lost), "the next number of this epoch shows what is missing"
        counts = store.statistics
        assert counts.unaccounted == 0
        assert counts.acknowledged == 49
        queued = counts.queued_critical + counts.queued_telemetry
        assert (counts.ingested, counts.dropped) == (100, 51 - queued)
        assert count((first, last or first) for first, last in store.salvaged.lost_rows) >= counts.dropped > 0
