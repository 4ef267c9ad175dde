"""One unit at its endpoint: every request within its budget, every reply checked, never mended.

Nothing repeats a write; a read that got no answer is asked again, and then the unit is lost (trap B3).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from gateway.domain.values import StatusCode
from gateway.drivers.base import LinkLost
from gateway.drivers.modbus.budget import Budget
from gateway.drivers.modbus.config import BIT_TABLES, ModbusSettings, Span, Table
from gateway.drivers.modbus.endpoint import Endpoint, endpoint_of
from gateway.drivers.modbus.replies import BrokenReply, Refused, bits_of, check_echo, registers_of
from gateway.drivers.modbus.requests import (
    expected_echo,
    mask_write_request,
    read_request,
    write_and_read_request,
    write_coils_request,
    write_registers_request,
)

Answer = TypeVar("Answer")


class NoReply(Exception):  # noqa: N818 - it says what happened
    """A write was not answered in time: it may have been carried out or not."""

    status_code: Final = StatusCode.BAD_TIMEOUT


@dataclass(slots=True)
class Statistics:
    """What one link has seen, over all its connections."""

    requests: int = 0
    timeouts: int = 0
    refusals: int = 0
    broken_replies: int = 0


class Link:
    """One unit. Requests queue up at the endpoint, so a write waits for at most one read of each unit.

    Every method raises `LinkLost` when the connection is gone, when `retries_before_lost` more tries after a timeout
    stayed without answer too, or while the unit's breaker is open.
    """

    def __init__(self, settings: ModbusSettings) -> None:
        self.statistics = Statistics()
        self._settings = settings
        self._endpoint: Endpoint | None = None
        self._budget = Budget(settings.max_requests_per_second)

    async def open(self) -> None:
        """Join the endpoint's connection, opening it if need be; raises `LinkLost` with the reason."""
        endpoint = endpoint_of(self._settings)
        await endpoint.enter(self, self._settings.where)
        self._endpoint = endpoint

    async def close(self) -> None:
        """Leave the connection; the last one to leave closes it."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            await endpoint.leave(self)

    async def read(self, table: Table, span: Span) -> bytes:
        """Raw bytes of the addresses: two for each register, one for each bit.

        Raises `Refused` for the device's exceptions and `BrokenReply` when the reply is no answer to it.
        """
        request = read_request(table, span)
        content_of = bits_of if table in BIT_TABLES else registers_of
        accept = partial(content_of, function_code=request[0], count=span.size)
        while True:
            try:
                return await self._ask(request, accept)
            except NoReply:
                self._raise_if_lost()

    async def write_registers(self, first: int, raw: bytes) -> None:
        """FC6 for one register, FC16 for more, sent once; raises `Refused`, `BrokenReply` or `NoReply`."""
        await self._write_echoed(write_registers_request(first, raw))

    async def write_and_read(self, first: int, raw: bytes) -> bytes:
        """FC23, sent once: what the registers hold after the write; raises `Refused`, `BrokenReply` or `NoReply`."""
        request = write_and_read_request(first, raw)
        return await self._write(request, partial(registers_of, function_code=request[0], count=len(raw) // 2))

    async def write_coils(self, first: int, bits: bytes) -> None:
        """FC5 for one coil, FC15 for more, sent once; raises `Refused`, `BrokenReply` or `NoReply`."""
        await self._write_echoed(write_coils_request(first, bits))

    async def write_bits(self, register: int, mask: int, value: int) -> None:
        """FC22, sent once: the bits of `mask` in one register; raises `Refused`, `BrokenReply` or `NoReply`."""
        await self._write_echoed(mask_write_request(register, mask, value))

    async def _write_echoed(self, request: bytes) -> None:
        await self._write(request, partial(check_echo, expected=expected_echo(request)))

    async def _write(self, request: bytes, accept: Callable[[bytes], Answer]) -> Answer:
        try:
            return await self._ask(request, accept)
        except NoReply:
            self._raise_if_lost()
            raise

    async def _ask(self, request: bytes, accept: Callable[[bytes], Answer]) -> Answer:
        """What `accept` makes of the reply to this very request."""
        endpoint = self._endpoint
        if endpoint is None:
            raise LinkLost(f"{self._settings.where}: the link is not open")
        breaker, loop = endpoint.breaker(self._settings), asyncio.get_running_loop()
        if endpoint.is_shared and breaker.is_open(loop.time()):
            raise LinkLost(self._silence(self._settings.retries_before_lost + 1))
        if (pause := self._budget.wait(loop.time())) > 0:
            await asyncio.sleep(pause)
        self.statistics.requests += 1
        try:
            reply = await endpoint.exchange(self._settings, request)
            breaker.note_answer()
            return accept(reply)
        except TimeoutError:
            self.statistics.timeouts += 1
            quiet = 0.0 if endpoint.is_numbered else self._settings.quiet
            breaker.note_silence(loop.time(), self._settings.timeout + quiet)
            raise NoReply from None
        except BrokenReply:
            self.statistics.broken_replies += 1
            breaker.note_answer()
            if not endpoint.is_numbered:
                endpoint.distrust(self._settings.quiet)
            raise
        except Refused:
            self.statistics.refusals += 1
            raise

    def _raise_if_lost(self) -> None:
        if self._endpoint is not None:
            breaker = self._endpoint.breaker(self._settings)
            if breaker.has_tripped:
                raise LinkLost(self._silence(breaker.silences)) from None

    def _silence(self, times: int) -> str:
        """The reason, the same for the probes that follow, so that it is said once."""
        settings = self._settings
        times = min(times, settings.retries_before_lost + 1)
        return f"{settings.where}: no answer within {settings.timeout:g} s, {times} times in a row"
