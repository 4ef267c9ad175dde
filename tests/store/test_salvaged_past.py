"""What a record keeps of the past is packed; a salvage takes it along only where it is as it was."""

from pathlib import Path

import pytest

from gateway.domain.production.packing import packed
from gateway.store.inspection import flaws, reading
from gateway.store.records import Transaction
from gateway.store.salvaging.integrity import mark
from gateway.store.store import Store

PAST = packed([1795422996000 + 250 * piece for piece in range(300)])


async def record(folder: Path, *, spoils: bool) -> tuple[Path, dict[str, bytes]]:
    """A record that remembers a past; `spoils` changes a byte of it."""
    path = folder / "record.db"
    memory = {"S/M1": b'{"sequence":{"events":7}}', "S/M1|window|1795422996000": PAST}
    async with Store(path, new_epoch="first") as store:
        await store.commit(Transaction(checkpoints=memory))
    data = bytearray(path.read_bytes())
    data[data.index(PAST) + 100] ^= spoils
    path.write_bytes(data)
    return path, memory


@pytest.mark.parametrize(("spoils", "epoch"), [(False, "first"), (True, "second")])
async def test_a_packed_past_is_kept_with_its_epoch_unless_a_byte_of_it_changed(
    tmp_path: Path, spoils: bool, epoch: str
) -> None:
    path, memory = await record(tmp_path, spoils=spoils)
    mark(path, "for the test")
    async with Store(path, new_epoch="second") as store:
        assert store.epoch == epoch
        assert await store.checkpoints() == ({} if spoils else memory)


@pytest.mark.parametrize("spoils", [False, True])
async def test_a_look_at_the_record_tells_a_past_that_is_not_as_it_was_kept(tmp_path: Path, spoils: bool) -> None:
    path, _ = await record(tmp_path, spoils=spoils)
    with reading(path) as connection:
        found = list(flaws(connection, path))
    told = f"{path}: what it remembers of S/M1|window|1795422996000 is not as it was kept"
    assert [flaw.startswith(told) for flaw in found] == [True] * spoils
