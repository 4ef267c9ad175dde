"""What the machine's list says of its orders, told as it changes: `job.state`, and the interruption of what runs.

That an order starts and ends is told by the attribution (`order: {from: job_control}`), which moves its pieces too.
"""

from typing import Final

import msgspec
from msgspec import field

from gateway.domain.contract.events import OrderInterrupted, OrderResumed
from gateway.domain.contract.job_states import Action, JobState
from gateway.domain.contract.param_events import JobStateChange
from gateway.domain.effects import Recorder
from gateway.domain.production.attribution import Attribution
from gateway.domain.production.job_list import JobList, ListedJob, order_of, read_job_list
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import PlainValue, Timestamp
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.job_spec import JobSpec

REMOVED: Final = "Removed"
"""What a cancelled or cleared order is told to be: the list has it no more."""


class Shown(msgspec.Struct):
    """How an order was shown last."""

    state: JobState
    substate: str | None = None


class LoadedJob(msgspec.Struct):
    """What went into an order with its last download: an update sends it again. Raw values by parameter name."""

    order: str
    set: str
    rev: str
    targets: dict[str, PlainValue]


class AskedAction(msgspec.Struct):
    """A method that a command asked for, journalled before it is called; `in_doubt` once its answer cannot come."""

    cmd: str
    type: str
    action: Action
    job: str
    corr: str | None = None
    in_doubt: bool = False
    codes: list[str] = field(default_factory=list)
    detail: list[str] = field(default_factory=list)
    deadline: Timestamp | None = None
    next_look: Timestamp | None = None
    give_up: Timestamp | None = None


class JobMemory(msgspec.Struct):
    """What survives a restart, by JobOrderID."""

    shown: dict[str, Shown] = field(default_factory=dict)
    loaded: dict[str, LoadedJob] = field(default_factory=dict)
    asked: AskedAction | None = None


class JobProgress:
    """Holds the list against what was told of it. All its memory is in `memory`."""

    def __init__(self, spec: JobSpec, memory: JobMemory, recorder: Recorder, inputs: Inputs) -> None:
        self._spec = spec
        self._memory = memory
        self._recorder = recorder
        self._inputs = inputs

    @property
    def jobs(self) -> JobList | None:
        """The list as it was shown last; None while there is none to be had."""
        slot = self._spec.list_slot
        return read_job_list(self._inputs.values[slot]) if self._inputs.usable(slot) else None

    def take_scan(self, touched: set[int], attribution: Attribution, at: Timestamp, now: Timestamp) -> None:
        """Tell what the list shows to have changed since it was shown last, also before a restart."""
        jobs = self.jobs if self._spec.list_slot in touched else None
        if jobs is None:
            return
        for name in [*self._memory.shown, *(new for new in jobs if new not in self._memory.shown)]:
            before, job = self._memory.shown.get(name), jobs.get(name)
            after = Shown(job.state, job.substate) if job is not None else None
            if before != after:
                self._tell(name, before, job, at, now)
                self._interrupt(name, job, attribution, at, now)
        for name in self._memory.shown.keys() - jobs.keys():
            self._memory.loaded.pop(name, None)
            attribution.memory.order.prepared.pop(order_of(self._spec.id, name), None)
        self._memory.shown = {name: Shown(job.state, job.substate) for name, job in jobs.items()}

    def _tell(self, name: str, before: Shown | None, job: ListedJob | None, at: Timestamp, now: Timestamp) -> None:
        changed = JobStateChange(
            job=name, for_order=order_of(self._spec.id, name), before=before.state if before else None,
            to=job.state if job else REMOVED, substate=job.substate if job else None, raw=job.shown if job else None,
        )  # fmt: skip
        self._recorder.event(changed, at, now)

    def _interrupt(
        self, name: str, job: ListedJob | None, attribution: Attribution, at: Timestamp, now: Timestamp
    ) -> None:
        """The order that runs here is interrupted, or goes on."""
        run = attribution.memory.order.current
        if run is None or job is None or run.order.id != order_of(self._spec.id, name):
            return
        if job.state is JobState.INTERRUPTED and not run.interrupted:
            run.interrupted = True
            cause = f"JOB/{job.substate or job.state}".upper()
            self._recorder.event(OrderInterrupted(run=run.number, cause=cause), at, now, order=run.order)
        elif job.state is JobState.RUNNING and run.interrupted:
            run.interrupted = False
            self._recorder.event(OrderResumed(run=run.number), at, now, order=run.order)


def job_progress(
    spec: DownloadSpec | None, memory: JobMemory, recorder: Recorder, inputs: Inputs
) -> JobProgress | None:
    """The progress of a machine with Job Control; None of any other."""
    if spec is None or spec.job is None:
        return None
    return JobProgress(spec.job, memory, recorder, inputs)
