"""Whether a chain is what was written: every byte, every line, in their order, up to its known end."""

import fcntl
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.folder import HEAD, AuditFolder, Head
from gateway.audit.lines import BEGINNING, Line, decode

_NUMBER: Final = re.compile(rb'"n":(\d+)[,}]')


class Flaw(msgspec.Struct, frozen=True):
    """The first thing that is wrong: `place` is file:line, `reason` one word and what it means."""

    place: str
    reason: str


class Verified(msgspec.Struct, frozen=True):
    """What came of it. `notes` are no flaws: a torn line, and what the gateway itself has told of its chain."""

    lines: int
    head: Head
    flaw: Flaw | None = None
    notes: tuple[str, ...] = ()


class _Place(msgspec.Struct, frozen=True):
    path: Path
    number: int
    raw: bytes

    def __str__(self) -> str:
        return f"{self.path}:{self.number}"


def verify(folder: AuditFolder, anchors: Sequence[Head]) -> Verified:
    """Go through all lines. `anchors` are ends of the chain as others know them: the record, the file `head`."""
    places = _places(folder)
    last, notes = Head(), []
    due = {anchor.n: anchor for anchor in anchors if anchor.n}
    for index, place in enumerate(places):
        if not place.raw.endswith(b"\n"):
            notes.append(f"{place}: torn: a line that was never finished; the gateway puts it aside when it starts")
            break
        line, digest, flaw = _judged(place, last, places[index + 1 :])
        if line is not None and (known := due.get(line.n)) is not None and known.hash != digest:
            flaw = flaw or Flaw(str(place), f"rewritten: line {line.n} had the hash {known.hash} when it was written")
        if line is None or flaw is not None:
            return Verified(last.n, last, flaw, tuple(notes))
        last = Head(line.n, digest, place.path.name)
        if line.kind in ("torn", "cut", "rewritten", "lost"):
            notes.append(f"{place}: {line.kind}: {'; '.join(line.detail)}")
    longest = max((anchor.n for anchor in anchors), default=0)
    if longest > last.n:
        end = places[-1] if places else folder.path
        return Verified(last.n, last, Flaw(str(end), _cut_off(last.n, longest)), tuple(notes))
    return Verified(last.n, last, None, tuple(notes))


def lines(folder: AuditFolder) -> Iterator[Line]:
    """All lines that can be read, in their order, right or wrong: to be shown."""
    for place in _places(folder):
        with suppress(ValueError):
            yield decode(place.raw.removesuffix(b"\n"))[0]


def _cut_off(there: int, known: int) -> str:
    return f"cut off: the chain ends with line {there}; lines up to {known} were written"


def _judged(place: _Place, last: Head, rest: Sequence[_Place]) -> tuple[Line | None, str, Flaw | None]:
    """The line, its hash, and what is wrong with it where the line before it is `last`."""
    try:
        line, digest = decode(place.raw[:-1])
    except ValueError as error:
        return None, "", Flaw(str(place), f"changed: {error}")
    if line.n != last.n + 1:
        return line, digest, Flaw(str(place), _misplaced(line.n, last.n + 1, rest))
    if line.prev != last.hash:
        where = "the line before it" if last.hash != BEGINNING else "the beginning"
        text = f"changed: line {line.n} was written behind another line than the one before it"
        return line, digest, Flaw(str(place), f"{text}; {where} is not what it was")
    return line, digest, None


def _misplaced(found: int, expected: int, rest: Sequence[_Place]) -> str:
    """Taken out, or only moved: the line that should stand here comes later then."""
    if found < expected:
        return f"reordered: here stands line {found} once more, where line {expected} belongs"
    for place in rest:
        number = _NUMBER.search(place.raw)
        if number is not None and int(number[1]) == expected:
            return f"reordered: here stands line {found}; line {expected}, which belongs here, is at {place}"
    gone = f"line {expected} is" if found == expected + 1 else f"lines {expected} to {found - 1} are"
    return f"missing: {gone} not there; here stands line {found}"


def _places(folder: AuditFolder) -> list[_Place]:
    """Every line with its place. While the newest file is read nobody appends to it."""
    head = folder.path / HEAD
    if not head.exists():
        return _lines_of(folder.files())
    with head.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        return _lines_of(folder.files())


def _lines_of(files: Sequence[Path]) -> list[_Place]:
    return [
        _Place(path, number, raw)
        for path in files
        for number, raw in enumerate(path.read_bytes().splitlines(keepends=True), 1)
    ]
