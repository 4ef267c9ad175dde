"""OPC UA security against a real server: whom the gateway trusts, whom it refuses and in what words, and who logs in."""

import asyncio
import copy
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import ServiceError
from clocks import PlantClock
from opcua_servers import PLC, plc
from pydantic import ValidationError
from secure_servers import (
    CANARY,
    SERVER_URI,
    SecurePlc,
    der,
    key_pem,
    make_certificate,
    make_key,
    make_pki,
    make_revocation_list,
    pem,
    secure_plc,
    wall,
)
from structlog.testing import capture_logs

from gateway.domain.values import DataType
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.opcua import limits
from gateway.drivers.opcua.certificates import days_left, thumbprint
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.drivers.opcua.pki import Pki

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    """One server with its rightful certificate; loading its address space takes a second, so all tests share it."""

    plc: SecurePlc
    key: Any
    certificate: Any


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    key = make_key()
    certificate = make_certificate(key)
    async with secure_plc(certificate, key) as made:
        yield World(made, key, certificate)


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared):
    await shared.plc.add("count", 42)
    yield shared
    await shared.plc.clear()
    shared.plc.present(shared.certificate, shared.key)
    shared.plc.users.guests = True
    shared.plc.users.certificates.clear()
    shared.plc.users.logins.clear()
    shared.plc.server.iserver.certificate_validator = None


@pytest.fixture
def pki(tmp_path, shared) -> Pki:
    """Trusts the server's rightful certificate."""
    return make_pki(tmp_path / "pki", shared.certificate)


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


# --- S5: trust --------------------------------------------------------------------------------------------------------


async def test_s05_an_unknown_certificate_is_refused_every_time_until_a_person_trusts_it(
    world, tmp_path, record_property
):
    pki = make_pki(tmp_path)
    print_ = thumbprint(world.certificate)
    for _ in range(2):
        told = await refusal(world.plc.url, pki)
        assert f"gateway certs trust {print_} --pki {tmp_path}" in told
        assert "is not trusted, and" in told
        assert "trusted is empty" in told
    assert world.plc.users.logins == []
    assert (tmp_path / "rejected" / f"{print_}.der").read_bytes() == der(world.certificate)
    record_property("figure", "unknown refused")
    pki.trust(print_)
    async with driver(world.plc.url, pki) as opened:
        assert await count_of(opened) == 42


async def test_s05_another_trusted_certificate_does_not_vouch_for_this_one_even_under_its_name(world, tmp_path):
    other = make_certificate(make_key())
    told = await refusal(world.plc.url, make_pki(tmp_path, other))
    assert f"gateway certs trust {thumbprint(world.certificate)}" in told
    assert "empty" not in told


@pytest.mark.parametrize(("name", "encode"), [("plc.der", der), ("plc.pem", pem), ("plc.crt", pem), ("PLC.CRT", der)])
async def test_a20_a_trusted_certificate_counts_whatever_its_file_is_called(world, tmp_path, name, encode):
    pki = make_pki(tmp_path)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / name).write_bytes(encode(world.certificate))
    async with driver(world.plc.url, pki) as opened:
        assert await count_of(opened) == 42


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"days": (-30, -1)}, "only; renew it at the server, or set this machine's clock right"),
        ({"days": (1, 30)}, "only; renew it at the server, or set this machine's clock right"),
        ({"uri": "urn:somebody:else"}, f"it calls itself {SERVER_URI}, but its certificate"),
        ({"host": "plc.example"}, "is made for plc.example, not for 127.0.0.1; write a url with such a host, or allow"),
    ],
    ids=["expired", "not yet valid", "wrong uri", "wrong host"],
)
async def test_s05_a_trusted_certificate_that_does_not_fit_is_refused_by_name(
    world, tmp_path, keys, words, request, record_property
):
    certificate = make_certificate(world.key, **keys)
    world.plc.present(certificate, world.key)
    told = await refusal(world.plc.url, make_pki(tmp_path, certificate))
    assert words in told
    assert thumbprint(certificate) in told
    assert world.plc.users.logins == []
    record_property("figure", f"{request.node.callspec.id} refused")


