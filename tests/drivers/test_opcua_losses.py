"""R8 and its kin: what a cut, a restart, a refusal or an overflow may cost, and that it is told."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
from asyncua import ua
from clocks import PlantClock
from opcua_servers import PLC, plc, proxy

from gateway.config.plant import Device
from gateway.domain.values import Batch, DataType
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.runtime.device_link import DeviceLink

FULL = bool(os.environ.get("FULL"))


class Record:
    """An intake that commits at once and keeps all it was given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.links: list[tuple[bool, bool]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        self.links.append((up, resumed))

    async def take_batch(self, device: str, batch: Batch) -> None:
        self.batches.append(batch)
        await self.hold.wait()

    def operation_done(self, result) -> None:
        raise AssertionError("nobody asked for an operation")

    def values(self, name: str = "count") -> list:
        return [change.value for batch in self.batches for change in batch.changes if change.tag_id == name]

    @property
    def gaps(self) -> list:
        return [gap for batch in self.batches for gap in batch.gaps]

    @property
    def drifts(self) -> list:
        return [drift for batch in self.batches for drift in batch.drifts]


def tag(name: str, data_type: DataType = DataType.INT32, **address) -> Tag[OpcUaAddress]:
    return Tag(name, data_type, OpcUaAddress(node=f"s={name}", **address))


@asynccontextmanager
async def link(port: int, *tags: Tag, rate: float = 1, **keys):
    """A supervised device, as the daemon has it."""
    keys = {
        "namespace": PLC,
        "publishing_interval": "50ms",
        "sampling_interval": "20ms",
        "keepalive": "500ms",
        "queue_size": 1000,
        **keys,
    }
    settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", security="none", **keys)
    record = Record()
    supervised = DeviceLink(Device("FIL01", "opcua", settings, tags), record, PlantClock(rate))
    task = asyncio.create_task(supervised.run())
    try:
        yield record
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def count(node, record_stop: asyncio.Event) -> int:
    """Write 1, 2, 3 … at 50 Hz until told to stop; the last number written."""
    value = 0
    while not record_stop.is_set():
        value += 1
        await node.write_value(value, ua.VariantType.Int32)
        await asyncio.sleep(0.02)
    return value


@pytest.mark.timeout(180)
async def test_r08_a_link_cut_again_and_again_at_50_hz_loses_nothing(record_property):
    cuts, outage, pause = (20, 2.0, 2.0) if FULL else (4, 0.4, 0.3)
    async with plc() as server, proxy(server.port) as between:
        node = await server.add("count", 0)
        async with link(between.port, tag("count"), rate=1 if FULL else 5) as record:
            await until(lambda: record.values() == [0])
            stop = asyncio.Event()
            counting = asyncio.create_task(count(node, stop))
            recovered = []
            for _ in range(cuts):
                ups = len(record.links)
                await asyncio.sleep(pause)
                between.refuse()
                between.cut()
                await asyncio.sleep(outage)
                between.accept()
                began = asyncio.get_running_loop().time()
                await until(lambda ups=ups: len(record.links) == ups + 2)
                recovered.append(asyncio.get_running_loop().time() - began)
            stop.set()
            last = await counting
            await until(lambda: record.values()[-1] == last)
            assert record.values() == list(range(last + 1))
            assert record.gaps == []
            assert record.links == [(True, False)] + [(False, False), (True, True)] * cuts
            assert max(recovered) <= 5
            record_property("figure", f"0 of {last} lost in {cuts} cuts, back within {max(recovered):.1f} s")
