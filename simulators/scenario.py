"""A scenario: what the machines of one line truly did in one shift, what was sent to the gateway and what failed.

The YAML says times as quoted `"HH:MM:SS"`; here they are whole seconds since the scenario's start. A time before the
start's time of day means the next day. Unknown keys are errors, except in `commands` and `faults`, whose kinds carry
fields of their own.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from simulators.scenario_parts import (
    Alarm,
    Chatter,
    Checkweigher,
    Command,
    Fault,
    Filler,
    Labeller,
    Order,
    Palletiser,
    ParameterItem,
    Part,
)


class ScenarioError(Exception):
    """The scenario cannot be played; the text says where, what is wrong and what would be right."""


class Scenario(Part):
    """One shift of one line. `length` is its duration in seconds."""

    name: str
    start: datetime
    end: datetime
    line: str = Field(pattern=r"^[^/+#]+(/[^/+#]+){3}$")
    debounce_s: float
    micro_stop_s: float
    stale_after_s: float
    orders: dict[str, Order]
    filler: Filler
    labeller: Labeller
    palletiser: Palletiser
    checkweigher: Checkweigher
    alarms: tuple[Alarm, ...] = ()
    chatter: tuple[Chatter, ...] = ()
    parameter_sets: dict[str, dict[str, dict[str, ParameterItem]]] = Field(default_factory=dict)
    commands: tuple[Command, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def length(self) -> int:
        """Seconds from start to end."""
        return int((self.end - self.start).total_seconds())

    @property
    def start_ms(self) -> int:
        """The start in milliseconds since 1970-01-01 UTC."""
        return round(self.start.timestamp() * 1000)

    def iso(self, second: float) -> str:
        """That second as `2026-03-02T07:25:00.000Z`."""
        at = (self.start + timedelta(seconds=second)).astimezone(UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"

    @model_validator(mode="after")
    def _names_only_what_it_has(self) -> Self:
        wrong = [*self._wrong_orders(), *self._wrong_sets()]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_orders(self) -> Iterator[str]:
        used = {row.order for row in self.filler.timeline if row.order}
        for order in sorted(used):
            if order not in self.orders:
                yield f"filler.timeline names the order {order!r}, which is not one of orders: {', '.join(self.orders)}"
            if order not in self.palletiser.order_end:
                yield f"palletiser.order_end has no time for the order {order!r}; its last pallet must leave some time"
            if not (order.isascii() and len(order) <= 16):
                yield f"the order {order!r} does not fit LBL01's batch id, 16 ASCII characters"

    def _wrong_sets(self) -> Iterator[str]:
        for command in self.commands:
            named = {command.set: command.rev} if command.set else (command.model_extra or {}).get("sets", {})
            for name, rev in named.items():
                if rev not in self.parameter_sets.get(name, {}):
                    sender = command.cmd or command.type
                    yield f"the command {sender} names {name} revision {rev}, which parameter_sets has not"


def load(path: Path) -> Scenario:
    """Read a scenario file; raises `ScenarioError` with every mistake in it."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    return parse(raw, str(path))


def parse(raw: Any, where: str = "scenario") -> Scenario:
    """A scenario from the mapping that its YAML gives; raises `ScenarioError` with every mistake in it."""
    try:
        start = datetime.fromisoformat(raw["start"])
    except (TypeError, KeyError, ValueError) as error:
        raise ScenarioError(f'{where}: no start; write start: "2026-03-02T06:00:00Z", quoted') from error
    if start.tzinfo is None:
        raise ScenarioError(f'{where}: start has no time zone; write it in UTC with a Z, as "2026-03-02T06:00:00Z"')
    try:
        return Scenario.model_validate(raw, context={"start": start})
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(map(str, e['loc'])) or 'scenario'}: {e['msg']}" for e in error.errors()]
        raise ScenarioError("\n".join(lines)) from error
