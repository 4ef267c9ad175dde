"""Request and reply on the wire: the header of Modbus TCP, the checksum of RTU. Pure, no byte is sent here.

pymodbus packs the requests. The replies are found here, because its framers pass over what does not fit and wait for
more, where a broken reply must be known as one (trap B2), and a late one must not meet the next request.

Modbus TCP numbers its requests, so a late reply is recognised and passed over. RTU does not: whatever goes wrong there
leaves the line out of step, and only a new beginning helps (trap B1).
"""

import struct
from typing import Final, Protocol

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from gateway.domain.writing.checksums import crc16_modbus
from gateway.drivers.modbus.replies import BrokenReply

_TCP: Final = FramerSocket(DecodePDU(False))
_RTU: Final = FramerRTU(DecodePDU(False))
_HEADER: Final = struct.Struct(">HHHB")
_MAX_LENGTH: Final = 254
"""Unit and PDU of at most 253 bytes (Modbus Messaging on TCP/IP V1.0b §3.1.3)."""
_EXCEPTION_SIZE: Final = 5
_FIXED_SIZES: Final = {5: 8, 6: 8, 15: 8, 16: 8, 22: 10}
"""Bytes of an RTU reply by function code, where the reply does not carry its own byte count."""
_COUNTED: Final = frozenset({1, 2, 3, 4, 23})


class Framing(Protocol):
    """How requests are packed and replies are found in what has arrived."""

    numbered: bool
    """True if a reply names its request, so that a late one cannot be taken for another's."""

    def pack(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """The request as it is sent."""
        ...

    def take(self, received: bytearray, transaction: int, unit: int) -> bytes | None:
        """The reply's function code and data, cut off `received`; None while it is not complete.

        Raises `BrokenReply` for what cannot be the answer. Whatever else then lies in `received` is not to be read.
        """
        ...


class TcpFraming:
    """The MBAP header: transaction, protocol 0, length, unit (Modbus Messaging on TCP/IP V1.0b §3.1.3)."""

    numbered = True

    def pack(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Header and PDU."""
        return _TCP.encode(pdu, unit, transaction)

    def take(self, received: bytearray, transaction: int, unit: int) -> bytes | None:
        """The reply with this transaction number; the late ones before it are thrown away."""
        while len(received) >= _HEADER.size:
            number, protocol, length, answering = _HEADER.unpack_from(received)
            if protocol != 0 or not 2 <= length <= _MAX_LENGTH:
                raise BrokenReply(f"{bytes(received[:7]).hex()} is no Modbus TCP header")
            end = 6 + length
            if len(received) < end:
                return None
            pdu = bytes(received[_HEADER.size : end])
            del received[:end]
            if number == transaction and answering != unit:
                raise BrokenReply(f"unit {answering} answered for unit {unit}")
            if number == transaction:
                return pdu
            if number == 0:
                raise BrokenReply("the reply carries no transaction number")
        return None


class RtuFraming:
    """Unit, PDU and CRC, low byte first; the end is known only from the function code (Serial Line V1.02 §2.5.1)."""

    numbered = False

    def pack(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Unit, PDU, CRC; RTU has no place for the transaction number."""
        return _RTU.encode(pdu, unit, transaction)

    def take(self, received: bytearray, transaction: int, unit: int) -> bytes | None:
        """The one reply; a byte too many means that two senders or two replies are on the line."""
        size = _rtu_size(received)
        if size is None or len(received) < size:
            return None
        if len(received) > size:
            raise BrokenReply(f"{len(received)} bytes arrived for a reply of {size}")
        if crc16_modbus(received[:-2]) != int.from_bytes(received[-2:], "little"):
            raise BrokenReply("the reply's checksum is wrong")
        if received[0] != unit:
            raise BrokenReply(f"unit {received[0]} answered for unit {unit}")
        pdu = bytes(received[1:-2])
        received.clear()
        return pdu


def _rtu_size(received: bytearray) -> int | None:
    """Bytes of the frame that begins here; None while too little of it has arrived to tell."""
    if len(received) < 3:
        return None
    function = received[1]
    if function & 0x80:
        return _EXCEPTION_SIZE
    if function in _COUNTED:
        return 5 + received[2]
    if function not in _FIXED_SIZES:
        raise BrokenReply(f"function {function} was never asked for")
    return _FIXED_SIZES[function]
