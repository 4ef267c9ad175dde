"""The machine's list of job orders, as it says it: which orders it has, in which state, with which parameters.

The list is the truth about every order (OPC 10031-4 v2.00 §6.2.4). It comes as the JSON text of the structures in
`JobOrderList`; a machine that never had an order may have no list yet, or `null`.
"""

import re
from typing import Any

import msgspec
from msgspec import field

from gateway.domain.contract.job_states import SUBSTATES, JobState, job_state
from gateway.domain.values import PlainValue


class ListedJob(msgspec.Struct, frozen=True):
    """One order of the list. `shown` is the state in the machine's own words."""

    id: str
    state: JobState
    substate: str | None = None
    parameters: dict[str, PlainValue] = {}
    shown: str = ""

    @property
    def is_startable(self) -> bool:
        """True before it runs, when it may be updated or cancelled."""
        return self.state in (JobState.NOT_ALLOWED, JobState.ALLOWED)

    @property
    def is_open(self) -> bool:
        """True until it is ended or aborted: then it waits to be cleared only."""
        return self.state not in (JobState.ENDED, JobState.ABORTED)


JobList = dict[str, ListedJob]
"""The orders by their JobOrderID."""


class _Parameter(msgspec.Struct):
    id: str = field(name="ID")
    value: Any = field(name="Value", default=None)


class _Order(msgspec.Struct):
    id: str = field(name="JobOrderID")
    parameters: list[_Parameter] | None = field(name="JobOrderParameters", default=None)


class _State(msgspec.Struct):
    text: str | None = field(name="StateText", default=None)
    number: int | None = field(name="StateNumber", default=None)


class _Entry(msgspec.Struct):
    order: _Order = field(name="JobOrder")
    states: list[_State] | None = field(name="State", default=None)


def read_job_list(text: object) -> JobList | None:
    """The list in this tag value; None where it is none (a Bad tag, another structure)."""
    if not isinstance(text, str):
        return None
    try:
        entries = msgspec.json.decode(text, type=list[_Entry | None] | None)
    except msgspec.DecodeError:
        return None
    return {entry.order.id: _job(entry) for entry in entries or () if entry is not None}


def order_of(template: str, job: str) -> str:
    """The MES's order in a JobOrderID made by this template; the id itself where another made it."""
    pattern = "".join(_pattern(part) for part in re.split(r"(\{\w+\})", template))
    match = re.fullmatch(pattern, job, re.DOTALL)
    return match["order"] if match is not None else job


def running_order(text: object, template: str, current: str) -> str | None:
    """The order that the list shows as begun and not over, "" for none, None where there is no list.

    Of several it is the one that runs already, as far as we know; an interrupted order is still the machine's.
    """
    jobs = read_job_list(text)
    if jobs is None:
        return None
    begun = [job for job in jobs.values() if job.state in (JobState.RUNNING, JobState.INTERRUPTED)]
    orders = [order_of(template, job.id) for job in sorted(begun, key=_runs_first)]
    return current if current in orders else next(iter(orders), "")


def _runs_first(job: ListedJob) -> bool:
    return job.state is not JobState.RUNNING


def _pattern(part: str) -> str:
    return f"(?P<{part[1:-1]}>.*?)" if part.startswith("{") else re.escape(part)


def _job(entry: _Entry) -> ListedJob:
    """The first state is the top level's, the second that of the machine within it."""
    states = entry.states or [_State()]
    top, below = states[0], states[1] if len(states) > 1 else None
    state = job_state(top.text, top.number)
    substate = None
    if below is not None:
        substate = SUBSTATES.get(state, {}).get(below.number or 0) or below.text
    parameters = {one.id: one.value if _is_plain(one.value) else str(one.value) for one in entry.order.parameters or ()}
    return ListedJob(entry.order.id, state, substate, parameters, f"{top.text or ''} ({top.number})")


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
