"""Certificates, keys and revocation lists as files: DER or PEM by their content, written whole or not at all.

Everything raises `CertificateError`, with what to do.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.drivers.opcua.secure_channel.certificates import CertificateError, thumbprint
from gateway.drivers.opcua.secure_channel.security_settings import read_secret

_CERTIFICATES: Final = {".der", ".pem", ".crt", ".cer"}
_LISTS: Final = {".crl", ".der", ".pem"}
_PEM: Final = b"-----BEGIN"

Parsed = TypeVar("Parsed")


def certificate_files(folder: Path) -> list[Path]:
    """The files in a folder that may hold a certificate, by their endings; none if the folder is missing."""
    return _files(folder, _CERTIFICATES)


def revocation_lists(folder: Path) -> list[x509.CertificateRevocationList]:
    """All certificate revocation lists in a folder; one that cannot be read is an error, what it revokes is unknown."""
    return [
        _read(path, "certificate revocation list", x509.load_pem_x509_crl, x509.load_der_x509_crl)
        for path in _files(folder, _LISTS)
    ]


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in that file."""
    return _read(path, "X.509 certificate", x509.load_pem_x509_certificate, x509.load_der_x509_certificate)


def read_key(path: Path, certificate: x509.Certificate) -> rsa.RSAPrivateKey:
    """The private key of that certificate, from a PEM file that only its owner can read."""
    try:
        key = serialization.load_pem_private_key(read_secret(path), password=None)
    except OSError as error:
        raise CertificateError(str(error)) from None
    except (TypeError, ValueError):
        raise CertificateError(f"{path} holds no PEM key without a pass phrase; give one") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateError(
            f"{path} is not the RSA key of the certificate {thumbprint(certificate)}; give the right one"
        )
    return key


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Write a certificate as DER, for all to read."""
    _write(path, certificate.public_bytes(serialization.Encoding.DER), 0o644)


def write_key(path: Path, key: rsa.RSAPrivateKey) -> None:
    """Write a private key as PEM, for its owner to read."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(path, pem, 0o600)


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    try:
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    except OSError as error:
        raise CertificateError(f"{folder} cannot be read: {error.strerror}; let the gateway read it") from None


def _read(path: Path, what: str, load_pem: Callable[[bytes], Parsed], load_der: Callable[[bytes], Parsed]) -> Parsed:
    try:
        content = path.read_bytes()
        return load_pem(content) if _PEM in content else load_der(content)
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}; let the gateway read it") from None
    except ValueError:
        raise CertificateError(f"{path} holds no {what}; give one as DER or PEM") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that it is there whole or not at all, and never for a moment more open than `mode`."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise CertificateError(f"{path} cannot be written: {error.strerror}; give the gateway that folder") from None
