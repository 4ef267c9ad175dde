"""The chain: whoever changes a byte, takes out a line, moves one or cuts the end off is found, with file and line."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.audit.folder import AuditError, AuditFolder, Head
from gateway.audit.lines import BEGINNING, Change, Entry, decode
from gateway.audit.verify import Verified, lines, verify
from gateway.domain.times import parse_timestamp

MARCH, APRIL = parse_timestamp("2026-03-31T23:59:59Z"), parse_timestamp("2026-04-01T00:00:01Z")


def entry(number: int, at: int = MARCH) -> Entry:
    return Entry(
        kind="intent", t=at, cmd=f"C-{number}", device="LBL01", changes=(Change(tag="LBL01.oven", new=number),)
    )


@pytest.fixture
def folder(tmp_path: Path) -> AuditFolder:
    """Nine lines, written three at a time."""
    made = AuditFolder(tmp_path / "gateway.db.audit")
    for first in (1, 4, 7):
        assert made.append([entry(n) for n in range(first, first + 3)]) == [first, first + 1, first + 2]
    return made


def the_file(folder: AuditFolder) -> Path:
    (path,) = folder.files()
    return path


def held_against_head(folder: AuditFolder) -> Verified:
    head = AuditFolder(folder.path).head()
    assert head is not None
    return verify(folder, [head])


def changed(folder: AuditFolder, change: Callable[[list[bytes]], None]) -> str:
    """What `verify` says when the lines of the file were changed by hand."""
    found = the_file(folder).read_bytes().splitlines(keepends=True)
    change(found)
    the_file(folder).write_bytes(b"".join(found))
    flaw = held_against_head(folder).flaw
    assert flaw is not None
    return f"{flaw.place.removeprefix(str(folder.path))}: {flaw.reason}"


def test_a_chain_that_nobody_touched_is_right_and_private(folder: AuditFolder) -> None:
    verified = held_against_head(folder)
    assert (verified.lines, verified.flaw, verified.notes) == (9, None, ())
    assert [line.cmd for line in lines(folder)] == [f"C-{n}" for n in range(1, 10)]
    assert next(lines(folder)).prev == BEGINNING
    assert the_file(folder).name == "2026-03.jsonl"
    assert stat.S_IMODE(the_file(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_s15_every_single_changed_byte_is_found_in_its_line(folder: AuditFolder, record_property: Callable) -> None:
    whole = the_file(folder).read_bytes()
    begins = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
    for at in range(len(whole)):
        the_file(folder).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        flaw = held_against_head(folder).flaw
        assert flaw is not None, f"byte {at} was changed and nobody saw it"
        line = sum(begin <= at for begin in begins)
        assert flaw.place == f"{the_file(folder)}:{line}", f"byte {at}: {flaw}"
    record_property("figure", f"{len(whole)} of {len(whole)} changed bytes of the audit found, each in its line")


def test_s15_a_removed_line_is_missing(folder: AuditFolder) -> None:
    says = changed(folder, lambda found: found.pop(4))
    assert says == "/2026-03.jsonl:5: missing: line 5 is not there; here stands line 6"


def test_several_removed_lines_are_missing_by_number(folder: AuditFolder) -> None:
    says = changed(folder, lambda found: found.__delitem__(slice(0, 3)))
    assert says == "/2026-03.jsonl:1: missing: lines 1 to 3 are not there; here stands line 4"


def test_s15_two_swapped_lines_are_told_with_both_places(folder: AuditFolder) -> None:
    def swap(found: list[bytes]) -> None:
        found[2], found[3] = found[3], found[2]

    says = changed(folder, swap)
    expected = f"line 3, which belongs here, is at {the_file(folder)}:4"
    assert says == f"/2026-03.jsonl:3: reordered: here stands line 4; {expected}"


def test_a_line_that_stands_there_twice_is_told(folder: AuditFolder) -> None:
    says = changed(folder, lambda found: found.insert(3, found[2]))
    assert says == "/2026-03.jsonl:4: reordered: here stands line 3 once more, where line 4 belongs"


def test_s15_a_cut_end_is_seen_although_what_is_left_is_right(folder: AuditFolder) -> None:
    says = changed(folder, lambda found: found.__delitem__(slice(6, 9)))
    assert says == "/2026-03.jsonl:6: cut off: the chain ends with line 6; lines up to 9 were written"


def test_a_chain_that_is_gone_is_cut_off_too(folder: AuditFolder) -> None:
    the_file(folder).unlink()
    flaw = held_against_head(folder).flaw
    assert flaw is not None
    assert flaw.reason == "cut off: the chain ends with line 0; lines up to 9 were written"


def test_s15_a_forger_who_knows_the_hash_is_betrayed_by_the_next_line_and_at_the_end_by_the_record(
    folder: AuditFolder, tmp_path: Path
) -> None:
    forged = AuditFolder(tmp_path / "forged")
    forged.append([*(entry(n) for n in range(1, 5)), entry(500)])
    line = the_file(forged).read_bytes().splitlines(keepends=True)[4]
    says = changed(folder, lambda found: found.__setitem__(4, line))
    assert says.startswith("/2026-03.jsonl:6: changed: line 6 was written behind another line than the one before it")
    known = folder.head()
    assert known is not None
    forged.append([entry(n) for n in range(6, 10)])
    flaw = verify(forged, [known]).flaw
    assert flaw is not None
    assert flaw.reason == f"rewritten: line 9 had the hash {known.hash} when it was written"


def test_the_chain_goes_on_over_months_restarts_and_a_clock_that_was_set_back(folder: AuditFolder) -> None:
    AuditFolder(folder.path).append([entry(10, APRIL)])
    AuditFolder(folder.path).append([entry(11, MARCH)])
    assert [path.name for path in folder.files()] == ["2026-03.jsonl", "2026-04.jsonl"]
    assert (held_against_head(folder).lines, held_against_head(folder).flaw) == (11, None)
    folder.files()[0].rename(folder.path / "2026-03.jsonl.zip")
    flaw = held_against_head(folder).flaw
    assert flaw is not None
    assert flaw.reason == "missing: lines 1 to 9 are not there; here stands line 10"


def test_two_writers_keep_one_chain(folder: AuditFolder) -> None:
    other = AuditFolder(folder.path)
    for number in range(10, 30, 2):
        folder.append([entry(number)])
        other.append([entry(number + 1)])
    assert [line.cmd for line in lines(folder)] == [f"C-{n}" for n in range(1, 30)]
    assert held_against_head(folder).flaw is None


def test_writers_that_append_at_the_same_moment_take_turns(folder: AuditFolder) -> None:
    def write(first: int) -> None:
        own = AuditFolder(folder.path)
        for number in range(first, first + 50):
            own.append([entry(number)])

    with ThreadPoolExecutor(max_workers=4) as writers:
        list(writers.map(write, (100, 200, 300, 400)))
    assert (held_against_head(folder).lines, held_against_head(folder).flaw) == (209, None)


def test_s15_a_thousand_operations_are_one_chain(folder: AuditFolder, record_property: Callable) -> None:
    for number in range(10, 1_010):
        folder.append([entry(number)])
    assert (held_against_head(folder).lines, held_against_head(folder).flaw) == (1_009, None)
    record_property("figure", "1,000 operations in one chain, verified")


HALF = """\
import os, signal, sys
from pathlib import Path
from gateway.audit.folder import AuditFolder
from gateway.audit.lines import Entry
from gateway.domain.times import parse_timestamp

