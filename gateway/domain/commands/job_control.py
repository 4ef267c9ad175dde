"""Commands to a machine with Job Control: start, stop, pause, resume, abort, cancel, clear, update, revoke_start.

What the list cannot allow is refused by name before any call. A method is called once; whether it worked the list
says, which is looked at right after the call and until the deadline, and after a lost link or a crash alone.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.domain.commands.answers import Answers
from gateway.domain.contract.job_states import EFFECTS, Action, JobState, return_codes
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import JobControl, OrderStart
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.operations import CommandEnd, Operation, OperationResult, Purpose
from gateway.domain.production.job_list import JobList, ListedJob, order_of, read_job_list
from gateway.domain.shared import SharedRecord
from gateway.domain.values import CallResult, MethodCall, Timestamp, is_bad
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.job_download import differences, job_argument
from gateway.domain.writing.job_progress import AskedAction
from gateway.domain.writing.job_spec import JobSpec, OrderFacts

PREFIX: Final = "job.control|"
"""How the tokens of these operations begin."""
_LOOK_AGAIN: Final = 5_000
"""Milliseconds after a request that was lost, for the link may have stayed up."""


class JobCommands:
    """At most one for each equipment; what is under way is in the equipment's memory."""

    def __init__(
        self,
        record: SharedRecord,
        equipment: Mapping[str, Equipment],
        site: Recorder,
        answers: Answers,
        links: Mapping[str, bool],
        now: Timestamp,
    ) -> None:
        self._record = record
        self._equipment = {path: item for path, item in equipment.items() if item.jobs is not None}
        self._site = site
        self._answers = answers
        self._links = links
        for item, asked in self._under_way():
            self._lose(item, asked, now)

    def takes(self, command: object, equipment: Equipment | None) -> bool:
        """True for a command that this machine carries out by a method of its Job Control."""
        return isinstance(command, JobControl) or (
            isinstance(command, OrderStart) and equipment is not None and equipment.jobs is not None
        )

    def take(self, command: JobControl | OrderStart, equipment: Equipment, now: Timestamp) -> None:
        """Judge it, answer, and call the method if nothing is against it; `order.start` is its `start`."""
        action = command.action if isinstance(command, JobControl) else Action.START
        comment = command.comment if isinstance(command, JobControl) else ""
        against = list(self._objections(action, command.order, equipment))
        path = equipment.spec.path
        self._answers.give(
            command.cmd, command.type, "rejected" if against else "accepted", path, now, objections=against
        )
        if against:
            purpose = Purpose(cmd=command.cmd, type=command.type, order=command.order, corr=command.corr, action=action)
            codes, detail = [one.code for one in against], [one.detail for one in against]
            self._tell_audit(purpose, equipment, "rejected", codes, detail)
            return
        job = _find(equipment, command.order)
        assert job is not None
        asked = AskedAction(command.cmd, command.type, action, job.id, command.corr)
        equipment.memory.jobs.asked = asked
        equipment.recorder.changed = True
        self._submit(equipment, asked, self._call(equipment, asked, comment))

    def withdraw(self, order: str, cmd: str, corr: str | None, now: Timestamp) -> None:
        """The order is cancelled in the MES: it is cancelled where a machine has it and has not started it.

        Each machine's answer has an id of its own, the command's with the unit behind it.
        """
        for equipment in self._equipment.values():
            job, unit = _find(equipment, order), equipment.spec.unit
            if job is not None and job.is_startable and Action.CANCEL in _job(_spec(equipment)).actions:
                cancel = JobControl(cmd=f"{cmd}:{unit}", eq=unit, order=job.id, action=Action.CANCEL, corr=corr)
                self.take(cancel, equipment, now)

    def handle_result(self, result: OperationResult, now: Timestamp) -> None:
        """The call was made, or the list was read. A result of a command that is over is ignored."""
        cmd = result.token.removeprefix(PREFIX)
        for equipment, asked in self._under_way():
            if asked.cmd == cmd:
                self._take_result(equipment, asked, result, now)

    def handle_link_up(self, device: str, now: Timestamp) -> None:
        """The device is in reach again: its list says what became of the call."""
        for equipment, asked in self._under_way():
            if _spec(equipment).device == device and asked.give_up is not None:
                asked.next_look = None
                self._submit(equipment, asked)

    def handle_timer(self, now: Timestamp) -> None:
        """The next look at the list; nobody waits for a device for ever."""
        for equipment, asked in self._under_way():
            if asked.give_up is not None and now >= asked.give_up:
                device = _spec(equipment).device
                self._end(equipment, asked, ["in_doubt"], [f"{device} did not come back; its list is unknown"], now)
            elif asked.next_look is not None and now >= asked.next_look:
                asked.next_look = None
                self._submit(equipment, asked)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        timers = [at for _, asked in self._under_way() for at in (asked.give_up, asked.next_look)]
        return min((timer for timer in timers if timer is not None), default=None)

    # --- judging ------------------------------------------------------------------------------------------------

    def _objections(self, action: Action, order: str, equipment: Equipment) -> Iterator[Objection]:
        spec = equipment.spec.download
        if spec is None or spec.job is None or equipment.jobs is None:
            yield Objection("not_allowed", f"{equipment.spec.unit} has no job_control in its configuration")
            return
        if action not in spec.job.actions:
            allowed = ", ".join(sorted(spec.job.actions)) or "none"
            yield Objection("not_allowed", f"{action} is not among the actions of {equipment.spec.unit}: {allowed}")
        locked = self._record.locks.objection(spec.device)
        if locked is not None:
            yield locked
        if not self._links.get(spec.device, False):
            yield Objection("no_contact", f"{spec.device} is out of reach")
        asked, download = equipment.memory.jobs.asked, equipment.memory.download
        if asked is not None:
            yield Objection("under_way", f"{asked.cmd} ({asked.action} of {asked.job}) is not answered yet")
        if download is not None:
            yield Objection("active_download", f"{download.cmd} is under way at step {download.step}")
        if equipment.memory.writes.unknown is not None and action in (Action.START, Action.RESUME):
            text = "what the machine holds is unknown; send the set again or params.confirm first"
            yield Objection("unknown_parameters", text)
        yield from _job_objections(action, order, equipment)

    # --- one method ---------------------------------------------------------------------------------------------

    def _call(self, equipment: Equipment, asked: AskedAction, comment: str) -> MethodCall:
        spec = _spec(equipment)
        job, method = _job(spec), EFFECTS[asked.action].method
        if asked.action is not Action.UPDATE:
            return job.call(method, asked.job, comment)
        loaded = equipment.memory.jobs.loaded[asked.job]
        known = self._record.orders.get(loaded.order)
        facts = OrderFacts(loaded.order, loaded.set, loaded.rev, equipment.spec.unit, known)
        return job.store(method, job_argument(spec, facts, loaded.targets), comment)

    def _submit(self, equipment: Equipment, asked: AskedAction, call: MethodCall | None = None) -> None:
        spec = _spec(equipment)
        job = _job(spec)
        self._site.effects.operations.append(
            Operation(
                spec.device, f"{PREFIX}{asked.cmd}", reads=(job.list_tag, job.capacity_tag),
                calls=(call,) if call is not None else (),
                purpose=_purpose(asked, job),
            )
        )  # fmt: skip

    def _take_result(self, equipment: Equipment, asked: AskedAction, result: OperationResult, now: Timestamp) -> None:
        equipment.recorder.changed = True
        if result.lost:
            self._lose(equipment, asked, now)
            asked.next_look = now + _LOOK_AGAIN
            return
        asked.give_up = None
        if result.refused is not None:
            self._end(equipment, asked, [result.refused.code], [result.refused.detail], now)
            return
        job = _job(_spec(equipment))
        if result.calls:
            _note(asked, result.calls[0], job)
        if asked.deadline is None:
            asked.deadline = now + job.confirm_timeout
        told = next((change.value for change in result.reads if change.tag_id == job.list_tag), None)
        self._judge(equipment, asked, read_job_list(told), now)

    def _judge(self, equipment: Equipment, asked: AskedAction, jobs: JobList | None, now: Timestamp) -> None:
        """The list decides; what was refused and is not so either needs no second look."""
        listed = jobs.get(asked.job) if jobs is not None else None
        if jobs is not None and _is_done(equipment, asked, listed):
            self._end(equipment, asked, [], asked.detail, now)
        elif jobs is not None and asked.codes:
            self._end(equipment, asked, asked.codes, [*asked.detail, _shown(asked, listed)], now)
        elif asked.deadline is not None and now >= asked.deadline:
            code = "interrupted" if asked.in_doubt else "not_confirmed"
            said = _shown(asked, listed) if jobs is not None else "the list cannot be read"
            self._end(equipment, asked, [code], [*asked.detail, said], now)
        else:
            asked.next_look = now + _job(_spec(equipment)).poll

    def _lose(self, equipment: Equipment, asked: AskedAction, now: Timestamp) -> None:
        asked.in_doubt = True
        asked.next_look = asked.deadline = None
        asked.give_up = asked.give_up or now + _spec(equipment).contact_timeout

    def _end(
        self, equipment: Equipment, asked: AskedAction, codes: list[str], detail: list[str], now: Timestamp
    ) -> None:
        equipment.memory.jobs.asked = None
        equipment.recorder.changed = True
        verdict = "failed" if codes else "done"
        self._answers.end(asked.cmd, asked.type, verdict, codes, detail, equipment.spec.path, now)
        self._tell_audit(_purpose(asked, _job(_spec(equipment))), equipment, verdict, codes, detail)

    def _tell_audit(
        self, purpose: Purpose, equipment: Equipment, result: str, codes: list[str], detail: list[str]
    ) -> None:
        spec = equipment.spec.download
        device = spec.device if spec is not None else None
        self._site.effects.ends.append(
            CommandEnd(purpose=purpose, device=device, result=result, codes=codes, detail=detail)
        )

    def _under_way(self) -> list[tuple[Equipment, AskedAction]]:
        items = self._equipment.values()
        return [(item, item.memory.jobs.asked) for item in items if item.memory.jobs.asked is not None]


