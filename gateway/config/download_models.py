"""The section `download` of an equipment: what may be written, when, and how the machine takes it."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.section import Name, Section
from gateway.drivers.base import Seconds


class ParameterSection(Section):
    """One entry of the write allow-list; a number needs its limits, a bool has none."""

    tag: str
    min: float | None = None
    max: float | None = None
    readback: str | None = None
    parameter_class: Literal["golden", "trim"] = Field(default="golden", alias="class")


class HandshakeSection(Section):
    """The sequence-number handshake."""

    type: Literal["sequence_number"]
    command: str
    acknowledged: str
    status: str
    error: str
    done: int = 2
    rejected: int = 3
    poll: Seconds = 0.2
    acknowledge_timeout: Seconds = 5.0
    done_timeout: Seconds = 30.0


class CommitSection(Section):
    """A method that has the machine take what was written; `result` is what its first output must be."""

    object: str
    method: str
    result: int | None = None


class DownloadSection(Section):
    """What may be written, when, and how the machine takes it."""

    parameters: Annotated[dict[Name, ParameterSection], Field(min_length=1)]
    conditions: dict[Name, str] = {}
    permit: str | None = None
    permit_timeout: Seconds = 1800.0
    handshake: HandshakeSection | None = None
    commit: CommitSection | None = None
