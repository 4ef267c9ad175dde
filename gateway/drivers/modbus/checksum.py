"""The blocks of registers that are sealed with a checksum."""

from collections.abc import Iterable

from gateway.domain.writing.checksums import crc16_modbus
from gateway.drivers.modbus.config import Span, WriteBlock


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
