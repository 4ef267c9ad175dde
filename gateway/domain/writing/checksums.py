"""Checksums that machines use, by their names in the catalogue of parametrised CRC algorithms."""

from binascii import crc_hqx
from typing import Final

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


def crc16_ccitt(content: bytes | bytearray) -> int:
    """CRC-16/IBM-3740, known as CCITT-FALSE: initial value 0xFFFF; `b"123456789"` gives 0x29B1."""
    return crc_hqx(content, 0xFFFF)
