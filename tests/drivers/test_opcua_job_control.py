"""Job Control against a real receiver of asyncua: structures both ways, a list that is null, faults, a link that breaks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from job_plants import Cell, Watching, cell, plant

from gateway.config.load import load_plant
from gateway.domain.contract.job_states import JOB_ORDER_TYPE
from gateway.domain.values import StructureArgument, is_bad
from gateway.drivers.base import LinkLost
from gateway.drivers.opcua.driver import OpcUaDriver
from simulators.models.job_control import Fault, JobReceiver
from simulators.servers.job_control import URI, JobControlServer
from tests.drivers.clocks import PlantClock
from tests.drivers.opcua_servers import PLC, plc

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[JobControlServer]:
    async with JobControlServer(JobReceiver()) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def machine(server: JobControlServer) -> JobReceiver:
    """An empty list and no faults."""
    server.receiver = JobReceiver()
    server.uncertain, server.bad = False, None
    await server.show()
    return server.receiver


def device(server: JobControlServer) -> str:
    return f"url: 'opc.tcp://127.0.0.1:{server.port}', namespace: '{URI}', security: none"


async def act(one: Cell, watching: Watching, action: str, shown: str) -> tuple[str, tuple[str, ...]]:
    """Ask for it, and wait until the list shows what came of it."""
    one.control(action)
    await one.settle()
    await watching.until(lambda: one.transitions()[-1][1] == shown)
    return one.final(f"J-{action}")


async def test_before_the_first_order_the_list_is_null_and_an_order_can_be_stored(tmp_path: Path) -> None:
    async with JobControlServer(JobReceiver()) as fresh, cell(plant(tmp_path, device(fresh))) as (one, _):
        (told,) = await one.driver.read(["M1.job_list"])
        assert (told.value, told.status_code) == ("null", 0)
        one.download()
        await one.settle()
        assert one.results() == [("ACTIVE", (), None)]


async def test_an_order_goes_its_whole_way_and_every_step_is_what_the_list_says(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path
) -> None:
    async with cell(plant(tmp_path, device(server))) as (one, watching):
        one.download()
        await one.settle()
        assert one.results() == [("ACTIVE", (), None)]
        await watching.until(lambda: one.transitions() == [(None, "NotAllowedToStart")])
        ends = [await act(one, watching, "start", "AllowedToStart")]
        await server.step()
        await watching.until(lambda: one.transitions()[-1][1] == "Running")
        for action, shown in (("pause", "Interrupted"), ("resume", "Running"), ("stop", "Ended"), ("clear", "Removed")):
            ends.append(await act(one, watching, action, shown))
    assert ends == [("done", ())] * 5
    assert machine.called == [(name, "4711") for name in ("Store", "Start", "Pause", "Resume", "Stop", "Clear")]
    assert [answer.detail for answer in one.stage.answers if answer.final] == [()] * 6
    told = [event.type for event in one.stage.events if event.type.startswith("order.")]
    assert told == ["order.started", "order.interrupted", "order.resumed", "order.completed"]


async def test_the_structure_has_what_was_asked_for_with_types_and_units(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path
) -> None:
    async with cell(plant(tmp_path, device(server))) as (one, _):
        one.stage.command("dispatch.order", cmd="D", order="4711", qty=500, lot="L-9", material="FG-100")
        one.download()
        await one.settle()
    order = machine.entries["4711"].content
    fill, speed, rinse = order.JobOrderParameters
    kinds = [parameter.Value.VariantType for parameter in (fill, speed, rinse)]
    assert kinds == [ua.VariantType.Float, ua.VariantType.Int16, ua.VariantType.Boolean]
    assert [(parameter.ID, parameter.EngineeringUnits and parameter.EngineeringUnits.UnitId) for parameter in (fill, speed, rinse)] == [
        ("FillVolume", int.from_bytes(b"MLT", "big")), ("Speed", int.from_bytes(b"C94", "big")), ("rinse", None)
    ]  # fmt: skip
    assert (order.Priority, order.WorkMasterID[0].ID, order.Description[0].Text) == (7, "PS-1:C", "FG-100 500")
    (material,) = order.MaterialRequirements
    assert (material.MaterialDefinitionID, material.MaterialLotID, material.Quantity) == ("FG-100", "L-9", "500")
    assert (order.EquipmentRequirements[0].ID, order.StartTime) == ("M1", None)


@pytest.mark.parametrize(
    ("fault", "result", "called"),
    [
        (Fault.CLAMP, ("FAILED", ("readback",)), ["Store", "Cancel"]),
        (Fault.IGNORE, ("FAILED", ("not_listed",)), ["Store"]),
        (Fault.REFUSE, ("REJECTED", ("not_accepted",)), ["Store"]),
    ],
)
async def test_what_the_machine_does_not_do_as_asked_is_undone_and_told(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path, fault: Fault, result: tuple, called: list[str]
) -> None:
    machine.faults, server.uncertain = {fault}, True
    async with cell(plant(tmp_path, device(server), confirm="1s")) as (one, _):
        one.download()
        await one.settle()
        assert one.results()[0][:2] == result
    assert ([name for name, _ in machine.called], machine.entries) == (called, {})


async def test_killed_between_the_call_and_its_answer_the_next_start_finds_the_order_and_stores_nothing(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path
) -> None:
    made = plant(tmp_path, device(server))
    async with cell(made) as (one, _):
        one.download()
        await one.perform()
        await one.perform(answered=False)
        one.stage.kill_and_restart("06:10:00")
        one.stage.connect("M1", "06:10:01")
        await one.settle()
        assert (one.results(), one.final("P-1")) == ([("ACTIVE", (), None)], ("done", ()))
    assert machine.called == [("Store", "4711")]


async def test_a_structure_is_sent_where_no_tag_has_told_of_its_type_before(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path
) -> None:
    made = plant(tmp_path, device(server))
    spec = made.equipment[0].download
    assert spec is not None
    assert spec.job is not None
    order = StructureArgument(JOB_ORDER_TYPE, {"JobOrderID": "4711"})
    wrong = StructureArgument(JOB_ORDER_TYPE, {"OrderNo": "4711"})
    async with OpcUaDriver("M1", made.devices["M1"].settings, [], PlantClock()) as driver:
        (refused,) = await driver.call([spec.job.store("Store", wrong)])
        (stored,) = await driver.call([spec.job.store("Store", order)])
    assert (refused.status_code, refused.argument_codes[0]) == (0x80AB0000, 0x80740000)
    assert (stored.status_code, stored.results, machine.called) == (0, (1,), [("Store", "4711")])


async def test_a_receiver_that_is_not_there_makes_bad_tags_and_no_call(
    server: JobControlServer, machine: JobReceiver, tmp_path: Path
) -> None:
    plant(tmp_path, device(server))
    text = (tmp_path / "plant.yaml").read_text(encoding="utf-8").replace("object: s=JobControl", "object: s=Elsewhere")
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    made = load_plant(tmp_path)
    async with OpcUaDriver("M1", made.devices["M1"].settings, made.devices["M1"].tags, PlantClock()) as driver:
        told = await driver.read(["M1.job_list", "M1.job_capacity"])
    assert all(is_bad(change.status_code) for change in told)


async def test_a_machine_of_version_1_is_refused_at_the_connection(tmp_path: Path) -> None:
    async with plc() as old:
        made = plant(tmp_path, f"url: 'opc.tcp://127.0.0.1:{old.port}', namespace: '{PLC}', security: none")
        with pytest.raises(LinkLost, match="ISA95-JOBCONTROL_V2/'; it has"):
            async with OpcUaDriver("M1", made.devices["M1"].settings, made.devices["M1"].tags, PlantClock()):
                pass
