"""`gateway browse` against real servers: what it finds, what it writes, and that its size does not matter."""

import csv
import time
from pathlib import Path

import pytest
import yaml
from asyncua import ua
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.domain.values import DataType, StatusCode
from gateway.drivers.base import BrowsedNode
from gateway.drivers.opcua.config import OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.runtime.clock import SystemClock
from tests.cli.browsed_servers import press, references_in_pieces
from tests.cli.running import gateway
from tests.drivers.opcua_servers import PLC, Plc, plc


async def browsed(server: Plc, start: str | None = None) -> list[BrowsedNode]:
    settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{server.port}", security="none", request_timeout="30s")
    nodes: list[BrowsedNode] = []
    async with OpcUaDriver("PLC", settings, [], SystemClock()) as driver:
        async for batch in driver.browse(start):
            nodes += batch
    return nodes


async def test_every_node_is_told_once_with_type_rights_value_and_uri() -> None:
    async with press() as server:
        nodes = {"/".join(node.path): node for node in await browsed(server, f"nsu={PLC};s=Press")}

    assert sorted(nodes) == ["Broken", "Count", "Curve", "Range", "Sub", "Sub/Deep", "Text"]
    assert nodes["Sub"].facts is None, "a folder has no value"
    count = nodes["Count"].facts
    assert nodes["Count"].address == f"nsu={PLC};s=Press.Count"
    assert count is not None
    assert (count.type, count.readable, count.writable, count.change.value) == (DataType.INT32, True, True, 42)
    assert count.change.source_timestamp is not None
    curve, broken, structure = nodes["Curve"].facts, nodes["Broken"].facts, nodes["Range"].facts
    assert curve is not None
    assert (curve.type, curve.is_array, curve.writable) == (DataType.FLOAT64, True, False)
    assert broken is not None
    assert (broken.type, broken.change.status_code) == (DataType.UINT16, StatusCode.BAD_DEVICE_FAILURE)
    assert structure is not None
    assert (structure.type, structure.type_name) == (None, "i=884"), "a structure is named, and no tag can hold it"


async def test_a_server_that_hands_out_its_references_in_pieces_is_browsed_whole() -> None:
    async with press() as server:
        for number in range(95):
            await server.add(f"Many{number}", number)
        with references_in_pieces(server, 10) as asked:
            nodes = await browsed(server)

    numbers = sorted(int(node.path[0][4:]) for node in nodes if node.path[0].startswith("Many"))
    assert numbers == list(range(95))
    assert len(asked) >= 9, "95 references in tens take nine answers more than the first"


async def test_a_server_that_finds_a_request_too_large_is_asked_for_half(monkeypatch: pytest.MonkeyPatch) -> None:
    async with press() as server:
        for number in range(60):
            await server.add(f"Many{number}", number)
        service = server.server.iserver.attribute_service
        read, refused = service.read, []

        def read_a_little(parameters):
            if len(parameters.NodesToRead) > 40:
                refused.append(len(parameters.NodesToRead))
                raise ua.uaerrors.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
            return read(parameters)

        monkeypatch.setattr(service, "read", read_a_little)
        nodes = await browsed(server)

    assert refused, "the first request was too large"
    assert sum(node.facts is not None and node.facts.type is DataType.INT32 for node in nodes) == 60 + 1


async def test_csv_opens_in_excel_and_carries_no_formula(tmp_path: Path) -> None:
    target = tmp_path / "press.csv"
    async with press() as server:
        done = await gateway("browse", f"opc.tcp://127.0.0.1:{server.port}", "--security", "none", "--csv", str(target))

    assert done.code == 0, done.err
    assert target.read_bytes().startswith(b"\xef\xbb\xbfpath,node,")
    rows = {row["path"]: row for row in csv.DictReader(target.read_text(encoding="utf-8-sig").splitlines())}
    assert rows["Press/Text"]["value"] == "'=1+1", "a text that Excel would calculate is text"
    assert rows["Press/Count"]["access"] == "read write"
    assert rows["Press/Broken"]["status"] == "BadDeviceFailure"
    assert (rows["Press/Curve"]["array"], rows["Press/Curve"]["value"]) == ("yes", "[1.5, 2.5]")


