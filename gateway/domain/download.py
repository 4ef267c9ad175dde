"""The parameter download: from a validated command to what the device really holds.

SNAPSHOT → CLEAR → WRITE → COMMIT → WAIT_ACK → RELEASE → READBACK → ACTIVE. Whatever fails after the first write turns
to the rollback, which takes the same steps with the snapshot's values. How the machine is told and how it answers is
in the table of its handshake, which the player goes through. Each step is decided here, journalled by whoever commits
the memory, and only then performed; after a crash or a lost link the download resumes by reading the device, and
writes nothing that the device holds.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.domain.download_memory import DownloadMemory, Outcome, Step
from gateway.domain.download_spec import DownloadSpec
from gateway.domain.download_values import DownloadValues
from gateway.domain.events import ParamItem
from gateway.domain.handshake_player import Failure, HandshakePlayer, Next, Part, Verdict
from gateway.domain.objections import Objection
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.parameter_classes import classes, frozen
from gateway.domain.states import State
from gateway.domain.values import (
    CallResult,
    MethodCall,
    PlainValue,
    TagChange,
    TagId,
    TagWrite,
    Timestamp,
    WriteResult,
    is_bad,
    plain,
)

_STEPS: Final = {Part.CLEAR: Step.CLEAR, Part.COMMIT: Step.COMMIT, Part.RELEASE: Step.RELEASE}

Move = Operation | Outcome | None
"""What a download does next: an operation, its end, or nothing until `next_timer` or the next fact."""


class Download:
    """Drives one download."""

    def __init__(self, spec: DownloadSpec, memory: DownloadMemory, prefix: str) -> None:
        self.spec = spec
        self.memory = memory
        self._prefix = prefix
        self._turn = 0
        self._held = DownloadValues(spec, memory)
        self._player = HandshakePlayer(spec.handshake, memory.handshake, self._held.buffer)

    # --- facts --------------------------------------------------------------------------------------------------

    def begin(self, permitted: bool, now: Timestamp) -> Move:
        """Start, or wait for the operator's permit."""
        if permitted:
            return self._take_snapshot()
        self.memory.step = Step.WAIT_PERMIT
        self.memory.deadline = now + self.spec.permit_timeout
        return None

    def permit(self) -> Move:
        """The operator permits it."""
        return self._take_snapshot() if self.memory.step is Step.WAIT_PERMIT else None

    def lose(self, now: Timestamp) -> None:
        """The link broke, or the gateway was away: nothing is known before the device is looked at."""
        if self.memory.step is not Step.WAIT_PERMIT and self.memory.give_up is None:
            self.memory.give_up = now + self.spec.contact_timeout

    def waits_for(self, device: str) -> bool:
        """True if that device, now in reach again, is one that this download talks with."""
        step = self.memory.step
        reads_back = step is Step.READBACK and device == self.spec.readback_device
        return step is not Step.WAIT_PERMIT and (device == self.spec.device or reads_back)

    def resume(self) -> Move:
        """The device is in reach again: look at it, then decide."""
        memory = self.memory
        memory.give_up = memory.next_look = None
        if not memory.is_written:
            return self._take_snapshot()
        memory.looks = True
        return self._read([*memory.targets])

    def handle_timer(self, now: Timestamp) -> Move:
        """A deadline or the next look at the machine's answer."""
        memory = self.memory
        if memory.give_up is not None:
            return self._give_up() if now >= memory.give_up else None
        if memory.looks:
            return None
        if memory.step is Step.WAIT_PERMIT:
            late = memory.deadline is not None and now >= memory.deadline
            return self._end("REJECTED", "permit_timeout") if late else None
        if memory.step is Step.READBACK:
            due = memory.next_look is not None and now >= memory.next_look
            return self._read_back() if due else None
        return self._do(self._player.handle_timer(now), now)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        memory = self.memory
        if memory.give_up is not None:
            return memory.give_up
        if memory.looks:
            return None
        if memory.step is Step.WAIT_PERMIT:
            return memory.deadline
        return memory.next_look if memory.step is Step.READBACK else self._player.next_timer()

    def handle_result(self, result: OperationResult, state: State | None, now: Timestamp) -> Move:
        """Take in what an operation brought. A result of an earlier turn is ignored."""
        memory = self.memory
        if result.token != self._token():
            return None
        if result.lost:
            self.lose(now)
            return None
        if result.refused is not None:
            return self._handle_refused(result.refused, now)
        if memory.looks:
            memory.looks = False
            return self._handle_resumed(_values(result.reads), now)
        match memory.step:
            case Step.SNAPSHOT:
                return self._handle_snapshot(result.reads, state, now)
            case Step.WRITE:
                return self._handle_written(result.writes, now)
            case Step.READBACK:
                return self._handle_readback(_values(result.reads), now)
            case Step.CLEAR | Step.COMMIT | Step.WAIT_ACK | Step.RELEASE:
                return self._handle_handshake(result, now)
        return None

    # --- steps --------------------------------------------------------------------------------------------------

    def _take_snapshot(self) -> Move:
        self.memory.step = Step.SNAPSHOT
        return self._read(self._held.touched)

    def _handle_snapshot(self, reads: Sequence[TagChange], state: State | None, now: Timestamp) -> Move:
        memory, values = self.memory, _values(reads)
        unreadable = [change.tag_id for change in reads if is_bad(change.status_code)]
        if unreadable:
            return self._end("REJECTED", "unreadable", [f"{tag_id} cannot be read" for tag_id in unreadable])
        memory.snapshot = {name: values[self._held.tag(name)] for name in self._held.touched}
        if against := [o for name in self._held.changed() if (o := self._frozen(name, state)) is not None]:
            memory.codes.extend(objection.code for objection in against)
            return self._end("REJECTED", None, [objection.detail for objection in against])
        self._player.see(values)
        return self._do(self._player.begin(Part.CLEAR, now, fresh=True), now)

    def _write_values(self, held: Mapping[TagId, PlainValue] | None = None, now: Timestamp = 0) -> Move:
        """The targets, or on the way back the snapshot in reverse, without what the device is known to hold."""
        memory = self.memory
        memory.is_written = True
        memory.step = Step.WRITE
        writes = self._held.writes(held)
        return self._write(writes) if writes else self._handle_written((), now)

    def _handle_written(self, results: Sequence[WriteResult], now: Timestamp) -> Move:
        memory = self.memory
        memory.is_restored = memory.is_rolling_back
        refused = [result for result in results if is_bad(result.status_code)]
        if refused:
            return self._fail("write_refused", [f"{r.tag_id}: status 0x{r.status_code:08X}" for r in refused], now)
        if memory.is_rolling_back:
            again = memory.is_committed and not memory.is_recommitted
            return self._recommit(now) if again else self._begin_readback(now)
        memory.is_committed = bool(self.spec.handshake.profile.commit)
        return self._do(self._player.begin(Part.COMMIT, now, fresh=False), now)

    def _recommit(self, now: Timestamp) -> Move:
        """The machine may have taken the new values, so it is told to take the old ones."""
        self.memory.is_recommitted = True
        return self._do(self._player.begin(Part.COMMIT, now, fresh=False), now)

    def _handle_handshake(self, result: OperationResult, now: Timestamp) -> Move:
        if result.reads:
            return self._do(self._player.look(_values(result.reads), now), now)
        if result.calls:
            return self._handle_called(result.calls[0], now)
        if any(is_bad(written.status_code) for written in result.writes):
            detail = [f"{w.tag_id}: status 0x{w.status_code:08X}" for w in result.writes if is_bad(w.status_code)]
            return self._fail("commit_refused", detail, now)
        return self._do(self._player.done(now), now)

    def _handle_called(self, answer: CallResult, now: Timestamp) -> Move:
        method = self.spec.handshake.method
        assert method is not None
        refusal = method.refusal(answer)
        if refusal is not None:
            return self._fail("device_error", [f"the machine refused {method.call.method} with {refusal}"], now)
        return self._do(self._player.done(now), now)

    def _do(self, step: Next, now: Timestamp) -> Move:
        """What the player says, as a step of the download."""
        part = self.memory.handshake.part
        match step:
            case TagWrite():
                self.memory.step = _STEPS[part]
                return self._write([step])
            case MethodCall():
                self.memory.step = _STEPS[part]
                return self._operation(Operation(self.spec.device, "", calls=(self._filled_in(step),)))
            case Verdict.LOOK:
                return self._read(())
            case Verdict.PASSED:
                return self._end_part(part, now)
            case Failure(code, detail):
                return self._fail(code, detail, now)
        self.memory.step = Step.WAIT_ACK if part is Part.COMMIT else _STEPS[part]
        return None

    def _end_part(self, part: Part, now: Timestamp) -> Move:
        memory = self.memory
        match part:
            case Part.CLEAR:
                return self._write_values(now=now)
            case Part.COMMIT:
                return self._do(self._player.begin(Part.RELEASE, now, fresh=True), now)
            case Part.RELEASE if memory.is_rolling_back and not memory.is_restored:
                return self._restore(now)
        return self._begin_readback(now)

    def _begin_readback(self, now: Timestamp) -> Move:
        self.memory.deadline = now + self.spec.handshake.times.get("readback_timeout", 0)
        return self._read_back()

    def _read_back(self) -> Move:
        self.memory.step = Step.READBACK
        self.memory.next_look = None
        tags = tuple(self._held.readback(name) for name in self.memory.targets)
        return self._operation(Operation(self.spec.readback_device, "", reads=tags))

    def _handle_readback(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Move:
        memory, wanted = self.memory, self._held.wanted
        actual = {name: values.get(self._held.readback(name)) for name in wanted}
        wrong = [name for name, value in wanted.items() if not self._held.is_same(name, value, actual[name])]
        if not memory.is_rolling_back:
            memory.actual = actual
        if wrong and memory.deadline is not None and now < memory.deadline:
            memory.next_look = now + self.spec.handshake.times["poll"]
            return None
        if not memory.is_rolling_back:
            code = "interrupted" if memory.in_doubt else "readback"
            return self._fail(code, self._held.differences(wrong), now) if wrong else self._end("ACTIVE")
        if not wrong:
            return self._end("FAILED", rolled_back={name: memory.snapshot[name] for name in memory.targets})
        if memory.is_committed and not memory.is_recommitted:
            return self._recommit(now)
        return self._end("FAILED", "rollback_failed", [f"{name} is not back at its old value" for name in wrong])

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def _handle_refused(self, objection: Objection, now: Timestamp) -> Move:
        """The gateway itself did not let it pass: a lock, or no audit. What it stopped is not in the device."""
        memory = self.memory
        if memory.step is Step.WRITE and memory.is_rolling_back:
            memory.is_restored = True  # tried once: reading tells what the device holds now
        elif memory.step is Step.WRITE:
            memory.is_written = False
        return self._fail(objection.code, [d for d in [objection.detail] if d not in memory.detail], now)

    def _fail(self, code: str, detail: Sequence[str], now: Timestamp) -> Move:
        """Turn to the rollback; on the way back, see what can still be put right and then what the device holds."""
        memory = self.memory
        self._player.stop()
        memory.detail.extend(detail)
        if not memory.is_written:
            return self._end("REJECTED", code)
        memory.codes.append(code)
        if memory.is_rolling_back:
            return self._fail_again(now)
        memory.is_rolling_back = True
        is_raised = memory.is_committed and memory.handshake.part is Part.COMMIT
        if code == "device_error":
            memory.is_committed = False  # what the machine did not take needs no second commit
        return self._do(self._player.begin(Part.RELEASE, now, fresh=True), now) if is_raised else self._restore(now)

    def _fail_again(self, now: Timestamp) -> Move:
        """Also the way back has failed: take back what is raised, and tell what the device holds."""
        memory = self.memory
        memory.is_recommitted = True
        if not memory.is_restored:
            return self._write_values(now=now)
        if memory.handshake.part is Part.COMMIT:
            return self._do(self._player.begin(Part.RELEASE, now, fresh=True), now)
        return self._begin_readback(now)

    def _restore(self, now: Timestamp) -> Move:
        """The old values, behind whatever the handshake has to clear first."""
        if not self.memory.is_committed:
            return self._write_values(now=now)
        return self._do(self._player.begin(Part.CLEAR, now, fresh=True), now)

    def _give_up(self) -> Move:
        """The device did not come back, so nobody can say what it holds."""
        if not self.memory.is_written:
            return self._end("REJECTED", "no_contact", [f"{self.spec.device} did not come back"])
        return self._end("FAILED", "in_doubt", [f"{self.spec.device} did not come back; what it holds is unknown"])

    def _handle_resumed(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Move:
        """The device tells how far the download got: taken, being taken, or never committed."""
        memory, part = self.memory, self.memory.handshake.part
        self._player.see(values)
        match memory.step:
            case Step.READBACK:
                return self._begin_readback(now)
            case Step.WRITE if memory.is_rolling_back:
                return self._write_values(values, now)
            case Step.WRITE if not (self.spec.handshake.profile.commit or self._held.writes(values)):
                return self._begin_readback(now)
            case Step.WRITE:
                return self._fail_interrupted(values, now)
            case Step.COMMIT | Step.WAIT_ACK:
                return self._resume_commit(self._player.resume(now), values, now)
        return self._do(self._player.begin(part, now, fresh=True), now)

    def _resume_commit(self, step: Next, values: Mapping[TagId, PlainValue], now: Timestamp) -> Move:
        memory = self.memory
        if step not in (Verdict.NOT_MADE, Verdict.IN_DOUBT):
            return self._do(step, now)
        if memory.is_rolling_back:
            memory.is_recommitted = step is Verdict.NOT_MADE
            return self._do(self._player.repeat(), now) if memory.is_recommitted else self._begin_readback(now)
        if step is Verdict.IN_DOUBT and all(self.spec.parameters[name].is_echoed for name in memory.targets):
            memory.in_doubt = True
            return self._begin_readback(now)
        memory.is_committed = step is Verdict.IN_DOUBT
        return self._fail_interrupted(values, now)

    def _fail_interrupted(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Move:
        """Nothing was taken: what the device was given goes back, and only that."""
        if self.memory.is_committed:
            return self._fail("interrupted", (), now)
        self.memory.is_rolling_back = True
        self.memory.codes.append("interrupted")
        return self._write_values(values, now)

    def _end(
        self,
        result: str,
        code: str | None = None,
        detail: Sequence[str] = (),
        rolled_back: Mapping[str, PlainValue] | None = None,
    ) -> Outcome:
        memory = self.memory
        memory.step = Step.ENDED
        items = tuple(
            ParamItem(name, requested, self._held.engineering(name, memory.actual.get(name)))
            for name, requested in memory.requested.items()
        )
        held = {name: self._held.engineering(name, raw) for name, raw in rolled_back.items()} if rolled_back else None
        codes = dict.fromkeys([*memory.codes, code] if code else memory.codes)
        return Outcome(result, tuple(codes), (*memory.detail, *detail), items, held)

    # --- operations ---------------------------------------------------------------------------------------------

    def _read(self, names: Sequence[str]) -> Operation:
        """These parameters, as they were or shall be written, and the tags of the handshake."""
        tags = (*(self._held.tag(name) for name in names), *self._player.tags)
        return self._operation(Operation(self.spec.device, "", reads=tuple(dict.fromkeys(tags))))

    def _write(self, writes: list[TagWrite]) -> Operation:
        return self._operation(Operation(self.spec.device, "", writes=tuple(writes)))

    def _filled_in(self, call: MethodCall) -> MethodCall:
        """The call with the names of this download in its arguments."""
        memory = self.memory
        names = {"{order}": memory.order or "", "{set}": memory.set, "{rev}": memory.rev}
        given = tuple(
            msgspec.structs.replace(argument, value=names.get(argument.value, argument.value))
            if isinstance(argument.value, str)
            else argument
            for argument in call.arguments
        )
        return msgspec.structs.replace(call, arguments=given)

    def _operation(self, operation: Operation) -> Operation:
        """The next turn: results of earlier ones count no more."""
        self._turn += 1
        return msgspec.structs.replace(operation, token=self._token())

    def _token(self) -> str:
        return f"{self._prefix}|{self.memory.cmd}|{self._turn}"

    def _frozen(self, name: str, state: State | None) -> Objection | None:
        """Why this parameter may not change now, by its classes in the YAML and in the set."""
        held = classes(self.spec.parameters[name].parameter_class, self.memory.classes.get(name))
        return frozen(name, held, state, self.memory.by)


def _values(reads: Sequence[TagChange]) -> dict[TagId, PlainValue]:
    return {change.tag_id: plain(change.value) for change in reads if not is_bad(change.status_code)}
