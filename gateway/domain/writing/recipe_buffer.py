"""The bytes of a machine's recipe buffer, and the checksum that seals it."""

import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Final

from gateway.domain.values import DataType, PlainValue
from gateway.domain.writing.checksums import crc16_ccitt, crc16_modbus

FORMATS: Final = {
    DataType.BOOL: "?", DataType.INT8: "b", DataType.UINT8: "B", DataType.INT16: "h", DataType.UINT16: "H",
    DataType.INT32: "i", DataType.UINT32: "I", DataType.INT64: "q", DataType.UINT64: "Q", DataType.FLOAT32: "f",
    DataType.FLOAT64: "d",
}  # fmt: skip
"""How the types lie in a PLC's memory; a bool takes a byte."""

ORDERS: Final = {"big": ">", "little": "<"}


def buffer_bytes(values: Iterable[tuple[DataType, PlainValue]], byte_order: str) -> bytes:
    """The raw values one behind the other, without padding, in the byte order `big` (S7) or `little`."""
    order = ORDERS[byte_order]
    return b"".join(struct.pack(order + FORMATS[data_type], value) for data_type, value in values)


CHECKSUMS: Final[dict[str, Callable[[bytes], int]]] = {
    "crc16-modbus": crc16_modbus,
    "crc16-ccitt": crc16_ccitt,
    "crc32": zlib.crc32,
}
"""By the names of the YAML; each gives a number that is not negative."""
