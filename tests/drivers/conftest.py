"""Fixtures of several files of driver tests."""

import pytest_asyncio
from opcua_servers import plc


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
