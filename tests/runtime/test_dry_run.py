"""`gateway run --dry-run`: everything is read and mapped, nothing is published, and no write can reach a device."""

import asyncio
import io
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.uaprocessor import UaProcessor
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.domain.contract.requests import ParameterItem, ParamsDownload
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import MethodCall, TagWrite
from gateway.runtime.clock import SystemClock
from gateway.runtime.daemon import Daemon
from tests.brokers import Consumer, Mosquitto, eventually
from tests.drivers.modbus_devices import Device, device
from tests.drivers.opcua_servers import PLC, plc
from tests.runtime.pressed import LONG, UNIT, write_plant

FILLER = """\
devices:
  FILLER: {{driver: opcua, url: "opc.tcp://127.0.0.1:{server}", namespace: "{plc}", security: none,
            publishing_interval: 50ms}}
equipment:
  ACME/HZ/A/L1/FILLER:
    device: FILLER
    tags: {{speed: {{node: s=speed, type: int32, unit: /min, publish: true}}}}
    download: {{parameters: {{speed: {{tag: speed, min: 0, max: 900, class: trim}}}}}}
"""


@pytest.fixture
async def press() -> AsyncIterator[Device]:
    async with device() as served:
        await served.set(0, 1)
        yield served


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every request that an OPC UA server of this process has received."""
    names = {
        getattr(ua.ObjectIds, name): name.removesuffix("Request_Encoding_DefaultBinary")
        for name in dir(ua.ObjectIds)
        if name.endswith("Request_Encoding_DefaultBinary")
    }
    heard: list[str] = []
    process = UaProcessor._process_message

    async def note(processor: UaProcessor, type_id: Any, *arguments: Any) -> Any:
        heard.append(names[type_id.Identifier])
        return await process(processor, type_id, *arguments)

    monkeypatch.setattr(UaProcessor, "_process_message", note)
    return heard


def messages(out: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


async def test_nothing_is_written_or_called_on_any_wire_and_everything_else_is_as_ever(
    press: Device, asked: list[str], mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    out = io.BytesIO()
    async with plc() as server:
        config = write_plant(tmp_path, mosquitto.port, press.port)
        (config / "filler.yaml").write_text(FILLER.format(server=server.port, plc=PLC), encoding="utf-8")
        daemon, stop = Daemon(load_plant(config), SystemClock(), out), asyncio.Event()
        with Consumer(mosquitto.port) as consumer:
            running = asyncio.create_task(daemon.run(stop))
            try:
                await server.add("speed", 7)
                await eventually(lambda: b'"tel"' in out.getvalue() or b"/tel" in out.getvalue(), "the values", LONG)
                results: list[OperationResult] = []
                daemon.operation_done = results.append  # type: ignore[method-assign]
                daemon._operate(Operation("PRESS", "1", writes=(TagWrite("PRESS.force", 1),)))
                daemon._operate(Operation("FILLER", "2", writes=(TagWrite("FILLER.speed", 1),)))
                daemon._operate(Operation("FILLER", "3", calls=(MethodCall("i=85", "i=11489"),)))
                await eventually(lambda: len(results) == 3, "the refusals", LONG)
                assert [result.refused and result.refused.code for result in sorted(results, key=lambda r: r.token)] == [
                    "dry_run", "dry_run", "not_allowed",
                ]  # fmt: skip
                item = ParameterItem(name="force", value=1)
                with daemon._committer.facts() as core:
                    wanted = ParamsDownload(cmd="C1", eq="PRESS", set="S", rev="A", items=(item,))
                    core.handle_command(wanted, daemon._clock.now())
                await eventually(lambda: b"res/params.download" in out.getvalue(), "the answer", LONG)
            finally:
                stop.set()
                await running
        assert consumer.messages == [], "nothing is published"
    said = [json.dumps(message, sort_keys=True) for message in messages(out)]
    assert len(said) == len(set(said)), "each message once"
    assert any(message["retain"] for message in messages(out))
    (answer,) = [message["payload"] for message in messages(out) if message["topic"] == f"{UNIT}/res/params.download"]
    assert (answer["answer"], answer["codes"]) == ("rejected", ["dry_run"])
    assert press.writes == []
    assert {request.function for request in press.requests} <= {3, 4}
    assert "CreateMonitoredItems" in asked
    assert not {"Write", "Call"} & set(asked)
    record_property("figure", f"dry run: 0 writes, 0 calls in {len(press.requests) + len(asked)} requests")


async def run_dry(config: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "run", "-c", str(config), "--dry-run", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_what_would_be_published_comes_out_as_json_lines_and_no_record_is_left(
    press: Device, tmp_path: Path
) -> None:
    config = write_plant(tmp_path, 1, press.port)
    process = await run_dry(config)
    assert process.stdout is not None
    async with asyncio.timeout(LONG):
        first = json.loads(await process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert (first["topic"], first["retain"]) == ("mfg/v1/ACME/HZ/_gw/edge-01/evt/gateway.lock", False)
    assert first["payload"]["data"]["by"] == "gateway run --dry-run"
    assert b"every device locked" in err
    assert b"broker" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["config"], "no record, no audit, no lock"


async def test_a_dry_run_may_keep_a_record_of_its_own_but_never_the_real_one(press: Device, tmp_path: Path) -> None:
    config, out, own = write_plant(tmp_path, 1, press.port), tmp_path / "out.jsonl", tmp_path / "own.db"
    process = await run_dry(config, "--out", str(out), "--store", str(own))
    await eventually(lambda: out.exists() and b"gateway.lock" in out.read_bytes(), "the first message", LONG)
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert not (tmp_path / "gateway.db").exists()
    with closing(sqlite3.connect(own)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM outbox WHERE condition = 0").fetchone() == (0,)
    refused = CliRunner().invoke(app, ["run", "-c", str(config), "--dry-run", "--store", str(tmp_path / "gateway.db")])
    assert refused.exit_code == 2
    assert "is the gateway's own record; give the dry run another" in refused.stderr
    alone = CliRunner().invoke(app, ["run", "-c", str(config), "--store", str(own)])
    assert (alone.exit_code, alone.stdout) == (2, "")
    assert "--out and --store are for --dry-run" in alone.stderr
