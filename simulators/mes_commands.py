"""The commands of a scenario as the message contract wants them: topic and body, field for field."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from simulators.scenario import Scenario
from simulators.scenario_parts import Command, ParameterItem, seconds_since

ROOT: Final = "mfg/v1"
_VALID_S: Final = 600
"""A download that nobody took within ten minutes is not meant any more."""
_OWN_ACCORD: Final = "auto.download"
"""What the gateway does by itself; nobody sends it."""
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What to publish at that second of the scenario."""

    at: int
    topic: str
    body: Body


def messages(scenario: Scenario) -> list[Message]:
    """All commands in order of their time; a repeated one is the same once more."""
    sent: dict[str | None, Message] = {}
    result = []
    for command in sorted(scenario.commands, key=lambda command: command.at):
        if command.type == _OWN_ACCORD:
            continue
        message = Message(command.at, topic(scenario, command), body(scenario, command))
        if command.repeat and command.cmd in sent:
            message = Message(command.at, message.topic, sent[command.cmd].body)
        sent[command.cmd] = message
        result.append(message)
    return result


def topic(scenario: Scenario, command: Command) -> str:
    """A command for an equipment goes to its own topic, any other to the site."""
    if command.eq:
        return f"{ROOT}/{scenario.line}/{command.eq}/cmd/{command.type}"
    site = "/".join(scenario.line.split("/")[:2])
    return f"{ROOT}/{site}/cmd/{command.type}"


def body(scenario: Scenario, command: Command) -> Body:
    """The command as it is sent."""
    build = _BODIES.get(command.type)
    fields = build(scenario, command) if build else dict(command.model_extra or {})
    return {"cmd": command.cmd, "type": command.type, **fields}


def items_hash(items: list[Body]) -> str:
    """SHA-256 of the items as canonical JSON: keys sorted, no spaces, UTF-8."""
    text = json.dumps(items, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _items(released: Mapping[str, ParameterItem], command: Command | None = None) -> list[Body]:
    """The items of a set, with the values and limits that the command gives instead."""
    values, limits = (command.items, command.limits) if command else ({}, {})
    return [
        {
            "name": name,
            "value": values.get(name, item.value),
            "unit": item.unit,
            "min": limits.get(name, (item.min, item.max))[0],
            "max": limits.get(name, (item.min, item.max))[1],
            "class": item.class_,
        }
        for name, item in released.items()
    ]


def _download(scenario: Scenario, command: Command) -> Body:
    items = _items(scenario.parameter_sets[command.set or ""][command.rev or ""], command)
    return {
        "eq": command.eq,
        "order": command.order,
        "set": command.set,
        "rev": command.rev,
        "hash": items_hash(items),
        "items": items,
        "valid_until": scenario.iso(command.at + _VALID_S),
    }


def _release(scenario: Scenario, command: Command) -> Body:
    extra = command.model_extra or {}
    sets = []
    for name, rev in extra["sets"].items():
        items = _items(scenario.parameter_sets[name][rev])
        sets.append({"set": name, "rev": rev, "hash": items_hash(items), "items": items})
    change = {"change": extra["change"]} if "change" in extra else {}
    return {**change, "sets": sets}


def _dispatch(scenario: Scenario, command: Command) -> Body:
    extra = command.model_extra or {}
    order = scenario.orders[command.order or ""]
    start = _second(scenario, extra["start"]) if "start" in extra else command.at
    automatic = {"auto_download": {"when": ["IDLE", "SETUP"], "permit": True}} if extra.get("auto_download") else {}
    return {
        "order": command.order,
        "material": order.material,
        "qty": order.qty,
        "unit": "pcs",
        "lot": order.lot,
        "prio": 50,
        "start": scenario.iso(start),
        "ops": list(_operations(scenario, command)),
        **automatic,
    }


def _operations(scenario: Scenario, command: Command) -> Iterator[Body]:
    order = scenario.orders[command.order or ""]
    for equipment, operation in order.ops.items():
        parameters = {"set": order.sets[equipment], "rev": "released"} if equipment in order.sets else {}
        yield {"op": operation, "eq": equipment, **parameters}


def _notice(scenario: Scenario, command: Command) -> Body:
    extra = command.model_extra or {}
    effective = extra.get("effective")
    when = {"mode": "at_time", "t": scenario.iso(_second(scenario, effective))} if effective else {"mode": "immediate"}
    items = [{"set": name, "from": _before(scenario, name, rev), "to": rev} for name, rev in extra["sets"].items()]
    return {"cn": extra["cn"], "items": items, "effective": when}


def _before(scenario: Scenario, name: str, rev: str) -> str | None:
    """The revision listed before that one, if there is one."""
    revisions = [*scenario.parameter_sets[name]]
    place = revisions.index(rev)
    return revisions[place - 1] if place else None


def _arrival(scenario: Scenario, command: Command) -> Body:
    extra = command.model_extra or {}
    reels = scenario.labeller.reels
    return {
        "material": extra["material"],
        "qty": extra.get("qty", reels.labels if reels else None),
        "eta": scenario.iso(_second(scenario, extra["eta"])),
        "dock": f"{scenario.line.rsplit('/', 1)[1]}-LBL",
    }


def _task(_: Scenario, command: Command) -> Body:
    return {"task": f"T-{command.cmd}", "kind": "deliver", **(command.model_extra or {})}


def _change(scenario: Scenario, command: Command) -> Body:
    """What is done to a dispatched order; `start` is a time of the scenario's day."""
    extra = dict(command.model_extra or {})
    if "start" in extra:
        extra["start"] = scenario.iso(_second(scenario, extra["start"]))
    return {"order": command.order, **extra}


def _adjust(scenario: Scenario, command: Command) -> Body:
    """Other values of trims, in the units of the sets."""
    units = {
        name: item.unit
        for rows in scenario.parameter_sets.values()
        for row in rows.values()
        for name, item in row.items()
    }
    items = [{"name": name, "value": value, "unit": units.get(name)} for name, value in command.items.items()]
    order = {"order": command.order} if command.order is not None else {}
    return {"eq": command.eq, **order, "items": items, **(command.model_extra or {})}


def _sync(_: Scenario, command: Command) -> Body:
    """Master data; its items stand under `rows`, for `items` are those of a set."""
    extra = dict(command.model_extra or {})
    return {"items": extra.pop("rows", []), **extra}


def _hold(_: Scenario, command: Command) -> Body:
    return {"scope": command.model_extra, "reason": "weight<LSL", "action": "request_stop"}


def _release_hold(_: Scenario, command: Command) -> Body:
    return {"scope": command.model_extra}


def _second(scenario: Scenario, clock: str) -> int:
    return seconds_since(scenario.start, clock)


_BODIES: Final = {
    "params.download": _download,
    "params.release": _release,
    "params.adjust": _adjust,
    "dispatch.order": _dispatch,
    "dispatch.change": _change,
    "masterdata.sync": _sync,
    "change.notice": _notice,
    "material.arrival": _arrival,
    "stock.task": _task,
    "quality.hold": _hold,
    "quality.release": _release_hold,
}
