"""The parameter download: from a validated command to what the device really holds.

SNAPSHOT → WRITE → COMMIT → WAIT_ACK → READBACK → ACTIVE. Whatever fails after the first write turns to the rollback,
which takes the same steps with the snapshot's values. Each step is decided here, journalled by whoever commits the
memory, and only then performed; after a crash or a lost link the download resumes by reading the device.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import field

from gateway.domain.conversion import same_value, to_engineering
from gateway.domain.download_spec import DownloadSpec, MethodCommit, ParameterSpec, SequenceNumber
from gateway.domain.events import ParamItem
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.states import State
from gateway.domain.values import (
    CallResult,
    PlainValue,
    TagChange,
    TagId,
    TagWrite,
    Timestamp,
    WriteResult,
    is_bad,
    plain,
)

FREE_STATES: Final = frozenset({State.IDLE, State.SETUP, State.HELD, State.DOWN})
"""Where a parameter of any class may change; one of class `trim` may change in every state."""


class Step(StrEnum):
    """Where a download is. The names of design and handbook."""

    WAIT_PERMIT = "WAIT_PERMIT"
    SNAPSHOT = "SNAPSHOT"
    WRITE = "WRITE"
    COMMIT = "COMMIT"
    WAIT_ACK = "WAIT_ACK"
    READBACK = "READBACK"
    RESUME = "RESUME"
    ENDED = "ENDED"


class DownloadMemory(msgspec.Struct):
    """One download, journalled. `targets` and `snapshot` are raw values by parameter name."""

    cmd: str
    type: str
    order: str | None
    set: str
    rev: str
    requested: dict[str, PlainValue]
    targets: dict[str, PlainValue]
    corr: str | None = None
    step: Step = Step.SNAPSHOT
    rolling_back: bool = False
    committed: bool = False
    acknowledged: bool = False
    number: int | None = None
    deadline: Timestamp | None = None
    next_poll: Timestamp | None = None
    limits: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    snapshot: dict[str, PlainValue] = field(default_factory=dict)
    actual: dict[str, PlainValue] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    detail: list[str] = field(default_factory=list)


class Outcome(msgspec.Struct, frozen=True):
    """The end of a download: ACTIVE, REJECTED (nothing was written) or FAILED."""

    result: str
    codes: tuple[str, ...]
    detail: tuple[str, ...]
    items: tuple[ParamItem, ...]
    rolled_back: dict[str, PlainValue] | None = None


class Download:
    """Drives one download; every method returns the next operation, an outcome, or None to wait."""

    def __init__(self, spec: DownloadSpec, memory: DownloadMemory, prefix: str) -> None:
        self.spec = spec
        self.memory = memory
        self._prefix = prefix
        self._turn = 0

    def begin(self, permitted: bool, now: Timestamp) -> Operation | None:
        """Start, or wait for the operator's permit."""
        if permitted:
            return self._read(Step.SNAPSHOT)
        self.memory.step = Step.WAIT_PERMIT
        self.memory.deadline = now + self.spec.permit_timeout
        return None

    def permit(self) -> Operation | None:
        """The operator permits it."""
        if self.memory.step is not Step.WAIT_PERMIT:
            return None
        self.memory.deadline = None
        return self._read(Step.SNAPSHOT)

    def resume(self) -> Operation:
        """After a crash or a lost link: look at the device, then decide."""
        if self.memory.step is Step.SNAPSHOT:
            return self._read(Step.SNAPSHOT)
        return self._read(Step.RESUME)

    def handle_timer(self, now: Timestamp) -> Operation | Outcome | None:
        """A deadline or the next look at the acknowledgement."""
        memory = self.memory
        if memory.deadline is not None and now >= memory.deadline:
            if memory.step is Step.WAIT_PERMIT:
                return self._end("REJECTED", "permit_timeout")
            if memory.step is Step.WAIT_ACK:
                return self._fail("done_timeout" if memory.acknowledged else "ack_timeout")
        if memory.step is Step.WAIT_ACK and memory.next_poll is not None and now >= memory.next_poll:
            memory.next_poll = None
            return self._look_at_handshake()
        return None

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        times = [at for at in (self.memory.deadline, self.memory.next_poll) if at is not None]
        return min(times, default=None)

    def handle_result(self, result: OperationResult, state: State | None, now: Timestamp) -> Operation | Outcome | None:
        """Take in what an operation brought. A result of an earlier turn is ignored."""
        if result.token != self._token():
            return None
        if result.lost:
            return None
        match self.memory.step:
            case Step.SNAPSHOT:
                return self._handle_snapshot(result.reads, state)
            case Step.WRITE:
                return self._handle_written(result.writes, now)
            case Step.COMMIT if self.spec.commit is not None:
                return self._handle_called(self.spec.commit, result.calls)
            case Step.COMMIT:
                return self._handle_committed(result.writes, now)
            case Step.WAIT_ACK:
                return self._handle_acknowledgement(_values(result.reads), now)
            case Step.READBACK:
                return self._handle_readback(_values(result.reads))
            case Step.RESUME:
                return self._handle_resume(_values(result.reads), now)
        return None

    # --- steps --------------------------------------------------------------------------------------------------

    def _handle_snapshot(self, reads: Sequence[TagChange], state: State | None) -> Operation | Outcome:
        memory, values = self.memory, _values(reads)
        unreadable = [change.tag_id for change in reads if is_bad(change.status_code)]
        if unreadable:
            return self._end("REJECTED", "unreadable", [f"{tag_id} cannot be read" for tag_id in unreadable])
        memory.snapshot = {name: values[self._parameter(name).tag_id] for name in memory.targets}
        frozen = [name for name in memory.targets if self._changes(name) and not self._may_change(name, state)]
        if frozen:
            return self._end("REJECTED", "state", [f"{name} may not change in {state}" for name in frozen])
        handshake = self.spec.handshake
        if handshake is not None:
            memory.number = _next_number(values[handshake.acknowledged], handshake)
        return self._write_targets()

    def _handle_written(self, results: Sequence[WriteResult], now: Timestamp) -> Operation | Outcome | None:
        refused = [result for result in results if is_bad(result.status_code)]
        if refused:
            return self._fail("write_refused", [f"{r.tag_id}: status 0x{r.status_code:08X}" for r in refused])
        return self._commit(now)

    def _handle_committed(self, results: Sequence[WriteResult], now: Timestamp) -> Operation | Outcome | None:
        if any(is_bad(result.status_code) for result in results):
            return self._fail("commit_refused")
        handshake, memory = self.spec.handshake, self.memory
        assert handshake is not None
        memory.step, memory.committed, memory.acknowledged = Step.WAIT_ACK, True, False
        memory.deadline = now + handshake.acknowledge_timeout
        memory.next_poll = now + handshake.poll
        return None

    def _handle_called(self, commit: MethodCommit, answers: Sequence[CallResult]) -> Operation | Outcome:
        refusal = commit.refusal(answers[0])
        if refusal is not None:
            return self._fail("device_error", [f"the machine refused {commit.call.method} with {refusal}"])
        self.memory.acknowledged = True
        return self._read(Step.READBACK)

    def _handle_acknowledgement(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Operation | Outcome | None:
        handshake, memory = self.spec.handshake, self.memory
        assert handshake is not None
        acknowledged = values.get(handshake.acknowledged) == memory.number
        status = values.get(handshake.status)
        if acknowledged and status == handshake.done:
            return self._read(Step.READBACK)
        if acknowledged and status == handshake.rejected:
            return self._fail("device_error", [f"the machine rejected it with error {values.get(handshake.error)!r}"])
        if acknowledged and not memory.acknowledged:
            memory.acknowledged, memory.deadline = True, now + handshake.done_timeout
        memory.next_poll = now + handshake.poll
        return None

    def _handle_readback(self, values: Mapping[TagId, PlainValue]) -> Operation | Outcome:
        memory = self.memory
        wanted = memory.snapshot if memory.rolling_back else memory.targets
        actual = {name: values.get(self._parameter(name).readback) for name in wanted}
        wrong = [
            name
            for name, value in wanted.items()
            if not same_value(value, actual[name], self._parameter(name).conversion.type)
        ]
        if not memory.rolling_back:
            memory.actual = actual
            return self._fail("readback", self._differences(wrong)) if wrong else self._end("ACTIVE")
        if wrong:
            return self._end("FAILED", "rollback_failed", [f"{name} is not back at its old value" for name in wrong])
        return self._end("FAILED", rolled_back=memory.snapshot)

    def _handle_resume(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Operation | Outcome | None:
        """The device tells how far the download got: taken, being taken, or never committed."""
        handshake, memory = self.spec.handshake, self.memory
        if memory.rolling_back:
            return self._write_targets()
        if handshake is None:
            # Of a call nobody knows whether it was made: all goes back, unless the machine had answered it.
            in_doubt = self.spec.commit is not None and not memory.acknowledged
            return self._fail("interrupted") if in_doubt else self._read(Step.READBACK)
        if memory.number is not None and values.get(handshake.command) == memory.number:
            return self._handle_committed((), now)
        return self._fail("interrupted")

    # --- moves --------------------------------------------------------------------------------------------------

    def _write_targets(self) -> Operation:
        memory = self.memory
        values = memory.snapshot if memory.rolling_back else memory.targets
        names = reversed(values) if memory.rolling_back else values
        return self._write(Step.WRITE, [TagWrite(self._parameter(name).tag_id, values[name]) for name in names])

    def _commit(self, now: Timestamp) -> Operation | Outcome | None:
        handshake, commit, memory = self.spec.handshake, self.spec.commit, self.memory
        if memory.rolling_back and not memory.committed:
            return self._read(Step.READBACK)
        if commit is not None:
            memory.committed = True  # before the call, for after a crash nobody knows whether it was made
            self._step(Step.COMMIT)
            return Operation(self.spec.device, self._token(), calls=(commit.call,))
        if handshake is None:
            return self._read(Step.READBACK)
        return self._write(Step.COMMIT, [TagWrite(handshake.command, memory.number)])

    def _look_at_handshake(self) -> Operation:
        handshake = self.spec.handshake
        assert handshake is not None
        return self._read(Step.WAIT_ACK, handshake.acknowledged, handshake.status, handshake.error)

    def _fail(self, code: str, detail: Sequence[str] = ()) -> Operation | Outcome:
        """Turn to the rollback, or end if the rollback itself fails."""
        memory, handshake = self.memory, self.spec.handshake
        memory.codes.append(code)
        memory.detail.extend(detail)
        memory.deadline = memory.next_poll = None
        if memory.rolling_back:
            return self._end("FAILED", "rollback_failed")
        memory.rolling_back = True
        if code == "device_error":
            memory.committed = False  # what the device did not take needs no second commit
        if handshake is not None and memory.number is not None and memory.committed:
            memory.number = _next_number(memory.number, handshake)
        return self._write_targets()

    def _end(
        self,
        result: str,
        code: str | None = None,
        detail: Sequence[str] = (),
        rolled_back: Mapping[str, PlainValue] | None = None,
    ) -> Outcome:
        memory = self.memory
        memory.step = Step.ENDED
        memory.deadline = memory.next_poll = None
        items = tuple(
            ParamItem(name, requested, self._engineering(name, memory.actual.get(name)))
            for name, requested in memory.requested.items()
        )
        held = {name: self._engineering(name, raw) for name, raw in rolled_back.items()} if rolled_back else None
        codes = (*memory.codes, code) if code else tuple(memory.codes)
        return Outcome(result, codes, (*memory.detail, *detail), items, held)

    def _read(self, step: Step, *tag_ids: TagId) -> Operation:
        if step is not Step.WAIT_ACK:
            parameters = [self._parameter(name) for name in self.memory.targets]
            source = [p.readback if step is Step.READBACK else p.tag_id for p in parameters]
            handshake = self.spec.handshake
            tag_ids = (*source, *((handshake.command, handshake.acknowledged) if handshake else ()))
            self.memory.deadline = None
        self._step(step)
        return Operation(self.spec.device, self._token(), reads=tag_ids)

    def _write(self, step: Step, writes: list[TagWrite]) -> Operation:
        self._step(step)
        return Operation(self.spec.device, self._token(), writes=tuple(writes))

    def _step(self, step: Step) -> None:
        self.memory.step = step
        self._turn += 1

    def _token(self) -> str:
        return f"{self._prefix}|{self.memory.cmd}|{self._turn}"

    # --- facts --------------------------------------------------------------------------------------------------

    def _parameter(self, name: str) -> ParameterSpec:
        return self.spec.parameters[name]

    def _engineering(self, name: str, raw: PlainValue) -> PlainValue:
        return plain(to_engineering(TagChange("", raw), self._parameter(name).conversion)[0])

    def _changes(self, name: str) -> bool:
        return not same_value(
            self.memory.targets[name], self.memory.snapshot[name], self._parameter(name).conversion.type
        )

    def _differences(self, names: Sequence[str]) -> list[str]:
        requested, actual = self.memory.requested, self.memory.actual
        return [f"{n}: requested {requested[n]!r}, the device holds {self._engineering(n, actual[n])!r}" for n in names]

    def _may_change(self, name: str, state: State | None) -> bool:
        return state in FREE_STATES or self._parameter(name).parameter_class == "trim"


def _values(reads: Sequence[TagChange]) -> dict[TagId, PlainValue]:
    return {change.tag_id: plain(change.value) for change in reads if not is_bad(change.status_code)}


def _next_number(number: PlainValue, handshake: SequenceNumber) -> int:
    previous = number if isinstance(number, int) else 0
    return previous + 1 if previous < handshake.highest else 1
