"""Password files: one line, mode 0600, never on a command line."""

import secrets
import stat
from pathlib import Path

from simulators.options import UsageError


def read(path: Path) -> str:
    """The password in that file; raises `UsageError` if others can read it or it is empty."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        password = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"--password-file {path}: {error.strerror}; it must hold the broker's password") from error
    if mode & 0o077:
        raise UsageError(f"--password-file {path} is readable by others (mode {mode:04o}); run: chmod 600 {path}")
    if not password:
        raise UsageError(f"--password-file {path} is empty; it must hold the broker's password")
    return password


def read_or_generate(path: Path) -> str:
    """The password in that file; a missing file is made with a new one."""
    if not path.exists():
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(f"{secrets.token_urlsafe(24)}\n", encoding="utf-8")
    return read(path)
