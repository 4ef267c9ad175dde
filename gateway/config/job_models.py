"""The section `job_control` of an equipment: how it takes job orders by ISA-95 Job Control, and which."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.section import Name, Section, Unit
from gateway.domain.contract.job_states import Action, ReturnCode
from gateway.domain.values import DataType
from gateway.domain.writing.job_spec import FIELDS, StartPolicy
from gateway.drivers.base import Seconds


def _known_fields(text: str) -> str:
    unknown = [name for name in re.findall(r"\{([^}]*)\}", text) if name not in FIELDS]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise ValueError(f"{{{unknown[0]}}} is not known here; the fields are: {known}")
    return text


def _names_the_order(text: str) -> str:
    if text.count("{order}") != 1:
        raise ValueError(f"{text!r} must have {{order}} in it once, for the order is found again by it")
    if "}{" in text:
        raise ValueError(f"{text!r} has two fields side by side; put something between them, as in {{order}}/{{op}}")
    names = re.findall(r"\{(\w+)\}", text)
    if len(names) != len(set(names)):
        raise ValueError(f"{text!r} has a field twice; once is enough")
    return text


Template = Annotated[str, AfterValidator(_known_fields)]
"""Text in which `{order}`, `{op}`, `{set}`, `{rev}`, `{lot}`, `{material}` and `{qty}` stand for what is known."""


class JobParameterSection(Section):
    """One entry of the allow-list: a JobOrderParameter with its type, its limits and its unit."""

    id: str | None = None
    type: DataType
    min: float | None = None
    max: float | None = None
    unit: Unit | None = None
    parameter_class: Literal["golden", "trim", "constant", "order"] = Field(default="golden", alias="class")


class JobMaterialSection(Section):
    """One entry of MaterialRequirements."""

    definition: Template
    lot: Template = ""
    use: str = ""
    quantity: Template = ""
    unit: Unit | None = None


class JobEquipmentSection(Section):
    """One entry of EquipmentRequirements."""

    id: str
    use: str = ""


class JobOrderSection(Section):
    """What an order becomes as a JobOrder; a text that comes out empty is left out."""

    id: Annotated[Template, AfterValidator(_names_the_order)] = "{order}"
    description: Template = ""
    work_master: Template = "{set}:{rev}"
    priority: Annotated[int, Field(ge=-32768, le=32767)] | Literal["dispatch"] | None = None
    start_time: Literal["dispatch"] | None = None
    materials: tuple[JobMaterialSection, ...] = ()
    equipment: tuple[JobEquipmentSection, ...] = ()


class JobControlSection(Section):
    """The receiver's object, who lets orders start, what commands may ask for, and how an order is made up."""

    object: str
    device: Name | None = None
    start: StartPolicy = StartPolicy.ON_COMMAND
    return_code: ReturnCode = ReturnCode.BITMAP
    actions: tuple[Action, ...] = ()
    job_order: JobOrderSection = JobOrderSection()
    parameters: dict[Name, JobParameterSection] = {}
    conditions: dict[Name, str] = {}
    permit: str | None = None
    permit_timeout: Seconds = 1800.0
    contact_timeout: Seconds = 1800.0
    confirm_timeout: Annotated[Seconds, Field(gt=0)] = 10.0
    poll: Annotated[Seconds, Field(gt=0)] = 0.5
