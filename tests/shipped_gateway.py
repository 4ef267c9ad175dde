"""The gateway as a process, with one press behind Modbus, at the broker that we ship."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.brokers import eventually
from tests.drivers.modbus_devices import Device, device
from tests.shipped_mosquitto import Party, ShippedMosquitto

PLANT: Final = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}, username: edge-01, password_file: "{password}", protocol: "{protocol}"}}
devices:
  PRESS: {{driver: modbus, host: 127.0.0.1, port: {press}, poll_interval: 50ms}}
equipment:
  ACME/HZ/PACK/L1/PRESS:
    device: PRESS
    tags:
      remote: {{register: 0, type: uint16}}
      force: {{register: 1, type: uint16, publish: true}}
    state: {{debounce: 0s, rules: [{{to: RUN, when: "remote == 1"}}, {{to: IDLE, when: "true"}}]}}
    download:
      conditions: {{remote_mode: "remote == 1"}}
      parameters: {{force: {{tag: force, min: 0, max: 900, class: trim}}}}
"""
SITE: Final = "mfg/v1/ACME/HZ"
UNIT: Final = f"{SITE}/PACK/L1/PRESS"
GATEWAY: Final = f"{SITE}/_gw/edge-01"
DOWNLOAD: Final = {"eq": "PRESS", "order": "4711", "set": "S", "rev": "A"}
LONG: Final = 30.0


class Process:
    """`gateway run`, and what it logged."""

    def __init__(self, folder: Path, broker: ShippedMosquitto, press: int, protocol: str, more: str = "") -> None:
        (folder / "plant").mkdir()
        text = PLANT + more
        password = broker.password_files["edge-01"]
        (folder / "plant" / "plant.yaml").write_text(
            text.format(folder=folder, broker=broker.port, press=press, protocol=protocol, password=password)
        )
        self._log = folder / "gateway.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(folder / "plant")], stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        """In good order; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(LONG)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def running(
    folder: Path, broker: ShippedMosquitto, mes: Party, protocol: str = "5", more: str = ""
) -> AsyncIterator[tuple[Process, Device]]:
    """A press that runs, and the gateway in front of it, online and in contact."""
    async with device() as press:
        await press.set(0, 1)
        process = Process(folder, broker, press.port, protocol, more)
        try:
            ready = f"{UNIT}/now/state"
            await eventually(lambda: b"RUN" in b"".join(mes.heard_on(ready)), f"RUN; {process.log}", LONG)
            yield process, press
            assert process.stop() == 0, process.log
        finally:
            process.kill()


def told(party: Party, topic: str) -> list[Any]:
    return [json.loads(payload) for payload in party.heard_on(topic) if payload]


async def final(mes: Party, topic: str, cmd: str) -> str:
    """How a command ended, by its final answer on this topic."""

    def answers() -> list[Any]:
        return [answer for answer in told(mes, topic) if answer["cmd"] == cmd and answer["final"]]

    await eventually(lambda: bool(answers()), f"the final answer to {cmd}", LONG)
    (answer,) = answers()
    return str(answer["answer"])


def forces(party: Party, unit: str) -> list[int]:
    """What the run parameters of a unit said, batch by batch."""
    return [value for batch in told(party, f"{unit}/tel") for _, _, value in batch["rows"]]
