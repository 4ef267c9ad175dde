"""The whole line in processes of its own: machines, MES and gateway around a broker, as on a plant's floor."""

import json
import os
import re
import shutil
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
from tests.brokers import Mosquitto
from tests.contract import the_contract

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "simulators" / "scenarios" / "demo.yaml"
DEVICES = ("FIL01", "LBL01", "SCADA")

FIRST_LEAD = 6.0
"""Seconds between the first process and the scenario's start. Whoever is not up by then would miss what it is for: the
MES sends its downloads at fixed moments, and refused for want of contact they are not sent again."""
LONGEST_LEAD = 60.0


class PlayedLine:
    """A scenario being played. Everything it started is ended when the block is left.

    The moment at which the scenario begins must be known before anybody starts. On a machine that is too busy for it,
    everything is ended and started anew with twice the time, in a folder of its own, before anything has happened.
    """

    def __init__(self, folder: Path, broker_port: int, *, scenario: Path = DEMO, start: str, speed: float) -> None:
        self.port = broker_port
        self.scenario = scenario
        self.start = parse_timestamp(start)
        self.speed = speed
        self.folder = folder
        self.gateway: subprocess.Popen[bytes] | None = None
        self._root = folder
        self._lead = FIRST_LEAD
        self._others: dict[str, subprocess.Popen[bytes]] = {}
        self._seen: list[dict[str, Any]] = []
        self._read = 0

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _begin(self) -> None:
        """MES and machines; the MES hears everything from here on."""
        self.epoch = time.time() + self._lead
        self.folder = self._root / f"lead{self._lead:g}"
        self.folder.mkdir()
        self.urls: dict[str, str] = {}
        self._logs = 0
        broker = f"mqtt://127.0.0.1:{self.port}"
        # Its name is its session at the broker, which must know nothing of an earlier attempt.
        name = f"mes-{self.folder.name}"
        self._start(
            "mes", "mes", "--broker", broker, "--client-id", name, "--capture", str(self.capture), "--wait-for-gateway"
        )
        self.start_machines()
        self.wait_for(lambda: "connected" in self.log("mes"), "the MES at the broker")

    def _end(self) -> None:
        for process in [self.gateway, *self._others.values()]:
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        self.gateway = None

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
        machines.wait(30)
        assert machines.stdout is not None
        machines.stdout.close()

    def start_gateway(self, *, away: str | None = None, without: Mosquitto | None = None) -> None:
        """Start it for the first time, and wait for its devices, all but the one `away`, and for the broker.

        Or `without` the broker, which is stopped before the gateway starts.
        """
        said, devices = "broker lost" if without else "broker connected", len(DEVICES) - (away is not None)
        while True:
            if without:
                without.stop()
            self.restart_gateway(away)
            while time.time() < self.epoch:
                if said in self.gateway_log and self.devices_up == devices:
                    return
                time.sleep(0.02)
            log = self.gateway_log
            self._end()
            if without:
                without.start()
            self._lead *= 2
            assert self._lead <= LONGEST_LEAD, f"the gateway is not up within {self._lead / 2:g} s; {log}"
            self._begin()

    @property
    def gateway_log(self) -> str:
        """What the gateway's last process has said."""
        return self.log(f"gateway{self._logs}")

    @property
    def devices_up(self) -> int:
        """How many devices the gateway's last process has connected so far."""
        return self.gateway_log.count("device connected")

    def restart_gateway(self, away: str | None = None) -> None:
        """Start it on the record that there is; the device `away` is where nobody listens, on the discard port."""
        self._logs += 1
        urls = self.urls | ({away: "tcp://127.0.0.1:9"} if away else {})
        clock = f"{format_timestamp(self.start)}@{format_timestamp(round(self.epoch * 1000))}x{self.speed:g}"
        with (self.folder / f"gateway{self._logs}.log").open("wb") as log:
            self.gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(self._config()), "--play", clock],
                stderr=log, stdin=subprocess.DEVNULL,
                env={
                    **os.environ, "GATEWAY_STORE": str(self.folder / "gateway.db"), "MQTT_PORT": str(self.port),
                    "FIL01_URL": urls["FIL01"], "SCADA_URL": urls["SCADA"],
                    "LBL01_PORT": str(urlsplit(urls["LBL01"]).port),
                },
            )  # fmt: skip

    def _config(self) -> Path:
        """The demo's plant with another bound of plausibility.

        Modbus values are dated by their poll, the first ones of a link by its beginning. At twenty times the speed a
        machine that stands still for half a second then shows ten plant seconds of bottles as if made in one.
        """
        folder = self.folder / "config"
        if not folder.exists():
            shutil.copytree(ROOT / "config", folder)
            for file in folder.glob("*.yaml"):
                plant = re.sub(r"max_rate: \d+/s", "max_rate: 200/s", file.read_text(encoding="utf-8"))
                file.write_text(plant, encoding="utf-8")
        return folder

    def kill_gateway(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        assert self.gateway is not None
        assert self.gateway.poll() is None, self.gateway_log
        self.gateway.kill()
        self.gateway.wait()

    def wait_until(self, clock: str) -> None:
        """Wait for that plant time."""
        at = parse_timestamp(f"{format_timestamp(self.start)[:10]}T{clock}Z")
        time.sleep(max(0.0, self.epoch + (at - self.start) / 1000 / self.speed - time.time()))

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 40) -> None:
        """Wait until it holds, or fail with the gateway's log."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come; {self.gateway_log if self._logs else ''}"
            time.sleep(0.05)

    def finish(self) -> None:
        """End gateway, MES and machines in order; the ledger is written."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGTERM)
        assert self.gateway.wait(40) == 0, self.gateway_log
        # Its farewell is the last thing that it says, so what it said before has arrived, too.
        self.wait_for(lambda: '"state":"offline"' in self.capture.read_text(encoding="utf-8"), "the gateway's farewell")
        for name in ("mes", "machines"):
            self._others[name].send_signal(signal.SIGTERM)
            self._others[name].wait(40)

    def reconcile(self) -> tuple[int, str]:
        """The simulators' verdict on ledger and capture."""
        command = [sys.executable, "-m", "simulators", "reconcile", "--ledger", str(self.ledger)]
        done = subprocess.run([*command, "--capture", str(self.capture)], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events that the MES received, of one type or all."""
        self._read_capture()
        return [row for row in self._seen if kind is None or row["type"] == kind]

    def _read_capture(self) -> None:
        """Take in the whole lines that are new."""
        if not self.capture.exists():
            return
        with self.capture.open("rb") as file:
            file.seek(self._read)
            news = file.read()
        whole = news[: news.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            the_contract().check(message["topic"], message["payload"])
            if "/evt/" in message["topic"] and not message["retain"]:
                self._seen.append(message["payload"])

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
