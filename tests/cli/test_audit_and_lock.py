"""`gateway audit`, `gateway lock` and `gateway unlock`, as people type them."""

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from gateway.audit.folder import AuditFolder
from gateway.audit.lines import Change, Entry
from gateway.audit.trail import audit_folder
from gateway.cli.app import app
from gateway.domain.times import parse_timestamp
from gateway.runtime.write_gate import AUDIT_KEY
from gateway.store.record_file import RecordFile
from gateway.store.records import Transaction
from tests.runtime.pressed import write_plant

SIX = parse_timestamp("2026-03-02T06:00:00Z")


def entries(cmd: str, at: int, order: str, device: str = "PRESS") -> list[Entry]:
    """What one download leaves, but for the number of its intent."""
    about = {"cmd": cmd, "type": "params.download", "order": order, "device": device}
    force = Change(tag="PRESS.force", address="holding 1", old=300, new=450)
    return [
        Entry(kind="intent", t=at, action="write", changes=(force,), **about),
        Entry(kind="verdict", t=at + 1, result="ACTIVE", changes=(Change(tag="force", new=450, read_back=450),), **about),
    ]  # fmt: skip


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """Two downloads, at six and at seven: of the second nobody knows what came of its write."""
    folder = AuditFolder(audit_folder(tmp_path / "gateway.db"))
    first, verdict = entries("C1", SIX, "4711")
    (number,) = folder.append([first])
    answered = Change(tag="PRESS.force", status="Good")
    about = {"cmd": "C1", "order": "4711", "device": "PRESS"}
    folder.append([Entry(kind="outcome", t=SIX, of=number, result="answered", changes=(answered,), **about), verdict])
    folder.append(entries("C2", SIX + 3_600_000, "4712")[:1])
    folder.append([Entry(kind="refused", t=SIX + 3_600_001, cmd="=cmd|'/C calc'!A1", codes=("locked",), device="OVEN")])
    return write_plant(tmp_path, 1, 1)


def run(plant: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "-c", str(plant)])


def shown(plant: Path, *arguments: str) -> list[list[str]]:
    done = run(plant, "audit", "show", *arguments)
    assert done.exit_code == 0, done.output
    return [line.split("\t") for line in done.stdout.splitlines()[1:]]


def test_each_write_is_shown_with_what_it_was_what_it_became_and_what_the_device_said(plant: Path) -> None:
    assert shown(plant)[:3] == [
        ["1", "2026-03-02T06:00:00.000Z", "C1", "4711", "", "PRESS", "write", "PRESS.force", "300", "450", "", "Good"],
        ["3", "2026-03-02T06:00:00.001Z", "C1", "4711", "", "PRESS", "verdict", "force", "", "450", "450", "ACTIVE"],
        ["4", "2026-03-02T07:00:00.000Z", "C2", "4712", "", "PRESS", "write", "PRESS.force", "300", "450", "", "not told"],
    ]  # fmt: skip


