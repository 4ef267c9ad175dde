"""Fields of structures as a plant uses them: what the YAML may say, what the check tells, a download, a snapshot."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from clocks import PlantClock
from opcua_servers import PLC, plc
from opcua_structures import DOUBLE, define, define_enum, place, recipe, recipe_body
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.domain.values import StatusCode, TagWrite, WriteResult
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.drivers.opcua.structured.fields import format_field, parse_field
from tests.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{client_id: edge-01}}
devices:
  M1: {{driver: opcua, url: "opc.tcp://127.0.0.1:{port}", namespace: "{plc}", security: none, {device}}}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
{tags}
{rest}
"""
SPEED = "speed: {node: s=recipe, field: Head.Speed, type: float32, rewrite: true}"
DOWNLOAD = "    download: {parameters: {speed: {tag: speed, min: 0, max: 200, class: trim}}}"


def write(folder: Path, *tags: str, port: int = 4840, device: str = "structures: true", rest: str = "") -> Path:
    lines = "\n".join(f"      {tag}" for tag in tags)
    text = PLANT.format(port=port, plc=PLC, device=device, tags=lines, rest=rest)
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Any]:
    async with plc() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def server(shared: Any) -> AsyncIterator[Any]:
    shared.kind = await recipe(shared)
    shared.node = await place(shared, "recipe", shared.kind.value(*recipe_body()))
    yield shared
    await shared.clear()