async def test_s05_a_certificate_for_another_host_is_taken_where_the_device_says_so(world, tmp_path):
    certificate = make_certificate(world.key, host="plc.example")
    world.plc.present(certificate, world.key)
    async with driver(world.plc.url, make_pki(tmp_path, certificate), allow_other_host=True) as opened:
        assert await count_of(opened) == 42


async def test_s05_a_revoked_certificate_is_refused_by_issuer_and_serial_number(world, pki, record_property):
    certificate, lists = world.certificate, pki.folder / "trusted" / "crl"
    lists.mkdir()
    stranger = make_certificate(world.key, name="Another issuer").subject
    (lists / "other.crl").write_bytes(make_revocation_list(world.key, stranger, certificate.serial_number))
    async with driver(world.plc.url, pki) as opened:
        assert await count_of(opened) == 42
    (lists / "own.crl").write_bytes(make_revocation_list(world.key, certificate.issuer, certificate.serial_number))
    assert "is revoked by a list in" in await refusal(world.plc.url, pki)
    record_property("figure", "revoked refused")


async def test_s05_a_revocation_list_that_cannot_be_read_revokes_everything(world, pki):
    (pki.folder / "trusted" / "crl").mkdir()
    (pki.folder / "trusted" / "crl" / "plant.crl").write_bytes(b"half a li")
    assert "plant.crl holds no certificate revocation list" in await refusal(world.plc.url, pki)


async def test_s05_a_key_of_1024_bits_is_refused(world, tmp_path):
    weak = make_key(1024)
    certificate = make_certificate(weak)
    world.plc.present(certificate, weak)
    assert "no RSA key of 2048 bits or more" in await refusal(world.plc.url, make_pki(tmp_path, certificate))


@pytest.mark.case("A20")
async def test_s05_a_missing_folder_is_no_reason_to_trust(world, tmp_path, record_property):
    told = await refusal(world.plc.url, Pki(tmp_path / "nowhere"))
    assert f"gateway certs trust {thumbprint(world.certificate)}" in told
    record_property("figure", "no trust folder, no connection")


async def test_without_an_own_certificate_the_device_says_how_to_make_one(world, tmp_path, pki):
    (pki.folder / "own" / "certificate.der").unlink()
    told = await refusal(world.plc.url, pki)
    assert f"gateway certs create --pki {pki.folder}" in told


async def test_a_key_that_others_can_read_is_not_used(world, pki):
    (pki.folder / "own" / "key.pem").chmod(0o640)
    assert f"run: chmod 600 {pki.folder / 'own' / 'key.pem'}" in await refusal(world.plc.url, pki)


async def test_an_application_uri_that_the_own_certificate_lacks_is_refused_here(world, pki):
    told = await refusal(world.plc.url, pki, application_uri="urn:test:other")
    assert "is made for urn:test:gateway, the configuration says application_uri: urn:test:other" in told


async def test_a_server_that_does_not_trust_us_is_told_with_our_thumbprint(world, pki):
    async def nobody(certificate, description):
        raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    world.plc.server.set_certificate_validator(nobody)
    own = pki.entries()[0].certificate
    told = await refusal(world.plc.url, pki)
    assert (
        f"the server refuses this gateway's certificate (BadCertificateUntrusted); trust it there: {thumbprint(own)}"
        in told
    )


async def test_an_own_certificate_with_29_days_left_is_renewed_with_the_same_key_and_the_old_one_kept(world, pki):
    key, own_file = (pki.folder / "own" / "key.pem").read_bytes(), pki.folder / "own" / "certificate.der"
    old = der(make_certificate(_load(key), uri="urn:test:gateway", host="edge-7", days=(-800, 29)))
    own_file.write_bytes(old)
    async with driver(world.plc.url, pki) as opened:
        assert await count_of(opened) == 42
    (replaced,) = (pki.folder / "own").glob("replaced-*.der")
    assert replaced.read_bytes() == old
    assert (pki.folder / "own" / "key.pem").read_bytes() == key
    renewed = pki.entries()[0].certificate
    assert days_left(renewed, PlantClock.START) > 800
    assert world.plc.users.logins[-1][2] == der(renewed)


