"""The parts of a scenario, one model each: what the YAML says, with every time in seconds since the start."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)")


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


def _check_window(window: tuple[int, int]) -> tuple[int, int]:
    if window[0] > window[1]:
        raise ValueError("the window ends before it begins; write [from, to]")
    return window


Second = Annotated[int, BeforeValidator(_parse_second)]
"""Seconds since the scenario's start, written `"HH:MM:SS"`."""
Window = Annotated[tuple[Second, Second], AfterValidator(_check_window)]
"""`[from, to)` in seconds since the scenario's start; it may be empty."""


class Part(BaseModel):
    """Read-only, and strict about keys: a misspelt one would silently change the truth."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Order(Part):
    """A job order: what is made, how much, by which operation and with which parameter set on each machine."""

    material: str
    qty: int
    lot: str
    ops: dict[str, str]
    sets: dict[str, str] = {}


class Counter(Part):
    """A counter as it stands at the start, and the value after which it rolls over to 0.

    At each of `restarts` the PLC begins again with 0: what it had counted since anybody last looked is gone.
    """

    start: int = Field(ge=0)
    max: int = Field(gt=0)
    restarts: list[Second] = []

    def shown(self, made: Callable[[int], int], second: int) -> int:
        """What the counter shows at that second; `made` says how many pieces there were by any second."""
        last = max((restart for restart in self.restarts if restart <= second), default=None)
        pieces = self.start + made(second) if last is None else made(second) - made(last)
        return pieces % (self.max + 1)


class TimelineRow(Part):
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


class Filler(Part):
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


class Energy(Part):
    """An electricity meter: raw counts at the start, constant power, kWh per raw count."""

    start_raw: int
    kw: float
    kwh_per_raw: float


class Reels(Part):
    """Label reels: full at the start, changed at the splices."""

    material: str
    labels: int
    low_after: int
    splices: list[Second] = []


class Labeller(Part):
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


class Palletiser(Part):
    """PAL01: takes the labeller's good bottles at once; an order's last partial pallet leaves at `order_end`."""

    bottles_per_case: int = Field(gt=0)
    cases_per_pallet: int = Field(gt=0)
    order_end: dict[str, Second]


class Checkweigher(Part):
    """CW01: a subgroup every `every_s` while the filler executes; limits are those of `limits_of` in its active set."""

    every_s: int = Field(gt=0)
    characteristic: str
    limits_of: str
    out_of_spec: list[Second] = []


class Alarm(Part):
    """An alarm that comes, is acknowledged and goes."""

    eq: Literal["FIL01", "LBL01", "PAL01"]
    code: str
    raised: Second = Field(alias="raise")
    acked: Second = Field(alias="ack")
    cleared: Second = Field(alias="clear")


class Chatter(Part):
    """An alarm that toggles `pulses` times, shorter than its on-delay."""

    eq: Literal["FIL01", "LBL01", "PAL01"]
    code: str
    at: Second
    pulses: int
    on_s: float
    off_s: float
    on_delay_s: float


class ParameterItem(Part):
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
