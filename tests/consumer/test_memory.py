"""What a consumer knows after a restart, and what its file is after a crash."""

import os
from pathlib import Path

import pytest

from gateway.consumer import memory
from gateway.consumer.memory import load, recall, remember, save
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Told
from tests.consumer.fake_gateway import FakeGateway, Sent
from tests.consumer.hearing import Hearing

FIL = "ACME/HZ/PACK/L1/FIL01"


def restarted(hearing: Hearing, file: Path) -> Hearing:
    """The next run, after a boot: its clock begins anew."""
    save(file, remember(hearing.reconciler, "c", "mfg/v1"))
    known = load(file)
    assert known is not None
    fresh = Hearing(Reconciler("c2"))
    fresh.now = 5_000
    recall(known, fresh.reconciler, fresh.now)
    return fresh


def events(gateway: FakeGateway, number: int) -> list[Sent]:
    return [gateway.event(FIL) for _ in range(number)]


def test_holes_repeats_facts_and_totals_outlive_a_restart(tmp_path: Path) -> None:
    gateway, before = FakeGateway(), Hearing()
    sent = events(gateway, 9)
    tel = [gateway.tel(FIL) for _ in range(6)]
    before.take(gateway.status(), *sent[:3], *sent[5:6], *tel[:2], *tel[4:5])
    after = restarted(before, tmp_path / "state")
    after.take(gateway.status(), sent[2], sent[6], tel[4], tel[5], gateway.event(FIL, fact="e1-" + FIL + "-1"))
    after.converse(gateway, 10)
    assert [seq for _, seq in before.told] == [1, 2, 3]
    assert [seq for _, seq in after.told] == [4, 5, 6, 7, 8, 9]
    tally = after.reconciler.tallies.of(FIL)
    assert (tally.events, tally.repeats, tally.telemetry) == (9, 4, 4)
    assert after.given_up == [(3, 4, "run parameters are not sent again")]
    assert after.reconciler.missing == 2


def test_events_that_were_held_back_are_missing_again_for_nobody_was_told_of_them(tmp_path: Path) -> None:
    gateway, before = FakeGateway(), Hearing()
    sent = events(gateway, 6)
    before.take(gateway.status(), sent[0], *sent[2:])
    after = restarted(before, tmp_path / "state")
    assert (before.reconciler.missing, after.reconciler.missing) == (1, 5)
    (numbers,) = (numbers for _, numbers in after.reconciler.streams)
    assert [(hole.first, hole.last) for hole in numbers.holes] == [(2, 6)], "thousands are one range"
    after.take(gateway.status())
    after.converse(gateway, 5)
    assert [seq for _, seq in after.told] == [2, 3, 4, 5, 6]
    assert not any(report.late for report in after.of(Told))


def test_what_was_given_up_stays_given_up_and_is_taken_if_it_comes(tmp_path: Path) -> None:
    gateway, before = FakeGateway(), Hearing()
    sent = events(gateway, 4)
    gateway.forgotten = {(FIL, 2)}
    before.take(gateway.status(), sent[0], *sent[2:])
    before.converse(gateway, 5)
    after = restarted(before, tmp_path / "state")
    after.take(gateway.status())
    assert (after.wait(60), after.reconciler.missing) == ([], 1)
    after.take(sent[1])
    assert (after.told, after.reconciler.missing) == ([("FIL01", 2)], 0)


def test_a_crash_in_the_midst_of_saving_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, hearing = FakeGateway(), Hearing()
    file = tmp_path / "state"
    hearing.take(gateway.event(FIL))
    save(file, remember(hearing.reconciler, "c", "mfg/v1"))
    saved = file.read_bytes()
    synced: list[int] = []
    monkeypatch.setattr(memory.os, "fsync", synced.append)
    save(file, remember(hearing.reconciler, "c", "mfg/v1"))
    assert len(synced) == 2, "the file, and the folder with its name"
    synced.clear()

    def power_cut(descriptor: int) -> None:
        synced.append(descriptor)
        raise OSError("power cut")

    monkeypatch.setattr(memory.os, "fsync", power_cut)
    hearing.take(gateway.event(FIL))
    with pytest.raises(OSError, match="power cut"):
        save(file, remember(hearing.reconciler, "c", "mfg/v1"))
    assert (len(synced), file.read_bytes()) == (1, saved)
    monkeypatch.setattr(memory.os, "fsync", os.fsync)


def test_there_is_nothing_to_load_at_first(tmp_path: Path) -> None:
    assert load(tmp_path / "state") is None


def test_where_its_gateway_is_is_known_after_a_restart_and_the_tail_of_before_is_asked_for(tmp_path: Path) -> None:
    gateway, before = FakeGateway(), Hearing()
    before.take(gateway.event(FIL), gateway.event(None, "change.accepted"))
    gateway.event(FIL)
    before.take(gateway.birth())
    after = restarted(before, tmp_path / "state")
    assert after.wait(9.75) == []
    after.converse(gateway, 3)
    assert after.told == [("FIL01", 2)]
