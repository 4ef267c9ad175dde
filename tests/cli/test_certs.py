"""`gateway certs`: own certificate, list, trust and reject, as a person at the edge box uses them."""

import stat
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.drivers.opcua.secure_channel.certificate_files import read_certificate
from gateway.drivers.opcua.secure_channel.certificates import DAY, application_uris, thumbprint
from gateway.drivers.opcua.secure_channel.pki import Pki

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ, store: STORE}
mqtt: {client_id: edge-01}
devices:
  M1: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: "urn:plc", application_uri: "urn:acme:edge-01"}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      word: {node: s=word, type: uint16}
"""


def certs(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["certs", *words])
    return result.exit_code, result.output


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "plant.yaml").write_text(PLANT.replace("STORE", str(tmp_path / "var" / "gateway.db")), encoding="utf-8")
    return folder


def server_certificate(folder: Path, left: int = 365):
    """A certificate as a server might have it, met but not trusted."""
    made = Pki(folder / "elsewhere").create("urn:plc", ["127.0.0.1"], round(time.time() * 1000) - (825 - left) * DAY)
    return made.certificate


def test_create_makes_a_certificate_for_the_configured_application_beside_the_record(config: Path, tmp_path: Path):
    code, told = certs("create", "-c", str(config), "--host", "edge-01")
    own = tmp_path / "var" / "pki" / "own"
    assert code == 0, told
    certificate = read_certificate(own / "certificate.der")
    assert application_uris(certificate) == ["urn:acme:edge-01"]
    assert f"thumbprint {thumbprint(certificate)}" in told
    assert stat.S_IMODE((own / "key.pem").stat().st_mode) == 0o600


def test_create_leaves_a_valid_certificate_alone(config: Path):
    assert certs("create", "-c", str(config))[0] == 0
    code, told = certs("create", "-c", str(config))
    assert code == 1
    assert "is still valid and stays; move it away to make another one" in told


def test_list_shows_role_subject_whole_thumbprint_and_days_left(tmp_path: Path):
    certificate = server_certificate(tmp_path, left=20)
    Pki(tmp_path).put_rejected(certificate)
    certs("create", "--pki", str(tmp_path), "--application-uri", "urn:acme:edge-01")
    code, told = certs("list", "--pki", str(tmp_path))
    assert code == 0
    own, rejected = (line.split("│") for line in told.splitlines() if "urn:" in line)
    assert [cell.strip() for cell in rejected[1:5]] == ["rejected", "urn:plc", thumbprint(certificate), "19"]
    assert own[1].strip() == "own"


def test_list_of_an_empty_folder_says_how_to_begin(tmp_path: Path):
    assert f"begin with: gateway certs create --pki {tmp_path}" in certs("list", "--pki", str(tmp_path))[1]


def test_trust_and_reject_by_thumbprint(tmp_path: Path):
    certificate, pki = server_certificate(tmp_path), Pki(tmp_path)
    pki.put_rejected(certificate)
    assert certs("trust", thumbprint(certificate), "--pki", str(tmp_path))[0] == 0
    assert pki.is_trusted(certificate)
    assert certs("reject", thumbprint(certificate), "--pki", str(tmp_path))[0] == 0
    assert not pki.is_trusted(certificate)


def test_trust_takes_a_file_from_the_device_before_it_was_ever_met(tmp_path: Path):
    certificate = server_certificate(tmp_path)
    file = tmp_path / "elsewhere" / "own" / "certificate.der"
    assert certs("trust", str(file), "--pki", str(tmp_path))[0] == 0
    assert Pki(tmp_path).is_trusted(certificate)


def test_an_unknown_thumbprint_is_told_with_where_to_look(tmp_path: Path):
    code, told = certs("trust", "ab" * 32, "--pki", str(tmp_path))
    assert code == 1
    assert f"those there are shown by: gateway certs list --pki {tmp_path}" in told


def test_a_certificate_that_cannot_be_read_is_listed_with_its_reason(tmp_path: Path):
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "plc[1].der").write_bytes(b"half")
    assert "plc[1].der holds no X.509 certificate; give one as DER or PEM" in certs("list", "--pki", str(tmp_path))[1]


def test_devices_with_folders_of_their_own_are_asked_apart(config: Path, tmp_path: Path):
    text = (config / "plant.yaml").read_text(encoding="utf-8")
    other = f'  M2: {{driver: opcua, url: "opc.tcp://127.0.0.1:4841", pki: "{tmp_path}/other"}}\nequipment:'
    (config / "plant.yaml").write_text(text.replace("equipment:", other), encoding="utf-8")
    code, told = certs("list", "-c", str(config))
    assert code == 2
    assert f"say which one with --pki: {tmp_path}/other, {tmp_path}/var/pki" in told


def test_a_configuration_with_errors_is_shown_and_nothing_is_done(tmp_path: Path):
    (tmp_path / "plant.yaml").write_text("gateway: {}\n", encoding="utf-8")
    code, told = certs("list", "-c", str(tmp_path))
    assert code == 2
    assert "plant.yaml:1" in told
