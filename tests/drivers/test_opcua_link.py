"""The OPC UA link against a real server: how it ends, in what words and how soon, and what keeps it."""

import asyncio
import contextlib
import logging
import socket
from contextlib import AsyncExitStack

import pytest
from asyncua import ua
from opcua_drivers import PATIENCE, changes_of, driver, exhaust, our_tasks, tag, until
from opcua_servers import PLC, plc, proxy

from gateway.drivers.base import LinkLost
from gateway.drivers.opcua.secure_channel import channel
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a2_after_a_restart_with_other_namespaces_the_right_tag_is_read():
    other = "urn:test:other"
    async with plc(namespaces=(other, PLC)) as server:
        await server.add("count", 1)
        decoy = await server.server.nodes.objects.add_variable(ua.NodeId("count", server.index - 1), "decoy", 666)
        async with driver(server.port, [tag("count")]) as opened:
            assert [change.value for change in (await anext(opened.changes())).changes] == [1]
        port = server.port
    async with plc(port, namespaces=(PLC, other)) as server:
        await server.add("count", 2)
        await server.server.nodes.objects.add_variable(ua.NodeId("count", server.index + 1), "decoy", 666)
        assert decoy.nodeid.NamespaceIndex == server.index
        async with driver(port, [tag("count")]) as opened:
            assert [change.value for change in (await anext(opened.changes())).changes] == [2]


async def test_a2_a_missing_namespace_is_a_lost_link_that_names_those_that_exist():
    async with plc(namespaces=("urn:test:other",)) as server:
        with pytest.raises(LinkLost, match=r"no namespace 'urn:test:plc'; it has http.*, urn:test:other"):
            async with driver(server.port, [tag("count")]):
                pass
        await until(lambda: not server.server.bserver.clients)


async def test_a1_a_server_that_stops_is_lost_at_once_without_noise_and_without_leftovers(caplog):
    before = our_tasks()
    async with plc() as server:
        await server.add("count", 0)
        async with driver(server.port, [tag("count")], keepalive="5s") as opened:
            batches = opened.changes()
            await anext(batches)
            asking = asyncio.ensure_future(anext(batches))
            await until(lambda: len(server.processor._publish_requests) == 3)
            await server.server.stop()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(LinkLost, match=r"^opc.tcp://127.0.0.1:\d+: connection lost"):
                    await asking
                with pytest.raises(LinkLost, match="connection lost"):
                    await opened.read(["count"])
    noise = [
        record for record in caplog.records if record.name.startswith(("asyncua.client", "asyncua.common", "asyncio"))
    ]
    assert noise == []
    assert our_tasks() == before


async def test_a_half_open_connection_is_lost_after_three_keep_alives_and_closed_in_bounded_time(server):
    async with proxy(server.port) as between:
        await server.add("count", 0)
        async with AsyncExitStack() as link:
            passed = link.enter_context(Stopwatch())
            opened = await link.enter_async_context(
                driver(between.port, [tag("count")], keepalive="500ms", request_timeout="1500ms")
            )
            batches = opened.changes()
            await anext(batches)
            between.freeze()
            frozen = passed.seconds
            with pytest.raises(LinkLost, match=r"has published nothing for 1\.5 s, not even a keep-alive"):
                await exhaust(batches)
            noticed = passed.seconds
            assert noticed - frozen < 1.9
            await link.aclose()
            assert passed.seconds - noticed < 0.5, "the answer to a request would be waited for three times as long"


async def test_a_connection_cut_in_the_middle_of_a_request_is_lost_at_once(server):
    async with proxy(server.port) as between:
        await server.add("count", 0)
        async with driver(between.port, [tag("count")]) as opened:
            between.freeze()
            reading = asyncio.ensure_future(opened.read(["count"]))
            await asyncio.sleep(0)
            between.cut()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(LinkLost, match="connection lost"):
                    await reading


async def test_a_subscription_that_the_server_ends_is_a_lost_link(server):
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        server.subscription._startup = True
        await server.subscription.enqueue_statuschange(ua.StatusCode(ua.StatusCodes.BadTimeout))
        with pytest.raises(LinkLost, match="ended the subscription: BadTimeout"):
            await exhaust(batches)


async def test_an_answer_that_cannot_be_decoded_ends_the_link_and_nothing_else(server, monkeypatch):
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        garbage = ua.ExtensionObject(
            ua.NodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary), b"\xff\xff\xff\x7f" + bytes(9)
        )
        server.subscription._pop_triggered_datachanges = lambda result: (
            result.NotificationMessage.NotificationData.append(garbage)
        )
        with pytest.raises(LinkLost, match="sent an answer that cannot be decoded"):
            await exhaust(batches)


async def test_the_channel_is_renewed_before_its_token_expires(server, monkeypatch):
    assert channel._RENEW_AFTER < 1, "what is renewed later than its end has ended"
    # A long lifetime renewed early: a machine that stalls for a second must not look like a token that ran out.
    monkeypatch.setattr(channel, "CHANNEL_LIFETIME", 60_000)
    monkeypatch.setattr(channel, "_RENEW_AFTER", 0.002)
    count = await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        batches = opened.changes()
        await anext(batches)
        token = server.processor._connection.security_token.TokenId
        async with asyncio.timeout(PATIENCE):
            while server.processor._connection.security_token.TokenId < token + 3:
                assert [change.value for change in await opened.read(["count"])] == [0]
                await asyncio.sleep(0.01)
        await count.write_value(1, ua.VariantType.Int32)
        assert [change.value for change in await changes_of(batches, 1)] == [1]


async def test_a_server_that_is_not_there_is_a_lost_link_with_the_reason():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(LinkLost, match=f"opc.tcp://127.0.0.1:{port}: cannot be connected: Connection refused"):
            async with driver(port, []):
                pass


async def test_a_server_that_accepts_and_says_nothing_is_lost_within_the_request_timeout():
    closed = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        closed.set()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with asyncio.timeout(PATIENCE), silent:
        with pytest.raises(LinkLost, match=r"does not answer within 0\.2 s"):
            async with driver(port, [], request_timeout="200ms"):
                pass
        await closed.wait()


async def test_a22_asyncua_never_logs_requests_even_when_everything_else_is_debugged(server, caplog):
    caplog.set_level(logging.DEBUG)
    await server.add("count", 0)
    async with driver(server.port, [tag("count")]) as opened:
        await anext(opened.changes())
        assert [record.name for record in caplog.records if record.name.startswith("asyncua.client")] == []
