"""The connection to one Modbus TCP device: one request at a time, every reply checked, never mended.

pymodbus gives transport and framing. Its decoding is left out (see `replies`), and so are its retries: they repeat
writes (trap B3).
"""

import asyncio
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from gateway.domain.values import StatusCode
from gateway.drivers.base import LinkLost
from gateway.drivers.modbus.config import ModbusSettings, Span, Table
from gateway.drivers.modbus.replies import BrokenReply, Refused, bits_of, check_echo, registers_of
from gateway.drivers.reasons import reason_of

Answer = TypeVar("Answer")

_NEVER: Final = 1_000_000
"""pymodbus drops the link by itself after a few timeouts (trap B8); only we decide that."""

_READ: Final[dict[Table, tuple[type[ModbusPDU], Callable[..., bytes]]]] = {
    "holding": (ReadHoldingRegistersRequest, registers_of),
    "input": (ReadInputRegistersRequest, registers_of),
    "coil": (ReadCoilsRequest, bits_of),
    "discrete": (ReadDiscreteInputsRequest, bits_of),
}


class NoReply(Exception):  # noqa: N818 - it says what happened
    """A write was not answered in time: it may have been carried out or not."""

    status_code: Final = StatusCode.BAD_TIMEOUT


@dataclass(slots=True)
class Statistics:
    """What one link has seen since it was opened."""

    requests: int = 0
    timeouts: int = 0
    refusals: int = 0
    broken_replies: int = 0


class _Undecoded(ModbusPDU):
    """A reply as it came: function code and data."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.payload = payload


class _KeepBytes(DecodePDU):
    """Stands in for pymodbus's decoder, which believes too much and drops the connection over what it cannot read."""

    def decode(self, frame: bytes) -> ModbusPDU:
        return _Undecoded(bytes(frame))


class Link:
    """One connection. Requests queue up on one lock, so a write waits for at most one read (fair, first come).

    Every method raises `LinkLost` when the connection is gone, or when `retries_before_lost` more tries after a
    timeout stayed without answer too.
    """

    def __init__(self, settings: ModbusSettings) -> None:
        self.statistics = Statistics()
        self._settings = settings
        self._where = f"{settings.host}:{settings.port} unit {settings.unit_id}"
        self._client: AsyncModbusTcpClient | None = None
        self._lock = asyncio.Lock()
        self._silent_tries = 0

    async def open(self) -> None:
        """Connect; raises `LinkLost` with the reason that the system gives."""
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what matters reaches us, and is said once, by us
        settings = self._settings
        client = AsyncModbusTcpClient(
            settings.host,
            port=settings.port,
            timeout=settings.timeout,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._note_connection,
        )
        client.ctx.framer.decoder = _KeepBytes(False)
        client.ctx.max_until_disconnect = _NEVER
        try:
            async with asyncio.timeout(settings.timeout):
                # What `connect` does, without turning the reason of a failure into False (trap B4). asyncio sets
                # TCP_NODELAY itself.
                await client.ctx.call_create()
        except TimeoutError:
            raise LinkLost(f"{self._where}: cannot be connected within {settings.timeout:g} s") from None
        except OSError as error:
            raise LinkLost(f"{self._where}: cannot be connected: {reason_of(error)}") from None
        self._client = client

    async def close(self) -> None:
        """Close the socket at once, whatever the device does."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next round

    def _note_connection(self, connected: bool) -> None:
        """pymodbus lets a waiting request run into its timeout when the connection breaks; we wake it up."""
        if not connected and self._lock.locked() and self._client is not None:
            waiting = self._client.ctx.response_future
            if not waiting.done():
                waiting.set_exception(ConnectionException("connection lost"))

    async def read(self, table: Table, span: Span) -> bytes:
        """Raw bytes of the addresses: two for each register, one for each bit.

        Raises `Refused` for the device's exceptions and `BrokenReply` when the reply is no answer to it.
        """
        request_type, content_of = _READ[table]
        while True:
            request = request_type(address=span.first, count=span.size, dev_id=self._settings.unit_id)
            accept = partial(content_of, function_code=request.function_code, count=span.size)
            try:
                return await self._ask(request, accept)
            except NoReply:
                self._raise_if_lost()

    async def write_registers(self, first: int, raw: bytes) -> None:
        """FC6 for one register, FC16 for more, sent once; raises `Refused`, `BrokenReply` or `NoReply`."""
        registers = list(struct.unpack(f">{len(raw) // 2}H", raw))
        request_type = WriteSingleRegisterRequest if len(registers) == 1 else WriteMultipleRegistersRequest
        request = request_type(address=first, registers=registers, dev_id=self._settings.unit_id)
        await self._write(request)

    async def write_coil(self, address: int, on: bool) -> None:
        """FC5, sent once; raises `Refused`, `BrokenReply` or `NoReply`."""
        await self._write(WriteSingleCoilRequest(address=address, bits=[on], dev_id=self._settings.unit_id))

    async def _write(self, request: ModbusPDU) -> None:
        # All three are answered by function code, address, and value or count: the first five bytes.
        expected = (bytes([request.function_code]) + request.encode())[:5]
        try:
            await self._ask(request, partial(check_echo, expected=expected))
        except NoReply:
            self._raise_if_lost()
            raise

    async def _ask(self, request: ModbusPDU, accept: Callable[[bytes], Answer]) -> Answer:
        try:
            return accept(await self._exchange(request))
        except BrokenReply:
            self.statistics.broken_replies += 1
            raise
        except Refused:
            self.statistics.refusals += 1
            raise

    async def _exchange(self, request: ModbusPDU) -> bytes:
        """Function code and data of the reply to this very request."""
        async with self._lock:
            if self._client is None or not self._client.connected:
                raise LinkLost(f"{self._where}: the device closed the connection")
            self.statistics.requests += 1
            try:
                reply = await self._client.execute(False, request)
            except ConnectionException:
                raise LinkLost(f"{self._where}: the device closed the connection") from None
            except ModbusIOException:
                self.statistics.timeouts += 1
                self._silent_tries += 1
                raise NoReply from None
            self._silent_tries = 0
        if not isinstance(reply, _Undecoded) or reply.transaction_id != request.transaction_id:
            raise BrokenReply("the reply carries another transaction number")
        if reply.dev_id != request.dev_id:
            raise BrokenReply(f"unit {reply.dev_id} answered for unit {request.dev_id}")
        return reply.payload

    def _raise_if_lost(self) -> None:
        if self._silent_tries > self._settings.retries_before_lost:
            raise LinkLost(
                f"{self._where}: no answer within {self._settings.timeout:g} s, {self._silent_tries} times in a row"
            ) from None
