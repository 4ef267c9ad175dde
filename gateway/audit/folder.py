"""The audit on disk: a folder of files, one a month, that are only ever appended to. Blocking; meant for a thread.

The file `head` says where the chain ends. It is also what processes lock: the gateway and `gateway lock` may append
at the same time. Where the files say less than `head`, or than the record knew last, somebody has cut them off; the
chain then goes on behind what is gone, so that the hole shows for ever.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.lines import BEGINNING, Entry, decode, encode
from gateway.domain.times import format_timestamp

HEAD: Final = "head"
_HEAD_BYTES: Final = 256
"""It is written in place: always of this length, so that a shorter one leaves nothing of the longer."""

_PRIVATE: Final = 0o600


class AuditError(Exception):
    """The audit cannot be written or read; the text says where and what to do."""


class Head(msgspec.Struct, frozen=True):
    """The end of the chain: the last line's number and hash, and the file with its size up to there."""

    n: int = 0
    hash: str = BEGINNING
    file: str = ""
    size: int = 0


def give_to_owner(descriptor: int, folder: Path) -> None:
    """What root makes for a gateway (`sudo gateway lock`) must belong to whom the folder belongs, who runs it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


class AuditFolder:
    """Appends to the chain. Each call opens, locks and closes what it needs: nothing is held in between."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.noticed: list[Entry] = []
        """What was found wrong with the chain, and is told in it, since somebody looked here last."""
        self.end = Head()
        """Where the last call of ours has left the chain."""

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Append the entries, and return their numbers; when this returns they survive a power cut.

        Raises `AuditError`; then none of them is in the chain.
        """
        return self._extend(entries, Head(), entries[0].t)

    def look(self, known: Head, at: int) -> None:
        """Look whether the chain still has what the record knew, and tell in it what is missing, torn or replaced.

        A chain that is right, or that never began, is left as it is. Raises `AuditError`.
        """
        if known.n or self.files():
            self._extend((), known, at)
            self._tell_rewritten(known, at)

    def make(self) -> None:
        """Make the folder, if there is none, for whom the folder belongs in which it lies. Raises `OSError`."""
        if self.path.is_dir():
            return
        self.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            give_to_owner(descriptor, self.path.parent)
        finally:
            os.close(descriptor)

    def head(self) -> Head | None:
        """The end of the chain as the last writer left it; None if nobody has, or if it cannot be read."""
        try:
            return msgspec.json.decode((self.path / HEAD).read_bytes(), type=Head)
        except (OSError, msgspec.DecodeError):
            return None

    def files(self) -> list[Path]:
        """The files of the chain, oldest first."""
        return sorted(self.path.glob("*.jsonl"))

    # --- appending ----------------------------------------------------------------------------------------------

    @contextmanager
    def _held(self) -> Iterator[int]:
        """The head's file, open and ours alone."""
        self.make()
        descriptor = os.open(self.path / HEAD, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            give_to_owner(descriptor, self.path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _extend(self, entries: Sequence[Entry], known: Head, at: int) -> list[int]:
        try:
            with self._held() as descriptor:
                head, told = self._end_of_chain(_read(descriptor), known, at)
                self.noticed += told
                numbers = self._write(descriptor, head, [*told, *entries]) if told or entries else []
                return numbers[len(told) :]
        except OSError as error:
            text = f"{self.path} cannot be written: {error.strerror}; see whether its disk is full or read-only"
            raise AuditError(text) from error

    def _write(self, descriptor: int, head: Head, entries: Sequence[Entry]) -> list[int]:
        # A clock that was set back does not lead back into an older file: their order is that of their names.
        name = max(head.file, f"{format_timestamp(entries[-1].t)[:7]}.jsonl")
        lines, digest = [], head.hash
        for n, entry in enumerate(entries, head.n + 1):
            line, digest = encode(entry, n, digest)
            lines.append(line)
        size = self._add(self.path / name, b"".join(lines))
        last = head.n + len(lines)
        self.end = Head(last, digest, name, size)
        _write_head(descriptor, self.end)
        return [*range(last - len(lines) + 1, last + 1)]

    def _add(self, path: Path, data: bytes) -> int:
        """Append and wait for the disk; returns the file's size. What fails half-way is taken back."""
        is_new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _PRIVATE)
        try:
            give_to_owner(descriptor, self.path)
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            self._sync_names()
        return before + len(data)

    def _sync_names(self) -> None:
        """That there is such a file survives a power cut only when its folder is on the disk as well."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # --- when the head does not fit the files --------------------------------------------------------------------

    def _end_of_chain(self, head: Head | None, known: Head, at: int) -> tuple[Head, list[Entry]]:
        """Where to go on, and what is to be told of how that was found. A head that fits the files is believed."""
        files = self.files()
        newest = (files[-1].name, files[-1].stat().st_size) if files else None
        if head is not None and head.n >= known.n and newest == (head.file, head.size):
            return head, []
        if head is None or known.n > head.n:
            head = known
        told = self._put_torn_line_aside(files[-1], at) if files else []
        last = next((found for path in reversed(files) if (found := _last_line(path)) is not None), Head())
        name = max(head.file, files[-1].name if files else "")
        if last.n >= head.n:
            return Head(last.n, last.hash, name), told
        gone = f"lines {last.n + 1} to {head.n} were written, and are no longer in {self.path}"
        return Head(head.n, head.hash, name), [*told, Entry(kind="cut", t=at, detail=(gone,))]

    def _put_torn_line_aside(self, path: Path, at: int) -> list[Entry]:
        """A last line without its line feed was being written when the power went; nothing was done after it."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        torn = data[whole:]
        if not torn:
            return []
        aside = path.with_suffix(".torn")
        self._add(aside, torn + b"\n")
        os.truncate(path, whole)
        digest = hashlib.sha256(torn).hexdigest()
        text = f"{len(torn)} bytes behind the last whole line of {path.name} are kept in {aside.name}"
        return [Entry(kind="torn", t=at, detail=(text, f"their SHA-256 is {digest}"))]

    def _tell_rewritten(self, known: Head, at: int) -> None:
        """The line that the record knew last must be the one that stands there."""
        for path in reversed(self.files()):
            for raw in reversed(path.read_bytes().splitlines()):
                line, digest = _decoded(raw)
                if line == known.n and digest != known.hash:
                    text = f"line {known.n} in {path.name} is not the one that the record knows ({known.hash})"
                    entry = Entry(kind="rewritten", t=at, detail=(text,))
                    self.noticed.append(entry)
                    self.append([entry])
                if line is not None and line <= known.n:
                    return


def _last_line(path: Path) -> Head | None:
    """The last line that can be read: a damaged one behind it is found by `verify`, which looks at all of them."""
    for raw in reversed(path.read_bytes().splitlines()):
        n, digest = _decoded(raw)
        if n is not None:
            return Head(n, digest, path.name)
    return None


def _decoded(raw: bytes) -> tuple[int | None, str]:
    try:
        line, digest = decode(raw)
    except ValueError:
        return None, ""
    return line.n, digest


def _read(descriptor: int) -> Head | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _HEAD_BYTES, 0), type=Head)
    except msgspec.DecodeError:
        return None


def _write_head(descriptor: int, head: Head) -> None:
    """Not waited for: a head that is behind is put right by the files."""
    os.pwrite(descriptor, msgspec.json.encode(head).ljust(_HEAD_BYTES - 1) + b"\n", 0)


def _write_all(descriptor: int, data: bytes) -> None:
    """The system may take less than it is given, on a disk that is nearly full."""
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
