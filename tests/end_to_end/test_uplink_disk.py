"""R19: no room, on the disk or in the record: nothing crashes, what has to go is counted, the rest waits and comes."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.brokers import Gate, Mosquitto, eventually
from tests.end_to_end.uplink_plant import MACHINES, PER_SECOND, account, gateway, newest, shown, source
from tests.end_to_end.uplink_stage import IS_FULL, LONG, Ear, came, judge, of_machines, writer
from tests.end_to_end.uplink_writer import STREAMS
from tests.stopwatch import Stopwatch

DISK: Final = 32_000_000
"""Bytes. SQLite's log grows to a thousand pages, 8 MB, before it is merged for the first time."""
FULL_FOR: Final = 20.0 if IS_FULL else 1.0
"""Seconds for which the disk has no room."""
GOES: Final = 3_000 if IS_FULL else 100
CAP: Final = 1_000_000
BURST: Final = 6_000


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own, a few megabytes of memory; only root may make one, and in a container not even he."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no program mount, so no small disk can be made to be filled")
    if made.returncode:
        pytest.skip(f"no small disk can be made to be filled: {made.stderr.strip()}; it takes CAP_SYS_ADMIN")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that there is; returns the file that has it."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)) == 4_096:
            pass
    assert shutil.disk_usage(disk).free == 0
    return ballast


@pytest.mark.timeout(300 if IS_FULL else 120)
async def test_r19_a_disk_that_fills_up_holds_intake_back_and_nothing_is_lost_when_it_is_freed(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with small_disk(tmp_path / "disk") as disk, Ear(mosquitto.port) as ear:
        record = disk / "gateway.db"
        async with source(tmp_path) as (machines, plc):
            with gateway(tmp_path, plc, record=record, port=mosquitto.port) as process:
                await eventually(lambda: newest(ear.heard) >= 0, f"the first values; {process.log}", LONG)
                machines.tell(f"go {GOES}")
                await eventually(lambda: newest(ear.heard) >= 20, f"values; {process.log}", LONG)
                ballast = fill(disk)
                await eventually(lambda: "intake waits for room" in process.log, f"it notices; {process.log}", LONG)
                await asyncio.sleep(FULL_FOR)
                reached = newest(ear.heard)
                ballast.unlink()
                with Stopwatch() as recovering:
                    await eventually(lambda: newest(ear.heard) > reached, f"newer values; {process.log}", LONG)
                await eventually(lambda: newest(ear.heard) == GOES, f"the last value; {process.log}", LONG)
                await process.terminate()
        counted = await account(record)
        heard = list(ear.heard)
    verdict = judge(of_machines(heard))
    assert (counted.unaccounted, counted.queued, counted.dropped) == (0, 0, 0)
    assert list(shown(heard).values()) == [list(range(GOES + 1))] * MACHINES
    assert "the record has room again" in process.log
    assert recovering.seconds < 30
    record_property(
        "figure",
        f"disk full for {FULL_FOR:g} s at {MACHINES * PER_SECOND}/s: no crash, 0 of {sum(verdict.last.values())} messages "
        f"missing, 0 dropped; on {recovering.seconds:.1f} s after it was freed",
    )


@pytest.mark.timeout(120)
async def test_r19_a_record_at_its_limit_gives_up_what_it_may_counted_and_then_intake_waits(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """First what is published, then run parameters, oldest first; of the events none, they wait where they come from."""
    gate = Gate(mosquitto.port)
    await gate.open()
    with Ear(mosquitto.port, "up/#") as ear, writer(tmp_path, gate.port, limit=CAP, pace=20) as process:
        process.tell("burst 400")
        await came(ear, 400, process)
        await eventually(lambda: process.now["published"] == 200, f"200 events are kept; {process.log}", LONG)
        await gate.close()
        process.tell(f"burst {BURST}")
        await eventually(lambda: process.now["waits"] > 0, f"intake waits; {process.log}", LONG)
        full = process.now
        assert (full["published"], full["queued_telemetry"]) == (0, 0), "all that may go is gone"
        assert 0 < full["dropped"] == sum(n % STREAMS >= STREAMS // 2 for n in range(400, full["written"]["many"]))
        assert full["written"]["many"] < BURST, "the rest waits where it comes from"
        assert full["file_bytes"] <= CAP
        await gate.open()
        await eventually(lambda: process.now["written"]["many"] == BURST + 400, f"all; {process.log}", LONG)
        told = await process.stop()
        heard = of_machines(ear.heard)
    await gate.close()
    verdict = judge(heard, may_miss="/tel")
    missing = BURST + 400 - (len(heard) - len(verdict.repeats))
    assert missing == told["dropped"] > 0
    assert [verdict.last[f"up/M{n}/evt"] for n in range(4)] == [(BURST + 400) // 8] * 4
    assert told["acknowledged"] + told["dropped"] == told["ingested"] == BURST + 400
    assert {one["unaccounted"] for one in process.said} == {0}
    record_property(
        "figure",
        f"a record of {CAP:,} bytes and no broker: 200 published gone, then {missing} run parameters missing, and "
        f"{told['dropped']} counted as dropped; then intake waited; 0 of {(BURST + 400) // 2} events missing",
    )
