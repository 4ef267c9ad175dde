"""Start everything, show the line while it runs, end it, and hold what the MES got against what the machines did."""

import asyncio
import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live

from gateway.cli.demo.board import Board
from gateway.cli.demo.processes import Child, ChildFailed, Children
from gateway.domain.times import format_timestamp, parse_timestamp

LEAD: Final = 4.0
"""Seconds between the start of the machines and the first second of the scenario, at least."""

SLOWNESS: Final = 4.0
"""How much longer all processes together take to start than a configuration check alone."""

TAIL: Final = 75.0
"""Plant seconds after the machines stand still: the last count window closes and leaves."""

FAREWELL: Final = 10.0
"""Seconds that its last message may take, through a broker on a machine that stands still for a while."""

REFRESH: Final = 0.1


@dataclass(frozen=True)
class Scenario:
    """What the demo must know of the file that the machines play. Times in milliseconds UTC."""

    path: Path
    name: str
    start: int
    end: int


class Stopped(Exception):  # noqa: N818 - it says what happened
    """Ctrl-C or SIGTERM."""


def run_demo(seconds: float | None, broker: str | None, speed: float) -> int:
    """0 if every figure is right, 1 with the differences, 130 if it was stopped."""
    console = Console(highlight=False)
    if broker is not None and (urlsplit(broker).scheme != "mqtt" or not urlsplit(broker).hostname):
        console.print(f"--broker {broker} is no broker; write mqtt://host:port", markup=False)
        return 2
    if broker is None and importlib.util.find_spec("amqtt") is None:
        console.print(
            "the embedded broker needs the package amqtt: pip install amqtt, or give --broker mqtt://host:port",
            markup=False,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        try:
            plan = _Plan(Path(folder), _scenario(), seconds, broker, speed)
            asyncio.run(_Demo(plan, console).run())
        except ChildFailed as failure:
            console.print(str(failure), style="red", markup=False)
            return 1
        except (Stopped, KeyboardInterrupt):
            console.print("stopped; everything it started is ended")
            return 130
        return _verdict(Path(folder), console)


class _Plan:
    """What is played, where, how fast and for how long."""

    def __init__(
        self, folder: Path, scenario: Scenario, seconds: float | None, broker: str | None, speed: float
    ) -> None:
        self.folder = folder
        self.scenario = scenario
        self.broker = broker
        self.speed = speed
        self.until = scenario.end
        if seconds is not None:
            self.until = min(scenario.end, scenario.start + int(seconds * speed * 1000))
        self.epoch = 0.0

    def begin(self, slowness: float) -> None:
        """Fix the wall time of the scenario's first second; a slow machine gets more time to start everything."""
        self.epoch = round(time.time() + max(LEAD, SLOWNESS * slowness), 3)

    def plant_time(self) -> int:
        """Milliseconds UTC on the plant's clock."""
        return self.scenario.start + int((time.time() - self.epoch) * self.speed * 1000)

    @property
    def play(self) -> list[str]:
        """How a simulator is told what to play."""
        epoch = format_timestamp(round(self.epoch * 1000))
        return ["--scenario", str(self.scenario.path), "--epoch", epoch, "--speed", f"{self.speed:g}"]

    @property
    def clock(self) -> str:
        """How the gateway is told what time it is."""
        epoch = format_timestamp(round(self.epoch * 1000))
        return f"{format_timestamp(self.scenario.start)}@{epoch}x{self.speed:g}"


class _Demo:
    def __init__(self, plan: _Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._board = Board(plan.scenario.name, (plan.until - plan.scenario.start) / 1000)
        self._say: Callable[[Any], None] = console.print

    async def run(self) -> None:
        """The whole demo; raises `Stopped` or `ChildFailed`."""
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with Children(self._plan.folder) as children:
            playing = asyncio.create_task(self._play(children))
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait([playing, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not playing.done():
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
                raise Stopped
            playing.result()

    async def _play(self, children: Children) -> None:
        plan = self._plan
        title = f"[bold]{plan.scenario.name}[/] at {plan.speed:g}x"
        self._console.print(f"{title}: starting broker, machines, MES and gateway")
        broker = await self._broker(children)
        plan.begin(await self._check(children))
        line = await children.start(
            "machines", "simulators", "line", *plan.play, "--ledger", str(plan.folder / "ledger.json"),
            "--until", format_timestamp(plan.until)[11:19],
        )  # fmt: skip
        urls = (await line.ready())["ready"]
        mes = await children.start(
            "mes", "simulators", "mes", "--broker", broker, *self._password(), *plan.play, "--client-id", "demo-mes",
            "--capture", str(plan.folder / "capture.jsonl"), "--print", "--wait-for-gateway",
        )  # fmt: skip
        gateway = await children.start(
            "gateway", "gateway", "run", "-c", str(plant_folder()), "--play", plan.clock, "--report",
            environment=self._environment(broker, urls),
        )  # fmt: skip
        readers = [asyncio.create_task(self._follow_mes(mes)), asyncio.create_task(self._follow_gateway(gateway))]
        try:
            await self._watch(children)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        await gateway.end()
        await self._hear_farewell()
        await mes.end()
        await line.end()

    async def _hear_farewell(self) -> None:
        """The gateway's farewell is the last that the MES hears of it: then it has everything that came before."""
        capture = self._plan.folder / "capture.jsonl"
        for _ in range(round(FAREWELL / REFRESH)):
            if b'"state":"offline"' in capture.read_bytes():
                return
            await asyncio.sleep(REFRESH)

    async def _check(self, children: Children) -> float:
        """Check the plant's configuration; how many seconds that took tells how slow this machine is."""
        started = time.monotonic()
        check = await children.start("check", "gateway", "check", "-c", str(plant_folder()))
        if await check.process.wait():
            raise check.failure("found the plant's configuration wrong")
        children.forget(check)
        return time.monotonic() - started

    async def _watch(self, children: Children) -> None:
        plan = self._plan
        if not self._console.is_terminal:
            await self._wait(children)
            return
        with Live(console=self._console, refresh_per_second=1 / REFRESH, transient=False) as live:
            self._say = lambda _: None

            def draw() -> None:
                now = min(plan.plant_time(), plan.until)
                live.update(self._board.draw((now - plan.scenario.start) / 1000, format_timestamp(now)[11:19]))

            await self._wait(children, draw)

    async def _wait(self, children: Children, draw: Callable[[], None] | None = None) -> None:
        plan = self._plan
        while plan.plant_time() < plan.until + TAIL * 1000 or self._board.queued:
            if draw is not None:
                draw()
            ended = children.find_ended()
            if ended is not None:
                raise ended.failure(f"ended with exit code {ended.process.returncode}")
            await asyncio.sleep(REFRESH)

    async def _broker(self, children: Children) -> str:
        if self._plan.broker is not None:
            return self._plan.broker
        child = await children.start(
            "broker", "simulators", "broker", "--password-file", str(self._plan.folder / "password")
        )
        return str((await child.ready())["ready"]["broker"]).replace("mqtt://", "mqtt://demo@")

    def _password(self) -> list[str]:
        return [] if self._plan.broker is not None else ["--password-file", str(self._plan.folder / "password")]

    def _environment(self, broker: str, urls: dict[str, str]) -> dict[str, str]:
        """What differs from the files of the demo plant."""
        parts, labeller = urlsplit(broker), urlsplit(urls["LBL01"])
        environment = {
            "GATEWAY_STORE": str(self._plan.folder / "gateway.db"),
            "MQTT_HOST": parts.hostname or "127.0.0.1", "MQTT_PORT": str(parts.port or 1883),
            "FIL01_URL": urls["FIL01"], "SCADA_URL": urls["SCADA"], "LBL01_PORT": str(labeller.port),
        }  # fmt: skip
        if self._plan.broker is None:
            secret = str(self._plan.folder / "password")
            environment |= {"MQTT_USERNAME": "demo", "MQTT_PASSWORD_FILE": secret, "MQTT_PROTOCOL": "3.1.1"}
        return environment

    async def _follow_mes(self, mes: Child) -> None:
        async for message in mes.lines():
            if not message["retain"] and isinstance(message["payload"], dict):
                line = self._board.take_message(message["topic"], message["payload"])
                if line is not None:
                    self._say(line)

    async def _follow_gateway(self, gateway: Child) -> None:
        async for report in gateway.lines():
            self._board.take_report(report)


def plant_folder() -> Path:
    """The demo plant's YAML: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parents[2]
    checkout = package.parent / "config"
    return checkout if (checkout / "gateway.yaml").exists() else package / "demo_plant"


def _scenario() -> Scenario:
    """The scenario's name and times, read as text: what the rest means is the simulators' affair."""
    found = importlib.util.find_spec("simulators")  # looked up, not imported: the two packages meet on the wire
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "scenarios" / "demo.yaml"
    text = path.read_text(encoding="utf-8")
    facts = dict(re.findall(r'^(name|start|end): *"?([^"\s#]+)"?', text, re.MULTILINE))
    return Scenario(path, facts["name"], parse_timestamp(facts["start"]), parse_timestamp(facts["end"]))


def _verdict(folder: Path, console: Console) -> int:
    """Machine truth against what the MES received, told by the simulators, who know the truth."""
    command = [sys.executable, "-m", "simulators", "reconcile"]
    files = ["--ledger", str(folder / "ledger.json"), "--capture", str(folder / "capture.jsonl")]
    wrong = subprocess.run([*command, *files], check=False).returncode  # noqa: S603 - our own module
    if wrong:
        console.print("[red]not every figure is right[/]; the verdict column says by how much")
    else:
        console.print("[green]every figure that the MES received is what the machines did[/]")
    return 1 if wrong else 0
