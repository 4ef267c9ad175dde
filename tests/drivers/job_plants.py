"""A gateway's core and driver in front of a machine with Job Control, step by step as `DeviceLink` and `Core` do it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.domain.operations import Operation, OperationResult
from gateway.drivers.opcua.driver import OpcUaDriver
from tests.drivers.clocks import PlantClock
from tests.stage import Stage

PATIENCE = 20
"""Seconds after which what is waited for will not come."""

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{client_id: edge-01}}
devices:
  M1: {{driver: opcua, {device}, structures: true, publishing_interval: 20ms, sampling_interval: 20ms}}
equipment:
  ACME/HZ/PACK/L1/M1:
    device: M1
    tags:
      state: {{node: "nsu=http://opcfoundation.org/UA/;i=2259", type: int32}}
    order: {{from: job_control}}
    job_control:
      object: s=JobControl
      {keys}
      actions: [start, stop, pause, resume, abort, cancel, clear, update, revoke_start]
      poll: 50ms
      confirm_timeout: {confirm}
      job_order:
        description: "{{material}} {{qty}}"
        work_master: "{{set}}:{{rev}}"
        priority: 7
        materials: [{{definition: "{{material}}", lot: "{{lot}}", use: Material Produced, quantity: "{{qty}}", unit: "{{pcs}}"}}]
        equipment: [{{id: M1, use: Production}}]
      parameters:
        fill: {{id: FillVolume, type: float32, min: 300, max: 400, unit: mL}}
        speed: {{id: Speed, type: int16, min: 1, max: 900, unit: /min}}
        rinse: {{type: bool}}
"""

ITEMS = [
    {"name": "fill", "value": 330.3, "unit": "mL"},
    {"name": "speed", "value": 120},
    {"name": "rinse", "value": True},
]


def plant(folder: Path, device: str, keys: str = "start: on_command", confirm: str = "10s") -> Plant:
    (folder / "plant.yaml").write_text(PLANT.format(device=device, keys=keys, confirm=confirm), encoding="utf-8")
    return load_plant(folder)


class Cell:
    """The core, and the driver that carries out what it asks for."""

    def __init__(self, stage: Stage, driver: OpcUaDriver) -> None:
        self.stage = stage
        self.driver = driver

    def download(self, order: str = "4711", cmd: str = "P-1", items: Any = ITEMS) -> None:
        self.stage.command("params.download", cmd=cmd, eq="M1", set="PS-1", rev="C", order=order, items=items)

    def control(self, action: str, order: str = "4711", cmd: str | None = None) -> None:
        self.stage.command("job.control", cmd=cmd or f"J-{action}", eq="M1", order=order, action=action)

    async def perform(self, *, answered: bool = True) -> Operation:
        """The next operation; unanswered, the gateway dies before it knows."""
        operation = self.stage.operations.pop(0)
        device = self.stage.plant.devices["M1"]
        assert device.allowed.objection(operation, device.name) is None
        calls = await self.driver.call(operation.calls) if operation.calls else []
        reads = await self.driver.read(operation.reads) if operation.reads else []
        if answered:
            result = OperationResult(operation.token, tuple(reads), calls=tuple(calls))
            self.stage.core.handle_operation(result, self.stage.now)
            self.stage.commit()
        return operation

    async def settle(self, more: int = 400) -> None:
        """Everything that is asked, and what its deadlines ask on, until the core waits for nobody."""
        stage = self.stage
        for _ in range(more):
            while stage.operations:
                await self.perform()
            if (timer := stage.core._commands.next_timer()) is None:
                return
            stage.now = max(stage.now + 1, timer)
            stage.core.handle_deadline(stage.now)
            stage.commit()
        raise AssertionError("the core never comes to rest")

    def final(self, cmd: str) -> tuple[str, tuple[str, ...]]:
        """The one final answer."""
        (answer,) = [answer for answer in self.stage.answers if answer.cmd == cmd and answer.final]
        return answer.answer, answer.codes

    def results(self) -> list[tuple[Any, ...]]:
        told = self.stage.told("param.result")
        return [(data["result"], tuple(data["codes"]), data["rolled_back"]) for _, data in told]

    def transitions(self, order: str = "4711") -> list[tuple[str | None, str]]:
        return [(data["from"], data["to"]) for _, data in self.stage.told("job.state") if data["order"] == order]


class Watching:
    """The subscription, whose batches go into the core."""

    def __init__(self, cell: Cell, batches: Any) -> None:
        self._cell = cell
        self._batches = batches

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                batch = await anext(self._batches)
                stage = self._cell.stage
                stage.now = max(stage.now, batch.contact)
                stage.core.handle_changes("M1", batch, stage.now)
                stage.commit()


@asynccontextmanager
async def cell(made: Plant) -> AsyncIterator[tuple[Cell, Watching]]:
    """A gateway that is connected and has seen the machine's list."""
    stage, device = Stage(made), made.devices["M1"]
    async with OpcUaDriver("M1", device.settings, device.tags, PlantClock()) as driver:
        stage.connect("M1")
        one = Cell(stage, driver)
        async with aclosing(driver.changes()) as batches:
            watching = Watching(one, batches)
            jobs = stage.core.equipment["ACME/HZ/PACK/L1/M1"].jobs
            assert jobs is not None
            await watching.until(lambda: jobs.jobs is not None)
            yield one, watching
