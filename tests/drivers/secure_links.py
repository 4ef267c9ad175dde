"""A secured server with its rightful certificate, and drivers that are let in or refused by it."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from clocks import PlantClock
from opcua_servers import PLC
from secure_servers import (
    SecurePlc,
)

from gateway.domain.values import DataType
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.drivers.opcua.secure_channel.pki import Pki


@dataclass
class World:
    """One server with its rightful certificate; loading its address space takes a second, so all tests share it."""

    plc: SecurePlc
    key: Any
    certificate: Any


@asynccontextmanager
async def driver(url: str, pki: Pki, **keys):
    settings = OpcUaSettings.model_validate({"url": url, "namespace": PLC, "pki": pki.folder, **keys})
    async with driver_of(settings) as opened:
        yield opened


def driver_of(settings: OpcUaSettings) -> OpcUaDriver:
    return OpcUaDriver("FIL01", settings, [Tag("count", DataType.INT32, OpcUaAddress(node="s=count"))], PlantClock())


async def refusal(url: str, pki: Pki, **keys) -> str:
    with pytest.raises(LinkLost) as lost:
        async with driver(url, pki, **keys):
            pass
    return str(lost.value)


async def count_of(opened: OpcUaDriver) -> Any:
    (change,) = await opened.read(["count"])
    return change.value
