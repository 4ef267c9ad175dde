"""The records that travel through the gateway, from the wire to the broker and back.

Times are integers: milliseconds since 1970-01-01 UTC, as the message contract has them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

Scalar = bool | int | float | str | bytes | None
Value = Scalar | tuple[Scalar, ...]
"""What a device can hold after the driver decoded it; an array arrives as a tuple."""
PlainValue = bool | int | float | str | None
"""The part of it that a JSON message or a checkpoint holds as it is."""
Timestamp = int
"""Milliseconds since 1970-01-01 UTC."""
TimeQuality = Literal["source", "gateway", "estimated", "history"]
"""Whose clock a time is by: the device's, the gateway's, the device's put right by what was learned of it; or that of
the device's history, told after an outage."""
TagId = str
"""`<unit>.<tag>`, for example `FIL01.state`: unique within one gateway."""


class StatusCode:
    """OPC UA status codes (Part 4 §7.39) that the gateway itself gives; any other code passes through as an int."""

    GOOD: Final = 0x00000000
    UNCERTAIN: Final = 0x40000000
    BAD: Final = 0x80000000
    BAD_INTERNAL_ERROR: Final = 0x80020000
    BAD_COMMUNICATION_ERROR: Final = 0x80050000
    BAD_TIMEOUT: Final = 0x800A0000
    BAD_WAITING_FOR_INITIAL_DATA: Final = 0x80320000
    BAD_USER_ACCESS_DENIED: Final = 0x801F0000
    BAD_REQUEST_CANCELLED_BY_CLIENT: Final = 0x802C0000
    BAD_NODE_ID_UNKNOWN: Final = 0x80340000
    BAD_OUT_OF_RANGE: Final = 0x803C0000
    BAD_NOT_WRITABLE: Final = 0x803B0000
    BAD_NOT_SUPPORTED: Final = 0x803D0000
    BAD_TYPE_MISMATCH: Final = 0x80740000
    BAD_NOT_CONNECTED: Final = 0x808A0000
    BAD_INVALID_ARGUMENT: Final = 0x80AB0000
    BAD_DEVICE_FAILURE: Final = 0x808B0000
    BAD_DECODING_ERROR: Final = 0x80070000
    OVERFLOW_BITS: Final = 0x00000480
    """DataValue info type with the overflow bit (Part 4 §7.39.1): the device's queue lost values before this one."""


def is_good(status_code: int) -> bool:
    """True for severity Good, whatever the info bits say."""
    return status_code & 0xC0000000 == 0


def is_bad(status_code: int) -> bool:
    """True for severity Bad: there is no usable value."""
    return status_code & 0x80000000 != 0


class DataType(StrEnum):
    """The type that a tag has in its device; integers carry their width because a write must match it exactly."""

    BOOL = "bool"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    DATETIME = "datetime"
    BYTES = "bytes"


