"""Values in registers. Pure: raw bytes in, value and status code out, and back.

Raw means two bytes per register, high byte first, as they come over the wire; a coil is one byte, 0 or 1.
"""

import math
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from gateway.domain.values import INTEGER_RANGES, DataType, Scalar, StatusCode
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import Encoding, ModbusAddress, Span
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

_LARGEST_EXPONENT: Final = 10
"""SunSpec's scale factors are -10 to 10; 0x8000 means that there is none."""
_ROUNDING: Final = 1e-12
"""What computing with floats may have added to a value before it reaches the driver, relative."""


class Codec(NamedTuple):
    """How one tag is decoded and encoded.

    `decode` gives value and status code. `encode` gives raw bytes of exactly the tag's registers, or the status code
    that refuses the value: wrong kind, out of range, too long. A value whose scale lies in a register of its own is
    encoded by `encode_scaled`, which also takes what that register holds now.
    """

    decode: Callable[[bytes], tuple[Scalar, int]]
    encode: Callable[[Scalar], bytes | int]
    encode_scaled: Callable[[Scalar, bytes], bytes | int] | None = None


def codec_for(tag: Tag[ModbusAddress]) -> Codec:
    """The codec of a tag that `check_modbus_tag` finds nothing wrong with."""
    address = tag.address
    if address.bits is not None:
        codec = _bits(address, tag.type is DataType.BOOL)
    elif tag.type is DataType.BOOL:
        codec = Codec(lambda raw: (raw == b"\x01", StatusCode.GOOD), lambda value: b"\x01" if value else b"\x00")
    elif tag.type is DataType.STRING:
        codec = _text(2 * address.span.size, address.encoding or "ascii")
        if address.swap_bytes:
            codec = _reordered(codec, _swap_bytes)
    else:
        codec = _bcd(2 * address.span.size) if address.encoding == "bcd" else _number(_FORMATS[tag.type])
        if address.word_order == "low_first":
            codec = _reordered(codec, _reverse_words)
    if address.byte_order == "little":
        codec = _reordered(codec, _swap_bytes)
    codec = _guarded(tag.type, codec)
    return codec if address.scale_register is None else _scaled(codec, tag.type, address)


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
    unpack, good = layout.unpack, StatusCode.GOOD  # once for each value read
    return Codec(lambda raw: (unpack(raw)[0], good), layout.pack)


def _bits(address: ModbusAddress, is_bool: bool) -> Codec:
    """Some bits of a register: a bool for a single one of a bool tag, else a number. Encoded in their place."""
    span = address.bits or Span(0, 16)
    highest = (1 << span.size) - 1

    def decode(raw: bytes) -> tuple[Scalar, int]:
        number = int.from_bytes(raw, "big") >> span.first & highest
        return (bool(number) if is_bool else number), StatusCode.GOOD

    def encode(value: Scalar) -> bytes | int:
        number = int(value or 0)
        return (number << span.first).to_bytes(2, "big") if number <= highest else StatusCode.BAD_OUT_OF_RANGE

    return Codec(decode, encode)


def _scaled(codec: Codec, data_type: DataType, address: ModbusAddress) -> Codec:
    """The value times ten to the power that the scale register holds (SunSpec Device Information Model §4.2.8).

    The type's "not implemented" value and an exponent outside -10..10 are no values, read or written. A value with more
    digits than the scale leaves it is refused: the device would hold another one. Should the device change its scale
    between telling it and being written to, the read-back shows it, for that asks for both in one request.
    """
    value_at = 2 * (address.span.first - address.needed.first)
    scale_at = 2 * ((address.scale_register or 0) - address.needed.first)
    order: Literal["big", "little"] = address.byte_order
    low, high = INTEGER_RANGES[data_type]
    not_implemented = low if low < 0 else high

    def exponent_of(raw: bytes) -> int:
        return int.from_bytes(raw, order, signed=True)

    def decode(raw: bytes) -> tuple[Scalar, int]:
        value, status = codec.decode(raw[value_at : value_at + 2 * address.span.size])
        exponent = exponent_of(raw[scale_at : scale_at + 2])
        if not isinstance(value, int) or value == not_implemented or abs(exponent) > _LARGEST_EXPONENT:
            return None, StatusCode.BAD_OUT_OF_RANGE
        return (value * 10**exponent if exponent >= 0 else round(value / 10**-exponent, -exponent)), status

    def encode_scaled(value: Scalar, scale: bytes) -> bytes | int:
        if refused := refusal(DataType.FLOAT64, value):
            return refused
        exponent = exponent_of(scale)
        if abs(exponent) > _LARGEST_EXPONENT:
            return StatusCode.BAD_OUT_OF_RANGE
        number = Decimal(repr(value)).scaleb(-exponent)
        whole = round(number)
        if whole == not_implemented or not math.isclose(number, whole, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            return StatusCode.BAD_OUT_OF_RANGE
        return codec.encode(whole)

    return Codec(decode, lambda value: StatusCode.BAD_NOT_WRITABLE, encode_scaled)


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
