"""The section `download` of an equipment: what may be written, when, and how the machine takes it."""

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.config.section import Name, Section
from gateway.domain.state.states import State
from gateway.domain.values import DataType
from gateway.domain.writing.download_spec import Allowance
from gateway.domain.writing.profiles import PROFILES
from gateway.drivers.base import Seconds


def parse_allowance(value: str) -> Allowance:
    """So many times in a time, from `4/h`."""
    times, _, unit = value.partition("/")
    window = {"min": 60_000, "h": 3_600_000, "d": 86_400_000}.get(unit.strip())
    if window is None or not times.strip().isdecimal() or int(times) == 0:
        raise ValueError(f"{value!r} does not say how often; write times per time: 2/min, 4/h or 10/d")
    return Allowance(int(times), window, value)


def _is_allowance(value: str) -> str:
    return parse_allowance(value).shown


class ParameterSection(Section):
    """One entry of the write allow-list; a number needs its limits, a text its greatest length, a bool has none."""

    tag: str
    min: float | None = None
    max: float | None = None
    readback: str | None = None
    parameter_class: Literal["golden", "trim", "constant", "order"] = Field(default="golden", alias="class")
    max_length: Annotated[int, Field(ge=1)] | None = None
    step: Annotated[float, Field(gt=0)] | None = None
    rate: Annotated[str, AfterValidator(_is_allowance)] | None = None
    states: Annotated[frozenset[State], Field(min_length=1)] | None = None


def _known_profile(name: str) -> str:
    if name not in PROFILES:
        close = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"{name!r} is no handshake; {hint}Known are: {', '.join(sorted(PROFILES))}")
    return name


class HandshakeSection(BaseModel):
    """How the machine takes what was written. Which other keys there are is in the table of the profile `type`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: Annotated[str, AfterValidator(_known_profile)]


class ArgumentSection(Section):
    """One argument of the method; the strings `{order}`, `{set}` and `{rev}` stand for those of the download."""

    type: DataType = DataType.STRING
    value: str | int | float | bool


class MethodSection(Section):
    """The keys of the handshake `method`; `result` is what its first output must be."""

    type: str
    object: str
    method: str
    result: int | None = None
    arguments: tuple[ArgumentSection, ...] = ()
    poll: Seconds = 0.2
    readback_timeout: Seconds = 0.0


class FormatSection(Section):
    """The tag in which the machine shows its tool or format, and what it must be for each set."""

    tag: str
    sets: Annotated[dict[Name, str | int | float], Field(min_length=1)]


class DownloadSection(Section):
    """What may be written, when, and how the machine takes it."""

    parameters: Annotated[dict[Name, ParameterSection], Field(min_length=1)]
    conditions: dict[Name, str] = {}
    permit: str | None = None
    permit_timeout: Seconds = 1800.0
    contact_timeout: Seconds = 1800.0
    released_only: bool = Field(default=False, description="no set is taken that PLM did not release here")
    order_tag: str | None = Field(default=None, description="shows the order that the machine is prepared for")
    format: FormatSection | None = None
    handshake: HandshakeSection = HandshakeSection(type="none")
