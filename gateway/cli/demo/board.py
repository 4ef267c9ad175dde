"""What a newcomer should see of the running line, gathered from the messages that the MES receives."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.cli.event_words import COUNTERS, details
from gateway.mqtt.probes import SELF_TEST

COLOURS: Final = {
    "RUN": "bold green", "IDLE": "cyan", "SETUP": "blue", "STARVED": "yellow", "BLOCKED": "yellow",
    "HELD": "magenta", "DOWN": "bold red", "UNKNOWN": "bright_black", "MAINT": "blue", "OFF": "bright_black",
}  # fmt: skip
LAST_EVENTS: Final = 9
QUIET: Final = frozenset({"production.count", "order.progress", "material.consumed", "energy.interval"})
"""Too many to show one by one; the counts are in the table."""


@dataclass
class Machine:
    """One row of the table."""

    state: str = "?"
    since: str = ""
    reason: str = ""
    order: str = ""
    counts: dict[str, int] = field(default_factory=dict)


class Board:
    """Takes in messages and draws the whole picture."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self.machines: dict[str, Machine] = {}
        self.events: deque[Text] = deque(maxlen=LAST_EVENTS)
        self.received = 0
        self.queued = 0
        self.broker = False
        self.links: dict[str, bool] = {}

    def take_message(self, topic: str, payload: dict[str, Any]) -> Text | None:
        """One message of the gateway; returns a line about it if it deserves one."""
        kind = topic.split("/")
        if payload.get("type") == SELF_TEST:
            return None
        if "evt" in kind:
            self.received += 1
            return self._take_event(payload)
        if "res" in kind:
            return self._say(payload["t"], f"answer to {payload['cmd']}: {payload['answer']}", *payload["codes"])
        if "cmd" in kind:
            return self._say(
                "", f"command {payload.get('cmd')}: {kind[-1]}", payload.get("set") or payload.get("order")
            )
        return None

    def take_report(self, report: dict[str, Any]) -> None:
        """The gateway's own figures."""
        self.queued, self.broker, self.links = report["queued"], report["broker"], report["links"]

    def _take_event(self, event: dict[str, Any]) -> Text | None:
        kind, data = event["type"], event["data"]
        unit = (event["eq"] or "gateway").rsplit("/", 1)[-1]
        if event["eq"]:
            machine = self.machines.setdefault(unit, Machine())
            _update(machine, kind, event)
        if kind in QUIET:
            return None
        return self._say(event["t_src"], f"{unit:<8}{kind:<20}", *details(kind, data))

    def _say(self, at: str, what: str, *details: object) -> Text:
        shown = " ".join(str(detail) for detail in details if detail not in (None, ""))
        text = Text.assemble((f"{at[11:19]:<9}", "bright_black"), what, " ", shown)
        for word, colour in COLOURS.items():
            text.highlight_regex(rf"\b{word}\b", colour)
        self.events.append(text)
        return text

    def draw(self, elapsed: float, clock: str) -> RenderableType:
        """The picture at that moment of plant time."""
        share = min(1.0, max(0.0, elapsed / self._seconds))
        progress = Table.grid(expand=True, padding=(0, 1))
        progress.add_column(no_wrap=True)
        progress.add_column(ratio=1)
        progress.add_column(no_wrap=True)
        progress.add_row(f"plant time {clock}", ProgressBar(total=1.0, completed=share), f"{share:4.0%}")
        return Panel(
            Group(self._machine_table(), Text(), self._event_list(), Text(), self._outbox(), progress),
            title=f"[bold]{self._name}", border_style="bright_black",
        )  # fmt: skip

    def _machine_table(self) -> Table:
        table = Table(expand=True, box=None, padding=(0, 1))
        for title in ("machine", "state", "since", "reason", "order"):
            table.add_column(title, style="", no_wrap=True)
        for title in ("produced", "good", "scrap"):
            table.add_column(title, justify="right", no_wrap=True)
        for unit, machine in sorted(self.machines.items()):
            counts = [f"{machine.counts[name]:,}" if name in machine.counts else "-" for name in COUNTERS]
            state = Text(machine.state, COLOURS.get(machine.state, ""))
            table.add_row(f"[bold]{unit}", state, machine.since, machine.reason, machine.order or "-", *counts)
        return table

    def _event_list(self) -> RenderableType:
        rows = [*self.events, *[Text()] * (LAST_EVENTS - len(self.events))]
        for row in rows:
            row.no_wrap, row.overflow = True, "ellipsis"
        return Group(Text("last events, as the MES receives them", "bright_black"), *rows)

    def _outbox(self) -> Text:
        links = [(f"{name} ", "green" if up else "red") for name, up in sorted(self.links.items())]
        return Text.assemble(
            "links: ", *links, "  broker: ", ("up" if self.broker else "down", "green" if self.broker else "red"),
            f"   outbox: {self.queued}   events received: {self.received}",
        )  # fmt: skip


def _update(machine: Machine, kind: str, event: dict[str, Any]) -> None:
    data = event["data"]
    if kind == "equipment.state":
        machine.state, machine.since = data["to"], event["t_src"][11:19]
        machine.reason = data["reason"] or data["cause"] or ""
    elif kind == "order.started":
        machine.order, machine.counts = event["order"]["id"], {}
    elif kind == "order.completed":
        machine.order = f"{event['order']['id']} done"
        machine.counts = {name: data[name] for name in COUNTERS if data[name] is not None}
    elif kind == "production.count" and data["order_total"] is not None:
        machine.counts[data["counter"]] = data["order_total"]
