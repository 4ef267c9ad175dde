"""What a record keeps of the past is packed; a salvage takes it along only where it is as it was."""

from pathlib import Path

import pytest

from gateway.domain.packing import packed
from gateway.store.integrity import mark
from gateway.store.records import Transaction
from gateway.store.store import Store

PAST = packed([1795422996000 + 250 * piece for piece in range(300)])


@pytest.mark.parametrize(("spoils", "epoch"), [(False, "first"), (True, "second")])
async def test_a_packed_past_is_kept_with_its_epoch_unless_a_byte_of_it_changed(
    tmp_path: Path, spoils: bool, epoch: str
) -> None:
    path = tmp_path / "record.db"
    memory = {"S/M1": b'{"sequence":{"events":7}}', "S/M1|window|1795422996000": PAST}
    async with Store(path, new_epoch="first") as store:
        await store.commit(Transaction(checkpoints=memory))
    data = bytearray(path.read_bytes())
    data[data.index(PAST) + 100] ^= spoils
    path.write_bytes(data)
    mark(path, "for the test")
    async with Store(path, new_epoch="second") as store:
        assert store.epoch == epoch
        assert await store.checkpoints() == ({} if spoils else memory)
