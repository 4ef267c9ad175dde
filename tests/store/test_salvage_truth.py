"""Records torn in every way, held against the truth: what is lost is told, what is not is there as it was (R20, D7)."""

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.store.salvaging.integrity import log_of, mark
from gateway.store.schema import PAGE
from tests.store.truth import Truth, copy, judge, make, rows_of, start

pytestmark = pytest.mark.case("R20", "D7")

FULL = bool(os.environ.get("FULL"))
HEAD = 40_960
"""Bytes at the beginning of a file: its schema, and the first pages of the first four tables."""


class Whole(NamedTuple):
    """An undamaged record and what is in it."""

    path: Path
    truth: Truth


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    path = tmp_path_factory.mktemp("closed") / "record.db"
    return Whole(path, asyncio.run(make(path, rounds=14)))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Its newest commits are in its log alone."""
    path = tmp_path_factory.mktemp("killed") / "record.db"
    return Whole(path, asyncio.run(make(path, rounds=14, seed=2, merged=False)))


def torn(whole: Whole, folder: Path, tear: Callable[[bytearray], object]) -> Path:
    """A copy of the record with that done to its file."""
    path = folder / "record.db"
    copy(whole.path, path)
    data = bytearray(path.read_bytes())
    tear(data)
    path.write_bytes(data)
    mark(path, "for the test")
    return path


def path_of_damaged(path: Path) -> Path:
    (aside,) = path.parent.glob("record.db.damaged-*Z")
    return aside


def some_in(path: Path, truth: Truth) -> set[int]:
    """Of every twentieth message of one page, those whose bytes are in the file."""
    data = path.read_bytes()
    return {row for row, (payload, _) in list(truth.left.rows.items())[::20] if len(payload) < PAGE and payload in data}


def overwrite(data: bytearray, at: int, by: bytes) -> None:
    data[at : at + len(by)] = by


def roots(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        return dict(connection.execute("SELECT name, rootpage FROM sqlite_master"))


@pytest.mark.parametrize("by", [bytes(HEAD), random.Random(5).randbytes(HEAD)], ids=["zeros", "garbage"])
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "killed"])
async def test_r20_forty_kilobytes_overwritten_at_the_beginning_cost_nothing_but_these_pages(
    tmp_path: Path,
    closed: Whole,
    killed: Whole,
    record_property: Callable[[str, object], None],
    by: bytes,
    is_closed: bool,
) -> None:
    whole = closed if is_closed else killed
    found = await start(torn(whole, tmp_path, lambda data: overwrite(data, 0, by)))
    assert judge(whole.truth, found) == set()
    assert found.told is not None
    assert (found.epoch, found.told.lost_rows, found.told.lost) == ("first", (), ())
    sums = {} if is_closed else whole.truth.left.tallies
    left = whole.truth.left._replace(tallies=sums or found.content.tallies)
    assert found.content == left, "conditions, memory and answers, too; the sums were on one of these pages"
    record_property("figure", f"0 of {len(whole.truth.left.rows)} lost, epoch kept")


@pytest.mark.parametrize("what", ["outbox", "outbox_queued", "outbox_published", "outbox_numbered", "stream"])
async def test_r20_a_page_that_leads_to_others_hides_nothing(tmp_path: Path, closed: Whole, what: str) -> None:
    at = (roots(closed.path)[what] - 1) * PAGE
    found = await start(torn(closed, tmp_path, lambda data: overwrite(data, at, bytes(PAGE))))
    assert judge(closed.truth, found) == set()
    assert found.told is not None
    assert (found.epoch, found.told.lost_rows, found.told.lost) == ("first", (), ())
    assert found.content == closed.truth.left


async def test_r20_a_page_of_messages_under_a_lost_beginning_is_told_exactly(tmp_path: Path, closed: Whole) -> None:
    """The indexes, which the beginning does not touch, name the rows that were on it."""
    data = closed.path.read_bytes()
    row = max(row for row, (_, condition) in closed.truth.left.rows.items() if condition == 1)
    leaf = data.rindex(closed.truth.left.rows[row][0][:200]) // PAGE * PAGE

    def tear(data: bytearray) -> None:
        overwrite(data, 0, bytes(HEAD))
        overwrite(data, leaf, bytes(PAGE))

    found = await start(torn(closed, tmp_path, tear))
    lost = judge(closed.truth, found)
    assert found.told is not None
    assert row in lost
    assert len(lost) < 40
    assert rows_of(found.told.lost_rows) == lost
    told = {
        (one.equipment, seq)
        for one in found.told.lost
        for seq in range(one.from_seq, (one.to_seq or 0) + 1)
    }  # fmt: skip
    assert told == {closed.truth.left.numbers[row] for row in lost & closed.truth.left.numbers.keys()}
    assert found.epoch == "first"


@pytest.mark.parametrize("by", [-HEAD, -100, 4096, HEAD])
async def test_r20_a_file_that_is_shifted_gives_all_its_messages_of_one_page(
    tmp_path: Path, killed: Whole, by: int
) -> None:
    """Nobody knows the numbers of its pages, so messages of several pages are lost, and some come that were deleted."""

    def shift(data: bytearray) -> None:
        data[: max(0, -by)] = bytes(max(0, by))

    found = await start(torn(killed, tmp_path, shift))
    lost = judge(killed.truth, found)
    assert {len(killed.truth.left.rows[row][0]) > PAGE for row in lost} <= {True}
    left, now = killed.truth.left.rows, found.content.rows
    wrong = {row for row in left.keys() & now.keys() if left[row] != now[row]}
    assert not wrong, "of an older copy in the file and a newer one in its log the newer one counts"
    assert found.told is not None
    assert found.content.answers == killed.truth.left.answers, "a command that is repeated is not done again"


async def test_r20_without_its_first_page_the_small_tables_are_known_by_their_shape(
    tmp_path: Path, closed: Whole
) -> None:
    """Everything is a page earlier than it was, so no number of a page tells anything."""
    found = await start(torn(closed, tmp_path, lambda data: data.__delitem__(slice(0, PAGE))))
    judge(closed.truth, found)
    left, now = closed.truth.left, found.content
    assert now.answers == left.answers, "a command that is repeated is not done again"
    assert now.last_id == left.last_id
    assert {key: now.tallies[key] for key in ("forgotten", "requeued")} == {
        key: left.tallies[key] for key in ("forgotten", "requeued")
    }
    assert all(now.numbers[row] == left.numbers[row] for row in now.numbers.keys() & left.numbers.keys())


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_r20_a_file_of_which_the_first_part_is_left_keeps_that(
    tmp_path: Path, closed: Whole, part: float
) -> None:
    path = torn(closed, tmp_path, lambda data: data.__delitem__(slice(int(part * len(data)), None)))
    found = await start(path)
    lost = judge(closed.truth, found)
    assert not some_in(path_of_damaged(path), closed.truth) & lost, "whatever is on the pages that are left"


async def test_r20_a_file_that_begins_at_its_middle_gives_the_other_half(tmp_path: Path, closed: Whole) -> None:
    path = torn(closed, tmp_path, lambda data: data.__delitem__(slice(0, len(data) // 2)))
    found = await start(path)
    lost = judge(closed.truth, found)
    assert len(some_in(path_of_damaged(path), closed.truth)) > 10
    assert not some_in(path_of_damaged(path), closed.truth) & lost
    assert found.told is not None
    assert found.told.new_epoch
    assert (found.epoch, found.content.memory) == ("second", {})


def wound(data: bytearray, dice: random.Random) -> None:
    """Some of what disks, cables and memories do."""
    size = len(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(size)
        match dice.randrange(5):
            case 0:
                length = min(dice.randint(1, 60_000), size - at)
                overwrite(data, at, dice.choice((bytes(length), dice.randbytes(length))))
            case 1:
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                overwrite(data, at // PAGE * PAGE, bytes(PAGE))
            case 3:
                overwrite(data, dice.randrange(20) * PAGE, dice.randbytes(PAGE))
            case _:
                page = dice.randrange(size // PAGE) * PAGE
                overwrite(data, at // PAGE * PAGE, bytes(data[page : page + PAGE]))


async def test_r20_whatever_is_torn_every_loss_is_told_and_nothing_is_taken_for_sent(
    tmp_path: Path, closed: Whole, killed: Whole, record_property: Callable[[str, object], None]
) -> None:
    places, lost, told, exact = 600 if FULL else 12, 0, 0, 0
    for seed in range(places):
        folder = tmp_path / str(seed)
        folder.mkdir()
        whole, dice = (closed, killed)[seed % 2], random.Random(seed)
        found = await start(torn(whole, folder, lambda data, dice=dice: wound(data, dice)))  # type: ignore[misc]
        gone = judge(whole.truth, found)
        assert found.told is not None
        named = rows_of(found.told.lost_rows)
        lost, told, exact = lost + len(gone), told + len(named), exact + (named == gone)
        for file in folder.iterdir():
            file.unlink()
    assert exact > 0.8 * places, "mostly exactly that"
    record_property("figure", f"{places} torn records: {lost} rows lost, {told} told, {exact} times exactly")


async def test_a_log_that_is_torn_gives_what_was_committed_before_that(tmp_path: Path, killed: Whole) -> None:
    """Behind the torn frame SQLite believes nothing, and neither does the carver: it would mix two states."""
    path = torn(killed, tmp_path, lambda data: overwrite(data, 0, bytes(HEAD)))
    log = bytearray(log_of(path).read_bytes())
    log[len(log) // 2] ^= 1
    log_of(path).write_bytes(log)
    found = await start(path)
    now = found.content
    assert now.rows, "what was merged"
    assert {row: payload for row, (payload, _) in now.rows.items()}.items() <= killed.truth.ever.items()
