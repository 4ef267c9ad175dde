"""One device's link, for ever: open, read, lose, wait, open again. Nothing that happens here reaches another device."""

import asyncio
from typing import Protocol

import structlog

from gateway.config.plant import Device
from gateway.domain.download import Operation, OperationResult
from gateway.domain.values import Batch
from gateway.drivers.base import Clock, Driver, LinkLost
from gateway.drivers.registry import DRIVERS
from gateway.runtime.supervisor import Backoff

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

    def __init__(self, device: Device, intake: Intake, clock: Clock) -> None:
        self._device = device
        self._intake = intake
        self._clock = clock
        self._backoff = Backoff()
        # One for all connections: what a session left on the device is known to the next one.
        self._connection = DRIVERS[device.driver].driver(device.name, device.settings, device.tags, clock)
        self._driver: Driver | None = None
        self._operations: asyncio.Queue[Operation] = asyncio.Queue()
        self._said: str | None = None

    async def run(self) -> None:
        """Supervise the link until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supervise())
            tasks.create_task(self._operate())

    def submit(self, operation: Operation) -> None:
        """Carry out an operation whose intent is committed; its result comes by `operation_done`."""
        self._operations.put_nowait(operation)

    async def _supervise(self) -> None:
        while True:
            try:
                await self._live()
                reason = "the device ended the conversation"
            except LinkLost as lost:
                reason = str(lost)
            except Exception as error:
                log.exception("driver failed", device=self._device.name)
                reason = f"{type(error).__name__}: {error}"
            self._lost(reason)
            await self._clock.sleep(self._backoff.next())

    async def _live(self) -> None:
        driver = self._connection
        try:
            async with driver:
                async for batch in driver.changes():
                    if self._driver is None:
                        self._found(driver, batch.resumed)
                    await self._intake.take_batch(self._device.name, batch)
        finally:
            self._driver = None

    def _found(self, driver: Driver, resumed: bool) -> None:
        """The device has said something: only then is it connected, and may it be written to."""
        self._driver = driver
        self._backoff.reset()
        self._said = None
        log.info("device connected", device=self._device.name, resumed=resumed)
        self._intake.link_changed(self._device.name, True, resumed=resumed)

    def _lost(self, reason: str) -> None:
        """Say it once per transition, and again only if the reason is another one."""
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
        """The one place in the gateway that writes to a device."""
        driver = self._driver
        if driver is None:
            return OperationResult(operation.token, lost=True)
        try:
            writes = await driver.write(operation.writes) if operation.writes else []
            reads = await driver.read(operation.reads) if operation.reads else []
        except LinkLost as lost:
            log.warning("device lost in an operation", device=self._device.name, reason=str(lost))
            return OperationResult(operation.token, lost=True)
        return OperationResult(operation.token, tuple(reads), tuple(writes))
