"""Held against each other after a storm: what the machines did, what is in the record, what the consumer was told."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.consumer.memory import load
from gateway.store.inspection import Inspection, flaws, inspect, messages, reading
from tests.contract import the_contract
from tests.end_to_end.storm_floor import TOPICS, Machine

_LOST: Final = re.compile(r"(?m)^lost +(?P<stream>\S.*?) (?P<first>\d+)(-(?P<last>\d+))?: ")

Number = tuple[str, int]
"""Whose event, `gateway` for those of no equipment, and its number; there is one epoch in a storm."""


class Told(NamedTuple):
    """What the consumer wrote: each event as it first came, and how many came twice because the consumer was killed."""

    events: dict[Number, bytes]
    again: int


def place_of(event: dict[str, Any]) -> str:
    return str(event["eq"] or "gateway")


def read_told(out: bytes) -> Told:
    """Lines that were cut off by a kill are completed by nobody; whatever they held is told again."""
    events: dict[Number, bytes] = {}
    again = 0
    for line in out.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        number = (place_of(event), event["seq"])
        again += number in events
        first = events.setdefault(number, line)
        assert first == line, f"{number} was told twice, and not the same:\n{first!r}\n{line!r}"
    return Told(events, again)


def kept(record: Path) -> dict[Number, bytes]:
    """The events that stand in the record, as bytes."""
    with reading(record) as connection:
        return {
            (message.equipment or "gateway", message.seq): bytes(message.payload)
            for message in messages(connection, None, None, 0, 2**62)
            if message.stream == "evt"
        }


def account(record: Path) -> Inspection:
    """The sums of a record that is whole; `gateway store verify` says the same."""
    with reading(record) as connection:
        found = list(flaws(connection, record))
        assert found == []
        return inspect(connection, record)


def lost(logs: Iterable[str]) -> set[Number]:
    """The numbers of events that the consumer said it gave up."""
    numbers: set[Number] = set()
    for log in logs:
        for found in _LOST.finditer(log):
            if not found["stream"].endswith(" tel"):
                place = "gateway" if found["stream"].startswith("gateway ") else found["stream"]
                numbers |= {
                    (place, seq) for seq in range(int(found["first"]), int(found["last"] or found["first"]) + 1)
                }
    return numbers


def decoded(told: Told) -> dict[str, list[dict[str, Any]]]:
    """By place, in the order in which they were told, each held against the contract."""
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (place, _), line in told.events.items():
        events[place].append(json.loads(line))
    return events


def whole(told: Told) -> None:
    """Each stream 1, 2, 3 … in order."""
    for place, events in decoded(told).items():
        numbers = [event["seq"] for event in events]
        expected = list(range(1, max(numbers) + 1))
        assert numbers == expected, f"{place}: {list(odd(numbers, expected))}"


def odd(numbers: list[int], expected: list[int]) -> Iterator[str]:
    """What is wrong with them, in words."""
    if missing := sorted(set(expected) - set(numbers)):
        yield f"missing {missing}"
    yield from (f"{later} behind {before}" for before, later in pairwise(numbers) if later < before)


def newest(events: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of one type, each in its highest revision."""
    facts: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["type"] == kind and event["rev"] >= facts.get(event["id"], event)["rev"]:
            facts[event["id"]] = event
    return list(facts.values())


def counted(events: Iterable[dict[str, Any]]) -> int:
    """The pieces of all windows."""
    return sum(event["data"]["delta"] for event in newest(events, "production.count"))


def by_order(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The pieces of all windows by order; an order that has begun is there without pieces, too."""
    orders = {event["order"]["id"]: 0 for event in newest(events, "order.started")}
    for event in newest(events, "production.count"):
        if event["order"] is not None:
            orders[event["order"]["id"]] += event["data"]["delta"]
    return orders


def completed(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The totals of the orders that have ended."""
    return {event["order"]["id"]: event["data"]["good"] for event in newest(events, "order.completed")}


def states(events: Iterable[dict[str, Any]]) -> list[str]:
    """The states that the machine went through: not that nobody knew it for a while, and not the same twice."""
    told = [event["data"]["to"] for event in events if event["type"] == "equipment.state"]
    known = [state for state in told if state != "UNKNOWN"]
    return [state for before, state in zip([None, *known], known, strict=False) if state != before]


def true_to(machine: Machine, events: list[dict[str, Any]]) -> None:
    """The machine's whole life: every piece once, every state in its turn."""
    assert counted(events) == machine.pieces, f"{machine.path}: {counted(events)} of {machine.pieces} pieces"
    assert by_order(events) == machine.orders, f"{machine.path}: pieces by order"
    over = {order: good for order, good in machine.orders.items() if order != machine.running}
    assert completed(events) == over, f"{machine.path}: what orders ended with"
    told = states(events)
    assert told == machine.states, f"{machine.path}: {first_difference(told, machine.states)}"


def first_difference(told: list[str], truth: list[str]) -> str:
    at = next((at for at, (one, other) in enumerate(zip(told, truth, strict=False)) if one != other), min(len(told), len(truth)))  # fmt: skip
    return f"{len(told)} states of {len(truth)}; at {at}: {told[at : at + 4]} instead of {truth[at : at + 4]}"


def same_bytes(heard: Iterable[tuple[str, bytes]]) -> int:
    """Everything that ears heard: a number is one message, an id with its revision one fact. How many came again."""
    by_number: dict[tuple[str, str, int], bytes] = {}
    by_fact: dict[tuple[str, int], bytes] = {}
    again = 0
    for topic, payload in heard:
        if not payload or "/cmd/" in topic or "/now/" in topic or topic.endswith(("/status", "gateway.selftest")):
            continue
        message = json.loads(payload)
        if message.get("type") == "gateway.selftest":
            continue
        the_contract().check(topic, message)
        if "/res/" in topic:
            continue
        kind = "tel" if topic.endswith("/tel") else "evt"
        first = by_number.setdefault((kind, place_of(message), message["seq"]), payload)
        again += first is not payload
        assert first == payload, f"{kind} {place_of(message)} {message['seq']}:\n{first!r}\n{payload!r}"
        if kind == "evt":
            fact = by_fact.setdefault((message["id"], message["rev"]), payload)
            assert fact == payload, f"one id for two:\n{fact!r}\n{payload!r}"
    return again


def shown(retained: dict[str, bytes], machine: Machine) -> str | None:
    """The state on the machine's retained topic, None as long as it has not come."""
    payload = retained.get(f"{TOPICS}/{machine.path}/now/state")
    return None if payload is None else str(json.loads(payload)["state"])


def dropped_as_told(events: Iterable[dict[str, Any]]) -> int:
    """What `gateway.dropped` said, in messages."""
    return sum(event["data"]["messages"] for event in events if event["type"] == "gateway.dropped")


def accounted(heard: Iterable[tuple[str, bytes]]) -> None:
    """Whenever the gateway told what became of its messages, none was unaccounted for."""
    for topic, payload in heard:
        if topic.endswith("/now/messages"):
            sums = json.loads(payload)
            parts = sum(sums[name] for name in ("acknowledged", "queued", "dropped", "quarantined"))
            assert sums["ingested"] == parts, sums


def missed(state: Path) -> tuple[int, int]:
    """How many events the consumer ever missed, and how many run parameters it lacks, by its state file."""
    memory = load(state)
    assert memory is not None
    events = sum(numbers.found for _, numbers in memory.streams)
    lacking = sum(saved.numbers.left for saved in memory.telemetry.values())
    return events, lacking + sum(tally.lost_before for tally in memory.tallies.values())
