"""The small scenario, a line whose time the test moves, and the processes that tests talk to."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from simulators.clock import PlayClock
from simulators.models.line import Line
from simulators.servers.play import Device, Play

DEMO = Path(__file__).parents[2] / "simulators" / "scenarios" / "demo.yaml"

# Ten minutes. The filler makes 1 bottle/s: 100 s, 10 s jam, 100 s; the first 10 are scrap, so 190 are good. They reach
# the labeller 20 s later, which rejects the first 10, so 180 are packed: 18 cases of 10, 3 full pallets of 5 cases and
# one of 3.
SMALL = """
name: small
start: "2026-03-02T23:55:00Z"
end: "2026-03-03T00:05:00Z"
line: ACME/HZ/PACK/L1
debounce_s: 5
micro_stop_s: 120
stale_after_s: 30
orders:
  "81":
    {material: P-1, qty: 190, lot: 81-L1, ops: {FIL01: "10", LBL01: "20", PAL01: "30"}, sets: {FIL01: FS, LBL01: LS}}
filler:
  bottles_per_s: 1
  handshake_s: 2
  produced: {start: 950, max: 999}
  scrap: {start: 7, max: 999}
  timeline:
    - {at: "23:55:00", state: 4, mode: 1, reason: 0, starved: false, order: null}
    - {at: "23:56:00", state: 6, order: "81"}
    - {at: "23:57:40", state: 11, reason: 2107}
    - {at: "23:57:50", state: 6, reason: 0}
    - {at: "23:59:30", state: 4, order: null}
  scrap_windows: [["23:56:00", "23:56:10"]]
  permit: [["23:55:00", "23:59:30"]]
labeller:
  transit_s: 20
  handshake_s: 2
  warm_up: ["23:55:00", "23:55:40"]
  remote_from: "23:55:30"
  permit: [["23:55:00", "23:59:50"]]
  total_in: {start: 65500, max: 65535}
  good: {start: 0, max: 65535}
  reject: {start: 0, max: 65535}
  energy: {start_raw: 65530, kw: 36, kwh_per_raw: 0.1}
  reject_windows: [["23:56:30", "23:56:40"]]
  device_max: {oven_sp: 180.0}
palletiser: {bottles_per_case: 10, cases_per_pallet: 5, order_end: {"81": "00:00:30"}}
checkweigher: {every_s: 30, characteristic: fill_weight, limits_of: fill_volume, out_of_spec: ["23:59:00"]}
alarms:
  - {eq: FIL01, code: "2107", raise: "23:57:42", ack: "23:57:45", clear: "23:57:49"}
  - {eq: LBL01, code: "3301", raise: "23:58:00", ack: "23:58:40", clear: "23:58:20"}
  - {eq: PAL01, code: "4010", raise: "23:58:00", ack: "23:58:10", clear: "23:58:30"}
chatter:
  - {eq: LBL01, code: "3310", at: "23:59:00", pulses: 3, on_s: 1, off_s: 1, on_delay_s: 3}
parameter_sets:
  FS:
    A: {fill_volume: {value: 500.0, unit: mL, min: 495, max: 505, class: golden}}
    B: {fill_volume: {value: 330.0, unit: mL, min: 328, max: 334, class: golden}}
  LS: {A: {oven_sp: {value: 175.0, unit: Cel, min: 165, max: 190, class: trim}}}
commands:
  - {at: "23:55:10", type: dispatch.order, cmd: D1, order: "81", start: "23:56:00"}
  - {at: "23:55:20", type: params.download, cmd: C1, eq: FIL01, order: "81", set: FS, rev: B, result: ACTIVE,
     done: "23:55:22"}
faults: []
"""


class Stage:
    """A play whose time stands where the test puts it."""

    def __init__(self, line: Line) -> None:
        # At the epoch 2**40 plant time has not begun: only `to` moves it.
        self.play = Play(line, PlayClock(line.scenario, epoch=2.0**40, speed=1))
        self.line = line
        self.devices: list[Device] = []

    async def to(self, seconds: float) -> None:
        """Bring the line to that second and let every device show it."""
        self.line.advance_to(round(seconds * 1000))
        for device in self.devices:
            await device.publish()


@asynccontextmanager
async def opened(stage: Stage, device: Device) -> AsyncIterator[Device]:
    """The device, listening, its scans shown by the stage."""
    await device.open()
    stage.devices.append(device)
    try:
        yield device
    finally:
        await device.close()


async def eventually(condition: Callable[[], Any], seconds: float = 5) -> None:
    """Wait until the condition holds; fail after that many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def simulator(*arguments: str, stderr: int | None = None, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`python -m simulators …` as its own process, ended by SIGTERM if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators", *arguments], stdout=subprocess.PIPE, stderr=stderr, stdin=stdin, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The ready line of a simulator."""
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def wait_for_port(port: int) -> None:
    """Wait until somebody listens there."""
    deadline = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.02)
        else:
            return
