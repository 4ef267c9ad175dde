"""An open OPC UA driver in front of a test's server, and what tests wait for with it."""

import asyncio
from contextlib import asynccontextmanager

from clocks import PlantClock
from opcua_servers import PLC

from gateway.domain.values import DataType, TagChange
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver

PATIENCE = 20
"""Seconds after which what is waited for will not come; a busy machine needs a part of it."""


def tag(name: str, data_type: DataType = DataType.INT32, **address) -> Tag[OpcUaAddress]:
    return Tag(name, data_type, OpcUaAddress(node=address.pop("node", f"s={name}"), **address))


@asynccontextmanager
async def driver(port: int, tags, clock=None, **settings):
    """An open driver that publishes every 20 ms."""
    keys = {
        "namespace": PLC,
        "publishing_interval": "20ms",
        "sampling_interval": "20ms",
        "keepalive": "200ms",
        **settings,
    }
    made = OpcUaDriver(
        "FIL01",
        OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", security="none", **keys),
        tags,
        clock or PlantClock(),
    )
    async with made:
        yield made


async def until(condition) -> None:
    """Wait until a condition on the server's side holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


def our_tasks() -> set[asyncio.Task]:
    """All but those of the test's own server."""
    return {task for task in asyncio.all_tasks() if "asyncua/server" not in str(task.get_coro().cr_code.co_filename)}


async def exhaust(batches) -> None:
    """Ask for batches until the link is lost."""
    async with asyncio.timeout(PATIENCE):
        async for _ in batches:
            pass


async def changes_of(batches, count: int) -> list[TagChange]:
    """Ask for batches until that many changes came."""
    changes: list[TagChange] = []
    async with asyncio.timeout(PATIENCE):
        while len(changes) < count:
            changes += (await anext(batches)).changes
    return changes
