"""How a machine is told that its parameters are there, and how it answers: a table for each way.

All look at levels, as PLC programs do that survive a restart of either side. The tags are those that machine builders
name in their interface descriptions; PackML by ANSI/ISA-TR88.00.02 (CntrlCmd, CmdChangeRequest).
"""

import struct
import zlib
from binascii import crc_hqx
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from simulators.models.labeller import crc16_bytes

Value = bool | int
Tags = dict[str, Value]

BUSY: Final = 1
DONE: Final = 2
REJECTED: Final = 3
BAD_SEAL: Final = 90
"""The error of a recipe buffer whose checksum or length is wrong."""
EXECUTE: Final = 4
"""The state that PackML's command `START` leads to (its number there is 1)."""
START: Final = 1


def _nothing(_tags: Tags) -> None:
    """This way needs no such step."""


def _never(_tags: Tags) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Way:
    """One way. `tags` are its own with what they hold at the start, `writable` those that clients write.

    As long as `is_asked` the machine first says that it heard (`accept`), then takes the parameters or does not, and
    says so (`finish`, with an error other than 0). While nothing is asked it comes to `rest`. `stale` is what a crash
    of either side has left behind in the tags.
    """

    tags: Mapping[str, Value]
    writable: frozenset[str]
    is_asked: Callable[[Tags], bool] = _never
    accept: Callable[[Tags], None] = _nothing
    finish: Callable[[Tags, int], None] = lambda _tags, _error: None
    rest: Callable[[Tags], None] = _nothing
    stale: Mapping[str, Value] = field(default_factory=dict)


# --- sequence numbers -----------------------------------------------------------------------------------------------


def _number_asked(tags: Tags) -> bool:
    return tags["command"] not in (0, tags["acknowledged"]) or tags["status"] == BUSY


def _number_accept(tags: Tags) -> None:
    tags.update(acknowledged=tags["command"], status=BUSY, error=0)


def _status_finish(tags: Tags, error: int) -> None:
    tags.update(status=REJECTED if error else DONE, error=error)


# --- request and answer bits ----------------------------------------------------------------------------------------


def _bits_asked(tags: Tags) -> bool:
    return bool(tags["request"]) and not tags["done"] and not tags["error"]


def _bits_accept(tags: Tags) -> None:
    tags["acknowledged"] = True


def _bits_finish(tags: Tags, error: int) -> None:
    tags.update(done=not error, error=error)


def _bits_rest(tags: Tags) -> None:
    if not tags["request"]:
        tags.update(acknowledged=False, done=False, error=0)


# --- a bit that is turned over --------------------------------------------------------------------------------------


def _ready_asked(tags: Tags) -> bool:
    return tags["ready"] != tags["echo"] and not tags["error"]


def _ready_finish(tags: Tags, error: int) -> None:
    tags["error"] = error
    if not error:
        tags["echo"] = tags["ready"]


def _ready_rest(tags: Tags) -> None:
    if tags["ready"] == tags["echo"]:
        tags["error"] = 0


# --- PackML ---------------------------------------------------------------------------------------------------------


def _packml_asked(tags: Tags) -> bool:
    return bool(tags["request"] or tags["in_process"])


def _packml_accept(tags: Tags) -> None:
    tags.update(request=False, in_process=True)


def _packml_finish(tags: Tags, error: int) -> None:
    tags["in_process"] = False
    if not error and tags["command"] == START:
        tags["state"] = EXECUTE


# --- recipe buffers -------------------------------------------------------------------------------------------------


def _buffer_asked(tags: Tags) -> bool:
    return bool(tags["trigger"])


def _buffer_accept(tags: Tags) -> None:
    tags.update(status=BUSY, error=0)


def _buffer_finish(tags: Tags, error: int) -> None:
    _status_finish(tags, error)
    tags["trigger"] = False


# --- machines that ask, and SCADA systems ---------------------------------------------------------------------------


def _pull_asked(tags: Tags) -> bool:
    return bool(tags["request"] and tags["answered"])


def _pull_finish(tags: Tags, _error: int) -> None:
    tags["request"] = False


def _pulse_asked(tags: Tags) -> bool:
    return bool(tags["trigger"]) and not tags["done"]


def _pulse_finish(tags: Tags, error: int) -> None:
    tags["done"] = not error


def _pulse_rest(tags: Tags) -> None:
    if not tags["trigger"]:
        tags["done"] = False


WAYS: Final[Mapping[str, Way]] = {
    "sequence_number": Way(
        {"command": 0, "acknowledged": 0, "status": 0, "error": 0},
        frozenset({"command"}),
        _number_asked,
        _number_accept,
        _status_finish,
        stale={"command": 7, "acknowledged": 7, "status": REJECTED, "error": 4},
    ),
    "request_bits": Way(
        {"request": False, "acknowledged": False, "done": False, "error": 0},
        frozenset({"request"}),
        _bits_asked,
        _bits_accept,
        _bits_finish,
        _bits_rest,
        stale={"request": True, "acknowledged": True, "done": True},
    ),
    "data_ready": Way(
        {"ready": False, "echo": False, "error": 0},
        frozenset({"ready"}),
        _ready_asked,
        finish=_ready_finish,
        rest=_ready_rest,
        stale={"ready": True, "echo": True},
    ),
    "packml": Way(
        {"command": 0, "request": False, "state": 2, "in_process": False},
        frozenset({"command", "request"}),
        _packml_asked,
        _packml_accept,
        _packml_finish,
        stale={"command": START, "state": EXECUTE},
    ),
    "recipe_buffer": Way(
        {"checksum": 0, "length": 0, "trigger": False, "status": 0, "error": 0},
        frozenset({"checksum", "length", "trigger"}),
        _buffer_asked,
        _buffer_accept,
        _buffer_finish,
        stale={"status": DONE, "checksum": 1},
    ),
    "machine_pull": Way(
        {"request": True, "answered": False, "refused": False},
        frozenset({"answered", "refused"}),
        _pull_asked,
        finish=_pull_finish,
        stale={"request": True, "answered": False, "refused": True},
    ),
    "scada_trigger": Way(
        {"trigger": False, "done": False},
        frozenset({"trigger"}),
        _pulse_asked,
        finish=_pulse_finish,
        rest=_pulse_rest,
        stale={"trigger": True, "done": True},
    ),
    "none": Way({}, frozenset()),
    "method": Way({}, frozenset()),
}
"""By the names of the ways. `none` takes what was written at its next scan, `method` when it is called."""


@dataclass(frozen=True, slots=True)
class Seal:
    """How the machine checks its recipe buffer: the parameters as Int32, one behind the other."""

    algorithm: str = "crc16-modbus"
    byte_order: str = "big"

    def content(self, values: list[int]) -> bytes:
        """The buffer as it lies in the PLC's memory."""
        return struct.pack(f"{'>' if self.byte_order == 'big' else '<'}{len(values)}i", *values)

    def checksum(self, values: list[int]) -> int:
        """What seals these values."""
        return _ALGORITHMS[self.algorithm](self.content(values))


_ALGORITHMS: Final[Mapping[str, Callable[[bytes], int]]] = {
    "crc16-modbus": crc16_bytes,
    "crc16-ccitt": lambda content: crc_hqx(content, 0xFFFF),
    "crc32": zlib.crc32,
}
