"""Effects to bytes, bytes to commands. The only place that knows the JSON of the contract."""

import difflib
import hashlib
import json
import re
from typing import Any, NamedTuple

import msgspec

from gateway.domain.contract.envelope import NOBODY, Answer, Event, Kept, Sender, Telemetry
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import COMMAND_TYPES, Command, ParamsDownload, ParamsRelease
from gateway.domain.times import format_timestamp, parse_timestamp

MAX_COMMAND_BYTES = 256_000

_MOST_DIGITS = 20

_encoder = msgspec.json.Encoder()
_TIMES = ("t_src", "t_gw", "t")


class Refused(NamedTuple):
    """A message that is no command we can take: who sent it, as far as it says, and why not."""

    cmd: str
    objection: Objection


def encode_event(event: Event) -> bytes:
    """One event with its envelope."""
    return _encoder.encode(_with_times(msgspec.to_builtins(event)))


def encode_answer(answer: Answer) -> bytes:
    """One answer to a command."""
    return _encoder.encode(_with_times(msgspec.to_builtins(answer)))


def encode_telemetry(telemetry: Telemetry) -> bytes:
    """One batch of run parameters, as rows `[ms after t0, name index, value]` with the status if it is not Good."""
    return _encoder.encode(
        {
            "v": 1, "eq": telemetry.equipment, "seq": telemetry.seq, "order": telemetry.order,
            "t0": format_timestamp(telemetry.start), "names": telemetry.names, "rows": telemetry.rows,
        }
    )  # fmt: skip


def encode_json(payload: Any) -> bytes:
    """Any plain payload: retained states, the gateway's status."""
    return _encoder.encode(payload)


def decode_answer(payload: bytes) -> Answer:
    """An answer that the store kept."""
    raw = msgspec.json.decode(payload)
    raw["t"] = parse_timestamp(raw["t"])
    return msgspec.convert(raw, Answer)


def decode_kept(payload: bytes, sender: bytes | None) -> Kept:
    """The same with who sent the command; records of the first version do not have that."""
    return Kept(decode_answer(payload), msgspec.json.decode(sender, type=Sender) if sender else NOBODY)


def digest_of(command: Command) -> str:
    """What a command says, in 16 hexadecimal digits; how its JSON is written makes no difference."""
    return hashlib.sha256(msgspec.json.encode(command, order="deterministic")).hexdigest()[:16]


def decode_command(kind: str, payload: bytes) -> Command | Refused:
    """The command, or why it cannot be one. Whatever arrives, nothing is raised."""
    if len(payload) > MAX_COMMAND_BYTES:
        text = f"has {len(payload):,} bytes; at most {MAX_COMMAND_BYTES:,} are taken"
        return Refused("", Objection("oversize", text))
    try:
        raw = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return Refused("", Objection("malformed", f"is not JSON: {error}"))
    if not isinstance(raw, dict):
        return Refused("", Objection("malformed", "is not a JSON object"))
    cmd = raw["cmd"] if isinstance(raw.get("cmd"), str) else ""
    if not re.fullmatch(r"[\x21-\x7e]{1,128}", cmd):
        text = "has no usable id: 'cmd' must be 1 to 128 visible ASCII characters without spaces"
        return Refused("", Objection("malformed", text))
    try:
        json.loads(payload, object_pairs_hook=_each_key_once, parse_int=_of_64_bits)
    except (_Unusual, RecursionError, ValueError) as error:
        return Refused(cmd, Objection("malformed", str(error)))
    model = COMMAND_TYPES.get(kind)
    if model is None:
        known, near = ", ".join(sorted(COMMAND_TYPES)), difflib.get_close_matches(kind, COMMAND_TYPES, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        return Refused(cmd, Objection("unknown_type", f"{kind!r} is no command; {meant}known are: {known}"))
    if raw.get("type", kind) != kind:
        text = f"the command says that it is {raw['type']!r}, its topic says {kind}"
        return Refused(cmd, Objection("unknown_type", text))
    try:
        return _checked(msgspec.convert(raw, model), raw)
    except (msgspec.ValidationError, ValueError) as error:
        return Refused(cmd, Objection("malformed", str(error)))


def _checked(command: Command, raw: dict[str, Any]) -> Command | Refused:
    if command.valid_until is not None and not _is_time(command.valid_until):
        text = f"valid_until {command.valid_until!r} is no time; write it as 2026-03-02T06:00:00Z"
        return Refused(command.cmd, Objection("malformed", text))
    sets = raw["sets"] if isinstance(command, ParamsRelease) else [raw] if isinstance(command, ParamsDownload) else []
    for given in sets:
        told, actual = given.get("hash"), items_hash(given["items"])
        if told is not None and told.lower() != actual:
            text = f"{given['set']} {given['rev']}: the items hash to {actual}, the command says {told}"
            return Refused(command.cmd, Objection("hash", text))
    return command


def _is_time(text: str) -> bool:
    try:
        parse_timestamp(text)
    except ValueError:
        return False
    return True


class _Unusual(Exception):  # noqa: N818 - it says what was found
    """JSON that readers do not agree on: a key twice in one object, a number beyond 64 bits (RFC 8259 §4, §6)."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in found if keys.count(key) > 1)
        raise _Unusual(f"has the key {repeated[:80]!r} twice in one object; which of them counts?")
    return found


def _of_64_bits(digits: str) -> int:
    """No device and no record takes more, and Python's arithmetic with floats breaks on it."""
    number = int(digits) if len(digits) <= _MOST_DIGITS else None
    if number is None or not -(2**63) <= number < 2**64:
        raise _Unusual(f"has the number {digits[:30]} of {len(digits)} digits, which no 64 bits hold")
    return number


def items_hash(items: Any) -> str:
    """SHA-256 of a parameter set's items as canonical JSON: keys sorted, no spaces."""
    return hashlib.sha256(msgspec.json.encode(items, order="deterministic")).hexdigest()


def _with_times(message: dict[str, Any]) -> dict[str, Any]:
    for name in _TIMES:
        if name in message:
            message[name] = format_timestamp(message[name])
    return message
