"""The folder of certificates and what lies in it: made right, never overwritten, renewed in time, announced in time."""

import stat
import subprocess
import threading

import pytest
from asyncua import ua
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from secure_servers import der, make_certificate, make_key, pem, wall

from gateway.drivers.opcua.secure_channel.certificate_files import read_certificate
from gateway.drivers.opcua.secure_channel.certificates import (
    DAY,
    CertificateError,
    Expiring,
    application_uris,
    days_left,
    expiring,
    first_of_chain,
    hosts,
    thumbprint,
    valid_until,
)
from gateway.drivers.opcua.secure_channel.pki import REJECTED_KEPT, Pki

URI = "urn:edge-1:shopfloor-gateway"


@pytest.fixture(scope="module")
def key():
    return make_key()


@pytest.fixture
def pki(tmp_path) -> Pki:
    return Pki(tmp_path / "pki")


async def test_the_own_certificate_is_one_that_a_strict_server_takes(pki):
    own = pki.create(URI, ["edge-1", "10.0.0.7"], wall())
    strict = CertificateValidatorOptions.EXT_VALIDATION | CertificateValidatorOptions.PEER_CLIENT
    description = ua.ApplicationDescription(ApplicationUri=URI, ApplicationType=ua.ApplicationType.Client)
    await CertificateValidator(strict).validate(own.certificate, description)
    assert (application_uris(own.certificate), hosts(own.certificate)) == ([URI], ["edge-1", "10.0.0.7"])
    assert own.key.key_size == 2048
    assert days_left(own.certificate, wall()) in (824, 825)


def test_only_the_owner_can_read_the_key_and_the_certificate_belongs_to_it(pki):
    own = pki.create(URI, ["edge-1"], wall())
    key_file = pki.folder / "own" / "key.pem"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert pki.own(wall()).certificate == own.certificate
    assert "PRIVATE" not in repr(own)
    key_file.write_bytes(key_file.read_bytes()[:-200])
    with pytest.raises(CertificateError, match="holds no PEM key without a pass phrase"):
        pki.own(wall())


def test_a_valid_own_certificate_is_never_overwritten_an_ended_one_is_kept_beside_the_new(pki):
    first = pki.create(URI, ["edge-1"], wall())
    with pytest.raises(CertificateError, match="is still valid and stays"):
        pki.create(URI, ["edge-1"], wall())
    assert pki.own(wall()).certificate == first.certificate
    second = pki.create(URI, ["edge-1"], wall() + 826 * DAY)
    (kept,) = (pki.folder / "own").glob("replaced-*.der")
    assert read_certificate(kept) == first.certificate
    assert second.key.public_key() != first.key.public_key()


