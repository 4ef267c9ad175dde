"""The folder of certificates: who we are (own/), whom we trust (trusted/, trusted/crl/), whom we met (rejected/).

Files are the whole state, so that a person can look, copy and delete; whatever is read is read anew at each connect.
There is no trust on first use: a certificate gets into trusted/ by a person's hand only (trap A20).
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.domain.values import Timestamp
from gateway.drivers.opcua.secure_channel.certificate_files import (
    certificate_files,
    read_certificate,
    read_key,
    revocation_lists,
    write_certificate,
    write_key,
)
from gateway.drivers.opcua.secure_channel.certificates import (
    EXPIRY_NOTICE,
    CertificateError,
    application_uris,
    days_left,
    hosts,
    make_self_signed,
    thumbprint,
    valid_from,
)

KEY_BITS: Final = 2048
"""The most that every policy and every PLC takes (Part 7: 2048 to 4096)."""
REJECTED_KEPT: Final = 100
"""Whoever answers at a device's address can hand in certificates; the disk is not theirs to fill."""
_REPLACED: Final = "replaced-"
_renewing: Final = threading.Lock()

Role = Literal["own", "trusted", "rejected"]


@dataclass(frozen=True, slots=True)
class Own:
    """The gateway's own certificate with its key; the key is never shown."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    def __repr__(self) -> str:
        return f"Own({thumbprint(self.certificate)})"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the folder; `certificate` is the problem in words where it cannot be read."""

    role: Role
    path: Path
    certificate: x509.Certificate | str

    @property
    def is_replaced(self) -> bool:
        """Whether this is an own certificate of the past, kept while a server may know no other."""
        return self.path.name.startswith(_REPLACED)


class Pki:
    """One folder of certificates. Every method reads or writes files, and raises `CertificateError` in words."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- own ------------------------------------------------------------------------------------------------------

    def own(self, now: Timestamp) -> Own:
        """Own certificate and key; renewed first when fewer than `EXPIRY_NOTICE` days are left.

        One that the plant's own authority has issued is its affair, and only announced.
        """
        with _renewing:
            own = self._read_own()
            lasts = days_left(own.certificate, now) >= EXPIRY_NOTICE
            return own if lasts or own.certificate.issuer != own.certificate.subject else self._renew(own, now)

    def owns(self, now: Timestamp) -> list[Own]:
        """What we can show: the own certificate, then those of the same key that it replaced and that still hold."""
        own = self.own(now)
        replaced = [
            entry.certificate
            for entry in self._entries("own")
            if entry.is_replaced and not isinstance(entry.certificate, str)
        ]
        key, held = own.key.public_key(), [each for each in replaced if days_left(each, now) >= 0]
        return [own, *(Own(each, own.key) for each in reversed(held) if each.public_key() == key)]

    def create(self, application_uri: str, host_names: list[str], now: Timestamp) -> Own:
        """Make key and certificate; a valid certificate is never overwritten."""
        with _renewing:
            if self.own_file.exists() and days_left(read_certificate(self.own_file), now) >= 0:
                raise CertificateError(f"{self.own_file} is still valid and stays; move it away to make another one")
            key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
            own = Own(make_self_signed(key, application_uri, host_names, now), key)
            self._keep_old()
            write_key(self._key_file, key)
            write_certificate(self.own_file, own.certificate)
            return own

    def _renew(self, old: Own, now: Timestamp) -> Own:
        """A new certificate of the same name for the same key, so that one replaced file is the whole change."""
        names = hosts(old.certificate)
        certificate = make_self_signed(old.key, (application_uris(old.certificate) or [""])[0], names, now)
        self._keep_old()
        write_certificate(self.own_file, certificate)
        return Own(certificate, old.key)

    def _read_own(self) -> Own:
        if not self.own_file.exists():
            raise CertificateError(
                f"the gateway has no certificate of its own; run: gateway certs create --pki {self.folder}"
            )
        certificate = read_certificate(self.own_file)
        return Own(certificate, read_key(self._key_file, certificate))

    def _keep_old(self) -> None:
        if self.own_file.exists():
            old = read_certificate(self.own_file)
            write_certificate(self.own_file.with_name(f"{_REPLACED}{valid_from(old)}.der"), old)

    @property
    def own_file(self) -> Path:
        """Where the own certificate lies, for whoever carries it to the servers."""
        return self.folder / "own" / "certificate.der"

    @property
    def _key_file(self) -> Path:
        return self.folder / "own" / "key.pem"

    # --- others ---------------------------------------------------------------------------------------------------

    def is_trusted(self, certificate: x509.Certificate) -> bool:
        """Whether this very certificate lies in trusted/; a file there that cannot be read trusts nobody."""
        wanted = thumbprint(certificate)
        return any(
            not isinstance(entry.certificate, str) and thumbprint(entry.certificate) == wanted
            for entry in self._entries("trusted")
        )

    @property
    def trusts_nobody(self) -> bool:
        """Whether trusted/ is missing or holds no certificate."""
        return all(isinstance(entry.certificate, str) for entry in self._entries("trusted"))

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        """Whether a list in trusted/crl/ names it, by issuer and serial number; a serial number alone is nobody's.

        A list that cannot be read is an error: what it revokes is not known.
        """
        return any(
            revoked.issuer == certificate.issuer
            and revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for revoked in revocation_lists(self.folder / "trusted" / "crl")
        )

    def put_rejected(self, certificate: x509.Certificate) -> None:
        """Keep a certificate that nobody trusts, for a person to look at; the oldest of too many goes."""
        folder = self.folder / "rejected"
        write_certificate(folder / f"{thumbprint(certificate)}.der", certificate)
        files = sorted(certificate_files(folder), key=lambda path: path.stat().st_mtime)
        for path in files[:-REJECTED_KEPT]:
            path.unlink(missing_ok=True)

    def trust(self, name: str) -> Entry:
        """Move the certificate with that thumbprint from rejected/ to trusted/."""
        return self._move(name, "rejected", "trusted")

    def trust_file(self, path: Path) -> Entry:
        """Copy a certificate that a person has from elsewhere into trusted/."""
        certificate = read_certificate(path)
        kept = self.folder / "trusted" / f"{thumbprint(certificate)}.der"
        write_certificate(kept, certificate)
        return Entry("trusted", kept, certificate)

    def reject(self, name: str) -> Entry:
        """Move the certificate with that thumbprint from trusted/ to rejected/."""
        return self._move(name, "trusted", "rejected")

    def _move(self, name: str, source: Role, target: Role) -> Entry:
        wanted = name.replace(":", "").lower()
        for entry in self._entries(source):
            if not isinstance(entry.certificate, str) and thumbprint(entry.certificate) == wanted:
                path = self.folder / target / f"{wanted}.der"
                write_certificate(path, entry.certificate)
                entry.path.unlink()
                return Entry(target, path, entry.certificate)
        raise CertificateError(
            f"no certificate in {self.folder / source} has the thumbprint {name}; those there are shown by: "
            f"gateway certs list --pki {self.folder}"
        )

    def entries(self) -> list[Entry]:
        """Every certificate of the folder, own first."""
        return [*self._entries("own"), *self._entries("trusted"), *self._entries("rejected")]

    def _entries(self, role: Role) -> Iterator[Entry]:
        for path in certificate_files(self.folder / role):
            if path == self._key_file:
                continue
            try:
                yield Entry(role, path, read_certificate(path))
            except CertificateError as error:
                yield Entry(role, path, str(error))
