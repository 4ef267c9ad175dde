"""The parameter download: from a validated command to what the device really holds.

SNAPSHOT → CLEAR → WRITE → COMMIT → WAIT_ACK → RELEASE → READBACK → ACTIVE. Whatever fails after the first write turns
to the rollback, which takes the same steps with the snapshot's values. How the machine is told and how it answers is
in the table of its handshake, which the player goes through. Each step is decided here, journalled by whoever commits
the memory, and only then performed; after a crash or a lost link the download resumes by reading the device, and
writes nothing that the device holds.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.domain.contract.objections import Objection
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.state.states import State
from gateway.domain.values import (
    CallResult,
    MethodCall,
    PlainValue,
    StatusCode,
    TagChange,
    TagId,
    TagWrite,
    Timestamp,
    WriteResult,
    is_bad,
)
from gateway.domain.writing.download_conversation import Conversation, unreadable, values_of
from gateway.domain.writing.download_memory import LOOK_AGAIN, DownloadMemory, Outcome, Step
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.download_values import DownloadValues
from gateway.domain.writing.handshake_player import Failure, HandshakePlayer, Next, Part, Verdict
from gateway.domain.writing.parameter_classes import classes, frozen
from gateway.domain.writing.write_safety import change_objections

_STEPS: Final = {Part.CLEAR: Step.CLEAR, Part.COMMIT: Step.COMMIT, Part.RELEASE: Step.RELEASE}

IN_DOUBT: Final = frozenset({"ack_timeout", "done_timeout", "interrupted"})
"""After these nobody knows whether the machine took the values, or still will."""

UNCERTAIN: Final = frozenset(
    {StatusCode.BAD_TIMEOUT, StatusCode.BAD_COMMUNICATION_ERROR, StatusCode.BAD_INTERNAL_ERROR}
)
"""Codes of a write that may have reached the machine all the same; any other is its refusal."""

Move = Operation | Outcome | None
"""What a download does next: an operation, its end, or nothing until `next_timer` or the next fact."""


class Download:
    """Drives one download."""

    def __init__(self, spec: DownloadSpec, memory: DownloadMemory, prefix: str) -> None:
        self.spec = spec
        self.memory = memory
        self._held = DownloadValues(spec, memory)
        self._player = HandshakePlayer(spec.handshake, memory.handshake, self._held.buffer)
        self._ask = Conversation(spec, memory, self._held, self._player.tags, prefix)

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

    @property
    def device(self) -> str:
        """The device that is talked with at this step."""
        return (
            self.spec.readback_device
            if self.memory.step is Step.READBACK and not self.memory.looks
            else self.spec.device
        )

    def waits_for(self, device: str) -> bool:
        """True if that device, now in reach again, is one that this download talks with."""
        step = self.memory.step
        reads_back = step is Step.READBACK and device == self.spec.readback_device
        return step is not Step.WAIT_PERMIT and (device == self.spec.device or reads_back)

    def resume(self, now: Timestamp) -> Move:
        """The device is in reach again: look at it, then decide. What was not begun is begun anew, if it still may."""
        memory = self.memory
        memory.next_look = None
        self._player.stop()
        if not memory.is_written:
            memory.step, memory.give_up = Step.WAIT_PERMIT, None
            memory.deadline = now + self.spec.permit_timeout
            return None
        memory.looks = True
        return self._ask.read([*memory.targets])

    def look_again(self, now: Timestamp) -> None:
        """The device did not say enough; it is looked at again soon."""
        self.lose(now)
        self.memory.next_look = now + LOOK_AGAIN

    def handle_timer(self, now: Timestamp) -> Move:
        """A deadline or the next look at the machine's answer."""
        memory = self.memory
        looks = memory.next_look is not None and now >= memory.next_look
        if memory.give_up is not None:
            return self._give_up() if now >= memory.give_up else self.resume(now) if looks else None
        if memory.looks:
            return None
        if memory.step is Step.WAIT_PERMIT:
            late = memory.deadline is not None and now >= memory.deadline
            return self._end("REJECTED", "permit_timeout") if late else None
        if memory.step is Step.READBACK:
            return self._read_back() if looks else None
        return self._do(self._player.handle_timer(now), now)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        memory = self.memory
        if memory.give_up is not None:
            return memory.give_up if memory.next_look is None else min(memory.give_up, memory.next_look)
        if memory.looks:
            return None
        if memory.step is Step.WAIT_PERMIT:
            return memory.deadline
        return memory.next_look if memory.step is Step.READBACK else self._player.next_timer()

    def handle_result(self, result: OperationResult, state: State | None, now: Timestamp) -> Move:
        """Take in what an operation brought. A result of an earlier turn is ignored."""
        memory = self.memory
        if result.token != self._ask.token:
            return None
        if result.lost:
            self.lose(now)
            return None
        if result.refused is not None:
            return self._handle_refused(result.refused, now)
        if memory.looks:
            return self._handle_look(result.reads, now)
        memory.give_up = None
        match memory.step:
            case Step.SNAPSHOT:
                return self._handle_snapshot(result.reads, state, now)
            case Step.WRITE:
                return self._handle_written(result.writes, now)
            case Step.READBACK:
                return self._handle_readback(values_of(result.reads), now)
            case Step.CLEAR | Step.COMMIT | Step.WAIT_ACK | Step.RELEASE:
                return self._handle_handshake(result, now)
        return None

    # --- steps --------------------------------------------------------------------------------------------------

    def _take_snapshot(self) -> Move:
        self.memory.step = Step.SNAPSHOT
        return self._ask.read(self._held.touched)

    def _handle_snapshot(self, reads: Sequence[TagChange], state: State | None, now: Timestamp) -> Move:
        memory, values = self.memory, values_of(reads)
        if missing := unreadable(reads):
            return self._end("REJECTED", "unreadable", missing)
        memory.snapshot = {name: values[self._held.tag(name)] for name in self._held.touched}
        if (text := self._held.unsealable()) is not None:
            return self._end("REJECTED", "unreadable", [text])
        changed = self._held.changed()
        against = [objection for name in changed if (objection := self._frozen(name, state)) is not None]
        against += change_objections({name: self._held.change(name) for name in changed}, self.spec, state)
        if against:
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
        return self._ask.write(writes) if writes else self._handle_written((), now)

    def _handle_written(self, results: Sequence[WriteResult], now: Timestamp) -> Move:
        memory = self.memory
        memory.is_restored = memory.is_rolling_back
        refused = [result for result in results if is_bad(result.status_code)]
        if refused:
            code = "write_unanswered" if any(r.status_code in UNCERTAIN for r in refused) else "write_refused"
            return self._fail(code, [f"{r.tag_id}: status 0x{r.status_code:08X}" for r in refused], now)
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
            return self._do(self._player.look(values_of(result.reads), now), now)
        if result.calls:
            return self._handle_called(result.calls[0], now)
        if bad := [written for written in result.writes if is_bad(written.status_code)]:
            self.memory.is_committed &= self.memory.is_rolling_back or any(w.status_code in UNCERTAIN for w in bad)
            return self._fail("commit_refused", [f"{w.tag_id}: status 0x{w.status_code:08X}" for w in bad], now)
        return self._do(self._player.done(now), now)

    def _handle_called(self, answer: CallResult, now: Timestamp) -> Move:
        method = self.spec.handshake.method
        assert method is not None
        refusal = method.refusal(answer)
        self.memory.is_unconfirmed |= refusal is not None and not method.is_certain(answer)
        if refusal is not None:
            return self._fail("device_error", [f"the machine refused {method.call.method} with {refusal}"], now)
        return self._do(self._player.done(now), now)

    def _do(self, step: Next, now: Timestamp) -> Move:
        """What the player says, as a step of the download."""
        part = self.memory.handshake.part
        match step:
            case TagWrite():
                self.memory.step = _STEPS[part]
                return self._ask.write([step])
            case MethodCall():
                self.memory.step = _STEPS[part]
                return self._ask.call(step)
            case Verdict.LOOK:
                return self._ask.look()
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
        return self._ask.read_back()

    def _handle_readback(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Move:
        memory, wanted = self.memory, self._held.wanted
        actual = {name: values.get(self._held.readback(name)) for name in wanted}
        wrong = [name for name, value in wanted.items() if not self._held.is_shown(name, value, actual[name])]
        if not memory.is_rolling_back:
            memory.actual = actual
        if wrong and memory.deadline is not None and now < memory.deadline:
            memory.next_look = now + self.spec.handshake.times["poll"]
            return None
        if not memory.is_rolling_back:
            code = "interrupted" if memory.in_doubt else "readback"
            return self._fail(code, self._held.differences(wrong), now) if wrong else self._end("ACTIVE")
        if wrong and memory.is_committed and not memory.is_recommitted:
            return self._recommit(now)
        if wrong:
            return self._end("FAILED", "rollback_failed", [f"{name} is not back at its old value" for name in wrong])
        if memory.is_unconfirmed and not self._held.all_echoed():
            return self._end("FAILED", "rollback_failed", ["the machine did not say that it took the old values back"])
        return self._end("FAILED", rolled_back=True)

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def _handle_refused(self, objection: Objection, now: Timestamp) -> Move:
        """The gateway itself did not let it pass: a lock, or no audit. What it stopped is not in the device."""
        memory = self.memory
        if memory.step is Step.WRITE and memory.is_rolling_back:
            memory.is_restored = True  # tried once: reading tells what the device holds now
        elif memory.step is Step.WRITE:
            memory.is_written = False
        elif memory.step is Step.COMMIT and not memory.is_rolling_back:
            memory.is_committed = False
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
        if code == "device_error" and not memory.is_unconfirmed:
            memory.is_committed = False  # what the machine did not take needs no second commit
        memory.is_unconfirmed |= is_raised and code in IN_DOUBT
        return self._do(self._player.begin(Part.RELEASE, now, fresh=True), now) if is_raised else self._restore(now)

    def _fail_again(self, now: Timestamp) -> Move:
        """Also the way back has failed: take back what is raised, and tell what the device holds."""
        memory = self.memory
        memory.is_unconfirmed |= memory.is_committed
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

    def _handle_look(self, reads: Sequence[TagChange], now: Timestamp) -> Move:
        """After a crash or a lost link; what the device cannot tell yet is asked again."""
        if unreadable(reads):
            self.look_again(now)
            return None
        self.memory.looks, self.memory.give_up = False, None
        return self._handle_resumed(values_of(reads), now)

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
            memory.is_unconfirmed |= not memory.is_recommitted
            return self._do(self._player.repeat(), now) if memory.is_recommitted else self._begin_readback(now)
        if step is Verdict.IN_DOUBT and self._held.all_echoed():
            memory.in_doubt = True
            return self._begin_readback(now)
        memory.is_committed = step is Verdict.IN_DOUBT
        return self._fail_interrupted(values, now)

    def _fail_interrupted(self, values: Mapping[TagId, PlainValue], now: Timestamp) -> Move:
        """Nothing was taken: what the device was given goes back, and only that."""
        if self.memory.is_committed:
            self.memory.is_unconfirmed = True
            return self._fail("interrupted", (), now)
        self.memory.is_rolling_back = True
        self.memory.codes.append("interrupted")
        return self._write_values(values, now)

    def _end(
        self, result: str, code: str | None = None, detail: Sequence[str] = (), *, rolled_back: bool = False
    ) -> Outcome:
        self.memory.step = Step.ENDED
        return self._held.outcome(result, code, detail, rolled_back=rolled_back)

    def _frozen(self, name: str, state: State | None) -> Objection | None:
        """Why this parameter may not change now, by its classes in the YAML and in the set."""
        held = classes(self.spec.parameters[name].parameter_class, self.memory.classes.get(name))
        return frozen(name, held, state, self.memory.by)
