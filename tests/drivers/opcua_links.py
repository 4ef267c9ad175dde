"""A supervised OPC UA device whose intake keeps all that it is given: what the tests of losses look at."""

import asyncio
from contextlib import asynccontextmanager

from gateway.config.plant import Device
from gateway.domain.values import Batch, DataType
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.runtime.device_link import DeviceLink
from tests.drivers.clocks import PlantClock
from tests.drivers.opcua_servers import PLC
from tests.gates import open_gate


class Record:
    """An intake that commits at once and keeps all it was given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.links: list[tuple[bool, bool]] = []
        self.link: DeviceLink
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
        "security": "none",
        **keys,
    }
    settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", **keys)
    record = Record()
    clock = PlantClock(rate)
    supervised = DeviceLink(Device("FIL01", "opcua", settings, tags), record, clock, open_gate(clock))
    record.link = supervised
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
