"""What the YAML says of one OPC UA device's security: channel, user, and where the certificates lie."""

import stat
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gateway.drivers.base import DeviceSettings

CHOICES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
"""Policies that are neither broken nor withdrawn (trap A21), always with SignAndEncrypt. asyncua knows no ECC."""


def _parse_security(word: object) -> object:
    if word not in (*CHOICES, "none"):
        raise ValueError(
            f"{word!r} is no security policy of this gateway; write {', '.join(CHOICES)}, or none where nothing needs "
            "to be protected"
        )
    return word


Policy = Annotated[
    Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "none"], BeforeValidator(_parse_security)
]


class OpcUaSecurity(DeviceSettings):
    """The security of one device. That nothing is signed and encrypted must be written down: `security: none`.

    The user is anonymous, or `user` with `password_file`, or `user_certificate` with `user_key`. `pki` holds the
    folders own/, trusted/ and rejected/; left out, it stands beside the record. `application_uri` left out is that of
    the own certificate.
    """

    security: Policy = "Basic256Sha256"
    user: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    user_certificate: Path | None = None
    user_key: Path | None = None
    pki: Path | None = None
    application_uri: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$")] | None = None
    allow_other_host: bool = False

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together; give both or neither")
        if (self.user_certificate is None) != (self.user_key is None):
            raise ValueError("user_certificate and user_key go together; give both or neither")
        if self.user is not None and self.user_certificate is not None:
            raise ValueError("user and user_certificate are two ways to log in; keep one")
        if self.security == "none":
            self._refuse_what_needs_a_channel()
        return self

    def _refuse_what_needs_a_channel(self) -> None:
        if self.user is not None:
            raise ValueError(
                f"with security none the password of {self.user} would go in clear; write security: {CHOICES[0]}, or "
                "take user and password_file out"
            )
        if self.user_certificate is not None:
            raise ValueError(
                f"a user certificate proves nothing to a server that proves nothing; write security: {CHOICES[0]}, or "
                "take user_certificate and user_key out"
            )

    def beside(self, store: Path) -> Self:
        """See `DeviceSettings`."""
        return self if self.pki is not None else self.model_copy(update={"pki": store.parent / "pki"})

    @property
    def is_in_clear(self) -> bool:
        """See `DeviceSettings`."""
        return self.security == "none"

    @property
    def pki_folder(self) -> Path:
        """Where the certificates lie; beside the default record for a device that no configuration has."""
        return self.pki if self.pki is not None else Path("var") / "pki"

    def password(self) -> str:
        """The password, read when it is needed and kept nowhere.

        Raises `OSError` with what to do when it cannot be read, others could read it too, or it is empty.
        """
        assert self.password_file is not None
        try:
            password = read_secret(self.password_file).decode().strip()
        except UnicodeDecodeError:
            raise OSError(f"the password file {self.password_file} is not UTF-8; write it anew") from None
        if not password:
            raise OSError(f"the password file {self.password_file} is empty; it must hold the password, in one line")
        return password


def read_secret(path: Path) -> bytes:
    """A file that only its owner can read; raises `OSError` with what to do otherwise."""
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise OSError(f"the file {path} cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OSError(f"the file {path} can be read by others; run: chmod 600 {path}")
    return content
