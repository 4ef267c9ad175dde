"""The language of handshake tables: what is put to the machine, what is waited for, and what it takes to say so.

A profile is a table of moves in three parts. `clear` makes sure, before any value is written, that nothing is left over
from an earlier try; `commit` has the machine take the values; `release` takes back what was raised, after a good end
and after a bad one. The profiles themselves are in `profiles`; `download` plays them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.domain.values import CallResult, MethodCall, PlainValue, TagId, is_good, plain


class Kind(StrEnum):
    """What a tag of a handshake must be."""

    BOOL = "a bool"
    INTEGER = "an integer"
    ANY = "a number or a bool"


class Signal(msgspec.Struct, frozen=True):
    """One tag of a handshake. `is_ours` is written by the gateway; `is_consumed` is reset by the machine."""

    kind: Kind
    is_ours: bool = False
    is_consumed: bool = False
    is_optional: bool = False


class Setting(msgspec.Struct, frozen=True):
    """The number that the YAML gives under this key."""

    key: str


class Sent(msgspec.Struct, frozen=True):
    """What was put to this tag last in this download."""

    tag: str


class Following(msgspec.Struct, frozen=True):
    """The number after the acknowledged one; 0 is never used."""

    acknowledged: str


class Opposite(msgspec.Struct, frozen=True):
    """The other value of a bool."""

    tag: str


class Held(msgspec.Struct, frozen=True):
    """What this tag held when it was looked at last."""

    tag: str


class Checksum(msgspec.Struct, frozen=True):
    """Of the machine's buffer as it will be."""


class Length(msgspec.Struct, frozen=True):
    """Of the machine's buffer, in bytes."""


Source = PlainValue | Setting | Sent | Following | Opposite | Held | Checksum | Length


class Test(msgspec.Struct, frozen=True):
    """A tag holds this value, or anything but it."""

    __test__ = False  # pytest looks for classes of this name

    tag: str
    value: Source
    is_not: bool = False


class Put(msgspec.Struct, frozen=True):
    """Write one tag, unless it is known to hold the value."""

    tag: str
    value: Source


class Wait(msgspec.Struct, frozen=True):
    """Look at the tags until all of `until` holds; the machine's refusal or the end of `within` is a failure.

    Without a `code` the end of the time is none: what is waited for is good to have. Tests of tags that the YAML does
    not name are left out, and a wait without tests is none.
    """

    until: tuple[Test, ...]
    within: str
    code: str | None
    refused: tuple[Test, ...] = ()


class Pause(msgspec.Struct, frozen=True):
    """Let this much time pass."""

    time: str


class Call(msgspec.Struct, frozen=True):
    """Call the method; its answer is the machine's."""


Move = Put | Wait | Pause | Call

_NEVER_RUN: Final = frozenset(
    {
        0x801F0000,  # BadUserAccessDenied
        0x80340000,  # BadNodeIdUnknown
        0x803D0000,  # BadNotSupported
        0x80400000,  # BadNotImplemented
        0x80750000,  # BadMethodInvalid
        0x80760000,  # BadArgumentsMissing
        0x80E50000,  # BadTooManyArguments
        0x80AB0000,  # BadInvalidArgument
        0x81110000,  # BadNotExecutable
    }
)
"""Status codes by which a server says that it did not run the method (OPC 10000-4 §5.12.2)."""


class Profile(msgspec.Struct, frozen=True):
    """One way in which machines take parameters.

    `settings` and `times` (milliseconds) are what the YAML may give, with their defaults; None is one it must give.
    With `needs_readback` nothing but what the machine shows tells that it took the values. With `is_whole` it takes all
    parameters together, whichever of them a set names. `asks` is the tag by which the machine itself asks for its
    parameters, `declines` the one that tells it there are none.
    """

    signals: Mapping[str, Signal]
    clear: tuple[Move, ...] = ()
    commit: tuple[Move, ...] = ()
    release: tuple[Move, ...] = ()
    settings: Mapping[str, PlainValue] = {}
    times: Mapping[str, int] = {}
    is_whole: bool = False
    needs_readback: bool = False
    asks: str | None = None
    declines: str | None = None
    calls: bool = False


class MethodCommit(msgspec.Struct, frozen=True):
    """The method that has the machine take the values, and its answer.

    With `result` the first output argument must be that, for many a method answers Good and means no.
    """

    call: MethodCall
    result: PlainValue = None

    def refusal(self, answer: CallResult) -> str | None:
        """What the machine said against it; None if it took the values. Uncertain is no yes."""
        if not is_good(answer.status_code):
            return f"status 0x{answer.status_code:08X}"
        given = plain(answer.results[0]) if answer.results else None
        return None if self.result is None or given == self.result else f"the answer {given!r}, not {self.result!r}"

    def is_certain(self, answer: CallResult) -> bool:
        """True if a machine that answers so has surely not taken the values; a timeout, for one, says nothing."""
        return is_good(answer.status_code) or answer.status_code in _NEVER_RUN


class BufferLayout(msgspec.Struct, frozen=True):
    """How the machine computes the checksum of its buffer: over its parameters in the order of the YAML."""

    algorithm: str
    byte_order: str


class Handshake(msgspec.Struct, frozen=True):
    """A profile with the tags and numbers of one machine. `highest` is the last number before 1 comes again.

    `bits` are the signals that are one bit of a word.
    """

    profile: Profile
    tags: Mapping[str, TagId]
    settings: Mapping[str, PlainValue] = {}
    times: Mapping[str, int] = {}
    highest: int = 0
    bits: Mapping[str, int] = {}
    layout: BufferLayout | None = None
    method: MethodCommit | None = None

    @property
    def written(self) -> frozenset[TagId]:
        """The tags that the gateway writes for it."""
        return frozenset(tag_id for name, tag_id in self.tags.items() if self.profile.signals[name].is_ours)

    def tests(self, tests: tuple[Test, ...]) -> tuple[Test, ...]:
        """Those of the tests whose tags this machine has."""
        return tuple(test for test in tests if test.tag in self.tags)

    def number_after(self, number: PlainValue) -> int:
        """The command number that follows; whatever is no number was none yet."""
        previous = number if isinstance(number, int) else 0
        return previous + 1 if previous < self.highest else 1
