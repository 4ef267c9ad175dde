"""A download that a method of the machine takes: called behind the values, believed by its answer, undone if refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from clocks import PlantClock
from opcua_servers import PLC, plc

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.domain.operations import OperationResult
from gateway.drivers.opcua.driver import OpcUaDriver
from tests.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{client_id: edge-01}}
devices:
  M1: {device}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags: {tags}
    download:
      parameters: {{speed: {{tag: speed_set, readback: speed_active, min: 0, max: 200, class: trim}}}}
      handshake: {commit}
"""
TAGS = "{speed_set: {node: s=speed_set, type: int32}, speed_active: {node: s=speed_active, type: int32}}"
COMMIT = "{type: method, object: s=Recipe, method: s=Recipe.Apply, result: 0}"


def plant(folder: Path, device: str, tags: str = TAGS, commit: str = COMMIT) -> Any:
    (folder / "plant.yaml").write_text(PLANT.format(device=device, tags=tags, commit=commit), encoding="utf-8")
    return load_plant(folder)


class Machine:
    """It works with `speed_active`, and takes what is in `speed_set` when it is told to, if it likes it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.applied: list[int] = []
        self.answer: Any = None

    async def build(self) -> None:
        server = self.server
        self.wanted, self.active = await server.add("speed_set", 100), await server.add("speed_active", 100)
        folder = await server.server.nodes.objects.add_object(ua.NodeId("Recipe", server.index), "Recipe")
        method = await folder.add_method(ua.NodeId("Recipe.Apply", server.index), "Apply", self._apply, [], [])
        server._nodes += [folder, method]

    async def _apply(self, parent: ua.NodeId) -> Any:
        wanted = await self.wanted.read_value()
        self.applied.append(wanted)
        if self.answer is not None and wanted != 100:
            return self.answer
        await self.active.write_value(wanted, ua.VariantType.Int32)
        return [ua.Variant(0, ua.VariantType.Int32)]

    async def values(self) -> tuple[int, int]:
        return await self.wanted.read_value(), await self.active.read_value()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Any]:
    async with plc() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def machine(shared: Any) -> AsyncIterator[Machine]:
    made = Machine(shared)
    await made.build()
    yield made
    await shared.clear()


@asynccontextmanager
async def gateway(machine: Machine, folder: Path) -> AsyncIterator[tuple[Stage, OpcUaDriver]]:
    url = f"opc.tcp://127.0.0.1:{machine.server.port}"
    made = plant(folder, f"{{driver: opcua, url: '{url}', namespace: '{PLC}', security: none}}")
    stage, device = Stage(made), made.devices["M1"]
    stage.connect("M1")
    async with OpcUaDriver("M1", device.settings, device.tags, PlantClock()) as driver:
        items = [{"name": "speed", "value": 150}]
        stage.command("params.download", cmd="C-1", eq="M1", set="S", rev="A", items=items)
        yield stage, driver


async def perform(stage: Stage, driver: OpcUaDriver, *, answered: bool = True) -> None:
    """The next operation, as `DeviceLink` carries it out; unanswered, the gateway dies before it knows."""
    operation = stage.operations.pop(0)
    writes = await driver.write(operation.writes) if operation.writes else []
    calls = await driver.call(operation.calls) if operation.calls else []
    reads = await driver.read(operation.reads) if operation.reads else []
    if answered:
        result = OperationResult(operation.token, tuple(reads), tuple(writes), calls=tuple(calls))
        stage.core.handle_operation(result, stage.now)
        stage.commit()


def results(stage: Stage) -> list[tuple[Any, ...]]:
    return [(data["result"], tuple(data["codes"]), data["rolled_back"]) for _, data in stage.told("param.result")]


async def test_the_values_are_written_then_taken_then_read_back(machine: Machine, tmp_path: Path) -> None:
    async with gateway(machine, tmp_path) as (stage, driver):
        while stage.operations:
            await perform(stage, driver)
    assert results(stage) == [("ACTIVE", (), None)]
    assert (machine.applied, await machine.values()) == ([150], (150, 150))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([ua.Variant(7, ua.VariantType.Int32)], "the answer 7, not 0"),
        ([], "the answer None, not 0"),
        (ua.StatusCode(ua.StatusCodes.BadNotExecutable), "status 0x81110000"),
    ],
)
async def test_what_the_machine_refuses_is_undone_without_asking_it_again(
    machine: Machine, tmp_path: Path, answer: Any, says: str
) -> None:
    machine.answer = answer
    async with gateway(machine, tmp_path) as (stage, driver):
        while stage.operations:
            await perform(stage, driver)
    assert results(stage) == [("FAILED", ("device_error",), {"speed": 100})]
    assert says in stage.answers[-1].detail[0]
    assert (machine.applied, await machine.values()) == ([150], (100, 100))


@pytest.mark.parametrize("answer", [ua.StatusCodes.UncertainInitialValue, ua.StatusCodes.BadTimeout])
async def test_an_answer_that_leaves_it_open_is_no_refusal_so_the_old_values_are_given_again(
    machine: Machine, tmp_path: Path, answer: int
) -> None:
    machine.answer = ua.StatusCode(answer)
    async with gateway(machine, tmp_path) as (stage, driver):
        while stage.operations:
            await perform(stage, driver)
    assert results(stage) == [("FAILED", ("device_error",), {"speed": 100})]
    assert (machine.applied, await machine.values()) == ([150, 100], (100, 100))


@pytest.mark.parametrize(
    ("before", "applied", "ended", "held"),
    [(1, [], ("FAILED", ("interrupted",), {"speed": 100}), 100), (2, [150], ("ACTIVE", (), None), 150)],
    ids=["before the call", "before its answer"],
)
async def test_after_a_crash_what_the_machine_works_with_tells_whether_the_method_was_called(
    machine: Machine, tmp_path: Path, before: int, applied: list[int], ended: Any, held: int
) -> None:
    async with gateway(machine, tmp_path) as (stage, driver):
        await perform(stage, driver)
        for number in range(before):
            await perform(stage, driver, answered=number + 1 < before)
        stage.operations.clear()
        stage.kill_and_restart("06:10:00")
        stage.connect("M1", "06:10:01")
        while stage.operations:
            await perform(stage, driver)
    assert results(stage) == [ended]
    assert (machine.applied, await machine.values()) == (applied, (held, held))
    assert [answer.final for answer in stage.answers if answer.cmd == "C-1"].count(True) == 1


OPCUA = "{driver: opcua, url: 'opc.tcp://127.0.0.1:4840', security: none}"


@pytest.mark.parametrize(
    ("device", "tags", "commit", "says"),
    [
        (OPCUA, TAGS.replace("s=", f"nsu={PLC};s="), COMMIT, "object: the node has no namespace; write nsu="),
        (
            OPCUA, TAGS.replace("s=", f"nsu={PLC};s="), COMMIT.replace("s=Recipe", "Recipe"),
            "object: 'Recipe' is not a node; write nsu=<namespace uri>;s=<name>",
        ),
        (
            OPCUA.replace("security", "namespace: urn:x, security"), TAGS, COMMIT.replace("method: s=", "metod: s="),
            "the key 'metod' is unknown here; did you mean 'method'?",
        ),
        (
            "{driver: modbus, host: 127.0.0.1}", "{speed_set: {register: 1, type: int16}, speed_active: "
            "{register: 2, type: int16}}", COMMIT, "this device has no methods; take handshake out, or use an OPC UA device",
        ),
    ],
)  # fmt: skip
async def test_a_method_that_cannot_be_called_is_told_at_the_check(
    tmp_path: Path, device: str, tags: str, commit: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plant(tmp_path, device, tags, commit)
    told = [str(problem) for problem in caught.value.problems]
    assert any("plant.yaml:11" in line and says in line for line in told), told


async def test_only_the_configured_method_is_on_the_allow_list(tmp_path: Path) -> None:
    made = plant(tmp_path, f"{{driver: opcua, url: 'opc.tcp://127.0.0.1:4840', namespace: '{PLC}', security: none}}")
    assert made.devices["M1"].allowed.methods == {"s=Recipe.Apply"}
    assert made.devices["M1"].allowed.tags == {"M1.speed_set"}
