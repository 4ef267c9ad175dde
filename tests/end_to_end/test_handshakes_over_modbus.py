"""The machines of the cell that also speak Modbus: the same downloads and faults, by coils and holding registers."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from simulators.models.handshakes.faults import Faults
from simulators.servers.cell_modbus import BEHIND, places
from tests.end_to_end.cells import EXAMPLE, NEW, OLD, Ending, PlayedCell

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
ACTIVE: Ending = ("ACTIVE", ())


def over_modbus(folder: Path) -> Path:
    """The example with those machines behind Modbus; a bool is a coil, a number a uint16."""
    config = folder / "config"
    shutil.copytree(EXAMPLE, config)
    text = (config / "plant.yaml").read_text(encoding="utf-8")
    place = "\n    driver: modbus\n    host: 127.0.0.1\n    port: ${CELL_MODBUS_PORT}\n    poll_interval: 50ms"
    for unit, way in enumerate(BEHIND, 1):
        device = f"  {way}:{place}\n    unit_id: {unit}"
        text, replaced = re.subn(rf"^  {way}: \{{driver: opcua.*\}}$", device, text, flags=re.MULTILINE)
        assert replaced == 1
        for tag, register in places(way).items():
            node = re.compile(rf"\{{node: s={way}\.{tag}, type: (\w+)\}}")
            found = node.search(text)
            assert found, (way, tag)
            text = node.sub(_address(found[1], register), text)
    (config / "plant.yaml").write_text(text, encoding="utf-8")
    return config


def _address(data_type: str, register: int) -> str:
    if data_type == "bool":
        return f"{{register: {register}, table: coil, type: bool}}"
    return f"{{register: {register}, type: uint16}}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cell(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PlayedCell]:
    """One for all tests; its machines are renewed for each."""
    folder = tmp_path_factory.mktemp("cell")
    async with PlayedCell.played(folder, over_modbus(folder)) as one:
        yield one


@pytest.mark.parametrize(
    ("name", "faults", "expected"),
    [
        ("fine", Faults(), dict.fromkeys(BEHIND, ACTIVE)),
        ("clamp", Faults(ceilings={"speed": 110}), dict.fromkeys(BEHIND, ("FAILED", ("readback",)))),
        ("refused", Faults(refused=frozenset({"oven_set"})), dict.fromkeys(BEHIND, ("FAILED", ("write_refused",)))),
    ],
)
async def test_a_download_by_coils_and_registers_ends_as_it_does_over_opc_ua(
    cell: PlayedCell, name: str, faults: Faults, expected: dict[str, Ending]
) -> None:
    await cell.renew(faults)
    cell.download(name)
    await cell.wait_until_ended(name)
    endings = cell.endings(name)
    assert {way: endings[way] for way in BEHIND} == expected
    for way in BEHIND:
        assert cell.machines[way].active == (NEW if expected[way] == ACTIVE else OLD)
