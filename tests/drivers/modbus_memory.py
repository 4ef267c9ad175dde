"""A Modbus unit of our own that keeps what is written to it, for tests of the bytes on the wire."""

import struct

from modbus_devices import Asked


class Memory:
    """1,000 holding registers and coils behind a `liar`: every function that writes, coded by hand from the standard.

    A function in `lacks` gets exception 1, a read over a register in `holes` exception 2. `keep(register, value)` is what a register holds after a write of `value`;
    `between()` is called whenever a request was answered: what the machine's own program does meanwhile.
    """

    def __init__(self, lacks: tuple[int, ...] = ()) -> None:
        self.registers = [0] * 1_000
        self.coils = [False] * 1_000
        self.asked: list[str] = []
        self.lacks = lacks
        self.holes: set[int] = set()
        self.keep = lambda _register, value: value
        self.between = lambda: None

    def __call__(self, asked: Asked) -> bytes:
        self.asked.append(asked.pdu.hex())
        function, first = asked.pdu[0], int.from_bytes(asked.pdu[1:3], "big")
        reply = bytes([0x80 | function, 1]) if function in self.lacks else self._answer(function, first, asked.pdu[3:])
        self.between()
        return asked.frame(reply)

    def _answer(self, function: int, first: int, rest: bytes) -> bytes:
        number = int.from_bytes(rest[:2], "big")
        echo = struct.pack(">BHH", function, first, number)
        match function:
            case 3:
                return self._read(function, first, number)
            case 5:
                self.coils[first] = number == 0xFF00
            case 6:
                self._write(first, [number])
            case 15:
                for at in range(number):
                    self.coils[first + at] = bool(rest[3 + at // 8] >> at % 8 & 1)
            case 16:
                self._write(first, list(struct.unpack(f">{number}H", rest[3:])))
            case 22:
                or_mask = int.from_bytes(rest[2:4], "big")
                self._write(first, [self.registers[first] & number | or_mask & ~number])
                return echo + rest[2:4]
            case 23:
                write_first, count, _ = struct.unpack(">HHB", rest[2:7])
                self._write(write_first, list(struct.unpack(f">{count}H", rest[7:])))
                return self._read(function, first, number)
        return echo

    def _read(self, function: int, first: int, count: int) -> bytes:
        if not self.holes.isdisjoint(range(first, first + count)):
            return bytes([0x80 | function, 2])
        return struct.pack(f">BB{count}H", function, 2 * count, *self.registers[first : first + count])

    def _write(self, first: int, values: list[int]) -> None:
        for register, value in enumerate(values, first):
            self.registers[register] = self.keep(register, value)
