"""One open connection of whatever transport: sends a frame, waits for its reply, knows when it is gone."""

import asyncio
from typing import Final, Protocol, cast

from gateway.drivers.modbus.framing import Framing
from gateway.drivers.modbus.replies import BrokenReply

_MOST_UNREAD: Final = 4_096
"""Bytes that may arrive unasked before the device counts as mad; a reply has at most 260."""


class Carrier(Protocol):
    """What a wire needs of the thing below it: an asyncio stream, or a serial port."""

    def write(self, data: bytes) -> None:
        """Send, without waiting."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Wire(asyncio.Protocol, asyncio.DatagramProtocol):
    """The protocol object of one connection. One exchange at a time: whoever calls holds the endpoint's lock.

    A reply may come in pieces, and counts if it is complete in time. Over a network that is all that can be asked:
    segments and bridges put pauses anywhere. On a serial line a reply that pauses for more than one and a half
    characters is no reply (Modbus over Serial Line V1.02 §2.5.1.1). What is seen of the line through a driver that
    collects bytes is coarser than that, so `longest_pause` says how many seconds of silence end a reply.
    """

    def __init__(self, framing: Framing, longest_pause: float | None = None) -> None:
        self.is_open = False
        self.has_answered = False
        self.closed_by: Exception | None = None
        self._framing = framing
        self._longest_pause = longest_pause
        self._pause: asyncio.TimerHandle | None = None
        self._carrier: Carrier | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self._received = bytearray()
        self._asked = (0, 0)
        self._answer: asyncio.Future[bytes] | None = None

    async def exchange(self, unit: int, pdu: bytes, patience: float) -> bytes:
        """The reply's function code and data.

        Raises `TimeoutError` after `patience` seconds, `BrokenReply`, or `ConnectionError` when the connection breaks.
        """
        if not self.is_open:
            raise ConnectionError
        if not self._framing.numbered:
            self._received.clear()
        self._asked = (self._asked[0] % 0xFFFF + 1, unit)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self._send(self._framing.pack(*self._asked, pdu))
            async with asyncio.timeout(patience):
                await answer
        except TimeoutError:
            if answer.cancelled():
                raise
            # Else the reply was there before the timeout was looked at: it was the gateway that stood still.
        finally:
            self._answer = None
            self._end_pause()
        reply = answer.result()
        self.has_answered = True
        return reply

    def close(self) -> None:
        """Close at once, whatever the device does."""
        self.is_open = False
        if self._datagrams is not None:
            self._datagrams.abort()
        elif self._carrier is not None:
            self._carrier.abort()

    def _send(self, frame: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.sendto(frame)
        elif self._carrier is not None:
            self._carrier.write(frame)

    # --- called by the loop -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        # Told apart by what they can do: uvloop's transports are no subclasses of asyncio's.
        if hasattr(transport, "sendto"):
            self._datagrams = cast(asyncio.DatagramTransport, transport)
        else:
            self._carrier = cast(Carrier, transport)
        self.is_open = True

    def attach(self, carrier: Carrier) -> None:
        """A carrier that is no asyncio transport stands."""
        self._carrier = carrier
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told at once, not after the timeout (trap B5)."""
        self.is_open = False
        self.closed_by = exc
        self._fail(ConnectionError())

    def error_received(self, exc: Exception) -> None:
        """UDP: the system knows that nobody listens there."""
        self.connection_lost(exc)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """UDP: each datagram is a frame of its own."""
        self._received.clear()
        self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a reply; what nobody waits for is kept only as far as the next header may need it."""
        self._received += data
        if self._answer is None or self._answer.done():
            if len(self._received) > _MOST_UNREAD:
                self.close()
            return
        self._end_pause()
        try:
            pdu = self._framing.take(self._received, *self._asked)
        except BrokenReply as broken:
            self._fail(broken)
        else:
            if pdu is not None:
                self._answer.set_result(pdu)
            elif self._longest_pause is not None:
                self._pause = asyncio.get_running_loop().call_later(self._longest_pause, self._break_off)

    def _break_off(self) -> None:
        """A timer and no clock, for a loop that stood still reads what lies ready before it looks at its timers."""
        self._fail(BrokenReply(f"the reply stopped after {len(self._received)} bytes"))

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
