"""The simulators as processes: what they print, write, refuse, and how they end."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asyncua import Client
from pymodbus.client import AsyncModbusTcpClient
from stages import DEMO, ready, simulator


@pytest.mark.case("B11")
async def test_one_command_plays_the_whole_line_on_loopback(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    with simulator("line", "--scenario", str(DEMO), "--speed", "600", "--ledger", str(ledger)) as process:
        urls = ready(process)["ready"]
        assert [*urls] == ["FIL01", "LBL01", "SCADA"]
        assert all("//127.0.0.1:" in url for url in urls.values())
        for name in ("FIL01", "SCADA"):
            async with Client(urls[name]) as client:
                assert f"urn:simulators:{name.lower()}" in await client.get_namespace_array()
        modbus = AsyncModbusTcpClient("127.0.0.1", port=int(urls["LBL01"].rpartition(":")[2]))
        await modbus.connect()
        assert not (await modbus.read_holding_registers(0, count=120, device_id=1)).isError()
        modbus.close()

        _wait_for(ledger)
        assert process.poll() is None, "at the end of the scenario the servers stay up"
        told = json.loads(ledger.read_text())
        ledger.unlink()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0

    assert told["orders"]["4711"]["PAL01"]["good"] == 1340
    assert json.loads(ledger.read_text()) == told


def test_a_device_alone_stands_still_from_until_on(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    options = ["--speed", "600", "--until", "06:03:00", "--ledger", str(ledger)]
    with simulator("fil01", "--scenario", str(DEMO), *options) as process:
        assert [*ready(process)["ready"]] == ["FIL01"]
        _wait_for(ledger)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 0

    told = json.loads(ledger.read_text())
    assert told["until"] == "2026-03-02T06:03:00.000Z"
    assert told["orders"]["4711"]["FIL01"]["produced"] == 120


def test_the_epoch_says_when_the_scenario_starts(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    epoch = "2020-01-01T00:00:00Z"
    with simulator("lbl01", "--scenario", str(DEMO), "--epoch", epoch, "--ledger", str(ledger)) as process:
        assert ready(process)["epoch"] == "2020-01-01T00:00:00.000+00:00"
        _wait_for(ledger)

    assert json.loads(ledger.read_text())["until"] == "2026-03-02T06:20:00.000Z"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["line", "--scenario", "none.yaml"], "none.yaml: cannot be read"),
        (["line", "--scenario", str(DEMO), "--host", "0.0.0.0"], "lets others in; add --allow-remote"),
        (["line", "--scenario", str(DEMO), "--ledger", "none/ledger.json"], "there is no folder none"),
        (["line", "--scenario", str(DEMO), "--speed", "0"], "stands still"),
        (["line", "--scenario", str(DEMO), "--epoch", "2026-01-01T00:00:00"], "has no time zone"),
        (["line", "--scenario", str(DEMO), "--until", "6:3"], "--until: '6:3' is not a time"),
        (["mes", "--scenario", str(DEMO), "--broker", "localhost"], "write mqtt://user@host:port"),
        (["mes", "--scenario", str(DEMO), "--broker", "mqtt://a@h:x"], "write mqtt://user@host:port"),
        (["mes", "--scenario", str(DEMO), "--broker", "mqtt://a:b@localhost"], "must not hold a password"),
        (["mes", "--scenario", str(DEMO), "--broker", "mqtt://a@h", "--password-file", "none"], "none: No such file"),
        (["reconcile", "--ledger", "none", "--capture", "none"], "reconcile: "),
    ],
)
def test_what_cannot_be_done_is_said_with_what_would_be_right(arguments: list[str], complaint: str) -> None:
    done = subprocess.run([sys.executable, "-m", "simulators", *arguments], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc to see when SIGTERM is caught")
def test_a_line_that_is_told_to_stop_while_it_still_starts_stops(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    with simulator("line", "--scenario", str(DEMO), "--ledger", str(ledger), stderr=-1) as process:
        _wait_for_handlers(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.stdout.read(), process.stderr.read()) == ("", "")

    assert json.loads(ledger.read_text())["until"] == "2026-03-02T06:00:00.000Z"


@pytest.mark.parametrize(
    ("command", "port"), [("fil01", "--fil01-port"), ("lbl01", "--lbl01-port"), ("broker", "--port")]
)
def test_a_port_that_is_taken_is_named_with_a_way_out(tmp_path: Path, command: str, port: str) -> None:
    arguments = ["--password-file", str(tmp_path / "password")] if command == "broker" else ["--scenario", str(DEMO)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with simulator(command, *arguments, port, str(number), stderr=-1) as process:
            assert process.wait(timeout=20) == 2
            assert process.stderr is not None
            complaint = process.stderr.read()

    assert f"127.0.0.1:{number}" in complaint
    assert f"give another {port}" in complaint
    assert "Traceback" not in complaint


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.02)


def _wait_for_handlers(pid: int) -> None:
    """Until the process catches SIGTERM, which it does before it opens anything."""
    deadline = time.monotonic() + 10
    while not _caught_signals(pid) & 1 << (signal.SIGTERM - 1):
        assert time.monotonic() < deadline, "SIGTERM is not caught"
        time.sleep(0.005)


def _caught_signals(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("SigCgt")).split()[1], 16)