def _purpose(asked: AskedAction, job: JobSpec) -> Purpose:
    order = order_of(job.id, asked.job)
    return Purpose(cmd=asked.cmd, type=asked.type, order=order, corr=asked.corr, action=asked.action)


def _spec(equipment: Equipment) -> DownloadSpec:
    assert equipment.spec.download is not None
    return equipment.spec.download


def _job(spec: DownloadSpec) -> JobSpec:
    assert spec.job is not None
    return spec.job


def _find(equipment: Equipment, order: str) -> ListedJob | None:
    """The order in the machine's list, by its own id or by that of the MES; the one that is not over before others."""
    jobs = (equipment.jobs.jobs if equipment.jobs is not None else None) or {}
    template = _job(_spec(equipment)).id
    found = [job for job in jobs.values() if order in (job.id, order_of(template, job.id))]
    return next((job for job in found if job.is_open), found[0] if found else None)


def _job_objections(action: Action, order: str, equipment: Equipment) -> Iterator[Objection]:
    jobs = equipment.jobs.jobs if equipment.jobs is not None else None
    if jobs is None:
        yield Objection("no_list", "the machine's list of orders cannot be read")
        return
    job = _find(equipment, order)
    if job is None:
        yield Objection("unknown_job", f"the machine has no order {order}; it has {', '.join(jobs) or 'none'}")
        return
    if job.state is JobState.UNKNOWN:
        yield Objection("unknown_state", f"{job.id} shows {job.shown}, no state of Job Control version 2")
    elif job.state not in EFFECTS[action].before:
        wanted = " or ".join(EFFECTS[action].before)
        yield Objection("job_state", f"{job.id} is {job.state}; {action} needs {wanted}")
    if action is Action.UPDATE and job.id not in equipment.memory.jobs.loaded:
        yield Objection("not_loaded", f"{job.id} was not brought here by a download, so there is nothing to send again")


