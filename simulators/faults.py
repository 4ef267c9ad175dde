"""Faults on the level of the protocol: what a device does wrong while its link is fine.

A scenario says them beside its link faults, `{kind: bad_status, device: FIL01, tag: FIL01.MES.Permit, from: "06:05:00",
to: "06:06:00"}`; the command line as `--fault bad_status,device=FIL01,tag=FIL01.MES.Permit,from=06:05:00`; a test
injects the record itself, `device.faults.inject(BadStatus(tag="FIL01.MES.Permit"))`. A tag is named as the server does:
by the NodeId's string on OPC UA, by the register's number on Modbus.
"""

import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeVar

from asyncua.ua.status_codes import StatusCodes
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from simulators.models.handshake import Interference
from simulators.models.line_time import LineTime
from simulators.scenario import Scenario, ScenarioError
from simulators.scenario_parts import Fault, seconds_since


def _known_code(name: str) -> str:
    if not name.startswith(("Bad", "Uncertain")) or not hasattr(StatusCodes, name):
        raise ValueError(f"{name!r} is no status of the specification; write one as BadDeviceFailure")
    return name


class DeviceFault(BaseModel):
    """Holds in `[since, until)`, in plant seconds since the scenario's start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: float = 0.0
    until: float = math.inf


class RefuseSubscriptions(DeviceFault):
    """The first `count` CreateSubscription calls are answered BadTooManySubscriptions."""

    count: int = Field(ge=1)


class Overflow(DeviceFault):
    """The tag's values carry the overflow bit: the queue lost values before them (OPC 10000-4 §7.39.1)."""

    tag: str


class BadStatus(DeviceFault):
    """The tag has no value but a status, by its name in the specification."""

    tag: str
    code: Annotated[str, AfterValidator(_known_code)] = "BadDeviceFailure"


class MissingNode(DeviceFault):
    """The tag's node does not exist; who monitors it is told BadNodeIdUnknown."""

    tag: str


class SequenceJump(DeviceFault):
    """When it begins, the sequence numbers of every subscription leave out `by`: so many notifications are missed."""

    by: int = Field(ge=1)


class SwapNamespaces(DeviceFault):
    """The device is out of reach, and comes back with a decoy at its namespace's index: same names, other values."""


class Silence(DeviceFault):
    """Requests are carried out and not answered."""


class LateReply(DeviceFault):
    """Every reply comes so many seconds of wall time later."""

    seconds: float = Field(gt=0)


class ExceptionReply(DeviceFault):
    """Requests that touch one of the registers `first` to `last` are answered by this exception code."""

    first: int = Field(ge=0, le=0xFFFF)
    last: int = Field(ge=0, le=0xFFFF)
    code: int = Field(2, ge=1, le=11)


class ShortReply(DeviceFault):
    """Reads are answered by one register less than asked for, in a frame that is right in itself (trap B2)."""


class WrongUnit(DeviceFault):
    """Replies carry the unit identifier of a neighbour."""


class LateAcknowledgement(DeviceFault):
    """The machine hears a command so many plant seconds late."""

    seconds: float = Field(gt=0)


class NoAcknowledgement(DeviceFault):
    """The machine does not hear commands at all."""


class ErrorCode(DeviceFault):
    """The machine rejects every command with this error."""

    code: int = Field(ge=1, le=0x7FFF)


class Clamp(DeviceFault):
    """The machine takes no more than `max` into this tag, and says nothing; raw, as it is on the wire."""

    tag: str
    max: float


class IgnoredWrite(DeviceFault):
    """What is written to this tag (None: to any) is answered as good, and stays as it was."""

    tag: str | None = None


HANDSHAKE: Final[dict[str, type[DeviceFault]]] = {
    "late_acknowledgement": LateAcknowledgement,
    "no_acknowledgement": NoAcknowledgement,
    "error_code": ErrorCode,
}
"""For devices that take commands."""
OPC_UA: Final[dict[str, type[DeviceFault]]] = {
    "refuse_subscriptions": RefuseSubscriptions,
    "overflow": Overflow,
    "bad_status": BadStatus,
    "missing_node": MissingNode,
    "sequence_jump": SequenceJump,
    "swap_namespaces": SwapNamespaces,
    "clamp": Clamp,
    "ignored_write": IgnoredWrite,
}
MODBUS: Final[dict[str, type[DeviceFault]]] = {
    "silence": Silence,
    "late_reply": LateReply,
    "exception": ExceptionReply,
    "short_reply": ShortReply,
    "wrong_unit": WrongUnit,
    "clamp": Clamp,
    "ignored_write": IgnoredWrite,
}
UNREACHABLE: Final = frozenset({"link_cut", "device_restart", "swap_namespaces"})
"""Kinds that take the device out of reach while they hold; played by `Play`."""
_ELSEWHERE: Final = frozenset({"link_cut", "device_restart", "broker_outage", "gateway_kill"})
"""Kinds that are no affair of the device's protocol."""