async def test_a_server_that_does_not_know_the_renewed_certificate_yet_is_shown_the_one_before(world, pki):
    old = make_certificate(pki.own(wall()).key, uri="urn:test:gateway", host="edge-7", days=(-800, 20))
    (pki.folder / "own" / "certificate.der").write_bytes(der(old))
    known = {der(old)}

    async def only_known(certificate, description):
        if der(certificate) not in known:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    world.plc.server.set_certificate_validator(only_known)
    with capture_logs() as lines:
        async with driver(world.plc.url, pki) as opened:
            assert await count_of(opened) == 42
    renewed = pki.own(wall()).certificate
    assert world.plc.users.logins[-1][2] == der(old)
    assert [(line["event"], line["trust"]) for line in lines] == [
        ("server does not trust the renewed certificate", thumbprint(renewed))
    ]
    known.add(der(renewed))
    async with driver(world.plc.url, pki) as opened:
        assert await count_of(opened) == 42
    assert world.plc.users.logins[-1][2] == der(renewed)
    known.clear()
    assert f"trust it there: {thumbprint(renewed)}" in await refusal(world.plc.url, pki)


def _load(key: bytes):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(key, None)


# --- S6: no downgrade -------------------------------------------------------------------------------------------------


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


# --- S7 and who logs in -----------------------------------------------------------------------------------------------


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text(f"{CANARY}\n", encoding="utf-8")
    return path


async def test_s07_a_password_over_none_is_refused_when_the_configuration_is_checked(password_file):
    keys = {"url": "opc.tcp://127.0.0.1:4840", "security": "none", "user": "operator", "password_file": password_file}
    with pytest.raises(ValidationError, match="with security none the password of operator would go in clear"):
        OpcUaSettings.model_validate(keys)


@pytest.mark.case("A21")
async def test_s07_the_driver_refuses_a_password_over_none_too(world, password_file, record_property):
    settings = OpcUaSettings(url=world.plc.url, security="none", namespace=PLC)
    unchecked = settings.model_copy(update={"user": "operator", "password_file": password_file})
    with pytest.raises(LinkLost, match="a user is not sent over a channel without encryption"):
        async with driver_of(unchecked):
            pass
    assert world.plc.users.logins == []
    record_property("figure", "OPC UA: password over none refused by check and driver")


async def test_a_user_with_a_password_logs_in(world, pki, password_file):
    world.plc.users.guests = False
    async with driver(world.plc.url, pki, user="operator", password_file=password_file) as opened:
        assert await count_of(opened) == 42
    assert [login[:2] for login in world.plc.users.logins] == [("operator", CANARY)]


async def test_a_user_with_a_certificate_logs_in_and_another_one_does_not(world, pki, tmp_path):
    world.plc.users.guests = False
    key = make_key()
    certificate = make_certificate(key, uri="urn:test:user", name="operator")
    (tmp_path / "user.crt").write_bytes(pem(certificate))
    (tmp_path / "user.pem").touch(mode=0o600)
    (tmp_path / "user.pem").write_bytes(key_pem(key))
    keys = {"user_certificate": tmp_path / "user.crt", "user_key": tmp_path / "user.pem"}
    told = await refusal(world.plc.url, pki, **keys)
    assert f"the server refuses the user certificate (BadUserAccessDenied); make {tmp_path}/user.crt known" in told
    world.plc.users.certificates.add(der(certificate))
    async with driver(world.plc.url, pki, **keys) as opened:
        assert await count_of(opened) == 42