def _is_done(equipment: Equipment, asked: AskedAction, listed: ListedJob | None) -> bool:
    """What the list must show; of an update it can show the parameters alone, so its answer must be good as well."""
    if (listed.state if listed is not None else None) not in EFFECTS[asked.action].after:
        return False
    if asked.action is not Action.UPDATE or listed is None:
        return True
    loaded = equipment.memory.jobs.loaded.get(asked.job)
    is_unanswered = asked.in_doubt or bool(asked.codes)
    return loaded is not None and not is_unanswered and not differences(_spec(equipment), loaded.targets, listed)


def _note(asked: AskedAction, answer: CallResult, job: JobSpec) -> None:
    """What the method returned; a Bad status carries no outputs, an Uncertain one does."""
    if is_bad(answer.status_code):
        asked.codes = ["refused"]
        asked.detail.append(f"{EFFECTS[asked.action].method}: status 0x{answer.status_code:08X}")
        return
    returned = answer.results[0] if answer.results else None
    asked.codes = list(return_codes(returned, job.return_code))
    if asked.codes:
        asked.detail.append(f"{EFFECTS[asked.action].method} returned {returned!r}: {', '.join(asked.codes)}")


def _shown(asked: AskedAction, listed: ListedJob | None) -> str:
    return f"{asked.job} is {listed.state}" if listed is not None else f"{asked.job} is not in the list"
