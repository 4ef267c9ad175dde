"""An outage in which node-opcua forgot the session, filled page by page from the history that it kept itself."""

import asyncio

import pytest
from node_plants import NodeProcess, running

from gateway.drivers.opcua.subscribing import history
from simulators.proxy import FaultProxy
from tests.drivers.opcua_links import link, tag, until


async def test_a_count_goes_on_without_a_hole_over_a_session_that_node_opcua_forgot(
    node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "VALUES_PER_NODE", 7)
    async with running(node) as plant, FaultProxy(plant.port) as between:
        await plant.add("count", 0, historized=True)
        async with link(between.port, tag("count"), rate=5, sampling_interval="25ms", history=True) as record:
            await until(lambda: record.values() == [0])
            await plant.count("count", hertz=50)
            await until(lambda: record.values()[-1] > 5)
            await between.refuse()
            await plant.do("forget")
            await asyncio.sleep(0.5)
            await between.accept()
            await until(lambda: record.links[-1] == (True, True))
            last = await plant.do("rest")
            await until(lambda: record.values()[-1] == last)
            assert record.values() == list(range(last + 1))
            (gap,) = record.gaps
            assert (gap.cause, gap.tags) == ("session", 0)
            assert gap.filled > 14, "more than two pages"
