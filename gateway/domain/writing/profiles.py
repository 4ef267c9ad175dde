"""The handshake profiles: one table for each way in which machines take parameters. A new one is a table and no code.

Sources: the patterns of machine builders as the handbook of the shop floor lists them; PackML command exchange by
ANSI/ISA-TR88.00.02 (CntrlCmd with CmdChangeRequest).
"""

from typing import Final

from gateway.domain.writing.handshake import (
    Call,
    Checksum,
    Following,
    Held,
    Kind,
    Length,
    Opposite,
    Pause,
    Profile,
    Put,
    Sent,
    Setting,
    Signal,
    Test,
    Wait,
)

_READ_BOOL: Final = Signal(Kind.BOOL)
_READ_ANY: Final = Signal(Kind.ANY)
_WRITE_BOOL: Final = Signal(Kind.BOOL, is_ours=True)
_OPTIONAL_BOOL: Final = Signal(Kind.BOOL, is_optional=True)

_DONE: Final = {"poll": 200, "done_timeout": 30_000}
_ANSWERED: Final = {**_DONE, "acknowledge_timeout": 5_000}
_READ_BACK: Final = {"readback_timeout": 2_000}

PROFILES: Final[dict[str, Profile]] = {
    # Values, then a number the machine has not seen; it says which number it is at, and how that went. Survives lost
    # messages and restarts of either side, since nothing is told by an edge. A number that the machine has not
    # answered is waited for, and then taken back.
    "sequence_number": Profile(
        signals={
            "command": Signal(Kind.INTEGER, is_ours=True),
            "acknowledged": Signal(Kind.INTEGER),
            "status": Signal(Kind.INTEGER),
            "error": _READ_ANY,
        },
        clear=(
            Wait((Test("acknowledged", Held("command")),), "acknowledge_timeout", None),
            Put("command", Held("acknowledged")),
        ),
        commit=(
            Put("command", Following("acknowledged")),
            Wait((Test("acknowledged", Sent("command")),), "acknowledge_timeout", "ack_timeout"),
            Wait(
                (Test("status", Setting("done")),),
                "done_timeout",
                "done_timeout",
                refused=(Test("status", Setting("rejected")),),
            ),
        ),
        settings={"done": 2, "rejected": 3},
        times=_ANSWERED,
    ),
    # Four bits: a request, and what the machine says to it. A request that a crash has left up is taken back first.
    "request_bits": Profile(
        signals={"request": _WRITE_BOOL, "acknowledged": _READ_BOOL, "done": _READ_BOOL, "error": _READ_ANY},
        clear=(
            Put("request", False),
            Wait((Test("acknowledged", False), Test("done", False)), "acknowledge_timeout", "stale_answer"),
            Wait((Test("error", 0),), "poll", None),
        ),
        commit=(
            Put("request", True),
            Wait((Test("acknowledged", True),), "acknowledge_timeout", "ack_timeout"),
            Wait((Test("done", True),), "done_timeout", "done_timeout", refused=(Test("error", 0, is_not=True),)),
        ),
        release=(
            Put("request", False),
            Wait((Test("acknowledged", False), Test("done", False)), "acknowledge_timeout", None),
        ),
        times=_ANSWERED,
    ),
    # The bit is turned over; the machine makes its echo the same when it has taken the values.
    "data_ready": Profile(
        signals={
            "ready": _WRITE_BOOL,
            "echo": _READ_BOOL,
            "error": Signal(Kind.ANY, is_optional=True),
        },
        clear=(Put("ready", Held("echo")),),
        commit=(
            Put("ready", Opposite("echo")),
            Wait(
                (Test("echo", Sent("ready")),),
                "done_timeout",
                "done_timeout",
                refused=(Test("error", 0, is_not=True),),
            ),
        ),
        times=_DONE,
    ),
    # Command.Parameter is filled, a command given and its change requested; the machine drops the request when it has
    # seen it, and says by its state when it is through. Status.Parameter is what it works with.
    "packml": Profile(
        signals={
            "command": Signal(Kind.INTEGER, is_ours=True),
            "request": Signal(Kind.BOOL, is_ours=True, is_consumed=True),
            "state": Signal(Kind.INTEGER),
            "in_process": _OPTIONAL_BOOL,
        },
        clear=(Put("request", False),),
        commit=(
            Put("command", Setting("value")),
            Put("request", True),
            Wait((Test("request", False),), "acknowledge_timeout", "ack_timeout"),
            Wait((Test("state", Setting("reached")), Test("in_process", False)), "done_timeout", "done_timeout"),
        ),
        release=(Put("request", False),),
        settings={"value": None, "reached": None},
        times=_ANSWERED | _READ_BACK,
        needs_readback=True,
    ),
    # A buffer with checksum and length; the machine checks both, copies the buffer to the active recipe when that is
    # safe, and drops the trigger.
    "recipe_buffer": Profile(
        signals={
            "checksum": Signal(Kind.INTEGER, is_ours=True),
            "length": Signal(Kind.INTEGER, is_ours=True, is_optional=True),
            "trigger": Signal(Kind.BOOL, is_ours=True, is_consumed=True),
            "status": Signal(Kind.INTEGER),
            "error": _READ_ANY,
        },
        clear=(Wait((Test("trigger", False),), "acknowledge_timeout", None), Put("trigger", False)),
        commit=(
            Put("checksum", Checksum()),
            Put("length", Length()),
            Put("trigger", True),
            Wait((Test("trigger", False),), "acknowledge_timeout", "ack_timeout"),
            Wait(
                (Test("status", Setting("done")),),
                "done_timeout",
                "done_timeout",
                refused=(Test("status", Setting("rejected")),),
            ),
        ),
        release=(Put("trigger", False),),
        settings={"done": 2, "rejected": 3},
        times=_ANSWERED | _READ_BACK,
        is_whole=True,
    ),
    # The machine asks, at its start or for its next order; the values are laid before it, and it says by dropping the
    # request that it has them.
    "machine_pull": Profile(
        signals={
            "request": _READ_BOOL,
            "answered": _WRITE_BOOL,
            "refused": Signal(Kind.BOOL, is_ours=True, is_optional=True),
        },
        clear=(
            Put("answered", False),
            Put("refused", False),
            Wait((Test("request", True),), "poll", "not_asked"),
        ),
        commit=(
            Put("answered", True),
            Wait((Test("request", False),), "done_timeout", "done_timeout"),
        ),
        release=(Put("answered", False),),
        times=_DONE | _READ_BACK,
        asks="request",
        declines="refused",
    ),
    # A script of the SCADA system copies the values when its trigger is pulsed. It says Good before the PLC has them,
    # and misses a pulse that is too short: what counts is what the PLC shows.
    "scada_trigger": Profile(
        signals={
            "trigger": _WRITE_BOOL,
            "done": _OPTIONAL_BOOL,
        },
        clear=(
            Put("trigger", False),
            Wait((Test("done", False),), "acknowledge_timeout", None),
        ),
        commit=(
            Put("trigger", True),
            Pause("pulse"),
            Wait((Test("done", True),), "done_timeout", "done_timeout"),
        ),
        release=(Put("trigger", False),),
        times={**_ANSWERED, "pulse": 500, "readback_timeout": 5_000},
        needs_readback=True,
    ),
    # The values alone. What the machine shows afterwards is all that tells.
    "none": Profile(signals={}, times={"poll": 200, **_READ_BACK}),
    # One call behind the values, and its answer.
    "method": Profile(
        signals={},
        commit=(Call(),),
        times={"poll": 200, "readback_timeout": 0},
        calls=True,
    ),
}
