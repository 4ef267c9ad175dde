"""CRC-16/MODBUS, and the blocks of registers that are sealed with it."""

from collections.abc import Iterable
from typing import Final

from gateway.drivers.modbus.config import Span, WriteBlock

_POLYNOMIAL: Final = 0xA001
"""0x8005 with its bits reversed (Modbus over Serial Line V1.02 §6.2.2)."""


def _shifted(crc: int) -> int:
    for _ in range(8):
        crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


_TABLE: Final = [_shifted(byte) for byte in range(256)]


def crc16_modbus(content: bytes | bytearray) -> int:
    """CRC-16/MODBUS: initial value 0xFFFF, no final inversion; `b"123456789"` gives 0x4B37."""
    crc = 0xFFFF
    for byte in content:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def seal(block: WriteBlock, present: bytes, patches: Iterable[tuple[Span, bytes]]) -> bytes:
    """The block as it shall be written: what it holds now, the new values put in, the checksum made anew."""
    content = bytearray(present)
    for span, raw in patches:
        _put(content, block, span, raw)
    over = block.checksum.over
    start = 2 * (over.first - block.registers.first)
    crc = crc16_modbus(bytes(content[start : start + 2 * over.size]))
    _put(content, block, block.checksum.span, crc.to_bytes(2, "big"))
    return bytes(content)


def _put(content: bytearray, block: WriteBlock, span: Span, raw: bytes) -> None:
    start = 2 * (span.first - block.registers.first)
    content[start : start + 2 * span.size] = raw
