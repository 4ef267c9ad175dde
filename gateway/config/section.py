"""What every section of the YAML is made of: the base class, names, rates, units."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.domain.tags.units import is_unit, nearest_units

NAME = r"^[A-Za-z0-9_.-]+$"
"""Names become parts of topics and tag ids: no space, slash, wildcard or control character."""

PATH = r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+$"

Name = Annotated[str, Field(pattern=NAME, max_length=64)]


def parse_rate(value: object) -> float:
    """Pieces per second from `5/s` or `120/min`."""
    number, _, unit = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return float(number) / {"s": 1, "min": 60, "h": 3600}[unit.strip()]
    except (ValueError, KeyError):
        raise ValueError(f"{value!r} is not a rate; write pieces per time: 5/s, 120/min or 900/h") from None


Rate = Annotated[float, BeforeValidator(parse_rate), Field(gt=0)]


def known_unit(unit: str) -> str:
    """The unit, if it is one; raises `ValueError` with what may have been meant."""
    if is_unit(unit):
        return unit
    near = nearest_units(unit)
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(f"{unit!r} is no known UCUM unit; {meant}What has no unit of measure is put in braces: {{bottle}}")


Unit = Annotated[str, AfterValidator(known_unit)]


class Section(BaseModel):
    """Everything in the YAML is read-only and knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
