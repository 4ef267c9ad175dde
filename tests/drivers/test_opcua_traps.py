"""Traps of asyncua that no case of the acceptance lists holds by itself."""

from asyncua import ua
from opcua_drivers import driver
from opcua_links import link, tag, until
from opcua_servers import plc, proxy


async def test_a5_a_server_that_answers_every_republish_with_nothing_is_asked_once_a_cut(record_property):
    """asyncua's server says Good and shows an empty message; its own client asked 13,745 times in five seconds."""
    async with plc() as server, proxy(server.port) as between:
        node = await server.add("count", 0)
        async with link(between.port, tag("count")) as record:
            await until(lambda: record.values() == [0])
            asked: list[int] = []
            republish = server.subscription.republish
            server.subscription.republish = lambda number: asked.append(number) or republish(number)
            for cut in range(1, 4):
                between.cut()
                await until(lambda cut=cut: record.links == [(True, False), *[(False, False), (True, True)] * cut])
                await node.write_value(cut, ua.VariantType.Int32)
                await until(lambda cut=cut: record.values()[-1] == cut)
            assert len(asked) == 3
            assert record.gaps == []
            record_property("figure", "3 requests in 3 cuts")


async def test_a6_the_server_is_asked_for_a_keep_alive_each_5_s_and_to_outlast_three_of_them():
    async with plc() as server:
        await server.add("count", 0)
        async with driver(server.port, [tag("count")], publishing_interval="500ms", keepalive="5s") as opened:
            await anext(opened.changes())
            asked = server.subscription.data
            assert asked.RevisedMaxKeepAliveCount * asked.RevisedPublishingInterval == 5_000
            assert asked.RevisedLifetimeCount * asked.RevisedPublishingInterval >= 15_000
