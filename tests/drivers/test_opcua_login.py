"""S7 and S13: who logs in at an OPC UA server, and where a password never shows."""

import logging

import pytest
from opcua_servers import PLC
from pydantic import ValidationError
from secure_links import count_of, driver, driver_of, refusal
from secure_servers import (
    CANARY,
    der,
    key_pem,
    make_certificate,
    make_key,
    pem,
)
from structlog.testing import capture_logs

from gateway.drivers.base import LinkLost
from gateway.drivers.opcua.config import OpcUaSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
