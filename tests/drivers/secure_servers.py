"""An OPC UA server with real certificates and users, whose certificate a test may swap, and the makers of both sides."""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gateway.drivers.opcua.secure_channel.pki import Pki
from tests.drivers.opcua_servers import PLC, Plc

SERVER_URI = "urn:test:plc:server"
CANARY = "c4nary-pässword-in-no-log"
POLICIES = [
    ua.SecurityPolicyType.NoSecurity,
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]


def make_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def make_certificate(
    key, *, uri=SERVER_URI, host="127.0.0.1", days=(-1, 365), serial=None, issuer=None, name="PLC"
) -> x509.Certificate:
    """Self-signed unless the name of an `issuer` is given; valid from and to so many days from now."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        where = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        where = x509.DNSName(host)
    return (
        x509.CertificateBuilder(issuer or subject, subject, key.public_key(), serial or x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), where]), critical=False)
        .sign(key, hashes.SHA256())
    )


def make_revocation_list(key, issuer: x509.Name, serial: int) -> bytes:
    now = datetime.now(UTC)
    revoked = x509.RevokedCertificateBuilder(serial, now).build()
    builder = x509.CertificateRevocationListBuilder(issuer, now, now + timedelta(days=30))
    builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def wall() -> int:
    return round(time.time() * 1000)


def make_pki(folder: Path, *trusted: x509.Certificate) -> Pki:
    """A folder with an own certificate that trusts these."""
    pki = Pki(folder)
    pki.create("urn:test:gateway", ["localhost"], wall())
    for certificate in trusted:
        (folder / "trusted").mkdir(exist_ok=True)
        (folder / "trusted" / f"{certificate.serial_number}.der").write_bytes(der(certificate))
    return pki


class Users:
    """Knows one user with a password and the certificates put in; `guests` lets in those who say nothing."""

    def __init__(self) -> None:
        self.guests = True
        self.certificates: set[bytes] = set()
        self.logins: list[tuple] = []

    def get_user(self, iserver, username=None, password=None, certificate=None):
        self.logins.append((username, password, certificate))
        if username is not None:
            known = (username, password) == ("operator", CANARY)
        else:
            known = self.guests or certificate in self.certificates
        return User(role=UserRole.User, name=username) if known else None


class SecurePlc(Plc):
    """A server with every policy; `present` changes the certificate that it shows from now on."""

    def __init__(self, server: Server, index: int, users: Users) -> None:
        super().__init__(server, index)
        self.users = users

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    def present(self, certificate: x509.Certificate, key) -> None:
        self.server.iserver.certificate, self.server.iserver.private_key = certificate, key
        for endpoint in self.server.iserver.endpoints:
            endpoint.ServerCertificate = der(certificate)
        for factory in self.server._policies:
            factory.certificate, factory.private_key = certificate, key


@asynccontextmanager
async def secure_plc(certificate: x509.Certificate, key) -> AsyncIterator[SecurePlc]:
    users = Users()
    server = Server(user_manager=users)
    await server.init()
    await server.set_application_uri(SERVER_URI)
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy(POLICIES)
    await server.load_certificate(der(certificate))
    await server.load_private_key(key_pem(key), format="pem")
    index = await server.register_namespace(PLC)
    await server.start()
    made = SecurePlc(server, index, users)
    try:
        yield made
    finally:
        await made.clear()
        server.iserver.time_task.cancel()  # it ticks once a second, and stop would wait for the tick
        await asyncio.gather(server.iserver.time_task, return_exceptions=True)
        server.iserver.time_task = None
        await server.stop()
