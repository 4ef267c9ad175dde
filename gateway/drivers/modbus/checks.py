"""What is wrong in the YAML of Modbus devices and their tags, where each by itself is right. No network is touched."""

from collections.abc import Hashable, Sequence
from typing import Final

from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import (
    BIT_TABLES,
    READ_ONLY_TABLES,
    REGISTERS_OF,
    ModbusAddress,
    ModbusSettings,
    Span,
)

_FLOATS: Final = frozenset({DataType.FLOAT32, DataType.FLOAT64})
_REGISTER_BITS: Final = 16
_BCD_TYPES: Final = frozenset({DataType.UINT16, DataType.UINT32, DataType.UINT64})


def shared_endpoint_problem(own: ModbusSettings, other: ModbusSettings) -> str:
    """Why these two devices cannot both be used, in a sentence; empty if they can."""
    if own.place != other.place:
        return ""
    differing = [key for key, value in own.connection.items() if other.connection[key] != value]
    if differing:
        return f"{own.place} has another {', '.join(differing)} there; units on one connection agree on it"
    if own.unit_id == other.unit_id:
        return f"{own.where} is configured there; give each unit one device, or correct unit_id"
    return ""


def check_modbus_write(tag: Tag[ModbusAddress]) -> list[str]:
    """What is wrong with writing this tag, in sentences."""
    table = tag.address.table
    if table not in READ_ONLY_TABLES:
        return []
    kind = "coil" if table in BIT_TABLES else "holding register"
    return [f"the configuration lets the gateway write this tag, but table {table} can only be read; name a {kind}"]


def modbus_place(settings: ModbusSettings, address: ModbusAddress) -> Hashable:
    """The table of the unit."""
    return settings.where, address.table


def longest_modbus_pause(settings: ModbusSettings, tags: Sequence[Tag[ModbusAddress]]) -> float:
    """Seconds of plant time between two polls of the fastest tags."""
    return min((tag.address.poll_interval or settings.poll_interval for tag in tags), default=settings.poll_interval)


def check_modbus_tag(settings: ModbusSettings, tag: Tag[ModbusAddress]) -> list[str]:
    """What is wrong with this tag on this device, in sentences."""
    address = tag.address
    if any(span.overlaps(address.needed) for span in settings.forbidden) and address.table not in BIT_TABLES:
        return [f"registers {address.needed} lie in a forbidden range of the device; take one of the two out"]
    if address.bits is not None:
        return _check_bits(settings, tag)
    if address.table in BIT_TABLES or tag.type is DataType.BOOL:
        return _check_bit(tag)
    if tag.type is DataType.STRING:
        problems = _check_string(address)
    elif tag.type in REGISTERS_OF:
        problems = _check_number(tag)
    else:
        known = ", ".join([*REGISTERS_OF, DataType.STRING])
        return [f"a Modbus register cannot hold {tag.type}; the types are {known}, and bool in coil and discrete"]
    if address.needed.size > settings.max_registers:
        problems.append(
            f"registers {address.needed} are {address.needed.size}, but this device gives at most "
            f"max_registers {settings.max_registers} in one request and a value is never read in two"
        )
    return problems + _check_blocks(settings, address)


def _check_blocks(settings: ModbusSettings, address: ModbusAddress) -> list[str]:
    return [
        f"registers {address.span} reach beyond the block {block.registers}; a value lies whole in a block or outside"
        for block in settings.blocks
        if address.table == "holding"
        and address.span.overlaps(block.registers)
        and not block.registers.covers(address.span)
    ]


def _check_bit(tag: Tag[ModbusAddress]) -> list[str]:
    address = tag.address
    problems = []
    if address.table not in BIT_TABLES or tag.type is not DataType.BOOL:
        problems.append(
            f"type {tag.type} does not fit table {address.table}; bool belongs to coil and discrete, "
            "a bit inside a register needs the key bits, such as bits: 3"
        )
    if address.span.size != 1:
        problems.append(f"a bool is one bit; write register: {address.span.first}")
    return problems + _idle_keys(
        address, "a bool", word_order=True, byte_order=True, encoding=True, swap_bytes=True, scale_register=True
    )


def _check_bits(settings: ModbusSettings, tag: Tag[ModbusAddress]) -> list[str]:
    address, bits = tag.address, tag.address.bits
    problems = []
    if address.table in BIT_TABLES or address.span.size != 1:
        problems.append("bits are those of a single holding or input register")
    if bits is not None and bits.end > _REGISTER_BITS:
        problems.append(f"a register has the bits 0-15; bits: {bits} lie beyond it")
    if tag.type not in (DataType.BOOL, DataType.UINT16) or (tag.type is DataType.BOOL and address.mask.bit_count() > 1):
        problems.append(f"bits do not make a {tag.type}; one bit is a bool, several are a uint16")
    if any(block.registers.overlaps(address.span) for block in settings.blocks) and address.table == "holding":
        problems.append("bits in a write block cannot be written alone; take the whole register")
    return problems + _idle_keys(address, "bits", word_order=True, encoding=True, swap_bytes=True, scale_register=True)


def _check_string(address: ModbusAddress) -> list[str]:
    problems = _idle_keys(address, "a string", word_order=True, byte_order=True, scale_register=True)
    if address.encoding == "bcd":
        problems.append("encoding bcd is for unsigned integers; a string has ascii, utf-8 or gbk")
    return problems


def _check_number(tag: Tag[ModbusAddress]) -> list[str]:
    address, needed = tag.address, REGISTERS_OF[tag.type]
    problems = _idle_keys(address, f"{tag.type}", swap_bytes=True, word_order=needed == 1)
    if address.scale_register is not None and (tag.type in _FLOATS or address.encoding is not None):
        problems.append("a scale_register belongs to a plain integer; floats and bcd carry their point themselves")
    if address.span.size != needed:
        right = Span(address.span.first, needed)
        problems.append(
            f"register {address.span} has {16 * address.span.size} bits, {tag.type} has {16 * needed}; write {right}"
        )
    if address.encoding is not None and (address.encoding != "bcd" or tag.type not in _BCD_TYPES):
        problems.append(
            f"encoding {address.encoding} does not fit {tag.type}; bcd is for uint16, uint32 and uint64, "
            "the others are for strings"
        )
    return problems


def _idle_keys(address: ModbusAddress, what: str, **idle: bool) -> list[str]:
    """A key that would do nothing is a misunderstanding, so it is said."""
    return [
        f"{key} does nothing for {what}; take it out" for key in idle if idle[key] and key in address.model_fields_set
    ]
