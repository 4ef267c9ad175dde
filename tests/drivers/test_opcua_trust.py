"""S5: whom the gateway trusts over OPC UA, whom it refuses and in what words, and its own certificate."""

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from clocks import PlantClock
from secure_links import count_of, driver, refusal
from secure_servers import (
    SERVER_URI,
    der,
    make_certificate,
    make_key,
    make_pki,
    make_revocation_list,
    pem,
    wall,
)
from structlog.testing import capture_logs

from gateway.drivers.opcua.secure_channel.certificates import days_left, thumbprint
from gateway.drivers.opcua.secure_channel.pki import Pki

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
