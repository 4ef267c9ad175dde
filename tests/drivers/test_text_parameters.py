"""A text as a download parameter: the order's id, a best-before date; written, read back, as long as the machine takes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from clocks import PlantClock
from modbus_devices import device as modbus_device
from opcua_servers import PLC, plc
from test_bool_parameters import carry_out

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.domain.operations import Operation
from gateway.domain.values import TagWrite
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
      order_id: {tag}
    download:
      parameters:
        order_id: {{tag: order_id, {keys}}}
"""
NODE = "{node: s=order_id, type: string}"
REGISTERS = "{register: 30-37, type: string, encoding: ascii}"


def plant(folder: Path, device: str, tag: str, keys: str = "max_length: 16, class: trim") -> Any:
    (folder / "plant.yaml").write_text(PLANT.format(device=device, tag=tag, keys=keys), encoding="utf-8")
    return load_plant(folder)


@asynccontextmanager
async def machine(kind: str) -> AsyncIterator[str]:
    """A real device that holds no order yet, as the YAML names it."""
    if kind == NODE:
        async with plc() as server:
            await server.add("order_id", "", ua.VariantType.String)
            yield f"{{driver: opcua, url: 'opc.tcp://127.0.0.1:{server.port}', namespace: '{PLC}', security: none}}"
        return
    async with modbus_device() as server:
        yield f"{{driver: modbus, host: 127.0.0.1, port: {server.port}}}"


@pytest.mark.parametrize("kind", [NODE, REGISTERS], ids=["OPC UA String", "registers"])
async def test_a_text_goes_down_is_read_back_and_makes_room_for_a_shorter_one(tmp_path: Path, kind: str) -> None:
    async with machine(kind) as device:
        made = plant(tmp_path, device, kind)
        stage = Stage(made)
        stage.connect("M1")
        settings, tags = made.devices["M1"].settings, made.devices["M1"].tags
        async with DRIVERS[made.devices["M1"].driver].driver("M1", settings, tags, PlantClock()) as driver:
            for number, wanted in enumerate(("4711-HZ-2026-11", "4712", "")):
                items = [{"name": "order_id", "value": wanted}]
                stage.command("params.download", cmd=f"C{number}", eq="M1", set="S", rev="A", items=items)
                await carry_out(stage, driver)
                assert stage.told("param.result")[-1][1]["items"] == ({"n": "order_id", "req": wanted, "rb": wanted},)
                assert made.devices["M1"].allowed.objection(writing(wanted), "M1") is None
        assert [answer.answer for answer in stage.answers] == ["accepted", "done"] * 3


def writing(value: Any) -> Operation:
    return Operation("M1", "", writes=(TagWrite("M1.order_id", value),))


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ("x" * 17, "limit", "order_id has 17 characters; the machine takes 16"),
        (4711, "type", "order_id: 4711 is not a text"),
        ("47\n11", "type", "has characters that no display can show"),
    ],
)
def test_what_is_no_such_text_is_refused(tmp_path: Path, value: Any, code: str, says: str) -> None:
    made = plant(tmp_path, "{driver: modbus, host: 127.0.0.1}", REGISTERS)
    stage = Stage(made)
    stage.connect("M1")
    items = [{"name": "order_id", "value": value}]
    (answer,) = stage.command("params.download", cmd="C1", eq="M1", set="S", rev="A", items=items)
    assert (answer.answer, answer.codes, stage.operations) == ("rejected", (code,), [])
    assert says in answer.detail[0]
    refused = made.devices["M1"].allowed.objection(writing(value), "M1")
    assert (refused is None) is (value == "47\n11"), "the gate knows type and length"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("class: order", "the key 'max_length' is missing: no text is written without its greatest length"),
        ("max_length: 16, min: 0", "order_id is a string and has only a max_length; take min out"),
        ("max_length: 0", "max_length"),
    ],
)
def test_a_text_needs_its_greatest_length_and_nothing_else(tmp_path: Path, keys: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plant(tmp_path, "{driver: modbus, host: 127.0.0.1}", REGISTERS, keys)
    assert any("plant.yaml:12" in str(problem) and says in str(problem) for problem in caught.value.problems)
