"""Job Control as another stack has it, signed and encrypted: the same list, the same methods, strict about types."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node_plants import NodePlant, NodeProcess, running
from test_node_opcua_services import Secrets, secrets

from tests.drivers.job_plants import Cell, Watching, cell, plant
from tests.drivers.opcua_servers import PLC

__all__ = ["secrets"]

CONVENTIONS = pytest.mark.parametrize(
    ("keys", "receiver"),
    [("return_code: bitmap", {"uncertain": True}), ("return_code: zero", {"zeroIsSuccess": True})],
    ids=["bitmap, failures Uncertain", "zero is success"],
)


@asynccontextmanager
async def gateway(
    node: NodeProcess, secrets: Secrets, folder: Path, keys: str = "start: on_command", **receiver: Any
) -> AsyncIterator[tuple[Cell, Watching, NodePlant]]:
    secure = secrets.secure | {"policy": "Basic256Sha256"}
    async with running(node, secure=secure, jobControl={"capacity": 2} | receiver) as machine:
        device = (
            f"url: 'opc.tcp://127.0.0.1:{machine.port}', namespace: '{PLC}', security: Basic256Sha256, user: operator, "
            f"password_file: '{secrets.keys['password_file']}', pki: '{secrets.keys['pki']}'"
        )
        async with cell(plant(folder, device, keys)) as (one, watching):
            yield one, watching, machine


async def act(one: Cell, watching: Watching, action: str, shown: str) -> tuple[str, tuple[str, ...]]:
    """Ask for it, and wait until the list shows what came of it."""
    one.control(action)
    await one.settle()
    await watching.until(lambda: one.transitions()[-1][1] == shown)
    return one.final(f"J-{action}")


async def test_an_order_goes_its_whole_way_over_an_encrypted_channel(
    node: NodeProcess, secrets: Secrets, tmp_path: Path
) -> None:
    async with gateway(node, secrets, tmp_path) as (one, watching, machine):
        one.stage.command("dispatch.order", cmd="D", order="4711", qty=500, lot="L-9", material="FG-100")
        one.download()
        await one.settle()
        assert one.results() == [("ACTIVE", (), None)]
        await watching.until(lambda: one.transitions() == [(None, "NotAllowedToStart")])
        ends = [await act(one, watching, "start", "AllowedToStart")]
        await machine.do("runJobs")
        await watching.until(lambda: one.transitions()[-1][1] == "Running")
        for action, shown in (("pause", "Interrupted"), ("resume", "Running"), ("stop", "Ended"), ("clear", "Removed")):
            ends.append(await act(one, watching, action, shown))
        told = await machine.do("jobs")
    assert ends == [("done", ())] * 5
    assert [answer.detail for answer in one.stage.answers if answer.final and answer.type != "dispatch.order"] == [
        ()
    ] * 6
    methods = ["Store", "Start", "Pause", "Resume", "Stop", "Clear"]
    assert told["called"] == [[method, "4711"] for method in methods]
    states = ["NotAllowedToStart", "AllowedToStart", "Running", "Interrupted", "Running", "Ended", "Removed"]
    assert [after for _, after in one.transitions()] == states
    told_orders = [event.type for event in one.stage.events if event.type.startswith("order.")]
    assert told_orders == ["order.started", "order.interrupted", "order.resumed", "order.completed"]


async def test_the_order_arrives_with_types_units_and_material(
    node: NodeProcess, secrets: Secrets, tmp_path: Path
) -> None:
    async with gateway(node, secrets, tmp_path) as (one, _, machine):
        one.stage.command("dispatch.order", cmd="D", order="4711", qty=500, lot="L-9", material="FG-100")
        one.download()
        await one.settle()
        order = (await machine.do("jobs", name="4711"))["order"]
    fill, speed, rinse = order["jobOrderParameters"]
    assert [(p["ID"], p["value"]["dataType"]) for p in (fill, speed, rinse)] == [
        ("FillVolume", "Float"), ("Speed", "Int16"), ("rinse", "Boolean")
    ]  # fmt: skip
    assert fill["engineeringUnits"]["unitId"] == int.from_bytes(b"MLT", "big")
    assert (order["priority"], order["workMasterID"][0]["ID"], order["description"][0]["text"]) == (
        7,
        "PS-1:C",
        "FG-100 500",
    )
    (material,) = order["materialRequirements"]
    assert (material["materialDefinitionID"], material["materialLotID"]) == ("FG-100", "L-9")
    assert (material["quantity"], material["engineeringUnits"]["unitId"]) == ("500", int.from_bytes(b"H87", "big"))
    assert [one["ID"] for one in order["equipmentRequirements"]] == ["M1"]


@CONVENTIONS
async def test_an_order_that_the_machine_has_no_more_is_unknown_by_its_return_code(
    node: NodeProcess, secrets: Secrets, tmp_path: Path, keys: str, receiver: dict[str, Any]
) -> None:
    async with gateway(node, secrets, tmp_path, keys, **receiver) as (one, watching, machine):
        one.download()
        await one.settle()
        await watching.until(lambda: one.transitions() != [])
        await machine.do("dropJob", name="4711")
        one.control("start")
        await one.settle()
        assert one.final("J-start") == ("failed", ("unknown_job",))
        assert (await machine.do("jobs"))["called"] == [["Store", "4711"], ["Start", "4711"]]


@CONVENTIONS
@pytest.mark.parametrize("shown", [2, 0], ids=["it says how many it takes", "it does not"])
async def test_a_full_queue_is_seen_before_the_call_or_told_by_it(
    node: NodeProcess, secrets: Secrets, tmp_path: Path, keys: str, receiver: dict[str, Any], shown: int
) -> None:
    async with gateway(node, secrets, tmp_path, keys, shown=shown, **receiver) as (one, _, machine):
        for number in (1, 2, 3):
            one.download(f"471{number}", f"P-{number}")
            await one.settle()
        told = await machine.do("jobs")
    by_call = "device_error_4" if "zeroIsSuccess" in receiver else "not_accepted"
    refused = ("REJECTED", ("queue_full" if shown else by_call,), None)
    assert one.results() == [("ACTIVE", (), None), ("ACTIVE", (), None), refused]
    assert len(told["called"]) == (2 if shown else 3)
    assert all("status 0x" not in line for answer in one.stage.answers for line in answer.detail)
