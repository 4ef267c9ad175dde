"""What was sent once may rot in the file before it is asked for again: then it is told as lost, and never sent."""

import json
import sqlite3
from pathlib import Path

import pytest

from gateway.runtime.replay import Replay, Replayed
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.schema import StoreDamaged
from gateway.store.store import Store

ROTTEN = 7


@pytest.mark.parametrize("rot", [b"\x00\xff", b'{"epoch":"e","count":9}'], ids=["rubbish", "another figure"])
async def test_a_rotten_event_is_not_sent_again_and_the_replay_ends_without_it_after_the_next_start(
    tmp_path: Path, rot: bytes
) -> None:
    """A replay begins anew with each start: one that ended the gateway every time would end it for ever."""
    path = tmp_path / "record.db"
    body = json.dumps({"epoch": "e", "count": 1}).encode()
    async with Store(path, new_epoch="e") as store:
        await store.commit(Transaction([OutboxMessage("evt", body, "evt", "M", n) for n in range(1, 21)]))
        await store.mark_published(range(1, 21), 0)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE outbox SET payload = ? WHERE seq = ?", (rot, ROTTEN))
    connection.commit()
    connection.close()
    async with Store(path, new_epoch="e2") as store:
        with pytest.raises(StoreDamaged, match="message 7 for evt is not as it was written"):
            await Replay(store, "M", "e", 1, 20).take(5)
    async with Store(path, new_epoch="e2") as store:
        assert store.salvaged is not None
        replay = Replay(store, "M", "e", 1, 20)
        for event in await replay.take(50):
            assert event.payload == body
            replay.settle(event.seq, accepted=True)
        assert replay.ended.result() == Replayed(19, [(ROTTEN, ROTTEN)])
