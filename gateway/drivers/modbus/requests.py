"""What is asked, as function code and data (Modbus Application Protocol V1.1b3 §6). Pure."""

import struct
from typing import Final

from gateway.drivers.modbus.config import Span, Table

_READ_FUNCTION: Final[dict[Table, int]] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_ON: Final = 0xFF00


def read_request(table: Table, span: Span) -> bytes:
    """FC1-FC4."""
    return struct.pack(">BHH", _READ_FUNCTION[table], span.first, span.size)


def write_registers_request(first: int, raw: bytes) -> bytes:
    """FC6 for one register, FC16 for more."""
    if len(raw) == 2:
        return struct.pack(">BH", 6, first) + raw
    return struct.pack(">BHHB", 16, first, len(raw) // 2, len(raw)) + raw


def write_coils_request(first: int, bits: bytes) -> bytes:
    """FC5 for one coil, FC15 for more; `bits` has one byte, 0 or 1, for each."""
    if len(bits) == 1:
        return struct.pack(">BHH", 5, first, _ON if bits[0] else 0)
    packed = bytearray((len(bits) + 7) // 8)
    for place, bit in enumerate(bits):
        packed[place // 8] |= bit << place % 8
    return struct.pack(">BHHB", 15, first, len(bits), len(packed)) + packed


def mask_write_request(register: int, mask: int, value: int) -> bytes:
    """FC22: the device itself sets the bits of `mask` to those of `value` and keeps the others (§6.16)."""
    return struct.pack(">BHHH", 22, register, 0xFFFF & ~mask, value & mask)


def expected_echo(request: bytes) -> bytes:
    """What a right answer to a write is: all of it for FC5, FC6 and FC22, address and count for FC15 and FC16."""
    return request if request[0] == 22 else request[:5]
