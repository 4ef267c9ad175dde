"""`gateway read`, `watch` and `check --connect` on a plant of one OPC UA and one Modbus device, both real servers."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from asyncua import ua

from tests.brokers import Mosquitto, eventually, free_port
from tests.cli.browsed_servers import press
from tests.cli.running import gateway
from tests.drivers.modbus_devices import Device, device
from tests.drivers.opcua_servers import PLC, Plc

OVEN = {"actual": {"register": 0, "type": "int16", "scale": 0.1}, "setpoint": {"register": 1, "type": "uint16"}}


class Hall:
    """The press behind OPC UA, the oven behind Modbus, and the configuration of both."""

    def __init__(self, folder: Path, server: Plc, oven: Device) -> None:
        self.folder = folder
        self.server = server
        self.oven = oven
        self.press_port, self.oven_port, self.broker_port = server.port, oven.port, free_port()
        self.press_tags = {"count": _press("Count", "int32"), "curve": _press("Curve", "float64")}
        self.oven_tags = dict(OVEN)
        self.press_download: dict | None = None

    async def run(self, *arguments: str):
        return await gateway(*arguments, "-c", str(self.write()))

    def write(self) -> Path:
        plant = {
            "gateway": {"id": "edge", "site": "A/B"},
            "mqtt": {"host": "127.0.0.1", "port": self.broker_port, "client_id": "edge"},
            "devices": {
                "PRESS": {
                    "driver": "opcua",
                    "url": f"opc.tcp://127.0.0.1:{self.press_port}",
                    "security": "none",
                    "namespace": PLC,
                },
                "OVEN": {"driver": "modbus", "host": "127.0.0.1", "port": self.oven_port, "poll_interval": "50ms"},
            },
            "equipment": {
                "A/B/PRESS": {"device": "PRESS", "tags": self.press_tags, "download": self.press_download},
                "A/B/OVEN": {"device": "OVEN", "tags": self.oven_tags, "download": _one_parameter("setpoint")},
            },
        }
        (self.folder / "plant.yaml").write_text(yaml.safe_dump(plant, sort_keys=False))
        return self.folder


def _one_parameter(tag: str) -> dict:
    return {"parameters": {tag: {"tag": tag, "min": 0, "max": 300}}}


def _press(name: str, data_type: str) -> dict:
    return {"node": f"s=Press.{name}", "type": data_type}


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    async with press() as server, device(holes=(200,)) as oven:
        await oven.set(0, 1751)
        yield Hall(tmp_path, server, oven)


def rows(out: str) -> dict[str, list[str]]:
    """The cells behind the first, by tag."""
    return {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines() if "\t" in line}


async def test_read_tells_value_status_source_time_and_raw_of_both_protocols(hall: Hall) -> None:
    done = await hall.run("read", "OVEN.actual", "PRESS.*")

    told = rows(done.out)
    assert (done.code, list(told)) == (0, ["tag", "PRESS.count", "PRESS.curve", "OVEN.actual"]), done.err
    assert told["OVEN.actual"] == ["175.1", "Good", "", "1751"], "scaled; Modbus has no source time"
    value, status, source_time, raw = told["PRESS.count"]
    assert (value, status, raw) == ("42", "Good", "42")
    assert source_time.endswith("Z")


async def test_read_of_a_dead_device_says_so_and_still_reads_the_others(hall: Hall) -> None:
    hall.press_port = free_port()
    done = await hall.run("read")

    told = rows(done.out)
    assert done.code == 1
    assert told["PRESS.count"][:2] == ["", "BadNotConnected"]
    assert told["OVEN.actual"][0] == "175.1"
    assert "PRESS: " in done.err
    assert "cannot be connected" in done.err


async def test_a_tag_that_does_not_exist_is_answered_with_those_that_nearly_have_its_name(hall: Hall) -> None:
    done = await hall.run("read", "OVEN.actaul")
    assert (done.code, done.out) == (2, "")
    assert "did you mean OVEN.actual" in done.err


async def test_watch_prints_changes_as_lines_and_ends_with_ctrl_c(hall: Hall) -> None:
    arguments = ["-m", "gateway", "watch", "PRESS.count", "OVEN.actual", "-c", str(hall.write())]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    seen: list[list[str]] = []

    async def collect() -> None:
        while line := await process.stdout.readline():
            seen.append(line.decode().rstrip("\n").split("\t"))

    collecting = asyncio.create_task(collect())
    try:
        await eventually(lambda: {line[1] for line in seen} == {"PRESS.count", "OVEN.actual"}, "both first values")
        node = hall.server.server.get_node(ua.NodeId("Press.Count", hall.server.index))
        await node.write_value(43, ua.VariantType.Int32)
        await hall.oven.set(0, 1800)
        await eventually(lambda: {line[2] for line in seen} == {"42", "43", "175.1", "180.0"}, "the changes")
    finally:
        process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), 10)
        await collecting
        error = (await process.stderr.read()).decode()
    assert code == 0, error
    assert "PRESS: connected" in error
    assert "Traceback" not in error


async def test_check_connect_finds_a_plant_as_configured(hall: Hall, mosquitto: Mosquitto) -> None:
    hall.broker_port = mosquitto.port
    done = await hall.run("check", "--connect")
    told = rows(done.out)
    assert done.code == 0, done.out
    assert told["PRESS.count"] == ["int32", "read write", "42", "ok"]
    assert told["OVEN.actual"] == ["int16", "read write?", "175.1", "ok"], "Modbus does not say if it can be written"
    assert "4 of 4 tags are as configured" in done.err
    assert "1 of 1 brokers take what the gateway publishes" in done.err


async def test_check_connect_names_whatever_is_not_as_configured(hall: Hall) -> None:
    hall.press_tags |= {
        "gone": _press("Gone", "bool"), "wide": _press("Count", "int64"), "broken": _press("Broken", "uint16"),
        "range": _press("Range", "float64"), "fixed": _press("Deep", "bool"),
    }  # fmt: skip
    hall.oven_tags |= {"hole": {"register": 200, "type": "uint16"}}
    hall.press_download = _one_parameter("curve")
    done = await hall.run("check", "--connect")

    finding = {tag: cells[-1] for tag, cells in rows(done.out).items()}
    assert done.code == 1
    assert "does not exist in the device (BadNodeIdUnknown)" in finding["PRESS.gone"]
    assert finding["PRESS.wide"] == "is int32 in the device; write type: int32"
    assert finding["PRESS.broken"] == "has no value now: BadDeviceFailure"
    assert finding["PRESS.range"].startswith("is i=884 in the device, which no tag can hold")
    assert "does not exist" in finding["OVEN.hole"]
    assert finding["PRESS.curve"] == "cannot be written, but the configuration lets the gateway write it"
    assert [tag for tag, text in finding.items() if text == "ok"] == [
        "PRESS.count",
        "PRESS.fixed",
        "OVEN.actual",
        "OVEN.setpoint",
    ]


async def test_check_connect_of_a_dead_device_does_not_hide_the_others(hall: Hall) -> None:
    hall.oven_port = free_port()
    done = await hall.run("check", "--connect")
    finding = {tag: cells[-1] for tag, cells in rows(done.out).items()}
    assert done.code == 1
    assert finding["PRESS.count"] == "ok"
    assert finding["OVEN.actual"].startswith("OVEN is out of reach: ")


async def test_check_connect_without_a_broker_says_what_to_do_beside_devices_that_are_right(hall: Hall) -> None:
    done = await hall.run("check", "--connect")
    told = rows(done.out)
    assert done.code == 1
    assert told["PRESS.count"][-1] == "ok"
    about, found, finding = told[f"127.0.0.1:{hall.broker_port}"]
    assert (about, found) == ("connection", "")
    assert finding.startswith("Connection refused: nothing listens on port ")
    assert "0 of 1 brokers take what the gateway publishes" in done.err
