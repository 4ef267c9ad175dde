"""What else a stricter server asks of the driver: certificates, users, small calls, right types, real alarms."""

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node_plants import NodeProcess, once, running

from gateway.domain.values import DataType, StatusCode, TagWrite, WriteResult
from gateway.drivers.base import LinkLost
from gateway.drivers.opcua.config import OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from simulators.proxy import FaultProxy
from tests.drivers.clocks import PlantClock
from tests.drivers.opcua_links import link, tag, until
from tests.drivers.opcua_servers import PLC
from tests.drivers.secure_servers import CANARY, key_pem, make_certificate, make_key, make_pki, pem

SMALL = {"maxMonitoredItemsPerCall": 3, "maxNodesPerRead": 2, "maxNodesPerWrite": 2, "maxNodesPerBrowse": 2}


@asynccontextmanager
async def opened(port: int, *tags, **keys):
    settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", namespace=PLC, **{"security": "none", **keys})
    async with OpcUaDriver("FIL01", settings, tags, PlantClock()) as driver:
        yield driver


def secrets(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What makes a plant secure, and the keys of a device that may log in there."""
    key = make_key()
    certificate = make_certificate(key)
    (folder / "server.pem").write_bytes(pem(certificate))
    (folder / "server.key").write_bytes(key_pem(key))
    (folder / "password").write_text(CANARY)
    (folder / "password").chmod(0o600)
    pki = make_pki(folder / "pki", certificate)
    secure = {
        "certificate": str(folder / "server.pem"),
        "key": str(folder / "server.key"),
        "trusted": str(pki.folder / "own" / "certificate.der"),
        "user": "operator",
        "password": CANARY,
    }
    keys = {
        "security": "Basic256Sha256",
        "pki": pki.folder,
        "user": "operator",
        "password_file": folder / "password",
    }
    return secure, keys


async def test_r08_an_encrypted_session_with_a_user_goes_on_after_a_cut(node: NodeProcess, tmp_path, record_property):
    secure, keys = secrets(tmp_path)
    async with running(node, secure=secure) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        async with link(between.port, tag("count"), rate=5, **keys) as record:
            await until(lambda: record.values() == [0])
            for value in (1, 2, 3):
                await between.refuse()
                await plant.write("count", value)
                await between.accept()
                await until(lambda value=value: record.values()[-1] == value)
            assert once(record) == [0, 1, 2, 3]
            assert record.gaps == []
            assert record.links == [(True, False)] + [(False, False), (True, True)] * 3
            record_property("figure", "node-opcua, encrypted: 0 lost in 3 cuts")


async def test_a_wrong_password_and_an_unknown_gateway_are_refused_in_words(node: NodeProcess, tmp_path):
    secure, keys = secrets(tmp_path)
    async with running(node, secure=secure) as plant:
        (tmp_path / "password").write_text("guessed")
        with pytest.raises(LinkLost, match=r"refuses the user operator \(BadUserAccessDenied\)"):
            async with opened(plant.port, **keys):
                pass
        stranger = make_pki(tmp_path / "stranger")
        (stranger.folder / "trusted").symlink_to(tmp_path / "pki" / "trusted")
        with pytest.raises(LinkLost, match=r"refuses this gateway's certificate .*; trust it there: "):
            async with opened(plant.port, **keys | {"pki": stranger.folder}):
                pass


async def test_no_call_is_larger_than_the_server_allows(node: NodeProcess):
    tags = [tag(f"t{number}") for number in range(10)]
    names = [tag.tag_id for tag in tags]
    async with running(node, limits={"operationLimits": SMALL}) as plant:
        for number, name in enumerate(names):
            await plant.add(name, number)
        async with link(plant.port, *tags) as record:
            await until(lambda: [record.values(name) for name in names] == [[number] for number in range(10)])
        async with opened(plant.port, *tags) as driver:
            results = await driver.write([TagWrite(name, 70 + number) for number, name in enumerate(names)])
            assert results == [WriteResult(name) for name in names]
            assert [change.value for change in await driver.read(names)] == list(range(70, 80))
            found = {node.path[-1] async for batch in driver.browse() for node in batch}
            assert found > set(names)
        refused = (await plant.do("told"))["answers"]["BadTooManyOperations"]
        assert refused == 2, "once in each session, when its limits are not known yet"


async def test_a_write_has_the_declared_type_and_every_other_one_is_refused_by_the_server(node: NodeProcess):
    values = {
        "Int16": (DataType.INT16, -7),
        "UInt32": (DataType.UINT32, 4_000_000_000),
        "Float": (DataType.FLOAT32, 0.5),
        "Double": (DataType.FLOAT64, 72.4),
        "Boolean": (DataType.BOOL, True),
        "String": (DataType.STRING, "Charge 4711 ä"),
    }
    tags = [tag(name, data_type) for name, (data_type, _) in values.items()]
    async with running(node) as plant:
        for name, (_, value) in values.items():
            await plant.add(name, type(value)(), name)
        async with opened(plant.port, *tags) as driver:
            results = await driver.write([TagWrite(name, value) for name, (_, value) in values.items()])
            assert results == [WriteResult(name) for name in values]
            assert [change.value for change in await driver.read(list(values))] == [v for _, v in values.values()]
        async with opened(plant.port, tag("Double", DataType.INT32)) as driver:
            assert await driver.write([TagWrite("Double", 7)]) == [WriteResult("Double", StatusCode.BAD_TYPE_MISMATCH)]
        assert await plant.do("read", name="Double") == 72.4


async def test_a_condition_is_told_as_it_changes_and_once_more_to_whoever_comes_later(node: NodeProcess):
    async with running(node) as plant:
        await plant.add("count", 0)
        await plant.do("alarm", name="4002", active=False)
        async with link(plant.port, tag("count"), alarm_conditions=True) as record:
            await until(lambda: record.values() == [0])
            await plant.do("alarm", name="4002", active=True)
            await until(lambda: any(batch.conditions for batch in record.batches))
            await plant.do("alarm", name="4002", active=False)
            await until(lambda: told(record)[-1:] == [("4002", False)])
            assert told(record) == [("4002", True), ("4002", False)]
        await plant.do("alarm", name="4002", active=True)
        async with link(plant.port, tag("count"), alarm_conditions=True) as later:
            await until(lambda: told(later)[-1:] == [("4002", True)])


def told(record) -> list[tuple]:
    return [(c.code, c.active) for batch in record.batches for c in batch.conditions]