INTEGER_RANGES: Final[dict[DataType, tuple[int, int]]] = {
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.UINT8: (0, 2**8 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT64: (0, 2**64 - 1),
}


class TagChange(msgspec.Struct, frozen=True, gc=False):
    """One value of one tag as the device gave it: raw, before scaling.

    `source_timestamp` is the device's own stamp, or None where the protocol has none (Modbus): then the batch's
    contact time holds. A Bad status has no usable value.
    """

    tag_id: TagId
    value: Value
    status_code: int = 0
    source_timestamp: Timestamp | None = None
    server_timestamp: Timestamp | None = None


class TagWrite(msgspec.Struct, frozen=True, gc=False):
    """One raw value to be written, already converted to the device's scale."""

    tag_id: TagId
    value: Value


class WriteResult(msgspec.Struct, frozen=True, gc=False):
    """What the device said to one write. A refusal is a result; only a lost link raises."""

    tag_id: TagId
    status_code: int = 0


class Argument(msgspec.Struct, frozen=True):
    """One input argument of a method. A server converts nothing, so it carries its type; a tuple is an array.

    `localized` sends a string as a LocalizedText without locale (OPC 10000-6 §5.2.2.14).
    """

    type: DataType
    value: Value
    localized: bool = False


class StructureArgument(msgspec.Struct, frozen=True):
    """A structure as an input argument: its data type, as the device's protocol names nodes, and its fields by name.

    A nested structure is a mapping, an array a tuple, a time milliseconds UTC, and a value of a type of its own an
    `Argument`; how all that lies on the wire the device itself says.
    """

    type: str
    fields: Mapping[str, Any]


class MethodCall(msgspec.Struct, frozen=True):
    """One method of a device: the object it is called on and the method, as the device's protocol names nodes.

    `structure` is the first argument where that is one. `component` is the method's browse name,
    `nsu=<namespace uri>;<name>`, where an object has a node of its own for a method of its type: `method` is then the
    one of the type, by which it is allowed, and called where the object has none.
    """

    object: str
    method: str
    arguments: tuple[Argument, ...] = ()
    structure: StructureArgument | None = None
    component: str | None = None


class CallResult(msgspec.Struct, frozen=True):
    """What came of one method call; `results` are the output arguments. A refusal is a result.

    `argument_codes` say what is wrong with each input argument where the device refused them one by one.
    """

    status_code: int = 0
    results: tuple[Value, ...] = ()
    argument_codes: tuple[int, ...] = ()


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Values of a device that were lost for good between two moments of contact, and how that is known.

    `cause` is `overflow` (queues of the device ran over: `tags` of them, the first few named), `sequence`
    (`notifications` were never received and are not kept any more) or `session` (the device forgot what it had for
    us; how much is unknown). `number` is the notification that told of it, 0 for a session. `filled` values of a
    session's gap came from the device's history; then `tags` is how many have none, the first few named.
    """

    start: Timestamp
    end: Timestamp
    cause: str
    number: int = 0
    notifications: int | None = None
    tags: int | None = None
    first: tuple[TagId, ...] = ()
    filled: int | None = None


class Drift(msgspec.Struct, frozen=True, gc=False):
    """Something that the device says differently than the configuration or its last session.

    `what` is `type` (of the tag `name`) or `namespace` (the index of the URI `name`).
    """

    what: str
    name: str
    before: str
    after: str


class Backfill(msgspec.Struct, frozen=True, gc=False):
    """A batch that comes from the device's history, in the order of its times, before anything live.

    `covered` are the tags that have a history: of them everything is told, of the others nothing. `is_last` ends it.
    """

    covered: frozenset[TagId]
    is_last: bool = False


class Skew(msgspec.Struct, frozen=True, gc=False):
    """How far a device's clock is ahead of the gateway's, in milliseconds: as told `before`, and `now`.

    `corrected` says that the device's times are put right by it.
    """

    before: int
    now: int
    corrected: bool


class ConditionChange(msgspec.Struct, frozen=True, gc=False):
    """What an OPC UA server says of one alarm condition (Part 9): `code` is its ConditionName.

    `confirmed` is None where the condition knows no confirming. `condition` is its node, by namespace URI, and
    `event_id` names this very event: both are needed to acknowledge it. `user` and `comment` are those of its last
    comment.
    """

    source: str
    code: str
    active: bool
    acked: bool
    text: str | None
    severity: int | None
    at: Timestamp | None
    confirmed: bool | None = None
    condition: str = ""
    event_id: bytes = b""
    user: str | None = None
    comment: str | None = None


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one publish response or one poll brought, in the device's order.

    `contact` is when the device was last known to be alive: a batch without changes (keep-alive, unchanged poll)
    says that nothing else happened up to then. `gaps` lie before its changes. `resumed` is the first batch of a link
    that goes on where the last one broke: what did not change since is not told again. `time_quality` says by whose
    clock its values are dated, `skew` that something has become known of the device's. A device whose tags are
    polled in groups, at intervals of their own, speaks only for those in `polled`; where that is empty, for all. A
    poll's answers come after its beginning, which is its contact: `lag` is how many milliseconds after.
    """

    changes: list[TagChange]
    contact: Timestamp
    gaps: tuple[Gap, ...] = ()
    drifts: tuple[Drift, ...] = ()
    resumed: bool = False
    conditions: tuple[ConditionChange, ...] = ()
    time_quality: TimeQuality = "source"
    skew: Skew | None = None
    backfill: Backfill | None = None
    polled: tuple[frozenset[TagId], ...] = ()
    lag: int = 0


def plain(value: Value) -> PlainValue:
    """The value as a message shows it: bytes in hexadecimal, arrays as text."""
    if isinstance(value, bytes):
        return value.hex()
    return str(list(value)) if isinstance(value, tuple) else value