whole = os.write

def write_half(descriptor, data):
    whole(descriptor, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

os.write = write_half
AuditFolder(Path(sys.argv[1])).append([Entry(kind="intent", t=parse_timestamp("2026-03-31T23:59:59Z"), cmd="TORN")])
"""


def test_s15_a_line_torn_by_a_kill_is_put_aside_and_told(folder: AuditFolder, record_property: Callable) -> None:
    killed = subprocess.run([sys.executable, "-c", HALF, str(folder.path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    torn = the_file(folder).read_bytes().splitlines()[-1]
    assert b"TORN" in torn
    before = held_against_head(folder)
    assert (before.lines, before.flaw) == (9, None), "nothing was done after it: no flaw"
    place = f"{the_file(folder)}:10"
    assert before.notes == (f"{place}: torn: a line that was never finished; the gateway puts it aside when it starts",)
    again = AuditFolder(folder.path)
    again.look(Head(), MARCH)
    assert again.append([entry(10)]) == [11]
    (told,) = again.noticed
    assert (told.kind, [line.kind for line in lines(folder)][9:]) == ("torn", ["torn", "intent"])
    assert (folder.path / "2026-03.torn").read_bytes() == torn + b"\n", "it is kept, byte for byte"
    after = held_against_head(folder)
    assert (after.lines, after.flaw) == (11, None)
    assert f"{len(torn)} bytes behind the last whole line of 2026-03.jsonl" in after.notes[0]
    record_property("figure", "a line torn by SIGKILL is kept aside and told; 0 lines lost")


def test_an_end_cut_in_the_middle_of_a_line_is_no_torn_line(folder: AuditFolder) -> None:
    whole = the_file(folder).read_bytes()
    the_file(folder).write_bytes(whole[:-20])
    flaw = held_against_head(folder).flaw
    assert flaw is not None
    assert "cut off: the chain ends with line 8; lines up to 9 were written" in flaw.reason


def test_what_was_cut_off_stays_visible_when_the_gateway_goes_on(folder: AuditFolder) -> None:
    known = folder.end
    the_file(folder).write_bytes(b"".join(the_file(folder).read_bytes().splitlines(keepends=True)[:6]))
    (folder.path / "head").unlink()
    again = AuditFolder(folder.path)
    again.look(known, APRIL)
    again.append([entry(10, APRIL)])
    assert [told.kind for told in again.noticed] == ["cut"]
    assert [(line.n, line.kind) for line in lines(folder)][6:] == [(10, "cut"), (11, "intent")]
    flaw = held_against_head(folder).flaw
    assert flaw is not None
    assert flaw.reason == "missing: lines 7 to 9 are not there; here stands line 10"


def test_an_end_cut_off_with_its_head_put_back_is_known_to_the_record(folder: AuditFolder) -> None:
    old, size = (folder.path / "head").read_bytes(), the_file(folder).stat().st_size
    folder.append([entry(10), entry(11)])
    os.truncate(the_file(folder), size)
    (folder.path / "head").write_bytes(old)
    again = AuditFolder(folder.path)
    again.look(folder.end, APRIL)
    assert [told.detail[0].partition(" were")[0] for told in again.noticed] == ["lines 10 to 11"]


def test_a_rewritten_end_is_told_when_the_gateway_starts(folder: AuditFolder, tmp_path: Path) -> None:
    known = folder.end
    forged = AuditFolder(tmp_path / "forged")
    forged.append([entry(n * 7) for n in range(1, 10)])
    forged.look(known, MARCH)
    assert [told.kind for told in forged.noticed] == ["rewritten"]
    folder.look(known, MARCH)
    assert folder.noticed == []


def test_a_head_that_is_behind_or_gone_is_put_right_by_the_files(folder: AuditFolder) -> None:
    head = folder.path / "head"
    old = head.read_bytes()
    folder.append([entry(10)])
    for content in (old, b"", b"\0" * 256):
        head.write_bytes(content)
        folder.append([entry(11)])
    head.unlink()
    folder.append([entry(12)])
    assert (held_against_head(folder).lines, held_against_head(folder).flaw) == (14, None)
    assert folder.noticed == []


def test_a_gateway_that_never_wrote_leaves_no_audit(tmp_path: Path) -> None:
    AuditFolder(tmp_path / "gateway.db.audit").look(Head(), MARCH)
    assert not (tmp_path / "gateway.db.audit").exists()


def test_a_full_disk_leaves_no_half_line_and_says_so(folder: AuditFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, before = os.write, the_file(folder).read_bytes()

    def full(descriptor: int, data: bytes) -> int:
        if len(data) <= 100:
            raise OSError(28, "No space left on device")
        return whole(descriptor, data[:100])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AuditError, match="cannot be written: No space left on device; see whether its disk is full"):
        folder.append([entry(10)])
    assert the_file(folder).read_bytes() == before
    monkeypatch.setattr(os, "write", whole)
    folder.append([entry(10)])
    assert (held_against_head(folder).lines, held_against_head(folder).flaw) == (10, None)


def test_one_append_waits_for_the_disk_once_and_for_a_new_files_name_as_well(
    folder: AuditFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    folder.append([entry(10)])
    assert synced == ["2026-03.jsonl"]
    folder.append([entry(11, APRIL)])
    assert synced[1:] == ["2026-04.jsonl", folder.path.name]


def test_a_line_says_what_it_was_given_and_nothing_else(folder: AuditFolder) -> None:
    line, _ = decode(the_file(folder).read_bytes().splitlines()[3])
    assert (line.n, line.cmd, line.changes) == (4, "C-4", (Change(tag="LBL01.oven", new=4),))
    assert b"null" not in the_file(folder).read_bytes()
