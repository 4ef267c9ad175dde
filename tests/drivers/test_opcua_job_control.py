"""Job Control against a real receiver: the list is the truth, whatever a method returns."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from job_plants import cell, plant

from simulators.models.job_control import JobReceiver
from simulators.servers.job_control import URI, JobControlServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNCERTAIN = 0x40000000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[JobControlServer]:
    async with JobControlServer(JobReceiver()) as made:
        yield made


@pytest.fixture
def machine(server: JobControlServer) -> JobReceiver:
    """An empty list and no faults."""
    server.receiver.__init__()  # type: ignore[misc]
    server.uncertain, server.bad = False, None
    return server.receiver


def device(server: JobControlServer) -> str:
    return f"url: 'opc.tcp://127.0.0.1:{server.port}', namespace: '{URI}', security: none"


async def test_an_order_goes_its_whole_way_and_every_step_is_what_the_list_says(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path
) -> None:
    async with cell(plant(tmp_path, device(server))) as (gateway, _):
        gateway.download()
        await gateway.settle()
        assert gateway.results() == [("ACTIVE", (), None)]