async def test_a_server_that_wants_a_user_says_so(world, pki):
    world.plc.users.guests = False
    told = await refusal(world.plc.url, pki)
    assert "refuses a session without a user (BadUserAccessDenied); give this device user and password_file" in told


async def test_a_wrong_password_is_said_without_the_password(world, pki, password_file):
    password_file.write_text("wr0ng-one", encoding="utf-8")
    told = await refusal(world.plc.url, pki, user="operator", password_file=password_file)
    assert (
        f"refuses the user operator (BadUserAccessDenied); check the name, and the password in {password_file}" in told
    )
    assert "wr0ng" not in told
    assert world.plc.users.logins[0][:2] == ("operator", "wr0ng-one")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.chmod(0o644), "can be read by others; run: chmod 600"),
        (lambda path: path.unlink(), "cannot be read: No such file or directory"),
        (lambda path: path.write_text(" \n"), "is empty; it must hold the password, in one line"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8; write it anew"),
    ],
    ids=["open to all", "missing", "empty", "garbage"],
)
async def test_a_password_file_that_cannot_be_used_is_told(world, pki, password_file, spoil, words):
    spoil(password_file)
    assert words in await refusal(world.plc.url, pki, user="operator", password_file=password_file)


async def test_s13_the_password_is_in_no_log_at_any_level_and_in_no_text(
    world, pki, password_file, caplog, record_property
):
    """asyncua's server offers the user token unencrypted inside the encrypted channel: below WARNING its client
    would log the password as it stands (trap A22)."""
    keys = {"user": "operator", "password_file": password_file}
    settings = OpcUaSettings.model_validate({"url": world.plc.url, "namespace": PLC, "pki": pki.folder, **keys})
    caplog.set_level(logging.DEBUG)
    with capture_logs() as lines:
        async with driver_of(settings) as opened:
            assert await count_of(opened) == 42
            shown = repr(vars(opened)) + repr(vars(opened._channel))
        world.plc.users.logins.clear()
        password_file.write_text(f"{CANARY} no more")
        shown += await refusal(world.plc.url, pki, **keys)
    told = caplog.text + shown + repr(settings) + repr(lines)
    assert CANARY[:6] not in told  # its beginning: as bytes the rest looks otherwise
    record_property("figure", "OPC UA: 0 log lines with the password at DEBUG")


async def test_s13_a_password_written_into_the_configuration_is_not_repeated():
    with pytest.raises(ValidationError) as caught:
        OpcUaSettings.model_validate({"url": "opc.tcp://127.0.0.1:4840", "user": "operator", "password": CANARY})
    assert all(CANARY not in error["msg"] for error in caught.value.errors())


# --- what a server does not decide for us -----------------------------------------------------------------------------


async def test_a18_a_message_beyond_the_limit_ends_the_link_and_a_long_one_below_it_does_not(world, pki, monkeypatch):
    """The server acknowledges no limit at all, which asyncua would take over."""
    acknowledge = TransportLimits.create_acknowledge_and_set_limits

    def acknowledge_no_limit(limits, hello):
        answer = acknowledge(limits, hello)
        answer.MaxMessageSize = answer.MaxChunkCount = limits.max_message_size = limits.max_chunk_count = 0
        return answer

    monkeypatch.setattr(TransportLimits, "create_acknowledge_and_set_limits", acknowledge_no_limit)
    monkeypatch.setattr(limits, "MAX_MESSAGE", 1_000_000)
    await world.plc.add("picture", b"x" * 900_000, ua.VariantType.ByteString)
    count, picture = (Tag(name, DataType.STRING, OpcUaAddress(node=f"s={name}")) for name in ("count", "picture"))
    settings = OpcUaSettings.model_validate({"url": world.plc.url, "namespace": PLC, "pki": pki.folder})
    async with OpcUaDriver("FIL01", settings, [count, picture], PlantClock()) as opened:
        await opened.read(["picture"])
        with pytest.raises(LinkLost):
            await opened.read(["picture", "picture"])


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
