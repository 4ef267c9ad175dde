"""The download of a parameter set as a job order: stored in the machine's list, read back there, cancelled if wrong.

SNAPSHOT (what the list holds) → WRITE (Store, StoreAndStart, or Update of an order that has not started) → READBACK
(the list holds the order with every parameter as asked) → with `start: automatic` COMMIT (Start) → WAIT_ACK → ACTIVE.
What a method returns is a hint, the list is the truth. What cannot be confirmed is cancelled, or aborted and cleared,
and has failed. No method is called twice: after a crash or a lost link the list says how far it got.
"""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.domain.contract.job_states import EFFECTS, Action, JobState, return_codes
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.param_events import ParamItem
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.production.job_list import JobList, ListedJob, read_job_list
from gateway.domain.state.states import State
from gateway.domain.tags.conversion import same_value
from gateway.domain.values import Argument, CallResult, MethodCall, PlainValue, StructureArgument, Timestamp, is_bad
from gateway.domain.writing.download_memory import LOOK_AGAIN, DownloadMemory, Outcome, Step
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.job_progress import JobMemory, LoadedJob
from gateway.domain.writing.job_spec import JobSpec, OrderFacts, StartPolicy, job_id, job_order

Move = Operation | Outcome | None
"""What it does next: an operation, its end, or nothing until `next_timer` or the next fact."""

_UNDO = {
    JobState.NOT_ALLOWED: "Cancel", JobState.ALLOWED: "Cancel", JobState.UNKNOWN: "Cancel",
    JobState.RUNNING: "Abort", JobState.INTERRUPTED: "Abort", JobState.ENDED: "Clear", JobState.ABORTED: "Clear",
}  # fmt: skip
"""How an order that must not stay leaves the list, step by step."""


def job_argument(spec: DownloadSpec, facts: OrderFacts, targets: Mapping[str, PlainValue]) -> StructureArgument:
    """The JobOrder of these raw values by parameter name, each with the type and unit of the allow-list."""
    assert spec.job is not None
    known = spec.parameters
    typed = {
        known[name].tag_id: (Argument(known[name].conversion.type, value), known[name].unit)
        for name, value in targets.items()
    }
    return job_order(spec.job, facts, typed)


def differences(spec: DownloadSpec, targets: Mapping[str, PlainValue], listed: ListedJob) -> list[str]:
    """The parameters that the list does not hold as asked, in words."""
    said = []
    for name, wanted in targets.items():
        parameter = spec.parameters[name]
        held = listed.parameters.get(parameter.tag_id)
        if not same_value(wanted, held, parameter.conversion.type):
            said.append(f"{name}: asked for {wanted}, the order in the machine has {held}")
    return said


