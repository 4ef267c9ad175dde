"""What else a stricter server asks of the driver: certificates, users, small calls, right types, real alarms."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asyncua.client.client import Client
from node_plants import NodeProcess, once, running

from gateway.domain.commands.acknowledgement import ACKNOWLEDGE
from gateway.domain.values import (
    Argument,
    CallResult,
    DataType,
    MethodCall,
    StatusCode,
    TagWrite,
    WriteResult,
    is_bad,
)
from gateway.drivers.base import LinkLost
from gateway.drivers.opcua.config import OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.drivers.opcua.secure_channel import channel
from simulators.proxy import FaultProxy
from tests.drivers.clocks import PlantClock
from tests.drivers.opcua_links import Record, link, tag, until
from tests.drivers.opcua_servers import PLC
from tests.drivers.secure_servers import CANARY, der, key_pem, make_certificate, make_key, make_pki, pem, wall

SMALL = {"maxMonitoredItemsPerCall": 3, "maxNodesPerRead": 2, "maxNodesPerWrite": 2, "maxNodesPerBrowse": 2}


@asynccontextmanager
async def opened(port: int, *tags, **keys):
    settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", namespace=PLC, **{"security": "none", **keys})
    async with OpcUaDriver("FIL01", settings, tags, PlantClock()) as driver:
        yield driver


@dataclass(frozen=True)
class Secrets:
    """What makes a plant secure, and the keys of a device that may log in there."""

    secure: dict[str, Any]
    keys: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    folder = tmp_path_factory.mktemp("secure_plant")
    key = make_key()
    certificate = make_certificate(key)
    (folder / "server.pem").write_bytes(pem(certificate))
    (folder / "server.key").write_bytes(key_pem(key))
    pki = make_pki(folder / "pki", certificate)
    secure = {
        "certificate": str(folder / "server.pem"),
        "key": str(folder / "server.key"),
        "trusted": str(pki.folder / "own" / "certificate.der"),
        "user": "operator",
        "password": CANARY,
    }
    keys = {"pki": pki.folder, "user": "operator", "password_file": password_file(folder / "password", CANARY)}
    return Secrets(secure, keys, folder)


def password_file(file: Path, password: str) -> Path:
    file.write_text(password)
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes256_Sha256_RsaPss"])
async def test_r08_an_encrypted_session_goes_on_over_renewals_and_a_cut(
    node: NodeProcess, secrets: Secrets, policy, monkeypatch, record_property
):
    # Every 0.4 s. No faster: node-opcua answers with the token of the request, and asyncua knows the last two.
    monkeypatch.setattr(channel, "CHANNEL_LIFETIME", 60_000)
    monkeypatch.setattr(channel, "_RENEW_AFTER", 0.4 / 60)
    renewals: list[bool] = []
    open_channel = Client.open_secure_channel

    async def counted(client: Client, renew: bool = False) -> None:
        await open_channel(client, renew)
        renewals.append(renew)

    monkeypatch.setattr(Client, "open_secure_channel", counted)
    async with running(node, secure=secrets.secure | {"policy": policy}) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0)
        keys = secrets.keys | {"security": policy.replace("_", ""), "sampling_interval": "25ms"}
        async with link(between.port, tag("count"), rate=5, **keys) as record:
            await until(lambda: record.values() == [0])
            await plant.count("count", hertz=50)
            await until(lambda: True in renewals)
            between.cut()
            await until(lambda: record.links[-1] == (True, True))
            renewals.clear()
            await until(lambda: True in renewals)
            last = await plant.do("rest")
            await until(lambda: record.values()[-1] == last)
            assert once(record) == list(range(last + 1))
            assert record.gaps == []
            assert record.links == [(True, False), (False, False), (True, True)]
            record_property("figure", f"node-opcua, {policy}: 0 of {last} lost")


async def test_a_wrong_password_and_an_unknown_gateway_are_refused_in_words(
    node: NodeProcess, secrets: Secrets, tmp_path
):
    keys = secrets.keys | {"security": "Aes128Sha256RsaOaep"}
    stranger = make_pki(tmp_path / "stranger").folder
    (stranger / "trusted").symlink_to(secrets.folder / "pki" / "trusted")
    guessed = password_file(tmp_path / "password", "guessed")
    async with running(node, secure=secrets.secure | {"policy": "Aes128_Sha256_RsaOaep"}) as plant:
        async with opened(plant.port, **keys):
            pass
        with pytest.raises(LinkLost, match=r"refuses the user operator \(BadUserAccessDenied\)"):
            await opened(plant.port, **keys | {"password_file": guessed}).__aenter__()
        with pytest.raises(LinkLost, match=r"refuses this gateway's certificate .*; trust it there: "):
            await opened(plant.port, **keys | {"pki": stranger}).__aenter__()


async def test_a_user_is_let_in_by_a_certificate_that_the_server_knows_and_by_no_other(
    node: NodeProcess, secrets: Secrets, tmp_path
):
    users = [user_certificate(tmp_path / name) for name in ("known", "unknown")]
    secure = secrets.secure | {"policy": "Aes256_Sha256_RsaPss", "trustedUser": str(users[0]["user_certificate"])}
    known, unknown = ({"security": "Aes256Sha256RsaPss", "pki": secrets.keys["pki"], **user} for user in users)
    async with running(node, secure=secure) as plant:
        await plant.add("count", 7)
        async with opened(plant.port, tag("count"), **known) as driver:
            assert [change.value for change in await driver.read(["count"])] == [7]
        with pytest.raises(LinkLost, match=r"refuses the user certificate .*; make .*unknown.der known to the server"):
            await opened(plant.port, **unknown).__aenter__()


def user_certificate(file: Path) -> dict[str, Path]:
    key = make_key()
    certificate = file.with_suffix(".der")
    certificate.write_bytes(der(make_certificate(key, uri="urn:test:operator", name=file.name)))
    own = file.with_suffix(".key")
    own.write_bytes(key_pem(key))
    own.chmod(0o600)
    return {"user_certificate": certificate, "user_key": own}


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
            read = await driver.read(list(values))
            assert [change.value for change in read] == [value for _, value in values.values()]
            assert all(abs(change.server_timestamp - wall()) < 60_000 for change in read), "sent with picoseconds"
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
            await until(lambda: told(record) != [])
            await plant.do("alarm", name="4002", active=False)
            await until(lambda: len(told(record)) > 1)
            assert [(code, active) for code, active, _ in told(record)] == [("4002", True), ("4002", False)]
        await plant.do("alarm", name="4002", active=True)
        async with link(plant.port, tag("count"), alarm_conditions=True) as later:
            await until(lambda: told(later)[-1:] == [("4002", True, False)])


async def test_a_condition_is_acknowledged_by_its_event_and_an_older_event_is_refused(node: NodeProcess):
    async with running(node) as plant:
        await plant.add("count", 0)
        await plant.do("alarm", name="4002", active=True)
        async with link(plant.port, tag("count"), alarm_conditions=True) as record, opened(plant.port) as driver:
            await until(lambda: told(record) == [("4002", True, False)])
            (raised,) = (condition for batch in record.batches for condition in batch.conditions)
            comment = Argument(DataType.STRING, "Film gewechselt", localized=True)
            acknowledge = MethodCall(
                raised.condition, ACKNOWLEDGE, (Argument(DataType.BYTES, raised.event_id), comment)
            )
            assert await driver.call([acknowledge]) == [CallResult(argument_codes=(0, 0))]
            await until(lambda: told(record)[-1] == ("4002", True, True))
            assert record.batches[-1].conditions[-1].comment == "Film gewechselt"
            (refused,) = await driver.call([acknowledge])
            assert is_bad(refused.status_code)


def told(record: Record) -> list[tuple[str, bool, bool]]:
    return [(c.code, c.active, c.acked) for batch in record.batches for c in batch.conditions]