def test_lines_are_chosen_by_device_order_command_and_number(plant: Path) -> None:
    assert [row[0] for row in shown(plant, "--device", "OVEN")] == ["5"]
    assert [row[0] for row in shown(plant, "--order", "4711")] == ["1", "3"]
    assert [row[0] for row in shown(plant, "--cmd", "C2")] == ["4"]
    assert [row[0] for row in shown(plant, "--last", "2")] == ["4", "5"]
    AuditFolder(audit_folder(plant.parent / "gateway.db")).append(
        [Entry(kind="outcome", t=SIX, of=4, result="lost", cmd="C2", order="4712", device="PRESS")]
    )
    assert [row[11] for row in shown(plant, "--cmd", "C2")] == ["link lost"], "nobody knows what the device took"
    lines = [json.loads(line) for line in run(plant, "audit", "show", "--json", "--cmd", "C1").stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["intent", "outcome", "verdict"]


def test_a_time_range_goes_into_a_table_in_which_no_text_is_a_formula(plant: Path, tmp_path: Path) -> None:
    target = tmp_path / "audit.csv"
    done = run(plant, "audit", "export", "--csv", str(target), "--from", "2026-03-02T07:00:00Z")
    assert (done.exit_code, done.stdout) == (0, "")
    rows = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"))))
    assert [(row["n"], row["cmd"], row["address"], row["result"]) for row in rows] == [
        ("4", "C2", "holding 1", "not told"), ("5", "'=cmd|'/C calc'!A1", "", "locked"),
    ]  # fmt: skip
    before = run(plant, "audit", "export", "--jsonl", "-", "--to", "2026-03-02T07:00:00Z")
    assert [json.loads(line)["n"] for line in before.stdout.splitlines()] == [1, 2, 3]


def test_an_export_to_nowhere_or_of_no_time_is_told(plant: Path) -> None:
    assert run(plant, "audit", "export").stderr == (
        "audit export: say where to: --csv FILE, --jsonl FILE, or - for standard output\n"
    )
    done = run(plant, "audit", "export", "--csv", "-", "--from", "yesterday")
    assert done.exit_code == 2
    assert "for example 2026-11-22T06:00:00Z" in done.stderr


def test_a_chain_that_is_right_is_verified_and_one_that_is_not_is_told_by_file_and_line(
    plant: Path, tmp_path: Path
) -> None:
    done = run(plant, "audit", "verify")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: 5 lines, each as it was written; the end is held against ")
    (path,) = AuditFolder(audit_folder(tmp_path / "gateway.db")).files()
    path.write_bytes(path.read_bytes().replace(b'"new":450', b'"new":451', 1))
    done = run(plant, "audit", "verify")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"{path}:1: changed: its hash is not that of its bytes\n"


def remember(store: Path, folder: AuditFolder) -> RecordFile:
    """The record, open, as a gateway that runs has it; it knows the end of the chain."""
    record = RecordFile(store, "epoch")
    record.open()
    record.commit(Transaction(checkpoints={AUDIT_KEY: msgspec.json.encode(folder.head())}))
    return record


def test_an_end_that_was_cut_off_together_with_its_head_is_known_to_the_record(plant: Path, tmp_path: Path) -> None:
    folder = AuditFolder(audit_folder(tmp_path / "gateway.db"))
    record = remember(tmp_path / "gateway.db", folder)
    asked_meanwhile = run(plant, "audit", "verify").stdout
    assert "head only, for the record cannot be asked: " in asked_meanwhile
    assert "gateway.db is in use by another gateway" in asked_meanwhile
    record.close()
    assert run(plant, "audit", "verify").stdout.endswith("the end is held against the record\n")
    (path,) = folder.files()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    (folder.path / "head").unlink()
    done = run(plant, "audit", "verify")
    assert done.exit_code == 1
    assert done.stderr == f"{path}:3: cut off: the chain ends with line 3; lines up to 5 were written\n"
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM checkpoint").fetchone() == (1,), "looking changed nothing"


def test_a_plant_that_never_wrote_has_nothing_to_be_verified(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, 1, 1)
    assert run(plant, "audit", "verify").stdout.startswith("ok: 0 lines")
    assert shown(plant) == []
    assert not (tmp_path / "gateway.db").exists()


def test_a_device_is_locked_shown_checked_and_unlocked(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, 1, 1)
    assert run(plant, "lock", "--show").stdout == "nothing is locked\n"
    done = run(plant, "lock", "PRESS", "--reason", "knife", "--by", "maint3")
    assert (done.exit_code, done.stdout) == (0, "locked: nothing is written to PRESS until: gateway unlock PRESS\n")
    assert run(plant, "lock", "--reason", "audit", "--by", "it").exit_code == 0
    locks = run(plant, "lock", "--show").stdout.splitlines()
    assert [line.partition(" since ")[0] for line in locks] == [
        "locked: every device, by it",
        "locked: PRESS, by maint3",
    ]
    assert all(line in run(plant, "check").stdout for line in locks)
    done = run(plant, "unlock", "--by", "it")
    assert done.stdout.splitlines()[1].startswith("still locked: PRESS, by maint3 since ")
    assert run(plant, "unlock", "PRESS").exit_code == 0
    done = run(plant, "unlock", "PRESS")
    assert (done.exit_code, done.stderr) == (1, "unlock: PRESS is not locked\n")
    assert [row[6] for row in shown(plant)] == ["lock", "lock", "unlock", "unlock"]


def test_a_lock_without_a_reason_or_on_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, 1, 1)
    done = run(plant, "lock", "PRESS")
    assert (done.exit_code, done.stderr) == (2, "lock: say why, with --reason: whoever is refused reads it\n")
    done = run(plant, "lock", "PRES", "--reason", "knife")
    assert (done.exit_code, done.stderr) == (2, "lock: PRES is not configured; the devices are: PRESS\n")
    assert run(plant, "lock", "--show").stdout == "nothing is locked\n"
