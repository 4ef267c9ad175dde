"""X.509 certificates of OPC UA applications: reading, naming, making them, and how long they last (Part 6 §6.2.2).

Pure. Time is an argument, in milliseconds UTC of the wall: a certificate knows no other, also where a scenario is
played.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.domain.values import Timestamp

DAY: Final = 86_400_000
"""Milliseconds."""
VALID_DAYS: Final = 825
"""How long an own certificate lasts: renewed about every two years, within what strict servers accept."""
EXPIRY_NOTICE: Final = 30
"""Days before the end at which a certificate is announced as expiring, and an own one is renewed."""


class CertificateError(Exception):
    """A certificate or key that cannot be used; the text says which one, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate that ends within `EXPIRY_NOTICE` days or has ended; `days_left` is negative then."""

    subject: str
    thumbprint: str
    valid_until: Timestamp
    days_left: int


def first_of_chain(der: bytes) -> x509.Certificate:
    """The server's own certificate out of what it sends: its certificate, perhaps followed by its issuers'.

    Raises `CertificateError` when there is none.
    """
    header = 4  # a certificate is longer than 255 bytes and shorter than 64 KiB: tag, 0x82, two bytes of length
    try:
        return x509.load_der_x509_certificate(der[: header + int.from_bytes(der[2:header], "big")])
    except ValueError:
        raise CertificateError("sends something that is no X.509 certificate; install one at the server") from None


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER, in lower-case hex: the name by which a certificate is trusted (trap A20)."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def subject(certificate: x509.Certificate) -> str:
    """The subject for people: its common name where it has one."""
    return _for_people(certificate.subject) or "(no subject)"


def issuer(certificate: x509.Certificate) -> str:
    """Who signed it, for people."""
    return _for_people(certificate.issuer) or "(no name)"


def _for_people(name: x509.Name) -> str:
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else name.rfc4514_string()


def application_uris(certificate: x509.Certificate) -> list[str]:
    """The application URIs that it was made for; one, if it is an OPC UA certificate."""
    names = _alternative_names(certificate)
    return names.get_values_for_type(x509.UniformResourceIdentifier) if names else []


def hosts(certificate: x509.Certificate) -> list[str]:
    """The host names, in lower case, and addresses that it was made for."""
    names = _alternative_names(certificate)
    if names is None:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)] + addresses


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def valid_from(certificate: x509.Certificate) -> Timestamp:
    """The first moment of its validity."""
    return _milliseconds(certificate.not_valid_before_utc)


def valid_until(certificate: x509.Certificate) -> Timestamp:
    """The last moment of its validity."""
    return _milliseconds(certificate.not_valid_after_utc)


def days_left(certificate: x509.Certificate, now: Timestamp) -> int:
    """Whole days until it ends, rounded down; negative when it has ended."""
    return (valid_until(certificate) - now) // DAY


def expiring(certificates: Iterable[x509.Certificate], now: Timestamp) -> list[Expiring]:
    """Those with fewer than `EXPIRY_NOTICE` days left, each once, the most urgent first."""
    found = {
        thumbprint(certificate): Expiring(
            subject(certificate), thumbprint(certificate), valid_until(certificate), days_left(certificate, now)
        )
        for certificate in certificates
        if days_left(certificate, now) < EXPIRY_NOTICE
    }
    return sorted(found.values(), key=lambda finding: (finding.valid_until, finding.thumbprint))


def make_self_signed(
    key: rsa.RSAPrivateKey, application_uri: str, host_names: Sequence[str], now: Timestamp, days: int = VALID_DAYS
) -> x509.Certificate:
    """An application instance certificate for a client, with the extensions that Part 6 §6.2.2 demands.

    Raises `CertificateError` for a name that no certificate can have.
    """
    try:
        return _make(key, application_uri, host_names, now, days)
    except ValueError as error:
        names = ", ".join([application_uri, *host_names])
        raise CertificateError(f"no certificate can be made for {names}: {error}; write them in ASCII") from None


def _make(
    key: rsa.RSAPrivateKey, application_uri: str, host_names: Sequence[str], now: Timestamp, days: int
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, application_uri[:64])])
    begin = datetime.fromtimestamp(now / 1000, UTC).replace(microsecond=0)
    own_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial)
    builder = builder.not_valid_before(begin - timedelta(hours=1))  # a PLC's clock may be behind ours
    builder = builder.not_valid_after(begin + timedelta(days=days))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(application_uri), *map(_host, host_names)]),
            False,
        ),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_KEY_USAGE, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (own_key, False),
        (x509.AuthorityKeyIdentifier(own_key.digest, [x509.DirectoryName(name)], serial), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True, key_cert_sign=True,
    key_agreement=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
"""keyCertSign because it is self-signed: Part 6, table of the ApplicationInstanceCertificate."""


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _milliseconds(moment: datetime) -> Timestamp:
    return round(moment.timestamp() * 1000)
