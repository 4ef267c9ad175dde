"""Fixtures of several files of driver tests."""

import pytest
import pytest_asyncio
from opcua_servers import plc
from secure_links import World
from secure_servers import make_certificate, make_key, make_pki, secure_plc

from gateway.drivers.opcua.secure_channel.pki import Pki


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server():
    """One server for the tests that leave it as it was: loading its address space takes a second."""
    async with plc() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def server(shared_server):
    """The shared server, without what a test put into it."""
    yield shared_server
    await shared_server.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world():
    key = make_key()
    certificate = make_certificate(key)
    async with secure_plc(certificate, key) as made:
        yield World(made, key, certificate)


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared_world):
    await shared_world.plc.add("count", 42)
    yield shared_world
    await shared_world.plc.clear()
    shared_world.plc.present(shared_world.certificate, shared_world.key)
    shared_world.plc.users.guests = True
    shared_world.plc.users.certificates.clear()
    shared_world.plc.users.logins.clear()
    shared_world.plc.server.iserver.certificate_validator = None


@pytest.fixture
def pki(tmp_path, shared_world) -> Pki:
    """Trusts the server's rightful certificate."""
    return make_pki(tmp_path / "pki", shared_world.certificate)
