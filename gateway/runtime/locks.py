"""The file of the write locks, beside the record: a person's word, which holds whether the gateway runs or not.

The gateway looks at it before every operation that writes; while the file is as it was, that is one `stat`. A file
that cannot be read locks everything: whoever damaged it cannot have meant to unlock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.folder import AuditError, AuditFolder, give_to_owner
from gateway.audit.lines import Entry
from gateway.audit.trail import audit_folder
from gateway.domain.values import Timestamp
from gateway.domain.writing.locks import Lock, WriteLocks

_NONE: Final = WriteLocks()


class LockError(Exception):
    """A lock cannot be set or lifted; the text says why, and what can be done."""


def lock_file(store: str | Path) -> Path:
    """Where the locks of a record are: beside it, as `<store>.locks`."""
    path = Path(store)
    return path.with_name(f"{path.name}.locks")


class LockFile:
    """What the file says now. Asking never raises: what cannot be read is a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_damaged = False
        self._seen: tuple[int, int, int] | None = None
        self._locks = _NONE

    def current(self) -> WriteLocks:
        """The locks as of this moment."""
        changed = 0
        try:
            found = self.path.stat()
            changed, seen = found.st_mtime_ns, (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._locks = msgspec.json.decode(self.path.read_bytes(), type=WriteLocks)
                self._seen, self.is_damaged = seen, False
        except FileNotFoundError:
            self._locks, self._seen, self.is_damaged = _NONE, None, False
        except (OSError, msgspec.DecodeError) as error:
            reason = f"{self.path} cannot be read ({error}); look at it, then `gateway unlock` writes it anew"
            self._locks, self._seen = WriteLocks(Lock(reason, "a damaged lock file", changed // 1_000_000)), None
            self.is_damaged = True
        return self._locks


class LookingOnly:
    """The lock of a dry run: on everything, and nobody can lift it."""

    def __init__(self, since: Timestamp) -> None:
        only_lock = Lock("this gateway only looks; nothing is written", "gateway run --dry-run", since, code="dry_run")
        self._locks = WriteLocks(only_lock)

    def current(self) -> WriteLocks:
        """It never changes."""
        return self._locks


def lock(store: Path, device: str | None, reason: str, by: str, at: Timestamp) -> None:
    """Lock a device, or all of them; a lock that is there is replaced. It holds before this is audited.

    Raises `LockError`.
    """
    with _edited(store) as (file, folder):
        locks, new = _whole(file), Lock(reason, by, at)
        if device is None:
            _write(file.path, WriteLocks(new, locks.devices))
        else:
            _write(file.path, WriteLocks(locks.everything, locks.devices | {device: new}))
        try:
            folder.append([Entry(kind="lock", t=at, device=device, by=by, detail=(reason,))])
        except AuditError as error:
            raise LockError(f"it is locked, but that is not in the audit: {error}") from error


def unlock(store: Path, device: str | None, by: str, at: Timestamp) -> Lock:
    """Lift a lock, and return it. It is audited before, or else it is not lifted. Raises `LockError`."""
    with _edited(store) as (file, folder):
        locks = file.current() if device is None else _whole(file)
        lifted = locks.everything if device is None else locks.devices.get(device)
        if lifted is None:
            raise LockError("no lock on everything is set" if device is None else f"{device} is not locked")
        try:
            folder.append([Entry(kind="unlock", t=at, device=device, by=by, detail=(lifted.reason,))])
        except AuditError as error:
            raise LockError(f"it stays locked, for that it was unlocked cannot be audited: {error}") from error
        if device is None:
            _write(file.path, WriteLocks(None, locks.devices))
        else:
            _write(file.path, WriteLocks(locks.everything, {k: v for k, v in locks.devices.items() if k != device}))
        return lifted


def _whole(file: LockFile) -> WriteLocks:
    """What the file says; one that is damaged is not to be changed by half."""
    locks = file.current()
    if file.is_damaged and locks.everything is not None:
        raise LockError(f"everything is locked: {locks.everything.reason}")
    return locks


@contextmanager
def _edited(store: Path) -> Iterator[tuple[LockFile, AuditFolder]]:
    """The file and the audit while nobody else changes a lock."""
    folder = AuditFolder(audit_folder(store))
    try:
        folder.make()
        held = os.open(folder.path, os.O_RDONLY)
    except OSError as error:
        raise LockError(f"{folder.path} cannot be opened or made: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield LockFile(lock_file(store)), folder
    except OSError as error:
        raise LockError(
            f"{lock_file(store)} cannot be written: {error.strerror}; the locks are as they were"
        ) from error
    finally:
        os.close(held)


def _write(path: Path, locks: WriteLocks) -> None:
    """All or nothing, and on the disk when this returns."""
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        give_to_owner(descriptor, path.parent)
        os.write(descriptor, msgspec.json.encode(locks))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