def test_devices_that_connect_at_once_renew_the_own_certificate_once(pki):
    pki.create(URI, ["edge-1"], wall() - 800 * DAY)
    found = []
    threads = [threading.Thread(target=lambda: found.append(pki.own(wall()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({own.certificate for own in found}) == 1
    assert days_left(found[0].certificate, wall()) > 800
    assert len(list((pki.folder / "own").glob("replaced-*.der"))) == 1


def test_a_certificate_with_30_days_left_is_not_renewed_yet_one_with_29_is(pki):
    made = pki.create(URI, ["edge-1"], wall())
    end = valid_until(made.certificate)
    assert pki.own(end - 30 * DAY).certificate == made.certificate
    assert pki.own(end - 30 * DAY + 1).certificate != made.certificate


def test_a_certificate_that_the_plants_authority_issued_is_not_replaced_by_our_own(pki):
    own = pki.create(URI, ["edge-1"], wall())
    authority = make_certificate(make_key(), name="Plant CA").subject
    issued = make_certificate(own.key, uri=URI, days=(-300, 10), issuer=authority)
    (pki.folder / "own" / "certificate.der").write_bytes(der(issued))
    assert pki.own(wall()).certificate == issued


@pytest.mark.parametrize(("uri", "host"), [("urn:größe", "edge-1"), (URI, "größe"), ("", "edge-1")])
def test_names_that_no_certificate_can_have_are_told(pki, uri, host):
    with pytest.raises(CertificateError, match=r"no certificate can be made for .*; write them in ASCII"):
        pki.create(uri, [host], wall())
    assert pki.entries() == []


def test_expiring_names_each_certificate_with_fewer_than_30_days_once_the_most_urgent_first(key):
    now = wall()
    ended, soon, later = (make_certificate(key, days=(-400, left), name=f"PLC{left}") for left in (-1, 29, 31))
    found = expiring([later, soon, ended, soon], now)
    assert [(finding.subject, finding.days_left) for finding in found] == [("PLC-1", -2), ("PLC29", 28)]
    assert found[1] == Expiring("PLC29", thumbprint(soon), valid_until(soon), 28)
    assert expiring([later], now) == []


def test_a_thumbprint_is_what_openssl_and_the_device_show(pki, tmp_path):
    certificate = pki.create(URI, ["edge-1"], wall()).certificate
    (tmp_path / "own.pem").write_bytes(pem(certificate))
    try:
        shown = subprocess.run(
            ["openssl", "x509", "-in", str(tmp_path / "own.pem"), "-noout", "-fingerprint", "-sha256"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not installed; install it to compare with an independent thumbprint")
    colons = shown.strip().partition("=")[2]
    assert colons.replace(":", "").lower() == thumbprint(certificate)
    pki.put_rejected(certificate)
    assert pki.trust(colons).role == "trusted"


def test_trust_moves_a_certificate_and_reject_moves_it_back(pki, key):
    certificate = make_certificate(key)
    pki.put_rejected(certificate)
    assert not pki.is_trusted(certificate)
    pki.trust(thumbprint(certificate))
    assert pki.is_trusted(certificate)
    assert [entry.role for entry in pki.entries()] == ["trusted"]
    pki.reject(thumbprint(certificate))
    assert not pki.is_trusted(certificate)
    with pytest.raises(CertificateError, match="those there are shown by: gateway certs list --pki"):
        pki.reject(thumbprint(certificate))


def test_a_thumbprint_must_be_whole_for_a_part_of_one_can_be_forged(pki, key):
    certificate = make_certificate(key)
    pki.put_rejected(certificate)
    with pytest.raises(CertificateError, match="no certificate in"):
        pki.trust(thumbprint(certificate)[:16])


def test_strangers_cannot_fill_the_disk(pki, key):
    for _ in range(REJECTED_KEPT + 5):
        pki.put_rejected(make_certificate(key))
    last = make_certificate(key)
    pki.put_rejected(last)
    kept = list((pki.folder / "rejected").iterdir())
    assert len(kept) == REJECTED_KEPT
    assert any(thumbprint(last) in path.name for path in kept)


def test_a_file_in_trusted_that_cannot_be_read_trusts_nobody_and_is_listed(pki, key):
    (pki.folder / "trusted").mkdir(parents=True)
    (pki.folder / "trusted" / "broken.der").write_bytes(b"\x30\x82 not really")
    assert not pki.is_trusted(make_certificate(key))
    assert pki.trusts_nobody
    (entry,) = pki.entries()
    assert "holds no X.509 certificate; give one as DER or PEM" in entry.certificate


def test_of_a_chain_the_first_certificate_is_the_servers(key):
    leaf, issuer = make_certificate(key), make_certificate(key, name="Plant CA")
    assert first_of_chain(der(leaf) + der(issuer)) == leaf
    with pytest.raises(CertificateError, match=r"no X\.509 certificate"):
        first_of_chain(b"")


def test_a_folder_that_cannot_be_written_is_told(pki, key):
    pki.folder.write_text("a file where the folder should be")
    with pytest.raises(CertificateError, match=r"cannot be written: .*; give the gateway that folder"):
        pki.put_rejected(make_certificate(key))
