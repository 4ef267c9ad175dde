"""Secrets: read at the moment in which they are needed, from where nobody else can read them, and kept nowhere.

Errors are `OSError` with what to do; a secret is never part of one.
"""

import os
import stat
from pathlib import Path
from typing import Final

CREDENTIALS_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
"""Where systemd puts a service's credentials (systemd.exec, `LoadCredential=`)."""


def password_from_file(file: Path) -> str:
    """The password in a file that is its owner's alone."""
    check_private(file, "password file")
    return _content(file, f"the password file {file}")


def password_from_environment(variable: str) -> str:
    """The password in an environment variable."""
    password = os.environ.get(variable, "")
    if not password:
        raise OSError(f"the environment variable {variable} (mqtt: password_env) is not set or empty; set it")
    return password


def password_from_credential(name: str) -> str:
    """The password in a credential that systemd gave this service.

    Its mode is not looked at: systemd keeps the folder to the service, and on some systems shows rights of an ACL as
    those of a group.
    """
    folder = os.environ.get(CREDENTIALS_DIRECTORY)
    if not folder:
        raise OSError(
            f"there is no {CREDENTIALS_DIRECTORY}, so no credential {name}; run as a systemd service with "
            f"LoadCredential={name}:/etc/…, or write password_file"
        )
    return _content(Path(folder, name), f"the credential {name} (LoadCredential= of the service)")


def check_private(file: Path, what: str) -> None:
    """Raises `OSError` if others than the owner may read the file, or if it is not there."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise OSError(f"the {what} {file} cannot be read ({error.strerror})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OSError(f"the {what} can be read by others; chmod 600 {file}")


def _content(file: Path, what: str) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise OSError(f"{what} cannot be read ({reason})") from None
    if not text:
        raise OSError(f"{what} is empty; write the password into it")
    return text
