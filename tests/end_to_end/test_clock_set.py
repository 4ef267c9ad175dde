"""R21: somebody sets the clock of the box while `gateway run` is at work; libfaketime does, and only for the gateway."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import REQUIRED, Consumer, Mosquitto, eventually
from tests.drivers.modbus_devices import Device, device

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}}}
devices:
  PRESS: {{driver: modbus, host: 127.0.0.1, port: {press}, poll_interval: 50ms}}
equipment:
  ACME/HZ/A/L1/PRESS:
    device: PRESS
    count_window: 1s
    tags:
      remote: {{register: 0, type: uint16}}
      force: {{register: 1, type: uint16}}
      pieces: {{register: 2, type: uint16}}
    state: {{rules: [{{to: RUN, when: "remote == 1", debounce: 0s}}, {{to: IDLE, when: "true"}}]}}
    counters: {{good: {{tag: pieces, max: 65535, max_rate: 1000/s}}}}
    download:
      conditions: {{remote_mode: "remote == 1"}}
      parameters: {{force: {{tag: force, min: 0, max: 900, class: trim}}}}
"""
UNIT = "mfg/v1/ACME/HZ/A/L1/PRESS"
LIBRARIES = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/opt/homebrew/lib/faketime/*.dylib",
)


def library() -> str:
    """libfaketime; without it the test is skipped, aloud, or fails where nothing may be skipped."""
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]
    if found:
        return str(found[0])
    text = "libfaketime is not installed; install it (apt-get install faketime) to set a process's clock"
    if os.environ.get(REQUIRED):
        pytest.fail(text)
    pytest.skip(text)


class Box:
    """The gateway's process, and the clock that it is shown."""

    def __init__(self, folder: Path, consumer: Consumer, press: Device) -> None:
        self.consumer = consumer
        self.pieces = 0
        self._clock = folder / "clock"
        self._press = press

    def set_clock(self, seconds: int) -> None:
        """So many seconds from the true time."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._clock)

    async def work(self, pieces: int) -> None:
        """The press makes one every 20 ms."""
        for _ in range(pieces):
            self.pieces += 1
            await self._press.set(2, self.pieces)
            await asyncio.sleep(0.02)

    def told(self, topic: str) -> list[Any]:
        return [json.loads(payload) for payload in self.consumer.payloads(topic) if payload]

    @property
    def counted(self) -> int:
        return sum(event["data"]["delta"] for event in self.told(f"{UNIT}/evt/production.count"))

    @property
    def jumps(self) -> list[float]:
        return [event["data"]["jump_s"] for event in self.told("mfg/v1/ACME/HZ/_gw/edge-01/evt/gateway.clock")]

    async def download(self, cmd: str, force: int) -> str:
        body = {"cmd": cmd, "eq": "PRESS", "set": "S", "rev": "A", "items": [{"name": "force", "value": force}]}
        self.consumer.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode())

        def final() -> list[Any]:
            return [one for one in self.told(f"{UNIT}/res/") if one["cmd"] == cmd and one["final"]]

        await eventually(lambda: bool(final()), f"the final answer to {cmd}", 30)
        return str(final()[0]["answer"])


@asynccontextmanager
async def box(folder: Path, broker: int) -> AsyncIterator[Box]:
    """The gateway in a process of its own, counting at the press."""
    config = folder / "config"
    config.mkdir()
    preload = library()
    async with device() as press:
        await press.set(0, 1)
        (config / "plant.yaml").write_text(PLANT.format(folder=folder, broker=broker, press=press.port))
        with Consumer(broker) as consumer:
            there = Box(folder, consumer, press)
            there.set_clock(0)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "run", "-c", str(config), stderr=asyncio.subprocess.DEVNULL,
                env=os.environ | {
                    "LD_PRELOAD": preload, "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
                },
            )  # fmt: skip
            try:
                await eventually(lambda: bool(there.told(f"{UNIT}/evt/equipment.state")), "the press runs", 30)
                yield there
            finally:
                process.terminate()
                assert await process.wait() == 0


async def test_r21_the_clock_is_set_an_hour_forward_and_two_back_and_nobody_downstream_suffers(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with box(tmp_path, mosquitto.port) as gateway:
        await gateway.work(50)
        gateway.set_clock(3_600)
        await gateway.work(20)
        assert await gateway.download("D1", 150) == "done"
        await eventually(lambda: len(gateway.jumps) == 1, "the first jump is told", 30)
        await gateway.work(50)
        gateway.set_clock(-3_600)
        await gateway.work(20)
        assert await gateway.download("D2", 250) == "done"
        await eventually(lambda: len(gateway.jumps) == 2, "the second jump is told", 30)
        await gateway.work(50)
        await eventually(lambda: gateway.counted == gateway.pieces, "every piece is counted, and none twice", 30)
        events = gateway.told(f"{UNIT}/evt/")
        jumps = gateway.jumps
    assert [round(jump, -1) for jump in jumps] == [3_600, -7_200]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), "order is told by seq"
    assert len({event["id"] for event in events}) == len(events), "no id is given to two facts"
    states = [event["data"]["to"] for event in events if event["type"] == "equipment.state"]
    assert "UNKNOWN" not in states
    stamps = [event["t_gw"] for event in events]
    assert stamps == sorted(stamps), "the gateway's time never goes back"
    record_property(
        "figure", f"{gateway.pieces} of {gateway.pieces} pieces, {len(events)} events in order, 2 jumps told, 0 UNKNOWN"
    )
