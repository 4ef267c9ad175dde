"""The audit as the running gateway writes it: on a thread, and owed where the disk takes nothing."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.audit import trail as trail_module
from gateway.audit.folder import AuditError, AuditFolder, Head
from gateway.audit.lines import Entry
from gateway.audit.trail import AuditTrail
from gateway.audit.verify import lines, verify

NOW = 1_772_431_200_000


def entry(cmd: str) -> Entry:
    return Entry(kind="verdict", t=NOW, cmd=cmd)


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


async def test_what_has_happened_is_owed_to_a_full_disk_and_comes_before_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = AuditFolder(tmp_path / "a"), os.fsync
    async with AuditTrail(folder, Head(), lambda: NOW) as trail:
        assert await trail.append([entry("C1")]) == [1]
        monkeypatch.setattr(os, "fsync", full)
        with capture_logs() as logs:
            await trail.tell([entry("C2")])
        assert [log["event"] for log in logs] == ["the audit cannot be written; no device is written to"]
        with pytest.raises(AuditError, match="No space left on device"):
            await trail.append([entry("never")])
        monkeypatch.setattr(os, "fsync", whole)
        assert await trail.append([entry("C3"), entry("C4")]) == [3, 4], "the numbers of these two, not of the owed"
    assert [line.cmd for line in lines(folder)] == ["C1", "C2", "C3", "C4"]


async def test_more_than_can_be_owed_is_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, whole = AuditFolder(tmp_path / "a"), os.fsync
    monkeypatch.setattr(trail_module, "MAX_OWED", 3)
    async with AuditTrail(folder, Head(), lambda: NOW) as trail:
        monkeypatch.setattr(os, "fsync", full)
        for number in range(5):
            await trail.tell([entry(f"C{number}")])
        monkeypatch.setattr(os, "fsync", whole)
    told = list(lines(folder))
    assert [(line.kind, line.cmd) for line in told] == [
        ("verdict", "C0"), ("verdict", "C1"), ("verdict", "C2"), ("lost", None),
    ]  # fmt: skip
    assert told[-1].detail == ("2 lines about answers are lost: the disk took none for too long",)
    verified = verify(folder, [])
    assert verified.flaw is None
    assert "lost: 2 lines about answers are lost" in verified.notes[0]


async def test_the_end_of_the_chain_is_known_before_and_after_the_first_line(tmp_path: Path) -> None:
    folder = AuditFolder(tmp_path / "a")
    folder.append([entry("C1")])
    known = folder.end
    async with AuditTrail(AuditFolder(folder.path), known, lambda: NOW) as trail:
        assert trail.head == known
        await trail.append([entry("C2")])
        assert (trail.head.n, trail.head) == (2, AuditFolder(folder.path).head())


async def test_a_chain_that_was_cut_while_the_gateway_was_away_is_told_at_its_start(tmp_path: Path) -> None:
    folder = AuditFolder(tmp_path / "a")
    folder.append([entry("C1"), entry("C2")])
    (path,) = folder.files()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with capture_logs() as logs:
        async with AuditTrail(AuditFolder(folder.path), folder.end, lambda: NOW):
            pass
    (told,) = [log for log in logs if log["log_level"] == "error"]
    assert (told["event"], told["what"]) == ("the audit is not as it was left", "cut")
    assert told["detail"].startswith("lines 2 to 2 were written, and are no longer in ")


async def test_an_audit_that_cannot_be_opened_ends_nothing_but_every_write(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where the folder belongs")
    with capture_logs() as logs:
        async with AuditTrail(AuditFolder(tmp_path / "a"), Head(n=1), lambda: NOW) as trail:
            with pytest.raises(AuditError, match="cannot be written"):
                await trail.append([entry("C1")])
    assert "no device is written to" in logs[0]["event"]
