"""The contract of the messages as an AsyncAPI 3.0.0 document, generated from the structs that are sent and taken.

Shapes, units and field descriptions come from the structs (`msgspec.json.schema_components`), sentences from their
docstrings, the topics' levels from `Level`. What is published always has every field; what is taken in may leave out
those with a default. Two additions of ours stand on every event: `x-natural-key`, the parts that make its id, and
`x-class`, `critical` for what is kept until the broker has it and `telemetry` for what may be dropped on overflow.
"""

import inspect
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import msgspec

from gateway.domain.contract.envelope import Answer, Event
from gateway.domain.contract.event_data import EventData, Level, UtcTime
from gateway.domain.contract.events import EVENT_TYPES
from gateway.domain.contract.requests import COMMAND_TYPES, EQUIPMENT_COMMANDS, GATEWAY_COMMANDS
from gateway.mqtt.contract_messages import (
    CurrentOrder,
    CurrentParameters,
    CurrentState,
    CurrentUnits,
    GatewayStatus,
    MessageCounts,
    RunParameterBatch,
)
from gateway.mqtt.contract_schemas import as_published, as_taken, shared, tidy
from gateway.mqtt.probes import SELF_TEST, SelfTestProbe

_SCHEMAS: Final = "#/components/schemas/"
_MESSAGES: Final = "#/components/messages/"

LEVELS: Final = {
    Level.EQUIPMENT: "{root}/{equipment}",
    Level.SITE: "{root}/{site}",
    Level.GATEWAY: "{root}/{site}/_gw/{gateway}",
}
"""The topics' beginnings; see `Topics`."""

PARAMETERS: Final = {
    "root": "topic_root of the configuration; mfg/v1 unless it says otherwise",
    "equipment": "path of the equipment: enterprise/site/area/line/unit, slashes included",
    "site": "enterprise/site, slash included",
    "gateway": "id of the gateway",
    "type": "type of the command that is answered",
}

CURRENT: Final[Mapping[str, type[msgspec.Struct]]] = {
    "state": CurrentState,
    "order": CurrentOrder,
    "params": CurrentParameters,
    "units": CurrentUnits,
}
"""What `now/{kind}` holds of an equipment."""

OF_THE_GATEWAY: Final[Mapping[str, type[msgspec.Struct]]] = {"now.messages": MessageCounts, "status": GatewayStatus}
"""What is retained below the gateway itself, by the name of the message."""

DESCRIPTION: Final = """\
What a gateway publishes and takes in, all of it JSON in UTF-8 at QoS 1.

Every event comes at least once and in the order of `seq` per equipment. A second copy has the same (`id`, `rev`).
A hole in `seq` is a message that a broker lost. A higher `rev` of an `id` replaces what was said before.
Fields may be added within version 1; a reader passes over those it does not know.
What was published is kept for 72 hours, as far as the record has room: `replay` has it sent again.
What has the `type` `gateway.selftest` means nothing, on any topic: pass over it.
A command is answered on `res/…`; exactly one answer is final, and the same `cmd` is never carried out twice.
"""


def contract() -> dict[str, Any]:
    """The whole document, as plain values in an order that is the same every time."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Shop-floor gateway", "version": "1", "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {name: channel for name, channel, _ in _channels()},
        "operations": {name: operation for name, _, operation in _channels()},
        "components": {
            "parameters": {name: {"description": text} for name, text in PARAMETERS.items()},
            "messages": _messages(),
            "schemas": _schemas(),
        },
    }


# --- channels and operations --------------------------------------------------------------------------------------


def _channels() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, channel and operation of every topic."""
    for kind in EVENT_TYPES:
        for level in kind.levels:
            name = kind.type if level is kind.levels[0] else f"{kind.type}@{level}"
            yield _topic(name, f"{LEVELS[level]}/evt/{kind.type}", kind.type, "send")
    yield _topic("tel", f"{LEVELS[Level.EQUIPMENT]}/tel", "tel", "send", probed=True)
    for what in CURRENT:
        yield _topic(f"now.{what}", f"{LEVELS[Level.EQUIPMENT]}/now/{what}", f"now.{what}", "send", retain=True)
    for name in OF_THE_GATEWAY:
        address, probed = f"{LEVELS[Level.GATEWAY]}/{name.replace('.', '/')}", name == "status"
        yield _topic(name, address, name, "send", retain=True, probed=probed)
    for command, model in COMMAND_TYPES.items():
        yield _command(command, _level_of(model))
    for level in LEVELS:
        yield _topic(f"res@{level}", f"{LEVELS[level]}/res/{{type}}", "res", "send", probed=True)
        yield _topic(f"{SELF_TEST}.evt@{level}", f"{LEVELS[level]}/evt/{SELF_TEST}", SELF_TEST, "send")
    for level in (Level.EQUIPMENT, Level.GATEWAY):
        yield _topic(f"{SELF_TEST}.now@{level}", f"{LEVELS[level]}/now/{SELF_TEST}", SELF_TEST, "send")


