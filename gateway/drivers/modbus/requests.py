"""What is asked, as function code and data, built by pymodbus (Modbus Application Protocol V1.1b3 §6). Pure.

The replies are not left to pymodbus, which takes short ones, other functions and wrong echoes for success (trap B2).
"""

from typing import Final

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu import bit_message as bits
from pymodbus.pdu import register_message as registers

from gateway.drivers.modbus.config import Span, Table

_READS: Final[dict[Table, type[ModbusPDU]]] = {
    "coil": bits.ReadCoilsRequest,
    "discrete": bits.ReadDiscreteInputsRequest,
    "holding": registers.ReadHoldingRegistersRequest,
    "input": registers.ReadInputRegistersRequest,
}


def read_request(table: Table, span: Span) -> bytes:
    """FC1-FC4."""
    return _encoded(_READS[table](address=span.first, count=span.size))


def write_registers_request(first: int, raw: bytes) -> bytes:
    """FC6 for one register, FC16 for more."""
    values = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    if len(values) == 1:
        return _encoded(registers.WriteSingleRegisterRequest(address=first, registers=values))
    return _encoded(registers.WriteMultipleRegistersRequest(address=first, registers=values))


def write_and_read_request(first: int, raw: bytes) -> bytes:
    """FC23: write registers, then read the same ones, in one transaction of the device (§6.17)."""
    values = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    return _encoded(
        registers.ReadWriteMultipleRegistersRequest(
            read_address=first, read_count=len(values), write_address=first, write_registers=values
        )
    )


def write_coils_request(first: int, states: bytes) -> bytes:
    """FC5 for one coil, FC15 for more; `states` has one byte, 0 or 1, for each."""
    values = [bool(state) for state in states]
    if len(values) == 1:
        return _encoded(bits.WriteSingleCoilRequest(address=first, bits=values))
    return _encoded(bits.WriteMultipleCoilsRequest(address=first, bits=values))


def mask_write_request(register: int, mask: int, value: int) -> bytes:
    """FC22: the device itself sets the bits of `mask` to those of `value` and keeps the others (§6.16)."""
    request = registers.MaskWriteRegisterRequest(address=register, and_mask=0xFFFF & ~mask, or_mask=value & mask)
    return _encoded(request)


def expected_echo(request: bytes) -> bytes:
    """What a right answer to a write is: all of it for FC5, FC6 and FC22, address and count for FC15 and FC16."""
    return request if request[0] == 22 else request[:5]


def _encoded(request: ModbusPDU) -> bytes:
    return bytes([request.function_code]) + request.encode()
