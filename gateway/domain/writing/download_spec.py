"""How an equipment takes parameters, as the YAML says it: the write allow-list with its limits, and the handshake."""

import hashlib
from collections.abc import Mapping

import msgspec

from gateway.domain.tags.conversion import Conversion
from gateway.domain.tags.expressions import Compiled
from gateway.domain.values import PlainValue, TagId
from gateway.domain.writing.handshake import Handshake
from gateway.domain.writing.job_spec import JobSpec


class Allowance(msgspec.Struct, frozen=True):
    """So many times in so many milliseconds; `shown` is how the YAML has it."""

    times: int
    window: int
    shown: str


class ParameterSpec(msgspec.Struct, frozen=True):
    """One entry of the write allow-list, with the machine's own limits. Without an entry nothing is written.

    A bool counts as 0 or 1, a text as the number of its characters.
    """

    name: str
    tag_id: TagId
    readback: TagId
    conversion: Conversion
    minimum: float
    maximum: float
    parameter_class: str = "golden"
    unit: str | None = None
    step: float | None = None
    """The largest change at once, in engineering units."""
    rate: Allowance | None = None
    states: frozenset[str] | None = None
    """Where it may change at all, beside what its class says."""
    shown: Conversion | None = None
    """The conversion of `readback` where it is another one."""

    @property
    def is_echoed(self) -> bool:
        """True if the machine shows what it works with elsewhere than where it is written."""
        return self.readback != self.tag_id


class Condition(msgspec.Struct, frozen=True):
    """A precondition; the command is rejected with its name as code unless it holds."""

    name: str
    when: Compiled


class DownloadSpec(msgspec.Struct, frozen=True):
    """How one equipment takes parameters. What is written is verified by reading back, maybe from another device."""

    device: str
    parameters: Mapping[str, ParameterSpec]
    handshake: Handshake
    readback_device: str
    conditions: tuple[Condition, ...] = ()
    permit: Compiled | None = None
    permit_timeout: int = 1_800_000
    contact_timeout: int = 1_800_000
    released_only: bool = False
    """True if no set is taken that was not released here."""
    order_slot: int | None = None
    """The slot in which the machine shows the order that it is prepared for."""
    format_slot: int | None = None
    """The slot in which the machine shows its tool or format; `formats` says by set what it must be."""
    formats: Mapping[str, PlainValue] = {}
    job: JobSpec | None = None
    """Where the set goes into a job order; a parameter's tag is then the id of a JobOrderParameter."""

    @property
    def fingerprint(self) -> str:
        """What a download that was begun with this can be gone on with; it is the same over restarts."""
        parameters = [(p.name, p.tag_id, p.readback, p.conversion, p.shown) for p in self.parameters.values()]
        facts = (self.device, self.readback_device, parameters, self.handshake, self.job is None)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
