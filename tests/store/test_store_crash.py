"""kill -9 in the middle of commits: what was reported as committed is there, and nothing is there by half."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store.records import OutboxMessage, StoredAnswer, Transaction
from gateway.store.store import Store

KILLS = 12
BATCH = 40
"""Messages in one transaction; its number is also in a checkpoint, an answer and a retained message."""


async def commit_for_ever(path: Path) -> None:
    """The child: commit, say which transaction it was, and again."""
    async with Store(path, new_epoch="child") as store:
        number = int((await store.checkpoints()).get("number", b"0"))
        while True:
            number += 1
            await store.commit(transaction(number))
            if number % 3 == 0:
                await store.mark_published([row.id for row in await store.unpublished(0, BATCH // 2)], at=number)
            os.write(1, b"%d\n" % number)


def transaction(number: int) -> Transaction:
    payload = b"%d" % number
    return Transaction(
        messages=[OutboxMessage("t", payload, "evt", "eq", number * BATCH + i) for i in range(BATCH)],
        retained={"now/state": payload},
        checkpoints={"number": payload},
        answers=[StoredAnswer("cmd", number, payload)],
    )


@pytest.mark.case("D8")
async def test_twelve_kills_in_mid_commit_lose_nothing_and_leave_nothing_half_done(tmp_path: Path) -> None:
    path, dice, reported = tmp_path / "record.db", random.Random(2), 0
    for _ in range(KILLS):
        said = kill_after(path, reports=dice.randint(1, 30))
        async with Store(path, new_epoch="parent") as store:
            committed = int((await store.checkpoints())["number"])
            assert committed in (said, said + 1), "at most the one commit that was under way is not yet reported"
            assert committed >= reported
            reported = committed
            statistics = store.statistics
            assert statistics.queued + statistics.published == committed * BATCH
            assert (statistics.unaccounted, statistics.ingested) == (0, committed * BATCH)
            rows = await store.unpublished(0, 1_000_000)
            assert len(rows) == statistics.queued
            assert [int(row.payload) for row in rows] == sorted(int(row.payload) for row in rows)
            assert int(rows[-1].payload) == committed
            (retained,) = await store.unsent_retained(10)
            (answer,) = await store.answers(since=0)
            assert int(retained.payload) == int(answer.payload) == committed
    assert reported > KILLS
    assert store.epoch == "child"


def kill_after(path: Path, reports: int) -> int:
    """Let a child commit that often, kill it while it goes on, and return the last number it reported."""
    child = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as out:
        lines = [out.readline() for _ in range(reports)]
        child.send_signal(signal.SIGKILL)
        lines += out.readlines()
    child.wait()
    return int([line for line in lines if line.endswith(b"\n")][-1])


if __name__ == "__main__":
    asyncio.run(commit_for_ever(Path(sys.argv[1])))
