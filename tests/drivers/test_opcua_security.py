"""S6 and its kin: no downgrade, and what a secured server does not decide for the gateway."""

import asyncio
import copy
from datetime import timedelta

import pytest
from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from clocks import PlantClock
from opcua_servers import PLC, plc
from secure_links import count_of, driver, driver_of, refusal
from secure_servers import (
    SERVER_URI,
    make_certificate,
    make_pki,
)

from gateway.domain.values import DataType
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.drivers.opcua.secure_channel import limits

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("security", "uri"),
    [
        (None, "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256"),
        ("Basic256Sha256", "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256"),
        ("Aes128Sha256RsaOaep", "http://opcfoundation.org/UA/SecurityPolicy#Aes128_Sha256_RsaOaep"),
        ("Aes256Sha256RsaPss", "http://opcfoundation.org/UA/SecurityPolicy#Aes256_Sha256_RsaPss"),
    ],
)
@pytest.mark.case("A21")
async def test_s06_each_policy_signs_and_encrypts_and_the_first_is_the_default(
    world, pki, security, uri, record_property
):
    async with driver(world.plc.url, pki, **({"security": security} if security else {})) as opened:
        policy = world.plc.processor._connection.security_policy
        assert (policy.URI, policy.Mode) == (uri, ua.MessageSecurityMode.SignAndEncrypt)
        batches = opened.changes()
        assert [change.value for change in (await anext(batches)).changes] == [42]
    record_property("figure", f"{security or 'default'}: SignAndEncrypt")


async def test_s06_a_server_that_offers_no_encryption_is_refused_unless_the_device_says_none(pki, record_property):
    async with plc() as clear:
        await clear.add("count", 7)
        url = f"opc.tcp://127.0.0.1:{clear.port}"
        told = await refusal(url, pki)
        assert "does not offer Basic256Sha256 with SignAndEncrypt, only: None. Switch it on there" in told
        async with driver(url, pki, security="none") as opened:
            assert await count_of(opened) == 7
    record_property("figure", "only None offered: refused unless written down")


async def test_s06_an_endpoint_that_only_signs_is_not_taken(world, pki, monkeypatch):
    endpoints = world.plc.server.iserver.endpoints
    monkeypatch.setattr(world.plc.server.iserver, "endpoints", endpoints[:2])
    assert "only: Basic256Sha256/Sign, None. Switch it on there" in await refusal(world.plc.url, pki)


async def test_a18_a_message_beyond_the_limit_ends_the_link_and_a_long_one_below_it_does_not(world, pki, monkeypatch):
    """The server acknowledges no limit at all, which asyncua would take over."""
    acknowledge = TransportLimits.create_acknowledge_and_set_limits

    def acknowledge_no_limit(limits, hello):
        answer = acknowledge(limits, hello)
        answer.MaxMessageSize = answer.MaxChunkCount = limits.max_message_size = limits.max_chunk_count = 0
        return answer

    monkeypatch.setattr(TransportLimits, "create_acknowledge_and_set_limits", acknowledge_no_limit)
    monkeypatch.setattr(limits, "MAX_MESSAGE", 1_000_000)
    names = ("front", "back")
    for name in names:
        await world.plc.add(name, b"x" * 900_000, ua.VariantType.ByteString)
    pictures = [Tag(name, DataType.BYTES, OpcUaAddress(node=f"s={name}")) for name in names]
    settings = OpcUaSettings.model_validate({"url": world.plc.url, "namespace": PLC, "pki": pki.folder})
    async with OpcUaDriver("FIL01", settings, pictures, PlantClock()) as opened:
        assert [len(change.value) for change in await opened.read(["front"])] == [900_000]
        with pytest.raises(LinkLost):
            await opened.read(names)


async def test_a18_a_chunk_that_never_ends_is_not_collected(monkeypatch):
    """A server that announces 2 GiB in its first answer and sends and sends."""
    monkeypatch.setattr(limits, "MAX_MESSAGE", 1_000_000)
    sent = 0

    async def send_without_end(reader, writer):
        nonlocal sent
        writer.write(b"ACKF" + (2**31).to_bytes(4, "little"))
        try:
            while True:
                writer.write(b"\0" * 65_536)
                sent += 65_536
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(send_without_end, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{port}", security="none", namespace=PLC)
    with pytest.raises(LinkLost):
        async with asyncio.timeout(settings.request_timeout / 2), driver_of(settings):
            pass
    server.close()
    await server.wait_closed()
    assert 1_000_000 < sent < 20_000_000


async def test_a23_a_plc_whose_clock_is_a_day_behind_keeps_its_link_over_a_renewal(world, pki, monkeypatch):
    """The server goes on with the old token until it hears the new one: here it publishes a value in between."""
    make_token = SecureConnection.open

    def make_old_token(connection, params, server):
        result = make_token(connection, params, server)
        result.SecurityToken.CreatedAt -= timedelta(days=1)
        return result

    monkeypatch.setattr(SecureConnection, "open", make_old_token)
    async with driver(world.plc.url, pki, publishing_interval="20ms", sampling_interval="20ms") as opened:
        batches = opened.changes()
        await anext(batches)
        client = opened._channel._client
        await client.open_secure_channel(renew=True)
        client.uaclient.revolve_security_token()
        protocol = client.uaclient.protocol
        heard = protocol._connection._peer_sequence_number
        await world.plc._nodes[-1].write_value(43, ua.VariantType.Int32)
        async with asyncio.timeout(5):
            while protocol._connection._peer_sequence_number == heard and protocol.transport is not None:
                await asyncio.sleep(0.002)
            assert world.plc.processor._connection.next_security_token.TokenId != 0
            assert [change.value for change in (await anext(batches)).changes] == [43]


async def test_a20_a_server_that_names_itself_otherwise_on_the_secure_channel_is_refused(world, tmp_path, monkeypatch):
    """Somebody in between changed the answer in clear; the certificate fits both names."""
    iserver = world.plc.server.iserver
    ask = iserver.get_endpoints
    answers = 0

    async def get_endpoints_forged_once(*args, **kwargs):
        nonlocal answers
        answers += 1
        told = copy.deepcopy(await ask(*args, **kwargs))
        for endpoint in told:
            endpoint.Server.ApplicationUri = "urn:somebody:else" if answers == 1 else SERVER_URI
        return told

    monkeypatch.setattr(iserver, "get_endpoints", get_endpoints_forged_once)
    certificate = make_certificate(world.key, uri="urn:somebody:else")
    world.plc.present(certificate, world.key)
    told = await refusal(world.plc.url, make_pki(tmp_path, certificate))
    assert "it names itself otherwise on the secure channel than in clear" in told
    assert world.plc.users.logins == []