Kind = TypeVar("Kind", bound=DeviceFault)


class DeviceFaults:
    """The faults of one device: those of the scenario, and what tests inject. `tags` are all it can be named by."""

    def __init__(
        self, device: str, kinds: Mapping[str, type[DeviceFault]], tags: Collection[str], scenario: Scenario,
        time: LineTime,
    ) -> None:  # fmt: skip
        self._device = device
        self._tags = tags
        self._time = time
        self._faults: list[DeviceFault] = []
        for fault in scenario.faults:
            if fault.device == device and fault.kind not in _ELSEWHERE:
                self.inject(_parse(fault, kinds))

    def inject(self, fault: DeviceFault) -> None:
        """From now on this fault holds in its time; raises `ScenarioError` if the device has not got its tag."""
        tag = getattr(fault, "tag", None)
        if tag is not None and tag not in self._tags:
            close = ", ".join(get_close_matches(tag, self._tags)) or f"as {next(iter(self._tags))}"
            raise ScenarioError(f"a fault names the tag {tag!r}, which {self._device} has not got; it has {close}")
        self._faults.append(fault)

    def clear(self) -> None:
        """No fault any more."""
        self._faults.clear()

    def active(self, kind: type[Kind]) -> list[Kind]:
        """The faults of this kind that hold now."""
        at = self._time.ms / 1000
        return [fault for fault in self._faults if isinstance(fault, kind) and fault.since <= at < fault.until]

    def ignores(self, tag: str) -> bool:
        """True if a write to this tag shall have no effect now."""
        return any(fault.tag in (None, tag) for fault in self.active(IgnoredWrite))

    def ceiling(self, tag: str) -> float:
        """The most that the machine takes into this tag now."""
        return min((fault.max for fault in self.active(Clamp) if fault.tag == tag), default=math.inf)

    def interference(self) -> Interference:
        """What goes wrong between a command and its acknowledgement now."""
        return Interference(
            late_ms=round(1000 * max((fault.seconds for fault in self.active(LateAcknowledgement)), default=0)),
            is_deaf=bool(self.active(NoAcknowledgement)),
            error=max((fault.code for fault in self.active(ErrorCode)), default=0),
        )


def _parse(fault: Fault, kinds: Mapping[str, type[DeviceFault]]) -> DeviceFault:
    where = f"the fault {fault.kind} of {fault.device}"
    if fault.kind not in kinds:
        raise ScenarioError(f"{where}: this device has no such fault; it has {', '.join(sorted(kinds))}")
    fields = {**(fault.model_extra or {}), "since": fault.from_, "until": fault.to}
    try:
        return kinds[fault.kind].model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ScenarioError(f"{where}: {wrong}") from error


def with_faults(scenario: Scenario, texts: list[str], device: str | None) -> Scenario:
    """The scenario with faults as the command line says them; `device` is meant where a text names none.

    Raises `ScenarioError` for a text that is none. Without `from` a fault holds from the start, without `to` for ever.
    """
    added = tuple(_parse_text(scenario, text, device) for text in texts)
    return scenario.model_copy(update={"faults": scenario.faults + added})


def _parse_text(scenario: Scenario, text: str, device: str | None) -> Fault:
    kind, *rest = text.split(",")
    fields = dict(part.partition("=")[::2] for part in rest)
    device = fields.pop("device", device)
    if device is None:
        raise ScenarioError(f"--fault {text}: which device? write {kind},device=FIL01,…")
    if not all(fields.values()):
        raise ScenarioError(f"--fault {text}: write KIND,key=value,key=value, without spaces")
    try:
        since, until = (
            seconds_since(scenario.start, fields.pop(key)) if key in fields else None for key in ("from", "to")
        )
    except ValueError as error:
        raise ScenarioError(f"--fault {text}: {error}") from error
    values: dict[str, Any] = {"kind": kind, "device": device, "equipment": [], **fields}
    return Fault.model_construct(None, **values, from_=since or 0, to=_FOR_EVER if until is None else until)


_FOR_EVER: Final = 2**40
"""Plant seconds; `Fault` counts in whole ones."""
