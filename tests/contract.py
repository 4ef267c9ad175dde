"""Holds messages against docs/contract.yaml. Whatever publishes in the tests passes through here.

The checker knows the part of JSON Schema that the document uses, and refuses any other keyword. It is stricter than
the document in one thing: a field that the contract does not name is an error, for that is how contracts rot.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from gateway.domain.effects import Effects
from gateway.mqtt import payloads
from gateway.mqtt.probes import SELF_TEST
from gateway.mqtt.topics import Topics

DOCUMENT = Path(__file__).parents[1] / "docs" / "contract.yaml"

Check = Callable[[Any], str | None]
"""What is wrong with a value, None if nothing is."""

TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}
WORDS = {"description", "default"}
PARTS = {"root": "[^/]+/[^/]+", "site": "[^/]+/[^/]+", "gateway": "[^/]+", "type": "[^/]+"}
PARTS["equipment"] = "[^/]+/[^/]+(/(?!_gw/)[^/]+)+"


class Contract:
    """The document, ready to check."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]
        self._ready: dict[str, Check] = {}
        self._channels = [(_pattern(c["address"]), set(c["messages"])) for c in document["channels"].values()]
        self._messages = {
            name: self._compile(message["payload"]) for name, message in document["components"]["messages"].items()
        }
        self._find = cache(self._message_of)

    def check(self, topic: str, payload: Any) -> None:
        """Fails with what is wrong, and where, if this may not be published there."""
        name = self._find(topic, isinstance(payload, dict) and payload.get("type") == SELF_TEST)
        assert name is not None, f"{topic} is no topic of the contract"
        wrong = self._messages[name](payload)
        assert wrong is None, f"{topic} carries what its contract does not allow: {wrong}\n{payload}"

    def wrong(self, message: str, payload: Any) -> str | None:
        """What is wrong with a payload of that message."""
        return self._messages[message](payload)

    def _message_of(self, topic: str, is_probe: bool) -> str | None:
        found = [names for pattern, names in self._channels if pattern.fullmatch(topic)]
        assert len(found) <= 1, f"{topic} matches several channels: {found}"
        if not found:
            return None
        return SELF_TEST if is_probe and SELF_TEST in found[0] else min(found[0] - {SELF_TEST}, default=SELF_TEST)

    # --- schemas to closures --------------------------------------------------------------------------------------

    def _compile(self, schema: dict[str, Any]) -> Check:
        checks = list(self._checks(schema))
        known = self._fields(schema)
        if known is not None:
            checks.append(lambda value: _extra(value, known))
        return lambda value: next((wrong for check in checks if (wrong := check(value)) is not None), None)

    def _checks(self, schema: dict[str, Any]) -> Iterator[Check]:
        """One check for each keyword; an object is closed by whoever calls this."""
        for keyword, body in schema.items():
            if keyword == "$ref":
                yield self._reference(body)
            elif keyword == "allOf":
                for part in body:
                    yield from self._checks(self._resolved(part))
            elif keyword not in WORDS:
                yield getattr(self, f"_{keyword}")(body)

    def _reference(self, reference: str) -> Check:
        name = reference.rsplit("/", 1)[-1]
        if name not in self._ready:
            self._ready[name] = self._compile(self._schemas[name])
        return self._ready[name]

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        return self._schemas[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema

    def _fields(self, schema: dict[str, Any]) -> set[str] | None:
        """The fields that an object may have, None where they are free."""
        if "allOf" in schema:
            return {name for part in schema["allOf"] for name in self._resolved(part)["properties"]}
        return set(schema["properties"]) if "properties" in schema else None

    def _type(self, names: str | list[str]) -> Check:
        tests = [TYPES[name] for name in ([names] if isinstance(names, str) else names)]
        return lambda value: None if any(test(value) for test in tests) else f"{value!r} is not of type {names}"

    def _const(self, only: Any) -> Check:
        return lambda value: None if value == only else f"{value!r} is not {only!r}"

    def _enum(self, known: list[Any]) -> Check:
        return lambda value: None if value in known else f"{value!r} is none of {known}"

    def _pattern(self, text: str) -> Check:
        search = re.compile(text).search
        return lambda value: None if not isinstance(value, str) or search(value) else f"{value!r} is not like {text}"

    def _required(self, names: list[str]) -> Check:
        def check(value: Any) -> str | None:
            missing = [name for name in names if name not in value] if isinstance(value, dict) else []
            return f"{', '.join(missing)} missing" if missing else None

        return check

    def _properties(self, parts: dict[str, Any]) -> Check:
        checks = {name: self._compile(part) for name, part in parts.items()}

        def check(value: Any) -> str | None:
            for name, inner in checks.items() if isinstance(value, dict) else ():
                if name in value and (wrong := inner(value[name])) is not None:
                    return f"{name}: {wrong}"
            return None

        return check

    def _additionalProperties(self, part: dict[str, Any]) -> Check:  # noqa: N802 - the keyword's own name
        inner = self._compile(part)
        return lambda value: _first(inner, value.values()) if isinstance(value, dict) else None

    def _items(self, part: dict[str, Any]) -> Check:
        inner = self._compile(part)
        return lambda value: _first(inner, value) if isinstance(value, list) else None

    def _minItems(self, least: int) -> Check:  # noqa: N802
        return lambda value: "too few items" if isinstance(value, list) and len(value) < least else None

    def _maxItems(self, most: int) -> Check:  # noqa: N802
        return lambda value: "too many items" if isinstance(value, list) and len(value) > most else None

    def _minimum(self, least: float) -> Check:
        number = TYPES["number"]
        return lambda value: f"{value!r} is below {least}" if number(value) and value < least else None

    def _maximum(self, most: float) -> Check:
        number = TYPES["number"]
        return lambda value: f"{value!r} is above {most}" if number(value) and value > most else None

    def _anyOf(self, parts: list[dict[str, Any]]) -> Check:  # noqa: N802
        checks = [self._compile(part) for part in parts]

        def check(value: Any) -> str | None:
            found = [inner(value) for inner in checks]
            return None if None in found else " or ".join(str(wrong) for wrong in found)

        return check


def _first(check: Check, values: Any) -> str | None:
    return next((wrong for value in values if (wrong := check(value)) is not None), None)


def _extra(value: Any, known: set[str]) -> str | None:
    extra = [name for name in value if name not in known] if isinstance(value, dict) else []
    return f"{', '.join(extra)} not in the contract" if extra else None


def _pattern(address: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", address)
    return re.compile("".join(re.escape(p) if n % 2 == 0 else f"(?:{PARTS[p]})" for n, p in enumerate(parts)))


@cache
def the_contract() -> Contract:
    return Contract(
        yaml.load(DOCUMENT.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    )


def check_effects(effects: Effects, topics: Topics) -> None:
    """Everything that one commit would publish."""
    contract = the_contract()
    for event in effects.events:
        contract.check(topics.event(event.equipment, event.type), _plain(payloads.encode_event(event)))
    for path, answer, _ in effects.answers:
        contract.check(topics.answer(path, answer.type), _plain(payloads.encode_answer(answer)))
    for telemetry in effects.telemetry:
        contract.check(topics.telemetry(telemetry.equipment), _plain(payloads.encode_telemetry(telemetry)))
    for (path, kind), payload in effects.retained.items():
        contract.check(topics.retained(path, kind), _plain(payloads.encode_json(payload)))


def _plain(payload: bytes) -> Any:
    return msgspec.json.decode(payload)