def _topic(
    name: str, address: str, message: str, action: str, *, retain: bool = False, probed: bool = False
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """With `probed`, a probe of the self-test may be there instead."""
    messages = [message, SELF_TEST] if probed else [message]
    key = name.replace("@", ".at_")
    used = {part: {"$ref": f"#/components/parameters/{part}"} for part in PARAMETERS if f"{{{part}}}" in address}
    channel = {"address": address, "messages": {m: {"$ref": _MESSAGES + m} for m in messages}, "parameters": used}
    operation = {
        "action": action,
        "channel": {"$ref": f"#/channels/{key}"},
        "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
    }
    return key, channel, operation


def _level_of(command: type[msgspec.Struct]) -> Level:
    if command in GATEWAY_COMMANDS:
        return Level.GATEWAY
    return Level.EQUIPMENT if command in EQUIPMENT_COMMANDS else Level.SITE


def _command(kind: str, level: Level) -> tuple[str, dict[str, Any], dict[str, Any]]:
    name, channel, operation = _topic(f"cmd.{kind}", f"{LEVELS[level]}/cmd/{kind}", f"cmd.{kind}", "receive")
    return name, channel, {**operation, "reply": {"channel": {"$ref": f"#/channels/res.at_{level}"}}}


# --- messages -----------------------------------------------------------------------------------------------------


def _messages() -> dict[str, Any]:
    shown = msgspec.json.decode(resources.files("gateway.mqtt").joinpath("contract_examples.json").read_bytes())
    messages = {kind.type: _event_message(kind) for kind in EVENT_TYPES}
    messages["tel"] = {**_words(RunParameterBatch), "payload": _ref(RunParameterBatch), "x-class": "telemetry"}
    messages |= {f"now.{kind}": {**_words(model), "payload": _ref(model)} for kind, model in CURRENT.items()}
    messages |= {name: {**_words(model), "payload": _ref(model)} for name, model in OF_THE_GATEWAY.items()}
    messages |= {f"cmd.{kind}": _command_message(kind, model) for kind, model in COMMAND_TYPES.items()}
    messages["res"] = {**_words(Answer), "payload": _ref(Answer), "x-class": "critical"}
    messages[SELF_TEST] = {**_words(SelfTestProbe), "payload": _ref(SelfTestProbe)}
    for name, message in messages.items():
        message["examples"] = [{"payload": payload} for payload in shown.get(name, [])]
    return messages


def _event_message(kind: type[EventData]) -> dict[str, Any]:
    body: dict[str, Any] = {"type": {"const": kind.type}, "data": _ref(kind)}
    if Level.EQUIPMENT not in kind.levels:
        body["eq"] = {"type": "null"}
    elif kind.levels == (Level.EQUIPMENT,):
        body["eq"] = {"type": "string"}
    return {
        **_words(kind),
        "payload": {"allOf": [_ref(Event), {"type": "object", "properties": body}]},
        "x-natural-key": ["type", "eq", *(_wire_name(kind, part) for part in kind.key)],
        "x-class": "critical",
    }


def _command_message(kind: str, model: type[msgspec.Struct]) -> dict[str, Any]:
    body = {"type": "object", "properties": {"type": {"const": kind}}}
    return {**_words(model), "payload": {"allOf": [_ref(model), body]}}


def _wire_name(kind: type[EventData], part: str) -> str:
    """Where a part of the natural key stands in the message."""
    in_envelope = {"t_src": "t_src", "order": "order.id", "op": "order.op"}
    if part in in_envelope:
        return in_envelope[part]
    return "data." + next(field.encode_name for field in msgspec.structs.fields(kind) if field.name == part)


def _words(model: type) -> dict[str, Any]:
    """Summary and description from the docstring."""
    summary, _, rest = inspect.cleandoc(model.__doc__ or "").partition("\n\n")
    words = {"summary": " ".join(summary.split())}
    return {**words, "description": rest} if rest else words


def _ref(model: type) -> dict[str, str]:
    return {"$ref": _SCHEMAS + model.__name__}


# --- schemas ------------------------------------------------------------------------------------------------------


def _schemas() -> dict[str, Any]:
    """What is published with every field required, what is taken in with its defaults."""
    retained = [*CURRENT.values(), *OF_THE_GATEWAY.values()]
    published = [Event, Answer, *EVENT_TYPES, RunParameterBatch, *retained, SelfTestProbe]
    schemas = {name: as_published(tidy(schema)) for name, schema in _components(published).items()}
    taken = _components(list(COMMAND_TYPES.values()))
    schemas |= {name: as_taken(tidy(schema)) for name, schema in taken.items() if name not in schemas}
    time = tidy(msgspec.json.schema(UtcTime))
    schemas["Event"]["properties"] |= {"t_src": time, "t_gw": time, "data": {"type": "object"}}
    schemas["Answer"]["properties"]["t"] = time
    del schemas["EventData"]
    return {**shared(dict(sorted(schemas.items())), time, {"$ref": _SCHEMAS + "UtcTime"}), "UtcTime": time}


def _components(models: list[Any]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(models, ref_template=_SCHEMAS + "{name}")
    return components
