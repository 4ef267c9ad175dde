"""What a device answered, held against what it was asked. Pure.

Libraries take a reply for granted: one register for ten, a reply to another function, the echo of another value
(trap B2). So the bytes are looked at here, all of them.
"""

import struct
from typing import Final

from gateway.domain.values import StatusCode

_EXCEPTION_FLAG: Final = 0x80
ILLEGAL_FUNCTION: Final = 1
ILLEGAL_DATA_ADDRESS: Final = 2

_STATUS_OF_EXCEPTION: Final = {
    ILLEGAL_FUNCTION: 0x803D0000,  # BadNotSupported
    ILLEGAL_DATA_ADDRESS: StatusCode.BAD_NODE_ID_UNKNOWN,
    3: StatusCode.BAD_OUT_OF_RANGE,  # illegal data value
    6: 0x80040000,  # server device busy: BadResourceUnavailable
    10: StatusCode.BAD_NOT_CONNECTED,  # gateway path unavailable
    11: StatusCode.BAD_NOT_CONNECTED,  # gateway target device failed to respond
}


class Refused(Exception):  # noqa: N818 - it says what happened
    """The device answered with an exception (Modbus Application Protocol V1.1b3 §7)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code

    @property
    def status_code(self) -> int:
        """The nearest OPC UA status code; what has none of its own is a device failure."""
        return _STATUS_OF_EXCEPTION.get(self.code, StatusCode.BAD_DEVICE_FAILURE)


class BrokenReply(Exception):  # noqa: N818 - it says what happened
    """The reply does not answer the request; nothing in it is believed."""

    status_code: Final = StatusCode.BAD_COMMUNICATION_ERROR


def registers_of(reply: bytes, function_code: int, count: int) -> bytes:
    """The raw bytes of `count` registers from the reply to FC3 or FC4; raises `Refused` or `BrokenReply`."""
    return _content_of(reply, function_code, 2 * count)


def bits_of(reply: bytes, function_code: int, count: int) -> bytes:
    """One byte, 0 or 1, for each of `count` bits of the reply to FC1 or FC2; raises `Refused` or `BrokenReply`."""
    packed = _content_of(reply, function_code, (count + 7) // 8)
    return bytes(packed[at // 8] >> at % 8 & 1 for at in range(count))


def check_echo(reply: bytes, expected: bytes) -> None:
    """A write is answered by its beginning; raises `Refused` or `BrokenReply` for anything else."""
    _check_function(reply, expected[0])
    if reply != expected:
        raise BrokenReply(f"the echo of the write is {reply.hex()}, right were {expected.hex()}")


def _content_of(reply: bytes, function_code: int, size: int) -> bytes:
    _check_function(reply, function_code)
    if len(reply) != 2 + size or reply[1] != size:
        raise BrokenReply(f"the reply has {len(reply) - 2} bytes and announces {reply[1:2].hex()}, asked were {size}")
    return reply[2:]


def _check_function(reply: bytes, function_code: int) -> None:
    if len(reply) >= 2 and reply[0] == function_code | _EXCEPTION_FLAG:
        raise Refused(struct.unpack_from("B", reply, 1)[0])
    if len(reply) < 2 or reply[0] != function_code:
        raise BrokenReply(f"the reply {reply[:2].hex()} is none to function {function_code}")
