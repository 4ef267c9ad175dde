# ruff: noqa: T201 - it prints what it measured
"""What reading over Modbus TCP costs: requests for one scan, CPU of the reading side alone.

`python -m bench.modbus`. The device is a process of its own, so the CPU time of this one is the driver's and the event
loop's, system calls included; the loop is the one that `gateway run` plays on.
"""

import asyncio
import gc
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from bench.processes import module
from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings, Span
from gateway.drivers.modbus.driver import ModbusDriver
from gateway.drivers.modbus.link import Link
from gateway.runtime.clock import SystemClock

TAGS = 500
REGISTERS = 2_000
READS = 5_000
SCANS = 200
TARGET_REQUESTS = 16
TARGET_READ = 120.0
"""CPU microseconds of a read of 125 registers."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests are counted, costs are CPU microseconds of this process.

    `evenly` and `anywhere` are requests for one scan of 500 tags over 2,000 registers, every fourth register or at
    random places. `read` is one read of 125 registers, checked, as raw bytes; `decoded` the same as values of 125 tags;
    `polled` one poll of them that finds all as they were; `scan` the values of the 500 tags.
    """

    evenly: int
    anywhere: int
    read: float
    decoded: float
    polled: float
    scan: float


def measure() -> Figures:
    """Start the device, measure, end it."""
    with TemporaryDirectory() as folder, module("bench.modbus_device", folder=Path(folder)) as device:
        port = int(device.hear()["port"])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(ModbusSettings(host="127.0.0.1", port=port, poll_interval="1ms")))


async def _measure(settings: ModbusSettings) -> Figures:
    evenly, _ = await _scans(settings, range(0, REGISTERS, REGISTERS // TAGS), 1)
    places = random.Random(4711).sample(range(REGISTERS), TAGS)  # noqa: S311 - the same places in every run
    anywhere, scan = await _scans(settings, places, SCANS)
    _, decoded = await _scans(settings, range(125), READS)
    return Figures(evenly, anywhere, await _reads(settings), decoded, await _polls(settings), scan)


async def _reads(settings: ModbusSettings) -> float:
    link = Link(settings)
    await link.open()
    try:
        began = _cpu()
        for _ in range(READS):
            await link.read("holding", Span(0, 125))
        return (_cpu() - began) / READS
    finally:
        await link.close()


async def _scans(settings: ModbusSettings, registers: Sequence[int], scans: int) -> tuple[int, float]:
    """Requests and CPU of one scan of these registers, a tag each; the first, which plans them, is not counted."""
    tags = _tags(registers)
    async with ModbusDriver("T", settings, tags, SystemClock()) as driver:
        ids = [tag.tag_id for tag in tags]
        await driver.read(ids)
        asked, began = driver.statistics.requests, _cpu()
        for _ in range(scans):
            await driver.read(ids)
        return (driver.statistics.requests - asked) // scans, (_cpu() - began) / scans


class _Hurry(SystemClock):
    """A clock by which the next poll is due at once."""

    async def sleep(self, seconds: float) -> None:
        """Not at all."""


async def _polls(settings: ModbusSettings) -> float:
    async with ModbusDriver("T", settings, _tags(range(125)), _Hurry()) as driver:
        batches = driver.changes()
        await anext(batches)
        began = _cpu()
        for _ in range(READS):
            await anext(batches)
        return (_cpu() - began) / READS


def _tags(registers: Sequence[int]) -> list[Tag[ModbusAddress]]:
    return [Tag(f"T.{at}", DataType.UINT16, ModbusAddress(register=at)) for at in registers]


def _cpu() -> float:
    """CPU microseconds of this process so far, without what the collector still owes."""
    gc.collect()
    return time.process_time() * 1e6


def main() -> None:
    """Print the figures beside their targets; exit 1 if one is missed."""
    figures = measure()
    print(f"500 tags on every fourth of 2,000 registers: {figures.evenly} requests a scan (target {TARGET_REQUESTS})")
    print(f"500 tags at random places:                   {figures.anywhere} requests a scan, {figures.scan:.0f} µs CPU")
    print(f"125 registers, raw:                          {figures.read:.0f} µs CPU (target {TARGET_READ:.0f})")
    print(f"125 registers, as values of 125 tags:        {figures.decoded:.0f} µs CPU")
    print(f"125 registers, polled and as before:         {figures.polled:.0f} µs CPU")
    sys.exit(figures.evenly > TARGET_REQUESTS or figures.read > TARGET_READ)


if __name__ == "__main__":
    main()
