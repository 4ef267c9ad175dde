"""Is that the server that a person trusted? Every reason why not, in words that say what to do (S5, trap A20)."""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp
from gateway.drivers.opcua.secure_channel.certificates import (
    application_uris,
    hosts,
    subject,
    thumbprint,
    valid_from,
    valid_until,
)
from gateway.drivers.opcua.secure_channel.pki import Pki

LEAST_KEY_BITS: Final = 2048
"""For every policy that is offered (Part 7)."""


class Distrust(Exception):  # noqa: N818 - it says what happened, and reads so where it is caught
    """The connection is not made; the text says why and what a person can do."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a server says of itself: its certificate and the application URI that must be in it."""

    certificate: x509.Certificate
    application_uri: str


def judge(announced: Announced, pki: Pki, now: Timestamp, dialled: str | None) -> None:
    """Raise `Distrust` unless this server is the trusted one.

    `dialled` is the host that it must be made for, None for any. A certificate that nobody trusts is put into
    rejected/ for a person to look at.
    """
    _require_strong_key(announced.certificate)
    _require_trust(announced.certificate, pki)
    _require_validity(announced.certificate, now)
    _require_names(announced, dialled)


def _require_strong_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < LEAST_KEY_BITS:
        raise Distrust(
            f"its certificate {thumbprint(certificate)} has no RSA key of {LEAST_KEY_BITS} bits or more; make a new "
            "one at the server"
        )


def _require_trust(certificate: x509.Certificate, pki: Pki) -> None:
    if not pki.is_trusted(certificate):
        pki.put_rejected(certificate)
        nobody = f", and {pki.folder / 'trusted'} is empty" if pki.trusts_nobody else ""
        raise Distrust(
            f"its certificate {subject(certificate)!r} is not trusted{nobody}. Compare its thumbprint with the one "
            f"that the device shows, then run: gateway certs trust {thumbprint(certificate)} --pki {pki.folder}"
        )
    if pki.is_revoked(certificate):
        lists = pki.folder / "trusted" / "crl"
        raise Distrust(f"its certificate {thumbprint(certificate)} is revoked by a list in {lists}; give it a new one")


def _require_validity(certificate: x509.Certificate, now: Timestamp) -> None:
    begin, end = valid_from(certificate), valid_until(certificate)
    if not begin <= now <= end:
        raise Distrust(
            f"its certificate {thumbprint(certificate)} is valid from {format_timestamp(begin)} to "
            f"{format_timestamp(end)} only; renew it at the server, or set this machine's clock right"
        )


def _require_names(announced: Announced, dialled: str | None) -> None:
    certificate = announced.certificate
    if announced.application_uri not in application_uris(certificate):
        made_for = ", ".join(application_uris(certificate)) or "no application at all"
        raise Distrust(
            f"it calls itself {announced.application_uri}, but its certificate {thumbprint(certificate)} is made for "
            f"{made_for}; make a new one at the server"
        )
    if dialled is not None and dialled not in hosts(certificate):
        made_for = ", ".join(hosts(certificate)) or "no host at all"
        raise Distrust(
            f"its certificate {thumbprint(certificate)} is made for {made_for}, not for {dialled}; write a url with "
            "such a host, or allow_other_host: true for this device"
        )
