"""The register map of LBL01: holding registers, 0-based, as the PLC's programmer documented them.

| register | what |
|---|---|
| 0 | state word: b0 run, b1 ready, b2 fault, b3 starved, b4 spare, b5 remote, b6 warm-up, b7 operator permit |
| 1 | heartbeat |
| 2, 3 | alarm word, acknowledged word (b0 3301, b1 3310) |
| 10, 11, 12 | total in, good, reject: uint16, rolling over |
| 20, 21 | oven actual, oven set-point: x0.1 Cel |
| 30-37 | batch id: ASCII, two characters a register, high byte first, NUL padded |
| 40-41 | energy: uint32, low word first, x0.1 kWh |
| 50, 51 | job number in BCD, reel number |
| 100 (writable), 101-103 | CmdSeq; AckSeq, status, error: see `simulators.models.handshake` |
| 110-118 (writable) | parameters, see `simulators.models.labeller.PARAMETERS` |
| 119 (writable) | CRC-16/MODBUS over 110-118 as big-endian bytes, stored as a plain number |

All others from 0 to 119 are spare and read 0.
"""

from collections.abc import Mapping
from typing import Any, Final

SIZE: Final = 120
COMMAND: Final = 100
PARAMETERS: Final = range(110, 120)
"""The parameters and their CRC."""
_STATE_BITS: Final = {"run": 0, "ready": 1, "fault": 2, "starved": 3, "remote": 5, "warm_up": 6, "permit": 7}
_SINGLE: Final = {
    "heartbeat": 1,
    "alarm_word": 2,
    "acknowledged_word": 3,
    "total_in": 10,
    "good": 11,
    "reject": 12,
    "oven_actual": 20,
    "oven_setpoint": 21,
    "reel": 51,
    "cmd_seq": COMMAND,
    "ack_seq": 101,
    "status": 102,
    "error": 103,
    "crc": 119,
}
_BATCH_ID: Final = range(30, 38)


def image(tags: Mapping[str, Any]) -> list[int]:
    """All registers for one scan of the labeller."""
    registers = [0] * SIZE
    registers[0] = sum(bool(tags[name]) << bit for name, bit in _STATE_BITS.items())
    for name, address in _SINGLE.items():
        registers[address] = int(tags[name])
    registers[_BATCH_ID.start : _BATCH_ID.stop] = text(tags["batch_id"], len(_BATCH_ID))
    registers[40], registers[41] = tags["energy"] & 0xFFFF, tags["energy"] >> 16
    registers[50] = bcd(tags["job"])
    registers[110:119] = tags["parameters"]
    return registers


def text(value: str, registers: int) -> list[int]:
    """ASCII in registers, high byte first, NUL padded."""
    padded = value.encode("ascii").ljust(2 * registers, b"\0")
    return [int.from_bytes(padded[i : i + 2], "big") for i in range(0, 2 * registers, 2)]


def bcd(number: int) -> int:
    """A number of up to four digits in BCD: 4711 is 0x4711."""
    return int(str(number), 16)
