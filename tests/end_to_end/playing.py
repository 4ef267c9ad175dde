"""The whole line in processes of its own: machines, MES and gateway around a broker, as on a plant's floor."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from gateway.domain.times import format_timestamp, parse_timestamp
from tests.contract import the_contract

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "simulators" / "scenarios" / "demo.yaml"
LEAD = 8.0


class PlayedLine:
    """A scenario being played. Everything it started is ended when the block is left."""

    def __init__(self, folder: Path, broker_port: int, *, scenario: Path = DEMO, start: str, speed: float) -> None:
        self.folder = folder
        self.port = broker_port
        self.scenario = scenario
        self.start = parse_timestamp(start)
        self.speed = speed
        self.epoch = time.time() + LEAD
        self.urls: dict[str, str] = {}
        self.gateway: subprocess.Popen[bytes] | None = None
        self._others: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = 0

    def __enter__(self) -> Self:
        self._start(
            "mes",
            "mes",
            "--broker",
            f"mqtt://127.0.0.1:{self.port}",
            "--capture",
            str(self.capture),
            "--wait-for-gateway",
        )
        self.start_machines()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [self.gateway, *self._others.values()]:
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()

    @property
    def capture(self) -> Path:
        return self.folder / "capture.jsonl"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.json"

    def start_machines(self) -> None:
        """Start them, for the first time or again, on the same ports."""
        ports = [f"--{name.lower()}-port={urlsplit(url).port}" for name, url in self.urls.items()]
        machines = self._start("machines", "line", "--ledger", str(self.ledger), *ports)
        assert machines.stdout is not None
        line = machines.stdout.readline()
        assert line, self.log("machines")
        self.urls = json.loads(line)["ready"]

    def stop_machines(self) -> None:
        """All three devices are gone at once."""
        machines = self._others["machines"]
        machines.terminate()
        machines.wait(10)
        assert machines.stdout is not None
        machines.stdout.close()

    def start_gateway(self) -> None:
        """Start it, for the first time or again, on the same record."""
        self._logs += 1
        clock = f"{format_timestamp(self.start)}@{format_timestamp(round(self.epoch * 1000))}x{self.speed:g}"
        with (self.folder / f"gateway{self._logs}.log").open("wb") as log:
            self.gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(ROOT / "config"), "--play", clock],
                stderr=log, stdin=subprocess.DEVNULL,
                env={
                    **os.environ, "GATEWAY_STORE": str(self.folder / "gateway.db"), "MQTT_PORT": str(self.port),
                    "FIL01_URL": self.urls["FIL01"], "SCADA_URL": self.urls["SCADA"],
                    "LBL01_PORT": str(urlsplit(self.urls["LBL01"]).port),
                },
            )  # fmt: skip

    def kill_gateway(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        assert self.gateway is not None
        assert self.gateway.poll() is None, self.log(f"gateway{self._logs}")
        self.gateway.kill()
        self.gateway.wait()

    def wait_until(self, clock: str) -> None:
        """Wait for that plant time."""
        at = parse_timestamp(f"{format_timestamp(self.start)[:10]}T{clock}Z")
        time.sleep(max(0.0, self.epoch + (at - self.start) / 1000 / self.speed - time.time()))

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
        """Wait until it holds, or fail with the gateway's log."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come; {self.log(f'gateway{self._logs}')}"
            time.sleep(0.05)

    def finish(self) -> None:
        """End gateway, MES and machines in order; the ledger is written."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGTERM)
        assert self.gateway.wait(15) == 0, self.log(f"gateway{self._logs}")
        time.sleep(0.5)  # what the broker still holds for the MES is on its way
        for name in ("mes", "machines"):
            self._others[name].send_signal(signal.SIGTERM)
            self._others[name].wait(10)

    def reconcile(self) -> tuple[int, str]:
        """The simulators' verdict on ledger and capture."""
        command = [sys.executable, "-m", "simulators", "reconcile", "--ledger", str(self.ledger)]
        done = subprocess.run([*command, "--capture", str(self.capture)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events that the MES received, of one type or all."""
        if not self.capture.exists():
            return []
        rows = []
        for line in self.capture.read_text(encoding="utf-8").splitlines():
            message = json.loads(line)
            the_contract().check(message["topic"], message["payload"])
            if "/evt/" in message["topic"] and not message["retain"]:
                rows.append(message["payload"])
        return [row for row in rows if kind is None or row["type"] == kind]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        play = [
            "--scenario",
            str(self.scenario),
            "--epoch",
            format_timestamp(round(self.epoch * 1000)),
            "--speed",
            f"{self.speed:g}",
        ]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = self._others[name] = subprocess.Popen(
                [sys.executable, "-m", "simulators", *arguments, *play],
                stdout=subprocess.PIPE if name == "machines" else subprocess.DEVNULL, stderr=log, stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )  # fmt: skip
        return process
