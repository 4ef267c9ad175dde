"""What a salvage costs: time before the first message goes out again, and memory (R20)."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.store.records import OutboxMessage, Transaction
from gateway.store.schema import PAGE
from gateway.store.store import Store
from tests.stopwatch import Stopwatch

FULL = bool(os.environ.get("FULL"))
EVENTS = 180_000 if FULL else 9_000
"""Of 550 bytes on disk: 100 MB in full length."""


def message(number: int) -> OutboxMessage:
    machine, seq = f"S/A/L/M{number % 5}", number // 5 + 1
    text = f'{{"epoch":"first","eq":"{machine}","seq":{seq},"data":"{number:06}{"x" * 400}"}}'
    return OutboxMessage(f"mfg/v1/{machine}/evt/state", text.encode(), "evt", machine, seq)


async def fill(path: Path) -> None:
    async with Store(path, new_epoch="first") as store:
        for start in range(0, EVENTS, 3_000):
            await store.commit(Transaction(messages=[message(number) for number in range(start, start + 3_000)]))
        for first in range(1, EVENTS // 2, 3_000):
            await store.mark_published(range(first, first + 3_000), at=1_700_000_100_000)


@pytest.mark.parametrize("where", ["at the beginning", "at random places"])
def test_r20_a_large_record_is_salvaged_in_ten_seconds_and_little_memory(
    tmp_path: Path, record_property: Callable[[str, object], None], where: str
) -> None:
    path = tmp_path / "record.db"
    asyncio.run(fill(path))
    size, dice = path.stat().st_size, random.Random(7)
    with path.open("r+b") as file:
        places = [0] if where == "at the beginning" else [dice.randrange(size // PAGE) * PAGE for _ in range(5)]
        for place in places:
            file.seek(place)
            file.write(dice.randbytes(min(40_960, size - place)))
    path.with_name("record.db-damaged").write_text("for the test")
    child = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
    seconds, megabytes, saved, lost = (float(word) for word in child.stdout.split())
    assert saved + lost == EVENTS, "every row is there or told"
    assert saved > 0.95 * EVENTS
    assert seconds < 10
    assert megabytes < 100
    record_property(
        "figure",
        f"{size // 1_000_000} MB torn {where}: {saved:,.0f} of {EVENTS:,} saved, the others told, {seconds:.1f} s, "
        f"{megabytes:.0f} MB of memory",
    )


async def salvage(path: Path) -> None:
    """The child: opens the record, and says what that took and what came of it."""
    with Stopwatch() as watch:
        store = await Store(path, new_epoch="second").__aenter__()
    told = store.salvaged
    assert told is not None
    lost = sum(last - first + 1 for first, last in told.lost_rows if last is not None)
    status = Path("/proc/self/status").read_text()
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(f"{watch.seconds} {peak / 1_000} {told.rows_saved} {lost}")
    await store.__aexit__(None, None, None)


if __name__ == "__main__":
    asyncio.run(salvage(Path(sys.argv[1])))
