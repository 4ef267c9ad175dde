"""A serial line in raw mode, on the system's own terminal calls; eight data bits, as RTU demands."""

import asyncio
import os
import termios
from typing import Final

from gateway.drivers.modbus.config import Parity
from gateway.drivers.modbus.wire import Wire

_CHUNK: Final = 512
_PARITY: Final[dict[Parity, int]] = {
    "none": 0,
    "even": termios.PARENB,
    "odd": termios.PARENB | termios.PARODD,
}


class SerialPort:
    """One open serial port that feeds a `Wire`. A line that breaks (an adapter pulled) is a lost connection."""

    def __init__(self, wire: Wire, path: str, baudrate: int, parity: Parity, stopbits: int) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            _make_raw(self._descriptor, baudrate, parity, stopbits)
        except (OSError, termios.error) as error:
            os.close(self._descriptor)
            raise OSError(f"{path} cannot be set up as a serial port: {error}") from None
        self._loop.add_reader(self._descriptor, self._readable)

    def write(self, data: bytes) -> None:
        """Send one frame; the system's buffer is larger than any."""
        try:
            complete = os.write(self._descriptor, data) == len(data)
        except OSError:
            complete = False
        if not complete:
            self._broken()

    def abort(self) -> None:
        """Close the port; what is not sent yet is thrown away."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._wire.data_received(data)
        else:
            self._broken()

    def _broken(self) -> None:
        self.abort()
        self._wire.connection_lost(None)


def _make_raw(descriptor: int, baudrate: int, parity: Parity, stopbits: int) -> None:
    speed = getattr(termios, f"B{baudrate}")
    control = termios.CREAD | termios.CLOCAL | termios.CS8 | _PARITY[parity]
    if stopbits == 2:
        control |= termios.CSTOPB
    checked = termios.INPCK if parity != "none" else 0
    special = termios.tcgetattr(descriptor)[6]
    special[termios.VMIN], special[termios.VTIME] = 1, 0  # an empty read then means that the line is gone
    termios.tcsetattr(descriptor, termios.TCSANOW, [checked, 0, control, 0, speed, speed, special])
    termios.tcflush(descriptor, termios.TCIOFLUSH)
