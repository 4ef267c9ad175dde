"""`python -m simulators reconcile`: machine truth against what a plain subscriber received.

`reconcile` is the pure part: a ledger and captured messages in, lines that say equal or the difference out.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from simulators.options import UsageError

_COUNTERS: Final = ("produced", "good", "scrap")
_EVENT_FIELDS: Final = {"id", "type", "seq", "data"}
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of the machines beside the same figure as it was received; None is a figure that never came."""

    order: str
    equipment: str
    figure: str
    truth: int | str
    received: int | str | None

    @property
    def equal(self) -> bool:
        """True if nothing was lost, doubled or invented."""
        return self.truth == self.received


def reconcile(ledger: dict[str, Any], messages: Iterable[dict[str, Any]]) -> list[Comparison]:
    """Every figure of the ledger against the captured messages, which are in order of arrival.

    Pieces are the deltas of `production.count` added up, and where an `order.completed` came, its totals; pallets are
    the `container.completed`. A repeated (id, rev) counts once, of a revised event the highest revision counts. The
    sequence of each equipment must be 1, 2, 3 … in order of first arrival.

    What came on an event topic without the fields of an event is counted as unreadable, but for the probes by which a
    gateway sees, over MQTT 3.1.1, whether the broker passes on what it publishes.
    """
    topics = (message for message in messages if "/evt/" in message["topic"])
    said = [message["payload"] for message in topics if not message["topic"].endswith("/gateway.selftest")]
    readable = [payload for payload in said if isinstance(payload, dict) and payload.keys() >= _EVENT_FIELDS]
    events = list(_first_arrivals(readable))
    newest: dict[str, Event] = {}
    for event in events:
        if _rev(event) >= _rev(newest.get(event["id"], event)):
            newest[event["id"]] = event
    return [
        *_pieces(ledger, list(newest.values())),
        *_containers(ledger, list(newest.values())),
        *_sequences(events),
        Comparison("", "", "unreadable events", 0, len(said) - len(readable)),
    ]


def _first_arrivals(events: Iterable[Event]) -> Iterator[Event]:
    seen: set[tuple[str, int]] = set()
    for event in events:
        key = event["id"], _rev(event)
        if key not in seen:
            seen.add(key)
            yield event


def _rev(event: Event) -> int:
    return int(event.get("rev", 1))


def _unit(event: Event) -> str:
    return str(event.get("eq") or "").rsplit("/", 1)[-1]


def _order(event: Event) -> str | None:
    return (event.get("order") or {}).get("id")


def _pieces(ledger: dict[str, Any], events: list[Event]) -> Iterator[Comparison]:
    sums: dict[tuple[str | None, str, str], int] = defaultdict(int)
    completed: dict[tuple[str | None, str], Event] = {}
    for event in events:
        if event["type"] == "production.count":
            sums[_order(event), _unit(event), event["data"]["counter"]] += event["data"]["delta"]
        elif event["type"] == "order.completed":
            completed[_order(event), _unit(event)] = event["data"]
    for order, machines in ledger["orders"].items():
        for equipment, totals in machines.items():
            for figure in (name for name in _COUNTERS if name in totals):
                received = sums.get((order, equipment, figure), 0)
                yield Comparison(order, equipment, f"{figure}, deltas", totals[figure], received)
                if (order, equipment) in completed:
                    said = completed[order, equipment].get(figure)
                    yield Comparison(order, equipment, f"{figure}, completed", totals[figure], said)


def _containers(ledger: dict[str, Any], events: list[Event]) -> Iterator[Comparison]:
    left = [(pallet["order"], pallet) for pallet in ledger["containers"]]
    came = [(_order(event), event["data"]) for event in events if event["type"] == "container.completed"]
    for order in ledger["orders"]:
        ours, theirs = ([data for whose, data in side if whose == order] for side in (left, came))
        for figure, told in (("qty", "bottles on pallets"), ("cases", "cases on pallets")):
            truth, received = (sum(data.get(figure) or 0 for data in side) for side in (ours, theirs))
            yield Comparison(order, "PAL01", told, truth, received)
        yield Comparison(order, "PAL01", "pallets", len(ours), len(theirs))
        labels, known = ({str(data["sscc"]) for data in side} for side in (ours, theirs))
        yield Comparison(order, "PAL01", "labels recognised", len(labels), len(labels & known))


def _sequences(events: list[Event]) -> Iterator[Comparison]:
    """A new store begins a new epoch, and with it a new sequence."""
    sequences: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        sequences[event.get("eq") or "gateway", str(event.get("epoch", ""))].append(event["seq"])
    for (equipment, _), numbers in sorted(sequences.items()):
        last = max(numbers)
        wanted = range(1, last + 1)
        broken = next(
            (f"{got} where {want} was due" for want, got in zip(wanted, numbers, strict=False) if want != got), None
        )
        received = broken or (f"1 to {len(numbers)}" if len(numbers) == last else f"{len(numbers)} of {last}")
        yield Comparison("", equipment.rsplit("/", 1)[-1], "sequence", f"1 to {last}", received)


def declare(parser: argparse.ArgumentParser, _command: str) -> None:
    """The options of the command."""
    parser.add_argument("--ledger", type=Path, required=True, help="what the machines wrote")
    parser.add_argument("--capture", type=Path, required=True, help="what the MES wrote")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print every comparison; the exit status is 1 if one is not equal."""
    try:
        ledger = json.loads(args.ledger.read_text(encoding="utf-8"))
        with args.capture.open(encoding="utf-8") as file:
            comparisons = reconcile(ledger, map(json.loads, file))
    except (OSError, ValueError) as error:
        raise UsageError(f"reconcile: {error}") from error
    if args.json:
        rows = [{**asdict(c), "equal": c.equal} for c in comparisons]
        print(json.dumps(rows, indent=1, ensure_ascii=False))  # noqa: T201 - the answer
    else:
        Console().print(table(comparisons))
    return 0 if all(c.equal for c in comparisons) else 1


def table(comparisons: list[Comparison]) -> Table:
    """The comparisons for people: every line says equal or the difference."""
    result = Table(title="Machine truth against what a plain subscriber received")
    for title in ("order", "equipment", "figure"):
        result.add_column(title)
    for title in ("machines", "received"):
        result.add_column(title, justify="right", overflow="fold")
    result.add_column("verdict")
    for c in comparisons:
        verdict = "[green]equal[/]" if c.equal else f"[bold red]{_difference(c)}[/]"
        result.add_row(c.order, c.equipment, c.figure, str(c.truth), str(c.received), verdict)
    return result


def _difference(c: Comparison) -> str:
    if isinstance(c.truth, int) and isinstance(c.received, int):
        return f"{c.received - c.truth:+d}"
    return "different"
