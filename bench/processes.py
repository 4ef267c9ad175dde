"""The parts of a measurement as processes: started, asked, weighed, ended."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

PATIENCE = 120.0
"""Seconds in which a part must be up, or have answered."""


class Spent(NamedTuple):
    """What a process used: CPU seconds of all its threads, resident bytes."""

    cpu: float
    rss: int


class Part:
    """One child process; `with` ends it whatever happens. `core` pins it; what it complains of goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path, core: int | None = None) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules, and a mosquitto found on the path
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._weighed = psutil.Process(self._process.pid)
        if core is not None and hasattr(self._weighed, "cpu_affinity"):
            self._weighed.cpu_affinity([core])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)

    def hear(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: {self._process.args} ended too early; it said:\n{self._log.read_text()[-2000:]}")
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self, line: str) -> dict[str, Any]:
        """Say a line and hear the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.hear()

    def spent(self) -> Spent:
        """Up to now."""
        times = self._weighed.cpu_times()
        return Spent(times.user + times.system, self._weighed.memory_info().rss)


def module(name: str, *arguments: str, folder: Path, core: int | None = None) -> Part:
    """A part that is run as `python -m name`."""
    return Part([sys.executable, "-m", name, *arguments], folder / f"{name}.log", core)


def mosquitto(folder: Path, core: int | None = None, *, inflight: int = 0) -> tuple[Part, int]:
    """A broker on a free loopback port that loses nothing by its own limits; and that port.

    `inflight` is how many messages it sends without an acknowledgement, 0 for any number; as installed it has 20.
    """
    program = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if program is None:
        raise SystemExit("bench: mosquitto is not installed; install it: apt-get install mosquitto")
    port = free_port()
    configuration = folder / "mosquitto.conf"
    options = [
        "max_queued_messages 1000000",
        "max_queued_bytes 0",
        f"max_inflight_messages {inflight}",
        "set_tcp_nodelay true",
    ]
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", *options]
    configuration.write_text("\n".join(lines) + "\n")
    part = Part([program, "-c", str(configuration)], folder / "mosquitto.log", core)
    wait_for_port(port)
    return part, port


def wait_for_port(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise SystemExit(f"bench: nothing listens on port {port} after {PATIENCE:g} s")


def free_port() -> int:
    """A loopback port that nobody uses just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
