"""A Modbus TCP server of pymodbus whose replies can be late, short, from the wrong unit, or not come at all."""

import struct
from typing import Any, Final

from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import SimDevice

from simulators.faults import DeviceFaults, LateReply, ShortReply, Silence, WrongUnit

_HEADER: Final = struct.Struct(">HHHB")
"""Transaction, protocol, length of what follows, unit identifier (Modbus Messaging on TCP/IP V1.0b §3.1.3)."""
_READS: Final = frozenset({3, 4})


class FaultyServer(ModbusTcpServer):
    """Honest as long as its device has no fault."""

    def __init__(self, device: SimDevice, address: tuple[str, int], faults: DeviceFaults) -> None:
        super().__init__(device, address=address)
        self._faults = faults

    def callback_new_connection(self) -> ServerRequestHandler:
        """pymodbus asks for a handler of one more connection."""
        return _FaultyHandler(self, self._faults)


class _FaultyHandler(ServerRequestHandler):
    """One connection; everything that is sent goes through `send`."""

    def __init__(self, server: FaultyServer, faults: DeviceFaults) -> None:
        super().__init__(server, None, None, None)  # type: ignore[no-untyped-call]  # pymodbus has no hints here
        self._faults = faults

    def send(self, data: bytes, addr: Any = None) -> None:
        """Send one reply as the device's faults will have it."""
        if self._faults.active(Silence):
            return
        reply = spoil(
            data, is_short=bool(self._faults.active(ShortReply)), is_foreign=bool(self._faults.active(WrongUnit))
        )
        late = max((fault.seconds for fault in self._faults.active(LateReply)), default=0.0)
        if late:
            self.loop.call_later(late, self._send_late, reply, addr)
        else:
            super().send(reply, addr)

    def _send_late(self, reply: bytes, addr: Any) -> None:
        if self.transport is not None:  # the client may have given up and gone
            super().send(reply, addr)


def spoil(reply: bytes, *, is_short: bool, is_foreign: bool) -> bytes:
    """The reply frame with one register less, if it has any, and from another unit; right in all the rest."""
    transaction, protocol, _, unit = _HEADER.unpack_from(reply)
    body = reply[_HEADER.size :]
    if is_short and body[0] in _READS and len(body) > 2:
        body = bytes([body[0], body[1] - 2]) + body[2:-2]
    return _HEADER.pack(transaction, protocol, len(body) + 1, unit + 1 if is_foreign else unit) + body
