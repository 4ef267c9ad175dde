"""The example's cell with the gateway in front of it as a process of its own, and an MES behind a real broker.

The machines are in the process of the test, which so decides at which of their requests the gateway dies.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asyncua import ua

from simulators.models.handshakes.faults import Faults
from simulators.models.handshakes.machine import PARAMETERS, Machine
from simulators.models.handshakes.ways import WAYS
from simulators.servers.cell_modbus import CellModbus
from simulators.servers.cell_opcua import Asked, CellServer, let_pass
from tests.brokers import Consumer, Mosquitto, eventually
from tests.contract import the_contract

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "cell"
UNITS = "mfg/v1/ACME/HZ/CELL/L1"
OLD = dict(PARAMETERS)
NEW = {"speed": 120, "oven": 1750}
PATIENCE = 60.0
LINKS = len(WAYS) + 1
"""One for each machine, and one more for the PLC behind the SCADA system."""

IS_FULL = bool(os.environ.get("FULL"))

Ending = tuple[str, tuple[str, ...]]


class Trap:
    """Holds every machine at its request number `at`, either before it is carried out or unanswered behind that."""

    def __init__(self, at: int, *, is_done: bool) -> None:
        self.held: set[str] = set()
        self.asked: Counter[str] = Counter()
        self._at = at
        self._is_done = is_done
        self._opened = asyncio.Event()

    async def __call__(self, asked: Asked) -> None:
        self.asked[asked.machine] += not asked.is_done
        if asked.is_done is not self._is_done or self.asked[asked.machine] != self._at or self._opened.is_set():
            return
        self.held.add(asked.machine)
        await self._opened.wait()
        if not self._is_done:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadShutdown)

    def open(self) -> None:
        """Nobody is there any more who could be answered."""
        self._opened.set()


class PlayedCell:
    """Nine machines, a gateway and an MES. Everything it started is ended when the block is left."""

    def __init__(self, folder: Path, broker: int, config: Path = EXAMPLE) -> None:
        self.machines = {way: Machine(way) for way in WAYS}
        self.server = CellServer(self.machines)
        self._door = CellModbus(self.machines)
        self._consumer = Consumer(broker)
        self._broker = broker
        self._config = config
        self._folder = folder
        self._gateway: subprocess.Popen[bytes] | None = None
        self._starts = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self.server)
            await opened.enter_async_context(self._door)
            opened.enter_context(self._consumer)
            opened.callback(self.kill_gateway)
            await self.start_gateway()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    @property
    def log(self) -> str:
        """What the gateway's last process has said."""
        return (self._folder / f"gateway{self._starts}.log").read_text(encoding="utf-8", errors="replace")

    @classmethod
    @asynccontextmanager
    async def played(cls, folder: Path, config: Path = EXAMPLE) -> AsyncIterator[Self]:
        """The cell with a broker of its own."""
        broker = Mosquitto(folder).start()
        try:
            async with cls(folder, broker.port, config) as cell:
                yield cell
        finally:
            broker.kill()

    async def start_gateway(self) -> None:
        """Start it, on the record that there is, and wait until it has all its machines."""
        self.restart_gateway()
        await self.wait_for(lambda: self.log.count("device connected") >= LINKS, "the machines")
        await self.wait_for(lambda: "broker connected" in self.log, "the broker")

    def restart_gateway(self) -> None:
        """Start it, and wait for nothing."""
        self._starts += 1
        places = {
            "CELL_URL": self.server.url,
            "CELL_MODBUS_PORT": str(self._door.port),
            "MQTT_PORT": str(self._broker),
            "GATEWAY_STORE": str(self._folder / "gateway.db"),
        }
        with (self._folder / f"gateway{self._starts}.log").open("wb") as log:
            self._gateway = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(self._config)],
                stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **places},
            )  # fmt: skip

    def kill_gateway(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        if self._gateway is not None:
            self._gateway.send_signal(signal.SIGKILL)
            self._gateway.wait()
        self._gateway = None

    async def renew(self, faults: Faults = Faults(), *, is_stale: bool = False) -> None:  # noqa: B008 - it is frozen
        """All machines as they left the factory, with these faults, or with what a crash left up in them."""
        self.server.gate = let_pass
        if self._gateway is None:
            await self.start_gateway()
        for machine in self.machines.values():
            machine.faults = faults
            machine.reset()
            if is_stale:
                machine.leave_stale()
        await self.server.show()

    async def catch(self, trap: Trap, cmd: str) -> None:
        """Begin a download to every machine, and wait until all are held in the trap or through before."""
        self.server.gate = trap
        self.download(cmd)
        await self.wait_for(lambda: len(trap.held | self.ended(cmd)) == len(WAYS), "the machines in the trap")

    def endings(self, cmd: str) -> dict[str, Ending]:
        """How the downloads ended, by machine."""
        return {way: self.ending(cmd, way) for way in WAYS}

    def download(self, cmd: str, values: dict[str, int] = NEW) -> None:
        """The same set for every machine, by commands of their own: `cmd` and the machine's name."""
        items = [{"name": name, "value": value} for name, value in values.items()]
        for way in WAYS:
            body = {"cmd": f"{cmd}-{way}", "eq": way, "set": "S", "rev": "A", "items": items}
            self._consumer.publish(f"{UNITS}/{way}/cmd/params.download", json.dumps(body).encode())

    def ended(self, cmd: str) -> set[str]:
        """The machines whose download of that name has its final answer and its result."""
        return {way for way in WAYS if self._finals(cmd, way) and self._results(cmd, way)}

    async def wait_until_ended(self, cmd: str) -> None:
        """Wait for the end of the downloads of all machines."""
        await self.wait_for(lambda: len(self.ended(cmd)) == len(WAYS), "the end of every download")

    def ending(self, cmd: str, way: str) -> Ending:
        """How the download ended, after it was held against the machine: one final answer, one result, both true."""
        (final,), (told,) = self._finals(cmd, way), self._results(cmd, way)
        machine, result, codes = self.machines[way], told["result"], tuple(told["codes"])
        where = f"{cmd} at {way}: {told}, {machine.tags}, {machine.writes}"
        assert final["answer"] == {"ACTIVE": "done", "REJECTED": "rejected", "FAILED": "failed"}[result], where
        if result == "ACTIVE":
            assert machine.active == NEW, where
        elif told["rolled_back"] is not None:
            assert told["rolled_back"] == machine.active == OLD, where
        elif result == "REJECTED":
            assert machine.active == OLD, where
        else:
            assert {"rollback_failed", "in_doubt"} & set(codes), where
        for name in PARAMETERS:
            written = [write.value for write in machine.writes if write.tag == f"{name}_set"]
            assert len(set(written)) == len(written), where
        return result, codes

    async def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it holds; fails with the gateway's log."""
        try:
            await eventually(condition, what, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-6000:]}") from None

    def _finals(self, cmd: str, way: str) -> list[dict[str, Any]]:
        told = self._told(f"{UNITS}/{way}/res/params.download")
        return [answer for answer in told if answer["cmd"] == f"{cmd}-{way}" and answer["final"]]

    def _results(self, cmd: str, way: str) -> list[dict[str, Any]]:
        told = self._told(f"{UNITS}/{way}/evt/param.result")
        return [event["data"] for event in told if event["data"]["cmd"] == f"{cmd}-{way}"]

    def _told(self, topic: str) -> list[dict[str, Any]]:
        """What was published there, each once: a gateway that was killed may say the same again."""
        bodies = dict.fromkeys(payload for payload in self._consumer.payloads(topic) if payload)
        messages = [json.loads(body) for body in bodies]
        for message in messages:
            the_contract().check(topic, message)
        return messages
