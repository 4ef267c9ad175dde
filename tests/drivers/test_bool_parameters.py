"""A switch as a download parameter: an OPC UA Boolean, a coil, a bit of a register; written, read back, rolled back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from clocks import PlantClock
from modbus_devices import device as modbus_device
from opcua_servers import PLC, plc

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.drivers.registry import DRIVERS
from tests.stage import Stage

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{client_id: edge-01}}
devices:
  M1: {device}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      vacuum: {tag}
    download:
      parameters:
        vacuum: {{tag: vacuum, class: trim{limits}}}
"""
COIL = "{register: 5, table: coil, type: bool}"
BIT = "{register: 20, bits: 3, type: bool}"
NODE = "{node: s=vacuum, type: bool}"


def plant(folder: Path, device: str, tag: str, limits: str = "") -> Any:
    (folder / "plant.yaml").write_text(PLANT.format(device=device, tag=tag, limits=limits), encoding="utf-8")
    return load_plant(folder)


@asynccontextmanager
async def machine(kind: str) -> AsyncIterator[tuple[str, Any]]:
    """A real device with the switch off, how the YAML names it, and a function that tells what it holds."""
    if kind == NODE:
        async with plc() as server:
            node = await server.add("vacuum", False, ua.VariantType.Boolean)
            url = f"opc.tcp://127.0.0.1:{server.port}"
            yield f"{{driver: opcua, url: '{url}', namespace: '{PLC}', security: none}}", node.read_value
        return
    async with modbus_device() as server:
        await server.set(20, 0b0100_0000_0101)

        async def held() -> Any:
            if kind == BIT:
                (register,) = await server.get(20)
                assert register & ~0b1000 == 0b0100_0000_0101, "the other bits of the register are not ours"
                return bool(register & 0b1000)
            written = [values for function, _, values in server.writes if function in (5, 15)]
            return bool(written and written[-1][0])

        yield f"{{driver: modbus, host: 127.0.0.1, port: {server.port}}}", held


async def carry_out(stage: Stage, driver: Any) -> None:
    """Perform what the core asks for, on the real device, until it asks for nothing more."""
    while stage.operations:
        operation = stage.operations.pop(0)
        writes = await driver.write(operation.writes) if operation.writes else []
        reads = await driver.read(operation.reads) if operation.reads else []
        stage.take_result(operation, reads, writes)


@pytest.mark.parametrize("kind", [NODE, COIL, BIT], ids=["OPC UA Boolean", "coil", "bit of a register"])
async def test_a_switch_goes_down_is_read_back_and_comes_off_again(tmp_path: Path, kind: str) -> None:
    async with machine(kind) as (device, held):
        made = plant(tmp_path, device, kind)
        stage = Stage(made)
        stage.connect("M1")
        settings, tags = made.devices["M1"].settings, made.devices["M1"].tags
        async with DRIVERS[made.devices["M1"].driver].driver("M1", settings, tags, PlantClock()) as driver:
            for number, wanted in enumerate((True, False, True)):
                items = [{"name": "vacuum", "value": wanted}]
                stage.command("params.download", cmd=f"C{number}", eq="M1", set="S", rev="A", items=items)
                await carry_out(stage, driver)
                assert stage.told("param.result")[-1][1]["items"] == ({"n": "vacuum", "req": wanted, "rb": wanted},)
                assert await held() is wanted
        assert [answer.answer for answer in stage.answers] == ["accepted", "done"] * 3


@pytest.mark.parametrize(("value", "says"), [(1, "1 is not true or false"), ("on", "'on' is not true or false")])
def test_a_switch_takes_true_and_false_and_nothing_that_resembles_them(tmp_path: Path, value: Any, says: str) -> None:
    stage = Stage(plant(tmp_path, "{driver: modbus, host: 127.0.0.1}", COIL))
    stage.connect("M1")
    items = [{"name": "vacuum", "value": value}]
    (answer,) = stage.command("params.download", cmd="C1", eq="M1", set="S", rev="A", items=items)
    assert (answer.answer, answer.codes) == ("rejected", ("type",))
    assert says in answer.detail[0]
    assert stage.operations == []


def test_a_number_takes_no_true() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:06:30", word=0b10100000)
    items = [{"name": "oven_sp", "value": True}]
    (answer,) = stage.command("params.download", cmd="C1", eq="LBL01", set="S", rev="A", items=items)
    assert "True is not a finite number" in answer.detail[0]


@pytest.mark.parametrize(
    ("tag", "limits", "says"),
    [
        (COIL, ", min: 0, max: 1", "vacuum is a bool and has no limits; take min out"),
        ("{register: 20, type: uint16, bit: 3}", ", min: 0, max: 1", "vacuum is one bit of a word, which cannot be"),
        (
            "{register: 20-27, type: string}",
            "",
            "the key 'max_length' is missing: no text is written without its greatest length",
        ),
    ],
)
def test_what_cannot_be_a_parameter_is_told_at_the_check(tmp_path: Path, tag: str, limits: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plant(tmp_path, "{driver: modbus, host: 127.0.0.1}", tag, limits)
    assert any("plant.yaml:12" in str(problem) and says in str(problem) for problem in caught.value.problems)
