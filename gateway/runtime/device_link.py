"""One device's link, for ever: open, read, lose, wait, open again. Nothing that happens here reaches another device."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import structlog

from gateway.config.plant import Device
from gateway.domain.contract.objections import Objection
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import Batch, CallResult, StatusCode, TagChange, WriteResult, is_bad
from gateway.drivers.base import Clock, Driver, LinkLost
from gateway.drivers.registry import DRIVERS
from gateway.runtime.supervisor import Backoff
from gateway.runtime.write_gate import Passage, WriteGate

log = structlog.get_logger()


class Intake(Protocol):
    """Where a link delivers what happened; the daemon implements it."""

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        """The link came up or went down, just now; `resumed` goes on where it broke."""
        ...

    async def take_batch(self, device: str, batch: Batch) -> None:
        """Returns when the batch's effects are committed, so that the device may be told."""
        ...

    def operation_done(self, result: OperationResult) -> None:
        """An operation ended, or the link broke under it."""
        ...


class DeviceLink:
    """Owns the reconnection of one device and the one conversation with it."""

    def __init__(self, device: Device, intake: Intake, clock: Clock, gate: WriteGate) -> None:
        self._device = device
        self._gate = gate
        self._intake = intake
        self._clock = clock
        self._backoff = Backoff()
        # One for all connections: what a session left on the device is known to the next one.
        self._connection = DRIVERS[device.driver].driver(device.name, device.settings, device.tags, clock)
        self._driver: Driver | None = None
        self._operations: asyncio.Queue[Operation] = asyncio.Queue()
        self.tried = asyncio.Event()
        """Set when the first attempt is over: what the device said is committed, or it is out of reach."""
        self._ended = ""
        self._said: str | None = None

    async def run(self) -> None:
        """Supervise the link until cancelled.

        A fault of the driver costs this device a reconnection. An error of the intake is not caught: what the core
        left half done must not go on, so it ends the daemon.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supervise())
            tasks.create_task(self._operate())

    def submit(self, operation: Operation) -> None:
        """Carry out an operation whose intent is committed; its result comes by `operation_done`."""
        self._operations.put_nowait(operation)

    async def _supervise(self) -> None:
        while True:
            await self._live()
            self._lost(self._ended)
            await self._clock.sleep(self._backoff.next())

    async def _live(self) -> None:
        """One connection. What the intake raises gets out; what the driver raises is among `_batches`."""
        try:
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    if self._driver is None:
                        self._found(batch.resumed)
                    await self._intake.take_batch(self._device.name, batch)
                    self.tried.set()
        finally:
            self._driver = None

    async def _batches(self) -> AsyncGenerator[Batch]:
        """What the device says until the link is gone, whatever the driver's way of telling so; why is in `_ended`."""
        try:
            async with self._connection as driver:
                async for batch in driver.changes():
                    yield batch
            self._ended = "the device ended the conversation"
        except LinkLost as lost:
            self._ended = str(lost)
        except Exception as error:
            log.exception("driver failed", device=self._device.name)
            self._ended = f"{type(error).__name__}: {error}"

    def _found(self, resumed: bool) -> None:
        """The device has said something: only then is it connected, and may it be written to."""
        self._driver = self._connection
        self._backoff.reset()
        self._said = None
        log.info("device connected", device=self._device.name, resumed=resumed)
        self._intake.link_changed(self._device.name, True, resumed=resumed)

    def _lost(self, reason: str) -> None:
        """Say it once per transition, and again only if the reason is another one."""
        self.tried.set()
        if self._said is None:
            self._intake.link_changed(self._device.name, False, reason)
        if reason != self._said:
            log.warning("device lost", device=self._device.name, reason=reason)
        self._said = reason

    async def _operate(self) -> None:
        while True:
            operation = await self._operations.get()
            self._intake.operation_done(await self._perform(operation))

    async def _perform(self, operation: Operation) -> OperationResult:
        """The one place in the gateway that writes to a device or calls a method of one, if the gate lets it pass."""
        driver, passage = self._driver, None
        if driver is None:
            return OperationResult(operation.token, lost=True)
        if operation.changes:
            admitted = await self._gate.admit(self._device, operation)
            if not isinstance(admitted, Passage):
                return _failed(operation, StatusCode.BAD_USER_ACCESS_DENIED, admitted)
            passage = admitted
        try:
            writes = await driver.write(operation.writes) if operation.writes else []
            if any(is_bad(result.status_code) for result in writes):
                calls = [CallResult(StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT)] * len(operation.calls)
            else:
                calls = await driver.call(operation.calls) if operation.calls else []
            reads = await driver.read(operation.reads) if operation.reads else []
            result = OperationResult(operation.token, tuple(reads), tuple(writes), calls=tuple(calls))
        except LinkLost as lost:
            log.warning("device lost in an operation", device=self._device.name, reason=str(lost))
            result = OperationResult(operation.token, lost=True)
        except Exception:
            log.exception("driver failed in an operation", device=self._device.name)
            result = _failed(operation, StatusCode.BAD_INTERNAL_ERROR)
        if passage is not None:
            await self._gate.tell_outcome(passage, result)
        return result


def _failed(operation: Operation, status: int, refused: Objection | None = None) -> OperationResult:
    """What an operation comes to that is not or cannot be carried out: every tag and every call Bad.

    Not `lost`: the download would try again on the next connection, and fail there in the same way, for ever.
    """
    reads = tuple(TagChange(tag_id, None, status) for tag_id in operation.reads)
    writes = tuple(WriteResult(write.tag_id, status) for write in operation.writes)
    calls = (CallResult(status),) * len(operation.calls)
    return OperationResult(operation.token, reads, writes, calls=calls, refused=refused)
