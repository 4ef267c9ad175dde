"""What an event must yet tell: it says exactly what it was about, and outlives a crash."""

from pathlib import Path

import pytest

from gateway.domain.uplink import DroppedMessages, QuarantinedMessages
from gateway.store.record_file import RecordFile
from gateway.store.records import OutboxMessage, Transaction


def tel(number: int, machine: str = "M1") -> OutboxMessage:
    return OutboxMessage(f"t/{machine}/tel", b"%d" % number, "tel", machine, number)


@pytest.fixture
def file(tmp_path: Path) -> RecordFile:
    made = RecordFile(tmp_path / "record.db", "e")
    made.open()
    return made


def ranges(notices: list) -> list[tuple[str | None, int, int, int]]:
    dropped = [one.notice for one in notices]
    assert all(isinstance(one, DroppedMessages) for one in dropped)
    return [(one.equipment, one.from_seq, one.to_seq, one.messages) for one in dropped]


def test_numbers_with_holes_between_them_are_told_as_ranges_with_holes(file: RecordFile) -> None:
    """What was published in between was not dropped."""
    file.commit(Transaction(messages=[tel(number) for number in range(1, 8)]))
    file.mark_published([3, 5], at=1)
    assert file._make_room(at=2)
    assert ranges(file.take_notices()) == [("M1", 1, 2, 2), ("M1", 4, 4, 1), ("M1", 6, 7, 2)]
    file.close()


def test_what_goes_on_where_it_ended_is_told_as_one_until_it_was_taken(file: RecordFile) -> None:
    for start in (1, 4, 7):
        file.commit(Transaction(messages=[tel(number) for number in range(start, start + 3)]))
        assert file._make_room(at=start)
        if start == 4:
            assert ranges(file.take_notices()) == [("M1", 1, 6, 6)]
    assert ranges(file.take_notices()) == [("M1", 7, 9, 3)]
    file.close()


def test_a_notice_that_was_taken_and_not_told_is_there_again_after_a_crash_and_one_that_was_told_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record.db"
    file = RecordFile(path, "e")
    file.open()
    file.commit(Transaction(messages=[tel(1), tel(1, "M2")]))
    file.quarantine(1, "no", at=5)
    file.quarantine(2, "no", at=6)
    first, second = file.take_notices()
    assert file.take_notices() == []
    file.commit(Transaction(notices_told=[first.number]))
    file.close()
    again = RecordFile(path, "e")
    again.open()
    assert not again.notices.is_empty
    assert again.take_notices() == [second]
    assert second.notice == QuarantinedMessages("t/M2/tel", "no", 1, 2, 2, 6, 6)
    again.close()


def test_refusals_of_one_topic_for_one_reason_are_one_notice(file: RecordFile) -> None:
    file.commit(Transaction(messages=[tel(number) for number in range(1, 6)]))
    for row in (2, 4):
        file.quarantine(row, "no", at=row)
    file.quarantine(5, "too large", at=9)
    told = [one.notice for one in file.take_notices()]
    assert told == [
        QuarantinedMessages("t/M1/tel", "no", 2, 2, 4, 2, 4), QuarantinedMessages("t/M1/tel", "too large", 1, 5, 5, 9, 9),
    ]  # fmt: skip
    file.close()