async def test_the_yaml_is_a_configuration_that_loads(tmp_path: Path) -> None:
    target = tmp_path / "tags.txt"
    async with press() as server:
        url = f"opc.tcp://127.0.0.1:{server.port}"
        done = await gateway("browse", url, "--security", "none", "--filter", "Press/*", "--yaml", str(target))
    assert done.code == 0, done.err

    tags = yaml.safe_load(target.read_text())["tags"]
    assert tags["count"] == {"node": f"nsu={PLC};s=Press.Count", "type": "int32"}
    assert "no tag can hold its type" in target.read_text(), "the structure is there as a comment"
    plant = {
        "gateway": {"id": "edge", "site": "A/B"},
        "mqtt": {"host": "127.0.0.1", "port": 1883, "client_id": "edge"},
        "devices": {"PLC": {"driver": "opcua", "url": url, "security": "none"}},
        "equipment": {"A/B/C": {"device": "PLC", "tags": tags}},
    }
    (tmp_path / "plant.yaml").write_text(yaml.safe_dump(plant))
    assert len(load_plant(tmp_path).devices["PLC"].tags) == 5


async def test_a_pipe_gets_lines_and_a_filter_takes_variables_by_path_or_node() -> None:
    async with press() as server:
        url = f"opc.tcp://127.0.0.1:{server.port}"
        done = await gateway("browse", url, "--security", "none", "--filter", "*s=press.c*")

    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["Press/Count", "Press/Curve"]
    assert lines[0][1:6] == [f"nsu={PLC};s=Press.Count", "int32", "read write", "42", "Good"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["opc.tcp://127.0.0.1:1", "--security", "none"], 1, "cannot be connected"),
        (["http://127.0.0.1:1", "--security", "none"], 2, "write opc.tcp://<host>:<port>"),
        (["--device", "NOBODY", "-c", "config"], 2, "the devices are: FIL01, LBL01, SCADA"),
        (["--device", "LBL01", "-c", "config"], 2, "cannot be browsed"),
        ([], 2, "or --device NAME"),
    ],
)
def test_what_cannot_be_browsed_is_said_with_what_would_be_right(arguments: list[str], code: int, says: str) -> None:
    done = CliRunner().invoke(app, ["browse", *arguments])
    assert (done.exit_code, says in done.stderr) == (code, True), done.stderr


async def test_five_thousand_nodes_take_seconds_and_come_in_small_batches(record_property) -> None:
    """Fifty folders of a hundred; what a hundred thousand cost was measured with the same walk."""
    folders, each = 50, 100
    async with plc() as server:
        await _fill(server, folders, each)
        settings = OpcUaSettings(url=f"opc.tcp://127.0.0.1:{server.port}", security="none", request_timeout="30s")
        found = largest = 0
        started = time.monotonic()
        async with OpcUaDriver("PLC", settings, [], SystemClock()) as driver:
            async for batch in driver.browse():
                found += sum(node.facts is not None for node in batch)
                largest = max(largest, len(batch))
        seconds = time.monotonic() - started

    assert found >= folders * each
    assert largest <= 1000, "what is told at once is bounded, however much one answer brings"
    record_property("figure", f"{found} variables browsed in {seconds:.1f} s")
    assert seconds < 30


async def _fill(server: Plc, folders: int, each: int) -> None:
    i = server.index
    for folder in range(folders):
        parent = await server.server.nodes.objects.add_object(ua.NodeId(f"F{folder}", i), f"{i}:F{folder}")
        for number in range(each):
            name = f"F{folder}.V{number}"
            await parent.add_variable(ua.NodeId(name, i), f"{i}:V{number}", number, ua.VariantType.Int32)
