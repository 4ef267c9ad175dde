"""`gateway store`: what people see of a record, of one that is whole and of one that is not."""

import asyncio
import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.app import app
from gateway.store.inspection import inspect, reading
from gateway.store.schema import StoreError
from gateway.store.store import Store
from tests.store.test_salvage import fill, overwrite


def gateway(*words: str) -> Result:
    return CliRunner().invoke(app, ["store", *words])


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """500 messages of five machines, half of them published, two put aside."""

    async def make() -> None:
        await fill(path, 500)
        async with Store(path, new_epoch="second") as store:
            for row in (300, 302):
                await store.quarantine(row, "the broker refused it: Not authorized", at=1)

    path = tmp_path / "record.db"
    asyncio.run(make())
    return path


def test_the_status_accounts_for_every_message_and_says_what_was_put_aside(record: Path) -> None:
    shown = gateway("status", "--file", str(record)).stdout
    assert "500 messages ingested = 250 acknowledged + 248 queued + 0 dropped + 2 quarantined" in shown
    assert "kept for replay: 225 since 2023-11-14T22:15:00Z" in shown
    rows = [line.split("\t") for line in shown.splitlines() if line.startswith(("evt", "tel"))]
    assert ["evt", "S/A/L/M0", "50", "2023-11-14T22:13:20Z", "50", "0", "1-100"] in rows
    assert ["tel", "S/A/L/M4", "24", "2023-11-14T22:13:20Z", "0", "1", "26-50"] in rows
    assert "quarantined: 1 on mfg/v1/S/A/L/M1/evt/state: the broker refused it: Not authorized" in shown
    assert json.loads(gateway("status", "--json", "--file", str(record)).stdout)["queued"] == 248


def test_a_whole_record_is_ok_and_a_changed_byte_is_found_by_row_and_number(record: Path) -> None:
    whole = gateway("verify", "--file", str(record))
    assert (whole.exit_code, whole.stdout) == (0, "ok: 475 messages, each as it was written, none unaccounted for\n")
    overwrite(record, record.read_bytes().index(b'"000400'), b'"000499')
    changed = gateway("verify", "--file", str(record))
    assert changed.exit_code == 1
    assert f"{record}: row 401, evt of S/A/L/M0 81: not as it was written" in changed.stderr


def test_a_number_that_is_left_out_is_found(record: Path) -> None:
    async def lose() -> None:
        async with Store(record, new_epoch="e") as store:
            await store._run(lambda: store._file._connection.execute("DELETE FROM outbox WHERE id = 401"))

    asyncio.run(lose())
    found = gateway("verify", "--file", str(record))
    assert found.exit_code == 1
    assert f"{record}: row 406: evt of S/A/L/M0 goes from 80 to 82" in found.stderr
    assert "+1 messages are accounted for by nothing" in found.stderr


def test_a_page_that_makes_no_sense_is_said_with_what_to_do(record: Path) -> None:
    overwrite(record, 0, bytes(100))
    found = gateway("status", "--file", str(record))
    assert found.exit_code == 1
    assert f"{record} is damaged: file is not a database; the gateway salvages what can be read when" in found.stderr


async def test_a_record_is_salvaged_at_the_next_start_if_somebody_asks_for_it(record: Path) -> None:
    """Damage in what was published shows when it is replayed or forgotten, days later, and not when it suits."""
    overwrite(record, record.read_bytes().index(b'"000006'), b'"000099')
    async with Store(record, new_epoch="e") as store:
        assert store.salvaged is None, "the start did not read that"
    asked = await asyncio.to_thread(gateway, "salvage", "--file", str(record))
    assert (
        asked.stdout == f"{record} is salvaged when the gateway starts the next time; it is kept beside the new one\n"
    )
    async with Store(record, new_epoch="e") as store:
        assert store.salvaged is not None
        assert store.salvaged.reason == "gateway store salvage asks for it"
        assert store.epoch == "first", "all that it remembers could be read"
    whole = await asyncio.to_thread(gateway, "verify", "--file", str(record))
    assert (whole.exit_code, whole.stdout) == (0, "ok: 474 messages, each as it was written, none unaccounted for\n")
    stranger = record.with_name("shopping.txt")
    stranger.write_text("milk")
    refused = await asyncio.to_thread(gateway, "salvage", "--file", str(stranger))
    assert (refused.exit_code, "shopping.txt is no record of a gateway" in refused.stderr) == (2, True)
    assert len(list(record.parent.glob("shopping*"))) == 1


def test_messages_are_written_with_what_became_of_them(record: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = gateway("export", str(out), "--file", str(record), "--eq", "M1", "--from", "60", "--to", "62")
    assert (done.exit_code, done.stderr) == (0, "3 messages\n")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["seq"], line["condition"], line["reason"]) for line in lines] == [
        (60, "queued", None), (61, "quarantined", "the broker refused it: Not authorized"), (62, "queued", None),
    ]  # fmt: skip
    assert lines[0]["payload"]["eq"] == "S/A/L/M1"
    unknown = gateway("export", "-", "--file", str(record), "--eq", "M9")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert (
        unknown.stderr
        == f"store export: {record} has nothing of M9, but of: {', '.join(f'S/A/L/M{n}' for n in range(5))}\n"
    )
    assert len(gateway("export", "-", "--file", str(record), "--condition", "published").stdout.splitlines()) == 225


async def test_a_record_in_use_is_left_alone_and_the_answer_says_where_to_look(record: Path) -> None:
    async with Store(record, new_epoch="e"):
        found = await asyncio.to_thread(gateway, "status", "--file", str(record))
    assert found.exit_code == 2
    assert "is held by a running gateway, which tells its figures itself" in found.stderr


def test_a_copy_without_its_log_is_not_taken_for_whole_and_looking_at_it_hides_nothing_from_the_next_start(
    record: Path, tmp_path: Path
) -> None:
    """SQLite would make an empty log, and the next gateway could not see that one is missing."""
    copy = tmp_path / "copied" / "record.db"
    copy.parent.mkdir()

    async def crash() -> None:
        async with Store(record, new_epoch="e"):
            copy.write_bytes(record.read_bytes())

    asyncio.run(crash())
    said = "record.db-wal is missing, and with it what was committed last; a copy needs both files"
    assert said in gateway("status", "--file", str(copy)).stdout
    found = gateway("verify", "--file", str(copy))
    assert (found.exit_code, said in found.stderr) == (1, True)
    assert gateway("export", "-", "--file", str(copy)).exit_code == 0
    assert [file.name for file in copy.parent.iterdir()] == ["record.db"]


async def test_looking_holds_up_no_gateway_and_what_it_changes_meanwhile_is_not_taken_for_true(record: Path) -> None:
    def look() -> None:
        with reading(record) as connection:
            assert not inspect(connection, record).log_is_missing
            looked.set()
            assert started.wait(10)

    looked, started = threading.Event(), threading.Event()
    looking = asyncio.create_task(asyncio.to_thread(look))
    await asyncio.to_thread(looked.wait, 10)
    async with Store(record, new_epoch="e"):
        started.set()
        with pytest.raises(StoreError, match=r"a gateway has begun to write .* meanwhile, so nothing of this holds"):
            await looking


def test_no_record_is_said(tmp_path: Path) -> None:
    found = gateway("verify", "--file", str(tmp_path / "nothing.db"))
    assert found.exit_code == 2
    assert "is not there; no gateway has run on it yet" in found.stderr