class JobDownload:
    """Drives one download to a machine with Job Control; the same verbs as `Download`."""

    def __init__(self, spec: DownloadSpec, memory: DownloadMemory, path: str, facts: OrderFacts) -> None:
        assert spec.job is not None
        self.spec = spec
        self.memory = memory
        self._job: JobSpec = spec.job
        self._facts = facts
        self._id = job_id(self._job, facts)
        self._prefix = path
        self._turn = 0
        self._refusal: tuple[str, ...] = ()

    def remember(self, jobs: JobMemory) -> None:
        """It is active: what went into the order, for the day when it is to be sent again."""
        memory = self.memory
        jobs.loaded[self._id] = LoadedJob(self._facts.order, memory.set, memory.rev, memory.targets)

    # --- facts --------------------------------------------------------------------------------------------------

    def begin(self, permitted: bool, now: Timestamp) -> Move:
        """Start, or wait for the operator's permit."""
        if permitted:
            return self._look(Step.SNAPSHOT)
        self.memory.step = Step.WAIT_PERMIT
        self.memory.deadline = now + self.spec.permit_timeout
        return None

    def permit(self) -> Move:
        """The operator permits it."""
        return self._look(Step.SNAPSHOT) if self.memory.step is Step.WAIT_PERMIT else None

    def lose(self, now: Timestamp) -> None:
        """The link broke, or the gateway was away: nothing is known before the list is looked at."""
        memory = self.memory
        if memory.step is not Step.WAIT_PERMIT and memory.give_up is None:
            memory.give_up = now + self.spec.contact_timeout

    @property
    def device(self) -> str:
        """The device that is talked with."""
        return self.spec.device

    def waits_for(self, device: str) -> bool:
        """True if that device, now in reach again, is the one that this download talks with."""
        return self.memory.step is not Step.WAIT_PERMIT and device == self.spec.device

    def look_again(self, now: Timestamp) -> None:
        """One request was lost on a link that stayed up; the list is looked at again soon."""
        self.lose(now)
        self.memory.next_look = now + LOOK_AGAIN

    def resume(self, _now: Timestamp) -> Move:
        """The device is in reach again: look at its list, then decide."""
        memory = self.memory
        memory.next_look = memory.deadline = None
        memory.in_doubt = memory.is_written
        return self._look(memory.step)

    def handle_timer(self, now: Timestamp) -> Move:
        """A deadline, or the next look at the list."""
        memory = self.memory
        looks = memory.next_look is not None and now >= memory.next_look
        if memory.give_up is not None:
            return self._give_up() if now >= memory.give_up else self.resume(now) if looks else None
        if memory.step is Step.WAIT_PERMIT:
            late = memory.deadline is not None and now >= memory.deadline
            return self._end("REJECTED", "permit_timeout") if late else None
        if looks:
            memory.next_look = None
            return self._look(memory.step)
        return None

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        memory = self.memory
        if memory.give_up is not None:
            return memory.give_up if memory.next_look is None else min(memory.give_up, memory.next_look)
        return memory.deadline if memory.step is Step.WAIT_PERMIT else memory.next_look

    def handle_result(self, result: OperationResult, _state: State | None, now: Timestamp) -> Move:
        """Take in what an operation brought. A result of an earlier turn is ignored."""
        if result.token != self._token():
            return None
        if result.lost:
            self.lose(now)
            return None
        self.memory.give_up = None
        values = {change.tag_id: change.value for change in result.reads if not is_bad(change.status_code)}
        jobs = read_job_list(values.get(self._job.list_tag))
        capacity = values.get(self._job.capacity_tag)
        if result.refused is not None:
            return self._handle_stopped(result.refused)
        if result.calls:
            self._note(result.calls[0], jobs or {}, capacity)
        if not self.memory.is_written:
            return self._handle_before(jobs, capacity, now)
        if self.memory.deadline is None:
            self.memory.deadline = now + self._job.confirm_timeout
        return self._wait_for_list(now) if jobs is None else self._judge(jobs.get(self._id), now)

    # --- steps --------------------------------------------------------------------------------------------------

    def _handle_before(self, jobs: JobList | None, capacity: object, now: Timestamp) -> Move:
        """What the list must be like before an order is put into it."""
        if jobs is None:
            return self._end("REJECTED", "unreadable", [f"{self._job.list_tag} cannot be read"])
        strange = [job for job in jobs.values() if job.state is JobState.UNKNOWN]
        if strange:
            told = ", ".join(f"{job.id}: {job.shown}" for job in strange)
            return self._end("REJECTED", "unknown_state", [f"states that are none of Job Control version 2: {told}"])
        known = jobs.get(self._id)
        if known is None:
            count = sum(job.is_open for job in jobs.values())
            if isinstance(capacity, int) and 0 < capacity <= count:
                return self._end("REJECTED", "queue_full", [f"the machine holds {count} orders of at most {capacity}"])
            method = "StoreAndStart" if self._job.start is StartPolicy.ON_DOWNLOAD else "Store"
        elif known.is_startable:
            method = "Update"
        else:
            return self._end(
                "REJECTED", "job_state", [f"{self._id} is {known.state}; nothing can be changed in it now"]
            )
        self.memory.is_written = True
        argument = job_argument(self.spec, self._facts, self.memory.targets)
        return self._call(Step.WRITE, self._job.store(method, argument, f"{self.memory.set} {self.memory.rev}"), now)

    def _judge(self, job: ListedJob | None, now: Timestamp) -> Move:
        """What the list says, which is what holds, whatever was returned."""
        memory = self.memory
        if memory.is_rolling_back:
            return self._undo(job, now)
        memory.actual = {
            name: job.parameters.get(self.spec.parameters[name].tag_id) if job else None for name in memory.targets
        }
        if memory.is_committed:
            return self._judge_start(job, now)
        wrong = self._wrong(job)
        if not wrong:
            return self._go_on(job, now)
        if self._refusal and (job is None or "Update" in memory.called):
            return self._end("REJECTED", self._refusal[0], wrong)
        return self._wait_or_fail("readback" if job else "not_listed", wrong, job, now)

    def _wrong(self, job: ListedJob | None) -> list[str]:
        """What is not as asked; an order that the machine let start by itself must at least be allowed to."""
        if job is None:
            return [f"the machine's list has no {self._id}"]
        wrong = differences(self.spec, self.memory.targets, job)
        is_refused = job.state in (JobState.ABORTED, JobState.UNKNOWN)
        is_held = "StoreAndStart" in self.memory.called and job.state is JobState.NOT_ALLOWED
        return [*wrong, *([f"{self._id} is {job.state}: {job.shown}"] if is_refused or is_held else [])]

    def _go_on(self, job: ListedJob | None, now: Timestamp) -> Move:
        """The order is there as asked: that is all, or it is let start."""
        if self._job.start is not StartPolicy.AUTOMATIC or job is None or job.state is not JobState.NOT_ALLOWED:
            return self._end("ACTIVE")
        self.memory.is_committed = True
        return self._call(Step.COMMIT, self._job.call("Start", self._id), now)

    def _judge_start(self, job: ListedJob | None, now: Timestamp) -> Move:
        if job is not None and job.state in EFFECTS[Action.START].after and not self._wrong(job):
            return self._end("ACTIVE")
        said = [f"{self._id} is {job.state if job else 'not in the list'} after Start"]
        if self._refusal:
            return self._fail(self._refusal[0], said, job, now)
        return self._wait_or_fail("not_started", said, job, now)

    def _handle_stopped(self, objection: Objection) -> Move:
        """The gateway itself did not let it pass: what was to be called was not."""
        memory = self.memory
        if memory.step is Step.WRITE:
            return self._end("REJECTED", objection.code, [objection.detail])
        memory.codes.append(objection.code)
        return self._end("FAILED", "rollback_failed", [objection.detail, f"{self._id} may still be in the list"])

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def _wait_or_fail(self, code: str, detail: Sequence[str], job: ListedJob | None, now: Timestamp) -> Move:
        if self.memory.deadline is not None and now < self.memory.deadline:
            return self._wait_for_list(now)
        return self._fail("interrupted" if self.memory.in_doubt else code, detail, job, now)

    def _wait_for_list(self, now: Timestamp) -> Move:
        """Look again; a list that cannot be read until the deadline leaves everything in doubt."""
        memory = self.memory
        if memory.deadline is not None and now >= memory.deadline:
            return self._end("FAILED", "in_doubt", [f"{self._job.list_tag} cannot be read"])
        memory.next_look = now + self._job.poll
        return None

    def _fail(self, code: str, detail: Sequence[str], job: ListedJob | None, now: Timestamp) -> Move:
        """An order that is not as asked must not run: it leaves the list again."""
        self.memory.codes.append(code)
        self.memory.detail.extend(detail)
        self.memory.is_rolling_back = True
        return self._undo(job, now)

    def _undo(self, job: ListedJob | None, now: Timestamp) -> Move:
        if job is None:
            return self._end("FAILED", rolled_back=True)
        method = _UNDO[job.state]
        if method not in self.memory.called:
            self.memory.deadline = None
            return self._call(Step.CLEAR, self._job.call(method, self._id, "not as asked"), now)
        if self.memory.deadline is not None and now < self.memory.deadline:
            return self._wait_for_list(now)
        return self._end("FAILED", "rollback_failed", [f"{self._id} is still in the list, {job.state}"])

    def _give_up(self) -> Move:
        """The device did not come back, so nobody can say what it holds."""
        if not self.memory.is_written:
            return self._end("REJECTED", "no_contact", [f"{self.spec.device} did not come back"])
        return self._end("FAILED", "in_doubt", [f"{self.spec.device} did not come back; what it holds is unknown"])

    def _end(
        self, result: str, code: str | None = None, detail: Sequence[str] = (), *, rolled_back: bool = False
    ) -> Outcome:
        memory = self.memory
        memory.step = Step.ENDED
        items = tuple(ParamItem(name, asked, memory.actual.get(name)) for name, asked in memory.requested.items())
        codes = tuple(dict.fromkeys([*memory.codes, *([code] if code else [])]))
        held = dict.fromkeys(memory.targets) if rolled_back else None
        return Outcome(result, codes, (*memory.detail, *detail), items, held)

    # --- operations ---------------------------------------------------------------------------------------------

    def _note(self, answer: CallResult, jobs: JobList, capacity: object) -> None:
        """What the method returned; a Bad status carries no outputs, an Uncertain one does."""
        method = self.memory.called[-1]
        if is_bad(answer.status_code):
            self._refusal = (f"{method.lower()}_refused",)
            self.memory.detail.append(f"{method}: status 0x{answer.status_code:08X}")
            return
        returned = answer.results[0] if answer.results else None
        self._refusal = return_codes(returned, self._job.return_code)
        if self._refusal:
            self.memory.detail.append(f"{method} returned {returned!r}: {', '.join(self._refusal)}")
            if "not_accepted" in self._refusal and isinstance(capacity, int) and 0 < capacity <= len(jobs):
                self._refusal = ("queue_full",)

    def _call(self, step: Step, call: MethodCall, now: Timestamp) -> Operation:
        """Call once, and look at the list at once; from here on there is a deadline."""
        self.memory.step = step
        self.memory.called.append((call.component or "").rpartition(";")[2])
        self.memory.deadline = now + self._job.confirm_timeout
        self._refusal = ()
        return self._operation(Operation(self.spec.device, "", calls=(call,), reads=self._tags))

    def _look(self, step: Step) -> Operation:
        self.memory.step = step
        return self._operation(Operation(self.spec.device, "", reads=self._tags))

    @property
    def _tags(self) -> tuple[str, ...]:
        return self._job.list_tag, self._job.capacity_tag

    def _operation(self, operation: Operation) -> Operation:
        """The next turn: results of earlier ones count no more."""
        self._turn += 1
        return msgspec.structs.replace(operation, token=self._token())

    def _token(self) -> str:
        return f"{self._prefix}|{self.memory.cmd}|{self._turn}"
