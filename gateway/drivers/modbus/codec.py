"""Values in registers. Pure: raw bytes in, value and status code out, and back.

Raw means two bytes per register, high byte first, as they come over the wire; a coil is one byte, 0 or 1.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.domain.values import DataType, Scalar, StatusCode
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import Encoding, ModbusAddress
from gateway.drivers.writing import refusal

_FORMATS: Final = {
    DataType.INT16: ">h",
    DataType.UINT16: ">H",
    DataType.INT32: ">i",
    DataType.UINT32: ">I",
    DataType.INT64: ">q",
    DataType.UINT64: ">Q",
    DataType.FLOAT32: ">f",
    DataType.FLOAT64: ">d",
}


class Codec(NamedTuple):
    """How one tag is decoded and encoded.

    `decode` gives value and status code. `encode` gives raw bytes of exactly the tag's registers, or the status code
    that refuses the value: wrong kind, out of range, too long.
    """

    decode: Callable[[bytes], tuple[Scalar, int]]
    encode: Callable[[Scalar], bytes | int]


def codec_for(tag: Tag[ModbusAddress]) -> Codec:
    """The codec of a tag that `check_modbus_tag` finds nothing wrong with."""
    address = tag.address
    if tag.type is DataType.BOOL:
        codec = Codec(lambda raw: (raw == b"\x01", StatusCode.GOOD), lambda value: b"\x01" if value else b"\x00")
    elif tag.type is DataType.STRING:
        codec = _text(2 * address.span.size, address.encoding or "ascii")
        if address.swap_bytes:
            codec = _reordered(codec, _swap_bytes)
    else:
        codec = _bcd(2 * address.span.size) if address.encoding == "bcd" else _number(_FORMATS[tag.type])
        if address.word_order == "low_first":
            codec = _reordered(codec, _reverse_words)
    return _guarded(tag.type, codec)


def _guarded(data_type: DataType, codec: Codec) -> Codec:
    return Codec(codec.decode, lambda value: refusal(data_type, value) or codec.encode(value))


def _reordered(codec: Codec, reorder: Callable[[bytes], bytes]) -> Codec:
    """The same with registers or bytes in another order; `reorder` undoes itself."""

    def encode(value: Scalar) -> bytes | int:
        raw = codec.encode(value)
        return raw if isinstance(raw, int) else reorder(raw)

    return Codec(lambda raw: codec.decode(reorder(raw)), encode)


def _reverse_words(raw: bytes) -> bytes:
    return b"".join(raw[at : at + 2] for at in range(len(raw) - 2, -1, -2))


def _swap_bytes(raw: bytes) -> bytes:
    swapped = bytearray(raw)
    swapped[0::2], swapped[1::2] = raw[1::2], raw[0::2]
    return bytes(swapped)


def _number(wire_format: str) -> Codec:
    layout = struct.Struct(wire_format)
    return Codec(lambda raw: (layout.unpack(raw)[0], StatusCode.GOOD), layout.pack)


def _bcd(size: int) -> Codec:
    """Binary coded decimal: 0x4711 is 4711, and 0x471A is no number at all."""

    def decode(raw: bytes) -> tuple[Scalar, int]:
        digits = raw.hex()
        return (int(digits), StatusCode.GOOD) if digits.isdecimal() else (None, StatusCode.BAD_DECODING_ERROR)

    def encode(value: Scalar) -> bytes | int:
        digits = str(value).rjust(2 * size, "0")
        return bytes.fromhex(digits) if len(digits) == 2 * size else StatusCode.BAD_OUT_OF_RANGE

    return Codec(decode, encode)


def _text(size: int, encoding: Encoding) -> Codec:
    """Text up to its first NUL, without trailing spaces; filled up with NUL when written.

    What cannot be decoded is replaced and Uncertain: the rest of it may still tell the order or the program.
    """

    def decode(raw: bytes) -> tuple[Scalar, int]:
        content = raw.split(b"\0", 1)[0].rstrip(b" ")
        try:
            return content.decode(encoding), StatusCode.GOOD
        except UnicodeDecodeError:
            return content.decode(encoding, "replace"), StatusCode.UNCERTAIN

    def encode(value: Scalar) -> bytes | int:
        try:
            content = str(value).encode(encoding)
        except UnicodeEncodeError:
            return StatusCode.BAD_OUT_OF_RANGE
        fits = len(content) <= size and b"\0" not in content
        return content.ljust(size, b"\0") if fits else StatusCode.BAD_OUT_OF_RANGE

    return Codec(decode, encode)