async def gateway(*arguments: str) -> Any:
    """The command line, in a thread and with a loop of its own, for the server is in ours."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


# --- the YAML -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("Speed", ("Speed",)),
        ("Head.Speed", ("Head", "Speed")),
        ("Items[2].Value", ("Items", 2, "Value")),
        ("[0].Name", (0, "Name")),
        ("Grid[1][2]", ("Grid", 1, 2)),
        ('"Temp. oben".Wert', ("Temp. oben", "Wert")),
        ("Füll Menge", ("Füll Menge",)),
    ],
)
async def test_a_field_is_named_from_the_outside_in(text: str, path: tuple[Any, ...]) -> None:
    assert parse_field(text) == path
    assert parse_field(format_field(path)) == path


@pytest.mark.parametrize(
    "text", ["", ".", "Head.", ".Speed", "Head..Speed", "Items[x]", "Items[-1]", "Items[1", 7, None]
)
async def test_what_is_no_field_is_refused_with_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a field; write its names as Head\.Speed"):
        parse_field(text)


@pytest.mark.parametrize(
    ("tag", "keys", "says"),
    [
        (SPEED, {"device": "mode: subscribe"}, "a field needs structures: true at its device"),
        ("speed: {node: s=recipe, rewrite: true, type: float32}", {}, "rewrite is for a field of a structure; take it out"),
        (
            "speed: {node: s=recipe, field: Speed, type: float32, deadband: {absolute: 1}}", {},
            "a deadband is for a single number, and the server tells a structure as a whole; take it out",
        ),
        (
            SPEED.replace(", rewrite: true", ""), {"rest": DOWNLOAD},
            "the configuration lets the gateway write this field, but a server takes the whole structure only; write "
            "rewrite: true if nothing else changes the structure meanwhile, else give the value a node of its own",
        ),
        ("speed: {node: s=recipe, field: Head..Speed, type: float32}", {}, "'Head..Speed' is not a field"),
    ],
)  # fmt: skip
async def test_what_cannot_work_is_told_at_the_check_with_its_line(
    tmp_path: Path, tag: str, keys: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plant(write(tmp_path, tag, **keys))
    told = [str(problem) for problem in caught.value.problems]
    assert any("plant.yaml:9: " in line and says in line for line in told), told


async def test_check_connect_tells_what_is_wrong_with_a_field(server: Any, tmp_path: Path) -> None:
    folder = write(
        tmp_path, "name: {node: s=recipe, field: Name, type: string}",
        "sped: {node: s=recipe, field: Head.Sped, type: float32}",
        "nozzles: {node: s=recipe, field: Head.Nozzles, type: int32}",
        "gone: {node: s=nothing, field: Name, type: string}", port=server.port,
    )  # fmt: skip
    done = await gateway("check", "-c", str(folder), "--connect")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines() if "\t" in line}
    assert done.exit_code == 1
    assert rows["M1.name"] == ["string", "read write", "P-500", "ok"]
    assert rows["M1.sped"][-1] == "Head has no field Sped; did you mean Speed? Its fields are: Speed, Nozzles"
    assert "is int16[] in the device; write type: int16" in rows["M1.nozzles"][-1]
    assert "does not exist in the device (BadNodeIdUnknown)" in rows["M1.gone"][-1]


# --- at work --------------------------------------------------------------------------------------------------------


async def test_a_download_into_a_structure_is_read_back_and_a_refused_one_leaves_it_as_it_was(
    server: Any, tmp_path: Path
) -> None:
    note = "note: {node: s=recipe, field: Note, type: string}"
    plant = load_plant(write(tmp_path, SPEED, note, port=server.port, rest=DOWNLOAD))
    stage, device = Stage(plant), plant.devices["M1"]
    stage.connect("M1")

    async def download(cmd: str, speed: float, driver: OpcUaDriver) -> dict[str, Any]:
        stage.command("params.download", cmd=cmd, eq="M1", set="S", rev="A", items=[{"name": "speed", "value": speed}])
        while stage.operations:
            operation = stage.operations.pop(0)
            writes = await driver.write(operation.writes) if operation.writes else []
            reads = await driver.read(operation.reads) if operation.reads else []
            stage.take_result(operation, reads, writes)
        return stage.told("param.result")[-1][1]

    async with OpcUaDriver("M1", device.settings, device.tags, PlantClock()) as driver:  # type: ignore[arg-type]
        good = await download("C-1", 99.5, driver)
        await server.node.set_writable(False)
        refused = await download("C-2", 50.0, driver)
    assert (good["result"], good["items"]) == ("ACTIVE", ({"n": "speed", "req": 99.5, "rb": 99.5},))
    assert (refused["result"], refused["codes"][0]) == ("FAILED", "write_refused")
    assert (await server.node.read_value()).Body == b"".join(recipe_body(speed=99.5))


async def test_fields_are_read_together_when_another_field_moves(server: Any, tmp_path: Path) -> None:
    device = "structures: true, publishing_interval: 20ms, snapshots: [{trigger: M1.name, read: [M1.speed, M1.third]}]"
    plant = load_plant(
        write(
            tmp_path,
            "name: {node: s=recipe, field: Name, type: string}",
            SPEED,
            "third: {node: s=recipe, field: 'Items[2].Value', type: string}",
            port=server.port,
            device=device,
        )
    )
    made = plant.devices["M1"]
    seen: dict[str, Any] = {}
    async with asyncio.timeout(20), OpcUaDriver("M1", made.settings, made.tags, PlantClock()) as driver:  # type: ignore[arg-type]
        async for batch in driver.changes():
            seen |= {change.tag_id: change.value for change in batch.changes}
            if seen.get("M1.name") == "P-330":
                break
            if "M1.name" in seen:
                body = recipe_body(name="P-330", speed=77.0, third="z")
                await server.node.write_value(server.kind.value(*body))
    assert seen == {"M1.name": "P-330", "M1.speed": 77.0, "M1.third": "z"}


async def test_a_matrix_of_structures_is_read_in_the_order_of_the_wire_and_not_written(
    server: Any, tmp_path: Path
) -> None:
    cell = await define(server, "Cell", ("Temp", DOUBLE))
    cells = [[cell.value(struct.pack("<d", 10.0 * y + x)) for x in range(2)] for y in range(2)]
    await place(server, "cells", cells)
    tags = [f"t{n}: {{node: s=cells, field: '[{n}].Temp', type: float64, rewrite: true}}" for n in range(4)]
    device = load_plant(write(tmp_path, *tags, port=server.port)).devices["M1"]
    async with OpcUaDriver("M1", device.settings, device.tags, PlantClock()) as driver:  # type: ignore[arg-type]
        changes = await driver.read([tag.tag_id for tag in device.tags])
        assert [change.value for change in changes] == [0.0, 1.0, 10.0, 11.0]
        assert await driver.write([TagWrite("M1.t1", 5.0)]) == [WriteResult("M1.t1", StatusCode.BAD_NOT_WRITABLE)]


async def test_values_that_have_a_textual_form_come_as_text_and_an_enumeration_with_the_text_of_its_code(
    server: Any, tmp_path: Path
) -> None:
    values = {
        "title": (ua.LocalizedText("Störung", "de"), ua.VariantType.LocalizedText, "Störung"),
        "key": (ua.QualifiedName("Execute", 2), ua.VariantType.QualifiedName, "Execute"),
        "place": (ua.NodeId("Line1", server.index), ua.VariantType.NodeId, f"nsu={PLC};s=Line1"),
        "blob": (b"\0\xff", ua.VariantType.ByteString, "00ff"),
        "mode": (1, ua.VariantType.Int32, "Running"),
        "curve": ([1.5, 2.5], ua.VariantType.Double, "[1.5, 2.5]"),
    }
    types = {"blob": "bytes", "mode": "int32, enum: {0: Idle, 1: Running}", "curve": "float64"}
    for name, (value, kind, _) in values.items():
        await server.add(name, value, kind)
    tags = [f"{name}: {{node: s={name}, type: {types.get(name, 'string')}}}" for name in values]
    done = await gateway("read", "-c", str(write(tmp_path, *tags, port=server.port)))
    rows = {line.split("\t")[0].removeprefix("M1."): line.split("\t")[1] for line in done.stdout.splitlines()[1:]}
    assert rows == {name: shown for name, (_, _, shown) in values.items()}, done.output


async def test_the_texts_of_an_enumeration_come_from_the_server_and_a_code_that_lacks_one_is_told(
    server: Any, tmp_path: Path
) -> None:
    mode = await define_enum(server, "Mode", "Idle", "Running", "Held")
    node = await server.add("mode", 1)
    await node.write_attribute(ua.AttributeIds.DataType, ua.DataValue(ua.Variant(mode.nodeid, ua.VariantType.NodeId)))
    url = f"opc.tcp://127.0.0.1:{server.port}"
    target = tmp_path / "tags.yaml"
    browsed = await gateway("browse", url, "--security", "none", "--filter", "mode", "--yaml", str(target))
    assert browsed.exit_code == 0, browsed.output
    (line,) = [line.strip() for line in target.read_text(encoding="utf-8").splitlines() if "s=mode" in line]
    assert f'{{node: "nsu={PLC};s=mode", type: int32, enum: {{0: "Idle", 1: "Running", 2: "Held"}}}}' in line
    folder = write(tmp_path, line, "own: {node: s=mode, type: int32, enum: {0: aus, 1: an}}", port=server.port)
    target.unlink()
    done = await gateway("check", "-c", str(folder), "--connect")
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in done.stdout.splitlines() if "\t" in row}
    assert rows["M1.mode"][2:] == ["Running", "ok"]
    assert rows["M1.own"][2:] == ["an", "has codes in the device that enum does not name: 2 (Held)"]
