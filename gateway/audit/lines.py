"""One line of the audit: what it says, how it is written, and how it is bound to the line before. Pure.

A line is JSON and ends in its own hash: SHA-256 over exactly the bytes in front of it. One of its fields is the hash
of the line before. So no byte can be changed, and no line taken out or moved, without one of the hashes being wrong.
"""

import hashlib
import re
from typing import Any, Final

import msgspec

from gateway.domain.values import PlainValue

BEGINNING: Final = "0" * 64
"""What the first line has in the place of the hash of the line before."""

_END: Final = re.compile(rb',"hash":"([0-9a-f]{64})"}\Z')
_encoder: Final = msgspec.json.Encoder(order="deterministic")


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tag written, one method called (`method`), or one value of a command's end.

    `address` is the tag's place as the YAML has it, `old` what the device held before where that is known, `status`
    the device's answer by its OPC UA name, `read_back` what the device held in the end. Values of writes are raw, as
    they are on the wire; those of a command's end are in engineering units.
    """

    tag: str | None = None
    method: str | None = None
    address: str | None = None
    arguments: tuple[PlainValue, ...] = ()
    old: PlainValue = None
    new: PlainValue = None
    read_back: PlainValue = None
    status: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one line says; `t` is milliseconds UTC by the gateway's clock.

    `kind` is intent (about to be done), outcome (of the intent number `of`), refused, verdict (the end of a command),
    gathered (`count` commands that were rejected between `since` and `t`, of one type, device and first code),
    lock, unlock; or of the chain itself: torn (a line that was never finished was put aside), cut (lines are gone),
    rewritten (a line is not the one that the gateway wrote), lost (the disk took no lines).
    """

    kind: str
    t: int
    cmd: str | None = None
    type: str | None = None
    order: str | None = None
    by: str | None = None
    corr: str | None = None
    device: str | None = None
    action: str | None = None
    of: int | None = None
    since: int | None = None
    count: int | None = None
    changes: tuple[Change, ...] = ()
    result: str | None = None
    codes: tuple[str, ...] = ()
    detail: tuple[str, ...] = ()


class Line(Entry, frozen=True, kw_only=True, omit_defaults=True):
    """An entry in its place: number `n`, behind the line whose hash is `prev`."""

    n: int
    prev: str


def encode(entry: Entry, n: int, prev: str) -> tuple[bytes, str]:
    """The line's bytes with the line feed, and its hash."""
    body = _encoder.encode(msgspec.to_builtins(entry) | {"n": n, "prev": prev})
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"hash":"' + digest.encode() + b'"}\n', digest


def decode(raw: bytes) -> tuple[Line, str]:
    """The line and its hash, from its bytes without the line feed. Raises `ValueError` for what was not written so."""
    found = _END.search(raw)
    if found is None:
        raise ValueError("it does not end in a hash")
    body, digest = raw[: found.start()] + b"}", found[1].decode()
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError("its hash is not that of its bytes")
    return msgspec.json.decode(body, type=Line), digest


def shown(value: Any) -> PlainValue:
    """A value as JSON can hold it: bytes in hexadecimal, arrays and what is no number as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return str([shown(element) for element in value])
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return str(value)
    plain: PlainValue = value
    return plain
