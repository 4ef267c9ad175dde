"""ISA-95 Job Control as the standard has it: states, methods, and what each method may do to an order (as tables).

OPC 10031-4 v2.00: states and transitions §6.2.5, methods §6.2.1 and following, ReturnStatus annex B.2.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

NAMESPACE: Final = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/"
"""Of version 2. Version 1 has a namespace and methods of its own, and is not spoken here."""

JOB_ORDER_TYPE: Final = f"nsu={NAMESPACE};i=3008"
JOB_ORDER_LIST: Final = "JobOrderList"
CAPACITY: Final = "MaxDownloadableJobOrders"


class JobState(StrEnum):
    """Where an order is in the machine's list. UNKNOWN is what no name and no number of the standard says."""

    NOT_ALLOWED = "NotAllowedToStart"
    ALLOWED = "AllowedToStart"
    RUNNING = "Running"
    INTERRUPTED = "Interrupted"
    ENDED = "Ended"
    ABORTED = "Aborted"
    UNKNOWN = "Unknown"


NUMBERS: Final = dict(enumerate(list(JobState)[:6], 1))

SUBSTATES: Final[Mapping[JobState, Mapping[int, str]]] = {
    JobState.NOT_ALLOWED: {1: "Waiting", 2: "Ready", 3: "Loaded"},
    JobState.ALLOWED: {1: "Waiting", 2: "Ready", 3: "Loaded"},
    JobState.INTERRUPTED: {1: "Held", 2: "Suspended"},
    JobState.ENDED: {1: "Completed", 2: "Closed"},
}

_EARLIER_NAMES: Final = {
    "Waiting": JobState.NOT_ALLOWED, "Ready": JobState.NOT_ALLOWED, "Loaded": JobState.NOT_ALLOWED,
    "Paused": JobState.INTERRUPTED, "Held": JobState.INTERRUPTED, "Suspended": JobState.INTERRUPTED,
    "Completed": JobState.ENDED, "Closed": JobState.ENDED,
}  # fmt: skip
"""The state names of version 1 and of B2MML, which machines go on showing: none of the first three has been started."""


def job_state(text: str | None, number: int | None) -> JobState:
    """By its name, where that is one of the standard or of its forerunner; else by number, where none contradicts.

    A machine with another enumeration shows a name for a number that has another meaning here: the name is believed.
    A text that is neither, in another language perhaps, leaves the number to decide.
    """
    name = (text or "").replace(" ", "")
    known = {state.value.casefold(): state for state in NUMBERS.values()}
    known |= {earlier.casefold(): state for earlier, state in _EARLIER_NAMES.items()}
    return known.get(name.casefold()) or NUMBERS.get(number or 0, JobState.UNKNOWN)


class Action(StrEnum):
    """What a command may ask for."""

    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    CANCEL = "cancel"
    CLEAR = "clear"
    UPDATE = "update"
    REVOKE_START = "revoke_start"


class Effect(NamedTuple):
    """One method: from which states it may be called, and what the list then shows; None is "no longer in it".

    An order may be further on before anybody looks: one that was started may run, or be done with already.
    """

    method: str
    before: tuple[JobState, ...]
    after: tuple[JobState | None, ...]


_S = JobState
_STARTABLE: Final = (_S.NOT_ALLOWED, _S.ALLOWED)
_OVER: Final = (_S.ENDED, _S.ABORTED)

EFFECTS: Final[Mapping[Action, Effect]] = {
    Action.START: Effect("Start", (_S.NOT_ALLOWED,), (_S.ALLOWED, _S.RUNNING, _S.INTERRUPTED, *_OVER)),
    Action.REVOKE_START: Effect("RevokeStart", (_S.ALLOWED,), (_S.NOT_ALLOWED,)),
    Action.UPDATE: Effect("Update", _STARTABLE, _STARTABLE),
    Action.PAUSE: Effect("Pause", (_S.RUNNING,), (_S.INTERRUPTED,)),
    Action.RESUME: Effect("Resume", (_S.INTERRUPTED,), (_S.RUNNING, *_OVER)),
    Action.STOP: Effect("Stop", (_S.RUNNING, _S.INTERRUPTED), (_S.ENDED, None)),
    Action.ABORT: Effect("Abort", (*_STARTABLE, _S.RUNNING, _S.INTERRUPTED), (_S.ABORTED, None)),
    Action.CANCEL: Effect("Cancel", _STARTABLE, (None,)),
    Action.CLEAR: Effect("Clear", _OVER, (None,)),
}  # fmt: skip

METHOD_IDS: Final = {
    "Store": 7001, "StoreAndStart": 7004, "Start": 7005, "Stop": 7006, "Pause": 7007, "Resume": 7008, "Update": 7009,
    "Abort": 7010, "Cancel": 7011, "Clear": 7012, "RevokeStart": 7013,
}  # fmt: skip
"""The methods of the receiver's type, in its namespace."""


def method_node(method: str) -> str:
    """The type's method, by which it stands on the allow-list."""
    return f"nsu={NAMESPACE};i={METHOD_IDS[method]}"


class ReturnCode(StrEnum):
    """How a machine says that a method succeeded: the standard's bits, or 0 as other interfaces have it."""

    BITMAP = "bitmap"
    ZERO = "zero"


_BITS: Final = {
    1: "unknown_job", 2: "invalid_command", 3: "job_state", 4: "not_accepted", 32: "invalid_request",
}  # fmt: skip
_UNKNOWN_JOB: Final = 1
"""Of the convention in which 0 is success."""


def return_codes(value: object, convention: ReturnCode) -> tuple[str, ...]:
    """What a ReturnStatus says against the call, by name; nothing for success. Bits of a manufacturer by number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return ("no_return_status",)
    if convention is ReturnCode.ZERO:
        return () if value == 0 else ("unknown_job",) if value == _UNKNOWN_JOB else (f"device_error_{value}",)
    told = tuple(_BITS.get(bit, f"vendor_{bit}") for bit in range(1, 64) if value >> bit & 1)
    return told or (() if value & 1 else ("no_return_status",))
