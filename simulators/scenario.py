"""A scenario: what the machines of one line truly did in one shift, what was sent to the gateway and what failed.

The YAML says times as quoted `"HH:MM:SS"`; here they are whole seconds since the scenario's start. A time before the
start's time of day means the next day. Unknown keys are errors, except in `commands` and `faults`, whose kinds carry
fields of their own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)")
MACHINES: Final = ("FIL01", "LBL01", "PAL01")
"""The equipment every scenario has; CW01 is a gauge, not a machine."""


class ScenarioError(Exception):
    """The scenario cannot be played; the text says where, what is wrong and what would be right."""


def seconds_since(start: datetime, clock: object) -> int:
    """Whole seconds from the scenario's start to `HH:MM:SS`; raises `ValueError` for anything else."""
    match = _CLOCK.fullmatch(clock) if isinstance(clock, str) else None
    if match is None:
        raise ValueError(
            f'{clock!r} is not a time; write it quoted, as in "06:30:00" (unquoted, YAML makes it a number)'
        )
    at = start.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3]))
    return int(((at if at >= start else at + timedelta(days=1)) - start).total_seconds())


def _parse_second(clock: object, info: ValidationInfo) -> int:
    assert info.context is not None, "a scenario is read by parse(), which knows its start"
    return seconds_since(info.context["start"], clock)


def _parse_window(window: tuple[int, int]) -> tuple[int, int]:
    if window[0] >= window[1]:
        raise ValueError("the window ends before it begins; write [from, to]")
    return window


Second = Annotated[int, BeforeValidator(_parse_second)]
"""Seconds since the scenario's start, written `"HH:MM:SS"`."""
Window = tuple[Second, Second]
"""`[from, to)` in seconds since the scenario's start."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Order(_Part):
    """A job order: what is made, how much, by which operation and with which parameter set on each machine."""

    material: str
    qty: int
    lot: str
    ops: dict[str, str]
    sets: dict[str, str] = {}


class Counter(_Part):
    """A counter as it stands at the start, and the value after which it rolls over to 0."""

    start: int = Field(ge=0)
    max: int = Field(gt=0)

    def after(self, pieces: int) -> int:
        """What the counter shows when that many pieces were added."""
        return (self.start + pieces) % (self.max + 1)


class TimelineRow(_Part):
    """What changes on the filler at one moment; a key that is left out keeps its value."""

    at: Second
    state: int | None = None
    mode: int | None = None
    reason: int | None = None
    starved: bool | None = None
    order: str | None = None


@dataclass(frozen=True, slots=True)
class FillerRow:
    """One row of the filler's timeline with every value filled in; it holds in `[start, end)`."""

    start: int
    end: int
    state: int
    mode: int
    reason: int
    starved: bool
    order: str | None


class Filler(_Part):
    """FIL01: states by PackTags numbers, `bottles_per_s` in every executed second, all scrap in the scrap windows."""

    bottles_per_s: int = Field(gt=0)
    handshake_s: float = Field(ge=0)
    produced: Counter
    scrap: Counter
    timeline: list[TimelineRow]
    scrap_windows: list[Window] = []
    permit: list[Window] = []
    reasons: dict[int, str] = {}

    @model_validator(mode="after")
    def _starts_complete_and_ascends(self) -> Self:
        missing = set(TimelineRow.model_fields) - self.timeline[0].model_fields_set if self.timeline else {"at"}
        if missing or self.timeline[0].at != 0:
            raise ValueError(
                "the first row of the timeline must be at the start and give state, mode, reason, starved, order"
            )
        if any(a.at >= b.at for a, b in zip(self.timeline, self.timeline[1:], strict=False)):
            raise ValueError("the rows of the timeline must follow each other in time")
        return self

    def rows(self, length: int) -> Iterator[FillerRow]:
        """The timeline with every value filled in, tiling `[0, length)`."""
        values: dict[str, Any] = {}
        ends = [row.at for row in self.timeline[1:]] + [length]
        for row, end in zip(self.timeline, ends, strict=True):
            values |= {name: getattr(row, name) for name in row.model_fields_set if name != "at"}
            if row.at < length:
                yield FillerRow(start=row.at, end=min(end, length), **values)


class Energy(_Part):
    """An electricity meter: raw counts at the start, constant power, kWh per raw count."""

    start_raw: int
    kw: float
    kwh_per_raw: float


class Reels(_Part):
    """Label reels: full at the start, changed at the splices."""

    material: str
    labels: int
    low_after: int
    splices: list[Second] = []


class Labeller(_Part):
    """LBL01: labels the filler's good bottles `transit_s` later."""

    transit_s: int = Field(ge=0)
    handshake_s: float = Field(ge=0)
    warm_up: Window
    remote_from: Second
    permit: list[Window] = []
    total_in: Counter
    good: Counter
    reject: Counter
    energy: Energy
    reject_windows: list[Window] = []
    device_max: dict[str, float] = {}
    reels: Reels | None = None


class Palletiser(_Part):
    """PAL01: takes the labeller's good bottles at once; an order's last partial pallet leaves at `order_end`."""

    bottles_per_case: int = Field(gt=0)
    cases_per_pallet: int = Field(gt=0)
    order_end: dict[str, Second]


class Checkweigher(_Part):
    """CW01: a subgroup every `every_s` while the filler executes; limits are those of `limits_of` in its active set."""

    every_s: int = Field(gt=0)
    characteristic: str
    limits_of: str
    out_of_spec: list[Second] = []


class Alarm(_Part):
    """An alarm that comes, is acknowledged and goes."""

    eq: Literal["FIL01", "LBL01", "PAL01"]
    code: str
    raised: Second = Field(alias="raise")
    acked: Second = Field(alias="ack")
    cleared: Second = Field(alias="clear")


class Chatter(_Part):
    """An alarm that toggles `pulses` times, shorter than its on-delay."""

    eq: Literal["FIL01", "LBL01", "PAL01"]
    code: str
    at: Second
    pulses: int
    on_s: float
    off_s: float
    on_delay_s: float


class ParameterItem(_Part):
    """One parameter of a released set."""

    value: int | float
    unit: str
    min: int | float
    max: int | float
    class_: str = Field(alias="class")


class Command(BaseModel):
    """What the systems around the gateway send; fields of one type only are kept in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    at: Second
    type: str
    cmd: str | None = None
    eq: str | None = None
    order: str | None = None
    set: str | None = None
    rev: str | None = None
    items: dict[str, int | float] = {}
    limits: dict[str, tuple[int | float, int | float]] = {}
    result: str | None = None
    done: Second | None = None
    repeat: bool = False


class Fault(BaseModel):
    """What fails from when to when."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    from_: Second = Field(alias="from")
    to: Second
    device: str | None = None
    equipment: list[str] = []


class Scenario(_Part):
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
    alarms: list[Alarm] = []
    chatter: list[Chatter] = []
    parameter_sets: dict[str, dict[str, dict[str, ParameterItem]]] = {}
    commands: list[Command] = []
    faults: list[Fault] = []

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
