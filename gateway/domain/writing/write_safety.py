"""How much and how often a parameter may change, and what holds for a machine of which nobody knows what it holds."""

import math
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import field

from gateway.domain.contract.events import AlarmCleared, AlarmRaised, OrderRef
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import ParamsDownload
from gateway.domain.effects import Recorder
from gateway.domain.state.states import State
from gateway.domain.times import format_timestamp
from gateway.domain.values import PlainValue, Timestamp
from gateway.domain.writing.download_memory import DownloadMemory, Outcome
from gateway.domain.writing.download_spec import Allowance, DownloadSpec, ParameterSpec

CODE = "ROLLBACK_FAILED"
"""The alarm of a machine that may hold anything."""
SEVERITY = 800

UNKNOWN = frozenset({"rollback_failed", "in_doubt"})
"""Codes of a download after which nobody knows what the machine holds."""


class UnknownParameters(msgspec.Struct):
    """Since when, and under which occurrence of the alarm, it is unknown what a machine holds of these parameters."""

    since: Timestamp
    occ: str
    names: list[str] = field(default_factory=list)


class Confirming(msgspec.Struct, frozen=True):
    """The command `params.confirm` that is under way, and who stands for it."""

    cmd: str
    type: str
    by: str
    corr: str | None = None


class WriteMemory(msgspec.Struct):
    """What survives a restart: when each parameter was written, and whether what the machine holds is unknown."""

    written: dict[str, list[Timestamp]] = field(default_factory=dict)
    unknown: UnknownParameters | None = None
    confirming: Confirming | None = None

    def note(self, memory: DownloadMemory, spec: DownloadSpec | None, now: Timestamp) -> None:
        """A download has ended that wrote these parameters; only those with an allowance are counted."""
        parameters = spec.parameters if spec is not None else {}
        for name in memory.targets if memory.is_written else ():
            rate = parameters[name].rate if name in parameters else None
            if rate is not None:
                self.written[name] = [*_recent(self.written.get(name, []), rate, now), now]

    def judge(self, outcome: Outcome, recorder: Recorder, order: OrderRef | None, now: Timestamp) -> None:
        """An alarm where nobody knows what the machine holds; over when all of that has been brought down again."""
        touched = [item.n for item in outcome.items]
        if UNKNOWN & set(outcome.codes) and self.unknown is not None:
            self.unknown.names = sorted({*self.unknown.names, *touched})
        elif UNKNOWN & set(outcome.codes):
            self.unknown = UnknownParameters(now, f"{CODE}@{format_timestamp(now)}", touched)
            text = "what the machine holds is unknown; look at it, then send the set again or params.confirm"
            raised = AlarmRaised(code=CODE, text=text, sev=SEVERITY, alarm_class="gateway", occ=self.unknown.occ)
            recorder.event(raised, now, now, order=order, time_quality="gateway")
        elif outcome.result == "ACTIVE" and self.unknown is not None:
            self.unknown.names = [name for name in self.unknown.names if name not in touched]
            if not self.unknown.names:
                self._clear(self.unknown, recorder, order, None, now)

    def confirm(self, recorder: Recorder, order: OrderRef | None, corr: str | None, now: Timestamp) -> None:
        """The machine was read and a person stands for what it holds: the alarm is over."""
        self.confirming = None
        if self.unknown is not None:
            self._clear(self.unknown, recorder, order, corr, now)

    def _clear(
        self, unknown: UnknownParameters, recorder: Recorder, order: OrderRef | None, corr: str | None, now: Timestamp
    ) -> None:
        cleared = AlarmCleared(code=CODE, occ=unknown.occ, dur_s=(now - unknown.since) / 1000)
        recorder.event(cleared, now, now, order=order, time_quality="gateway", corr=corr)
        self.unknown = None


def rate_objections(
    command: ParamsDownload, spec: DownloadSpec, memory: WriteMemory, now: Timestamp
) -> Iterator[Objection]:
    """Parameters that were written as often as the YAML allows."""
    for item in command.items:
        parameter = spec.parameters.get(item.name)
        rate = parameter.rate if parameter is not None else None
        recent = _recent(memory.written.get(item.name, []), rate, now) if rate is not None else []
        if rate is not None and len(recent) >= rate.times:
            free = format_timestamp(recent[-rate.times] + rate.window)
            yield Objection("rate", f"{item.name} may be written {rate.shown}; again from {free}")


def change_objections(
    changed: Mapping[str, tuple[PlainValue, PlainValue]], spec: DownloadSpec, state: State | None
) -> Iterator[Objection]:
    """What changes by too much at once, or in a state that the YAML does not permit. From and to by name."""
    for name, (before, after) in changed.items():
        parameter = spec.parameters[name]
        if parameter.states is not None and state not in parameter.states:
            where = ", ".join(sorted(parameter.states))
            yield Objection("state", f"{name} may not change in {state}; the YAML permits it in {where}")
        if parameter.step is not None and _is_too_far(before, after, parameter):
            yield Objection("step", f"{name} would go from {before} to {after}; at most {parameter.step:g} at once")


def _is_too_far(before: PlainValue, after: PlainValue, parameter: ParameterSpec) -> bool:
    if not isinstance(before, int | float) or not isinstance(after, int | float) or parameter.step is None:
        return False
    distance = abs(after - before)
    return distance > parameter.step and not math.isclose(distance, parameter.step, rel_tol=1e-9)


def _recent(written: list[Timestamp], rate: Allowance, now: Timestamp) -> list[Timestamp]:
    return [at for at in written if at > now - rate.window]
