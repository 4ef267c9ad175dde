"""Modbus over TLS: the device proves who it is, and we do where it asks for that (trap B12)."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from modbus_devices import Asked, honest_read
from modbus_drivers import driver, word

from gateway.drivers.base import LinkLost


def certificate(folder, name: str, host: str, days: int = 1):
    """A self-signed certificate for `host`, valid up to `days` from now: the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


@asynccontextmanager
async def tls_device(files, clients=None, version=ssl.TLSVersion.TLSv1_3):
    """A device with that certificate; with `clients` it takes only those whose certificate is in that file."""

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError):
            request = await reader.readexactly(12)
            writer.write(honest_read(Asked(int.from_bytes(request[:2], "big"), request[6], request[7:]), 7))
            await reader.read()
        writer.transport.abort()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*files)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.sleep(0.05)


async def read(port: int, **keys) -> list:
    """The one register over TLS."""
    async with driver(port, [word("word", 0)], transport="tls", **keys) as opened:
        return [change.value for change in await opened.read(["word"])]


async def test_b12_a_device_with_the_right_certificate_is_read_over_tls(tmp_path):
    files = certificate(tmp_path, "plc", "127.0.0.1")
    async with tls_device(files) as port:
        assert await read(port, ca_file=str(files[0])) == [7]


@pytest.mark.parametrize(
    ("host", "days", "ca", "words"),
    [
        ("127.0.0.1", 1, "other", "self-signed certificate"),
        ("127.0.0.9", 1, "plc", "IP address mismatch"),
        ("127.0.0.1", -1, "plc", "certificate has expired"),
    ],
    ids=["wrong CA", "wrong host", "expired"],
)
async def test_b12_a_certificate_that_proves_nothing_is_refused(tmp_path, host, days, ca, words):
    files = certificate(tmp_path, "plc", host, days)
    certificate(tmp_path, "other", "127.0.0.1")
    async with tls_device(files) as port:
        with pytest.raises(LinkLost, match=words):
            await read(port, ca_file=str(tmp_path / f"{ca}.pem"))


# --- both sides prove who they are ------------------------------------------------------------------------------------

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_device_that_asks_who_we_are_is_shown_our_certificate(tmp_path, version):
    files, own = certificate(tmp_path, "plc", "127.0.0.1"), certificate(tmp_path, "gateway", "127.0.0.1")
    async with tls_device(files, clients=own[0], version=VERSIONS[version]) as port:
        assert await read(port, ca_file=str(files[0]), cert_file=str(own[0]), key_file=str(own[1])) == [7]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown", [None, "stranger"])
async def test_a_device_that_does_not_know_us_is_lost_with_the_reason_and_where_to_look(tmp_path, version, shown):
    """TLS 1.2 refuses while the connection is made, TLS 1.3 only when it already stands."""
    files, own = certificate(tmp_path, "plc", "127.0.0.1"), certificate(tmp_path, "gateway", "127.0.0.1")
    keys = {}
    if shown:
        cert_file, key_file = certificate(tmp_path, shown, "127.0.0.1")
        keys = {"cert_file": str(cert_file), "key_file": str(key_file)}
    async with tls_device(files, clients=own[0], version=VERSIONS[version]) as port:
        with pytest.raises(
            LinkLost, match=r"refuses our certificate, or the lack of one.*; see cert_file and key_file"
        ):
            await read(port, ca_file=str(files[0]), **keys)


async def test_the_alert_of_a_device_that_waits_for_us_to_read_it_is_told(tmp_path):
    files, own = certificate(tmp_path, "plc", "127.0.0.1"), certificate(tmp_path, "gateway", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=own[0])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*files)

    def refuse(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with suppress(ssl.SSLError):
                secured.do_handshake()
            with socket.socket(fileno=secured.detach()) as plain:
                while plain.recv(512):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        with pytest.raises(LinkLost, match=r"it refuses our certificate.*\(.*alert certificate required\)"):
            await read(listener.getsockname()[1], ca_file=str(files[0]))
        await refusing


async def test_a_file_that_cannot_be_used_is_named(tmp_path):
    files, other = certificate(tmp_path, "plc", "127.0.0.1"), certificate(tmp_path, "other", "127.0.0.1")
    (tmp_path / "empty.pem").write_bytes(b"")
    async with tls_device(files) as port:
        with pytest.raises(LinkLost, match=r"ca_file /nowhere/ca.pem: No such file or directory"):
            await read(port, ca_file="/nowhere/ca.pem")
        with pytest.raises(LinkLost, match=r"empty.pem: no certificate"):
            await read(port, ca_file=str(tmp_path / "empty.pem"))
        with pytest.raises(LinkLost, match=r"other.key: key values mismatch"):
            await read(port, ca_file=str(files[0]), cert_file=str(files[0]), key_file=str(other[1]))
