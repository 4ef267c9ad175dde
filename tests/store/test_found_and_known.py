"""What was found of a damaged record, and what is known to have been there."""

import zlib
from collections.abc import Iterator

import pytest

from gateway.store.salvaging.carving import Row
from gateway.store.salvaging.found import FoundMessages
from gateway.store.salvaging.known import KnownMessages, numbered
from gateway.store.salvaging.page_cells import Torn
from gateway.store.salvaging.row_ids import RowIds
from gateway.store.salvaging.tables import Entry

PAYLOAD = b'{"eq":"S/M1"}'


def row(row_id: int, *, condition: int = 0, seq: int = 7, critical: int = 1, crc: int | None = None) -> Row:
    checksum = zlib.crc32(PAYLOAD) if crc is None else crc
    return row_id, 3, seq, "mfg/v1/S/M1/evt/state", PAYLOAD, checksum, critical, condition, 17, None, None


class Found:
    """The messages that were handed on, and who did so."""

    def __init__(self) -> None:
        self.handed_on: list[Row] = []
        self.messages = FoundMessages(self.handed_on.extend, {})

    def take(self, *rows: Row) -> list[Row]:
        for one in rows:
            self.messages.take(one)
        self.messages.flush()
        return self.handed_on


def members(ids: RowIds) -> set[int]:
    return {number for first, last in ids.ranges() for number in range(first, last + 1)}


def test_of_two_copies_the_settled_one_counts_in_whatever_order_they_are_found() -> None:
    queued, published = row(5), row(5, condition=1)
    assert Found().take(queued, published) == [queued, published], "the second takes the place of the first"
    assert Found().take(published, queued) == [published]
    assert Found().take(queued, queued) == [queued]
    assert Found().take(published, row(5, condition=2)) == [published]


def test_what_is_not_as_it_was_written_is_noted_and_not_handed_on() -> None:
    found = Found()
    assert found.take(row(5, crc=1), row(6), row(1 << 50, crc=1)) == [row(6)]
    assert (members(found.messages.spoiled), members(found.messages.ids)) == ({5}, {6})


def test_only_events_are_told_by_their_numbers() -> None:
    found = Found()
    found.take(row(1, seq=7), row(2, seq=8, critical=0), row(3, seq=0))
    assert {stream: members(numbers) for stream, numbers in found.messages.numbers.items()} == {3: {7}}


def test_a_stream_that_only_messages_tell_of_is_that_of_their_topic_and_envelope() -> None:
    found = Found()
    found.take(row(1))
    assert found.messages.streams == {3: ("evt", "S/M1")}


def test_many_are_handed_on_some_at_a_time() -> None:
    parts: list[int] = []
    found = FoundMessages(lambda rows: parts.append(len(rows)), {})
    for row_id in range(1, 1_202):
        found.take(row(row_id))
    found.flush()
    assert (sum(parts), max(parts)) == (1_201, 500)


class Told:
    """Tables that say this."""

    def __init__(self, **entries: list[Entry]) -> None:
        self._entries = entries

    def read(self, name: str) -> Iterator[Entry]:
        yield from self._entries.get(name, [])


QUEUED: list[Entry] = [(1, 0, 11), (1, 0, 12)]
PUBLISHED: list[Entry] = [(900, 1, 3), (901, 1, 2)]
QUARANTINED: list[Entry] = [("mfg/a", 2, 5)]


def known(**changes: list[Entry]) -> KnownMessages:
    told = {"outbox_queued": QUEUED, "outbox_published": PUBLISHED, "outbox_quarantined": QUARANTINED}
    return KnownMessages(Told(**(told | changes)))


def test_the_indexes_name_every_message_and_its_condition() -> None:
    all_of_it = known()
    assert all_of_it.is_whole
    assert members(all_of_it.ids) == {2, 3, 5, 11, 12}
    assert all_of_it.as_known(row(11)) == row(11)
    assert all_of_it.as_known(row(3)) == row(3, condition=1), "an older copy of what was published since"
    assert all_of_it.as_known(row(12, condition=1)) == row(12), "sent again rather than lost"
    assert all_of_it.as_known(row(5))[7:10] == (2, 17, "no longer known")


@pytest.mark.parametrize(
    "wrong",
    [
        {"outbox_queued": [(1, 1, 11)]},
        {"outbox_queued": [(1, 0, 12), (1, 0, 11)]},
        {"outbox_queued": [(1, 0, 11), (1, 0, 11)]},
        {"outbox_published": [(900, 1, 0)]},
        {"outbox_published": [(900, 1, 1 << 50)]},
        {"outbox_published": [("mfg/a", 1, 3)]},
        {"outbox_quarantined": [("mfg/a", 2)]},
    ],
    ids=["condition", "order", "twice", "no id", "no such id", "kind", "columns"],
)
def test_an_index_with_an_entry_that_it_cannot_have_is_not_whole(wrong: dict[str, list[Entry]]) -> None:
    assert not known(**wrong).is_whole


def test_what_left_no_row_was_acknowledged_dropped_or_queued_again_under_a_new_number() -> None:
    assert known().adds_up({"acknowledged": 6, "dropped": 2, "requeued": 1, "forgotten": 2}, 12)
    assert not known().adds_up({"acknowledged": 6, "dropped": 2}, 12)
    assert not known().adds_up({"acknowledged": 6, "dropped": 2, "requeued": 2}, 12)


@pytest.mark.parametrize("wrong", [(1, 8, 11, 11), (1, 0, 1, 11), (1, 8, 1, 0)], ids=["another index", "seq", "id"])
def test_events_are_told_up_to_the_end_and_then_that_one_was_wrong(wrong: Entry) -> None:
    assert list(numbered(Told(outbox_numbered=[(1, 7, 1, 10)]))) == [(1, 7, 10)]
    told = numbered(Told(outbox_numbered=[wrong, (2, 9, 1, 12)]))
    assert next(told) == (2, 9, 12)
    with pytest.raises(Torn):
        next(told)
