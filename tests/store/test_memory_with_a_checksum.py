"""What the gateway remembers is as it was written, or it is not used: a wrong count would be told as a true one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.domain.uplink import SalvagedRecord
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.salvaging.integrity import mark, marked
from gateway.store.schema import VERSION, StoreDamaged
from gateway.store.store import Store

MEMORY = {"S/M1": b'{"sequence":{"events":800},"pieces":1234}', "S/M2": b'{"pieces":7}'}


async def remember(path: Path) -> None:
    async with Store(path, new_epoch="first") as store:
        message = OutboxMessage("mfg/v1/S/M1/evt/state", b'{"epoch":"first","eq":"S/M1","seq":800}', "evt", "S/M1", 800)
        await store.commit(Transaction(messages=[message], checkpoints={**MEMORY}))


def change_a_digit(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b'"pieces":1234') == 1
    path.write_bytes(data.replace(b'"pieces":1234', b'"pieces":1334'))


async def start(path: Path) -> tuple[str, dict[str, bytes], int, SalvagedRecord | None]:
    async with Store(path, new_epoch="second") as store:
        return store.epoch, await store.checkpoints(), store.statistics.queued, store.salvaged


async def test_a_digit_that_changed_ends_the_gateway_and_the_next_start_begins_a_new_epoch(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await remember(path)
    change_a_digit(path)
    async with Store(path, new_epoch="second") as store:
        with pytest.raises(
            StoreDamaged, match=r"what is remembered of S/M1 is not as it was written; what can be read"
        ):
            await store.checkpoints()
    assert marked(path) is not None
    epoch, memory, queued, told = await start(path)
    assert (epoch, memory, queued) == ("second", {}, 1)
    assert told is not None
    assert (told.new_epoch, told.lost_rows) == (True, ())


async def test_a_salvage_for_another_reason_notices_it_as_well(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await remember(path)
    mark(path, "for the test")
    assert (await start(path))[:2] == ("first", MEMORY)
    change_a_digit(path)
    mark(path, "for the test")
    assert (await start(path))[:2] == ("second", {})
    asides = [file for file in tmp_path.glob("record.db.damaged-*") if not file.name.endswith(("-wal", "-shm"))]
    assert len(asides) == 2, "also where both are of the same second"


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_record_of_version_3_which_had_no_checksum_keeps_its_memory(tmp_path: Path, is_damaged: bool) -> None:
    path = tmp_path / "record.db"
    await remember(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE checkpoint DROP COLUMN crc")
        connection.execute("PRAGMA user_version = 3")
    if is_damaged:
        mark(path, "for the test")
    assert (await start(path))[:3] == ("first", MEMORY, 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    change_a_digit(path)
    async with Store(path, new_epoch="second") as store:
        with pytest.raises(StoreDamaged):
            await store.checkpoints()
