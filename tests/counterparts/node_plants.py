"""Plants with an OPC UA server of node-opcua, in a process of node: it shares no line of code with asyncua or with us."""

import asyncio
import json
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.opcua_links import Record

FOLDER = Path(__file__).with_name("node_opcua")
_OLDEST = 20
"""The oldest major version of node that the pinned node-opcua runs on."""


def _missing(what: str) -> None:
    text = f"{what} to test against a second OPC UA stack"
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(text)
    pytest.skip(text)


def node() -> str:
    """The path of node, one that `make counterparts` brought before the system's own; skips aloud without."""
    path = shutil.which("node", path=os.pathsep.join([str(FOLDER / "node_modules/.bin"), os.environ.get("PATH", "")]))
    if path is None:
        _missing(f"node is not installed; install node {_OLDEST} or newer and npm, then run make counterparts")
    if not (FOLDER / "node_modules/node-opcua-server").is_dir():
        _missing("node-opcua is not installed; run make counterparts")
    version = subprocess.run([str(path), "--version"], check=True, capture_output=True, text=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < _OLDEST:
        _missing(f"node is {version.strip()}, too old for node-opcua; install node {_OLDEST} or newer")
    return str(path)


class NodeProcess:
    """One process of node that runs one plant at a time; each request is answered before the next one is sent."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "node.log"
        self._asking = threading.Lock()
        self._number = 0
        with self._log.open("wb") as errors:
            self._process = subprocess.Popen(
                [node(), FOLDER / "server.mjs", folder / "pki"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    async def ask(self, what: str, **given: Any) -> Any:
        """The answer of `what` in `node_opcua/server.mjs`; fails with what node said if it could not."""
        return await asyncio.to_thread(self._exchange, what, given)

    def _exchange(self, what: str, given: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._asking:
            self._number += 1
            self._process.stdin.write(json.dumps({"id": self._number, "do": what, "with": given}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, f"node ended:\n{self._log.read_text()}"
        answer = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer["did"]

    def close(self) -> None:
        """The end of its stdin is the end of the process."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


class NodePlant:
    """A running server; what each verb does is told in `node_opcua/plant.mjs`."""

    def __init__(self, process: NodeProcess, port: int) -> None:
        self.port = port
        self._process = process

    async def add(self, name: str, value: Any, data_type: str = "Int32", **options: Any) -> None:
        await self._process.ask("add", name=name, value=value, type=data_type, **options)

    async def write(self, name: str, value: Any) -> None:
        await self._process.ask("write", name=name, value=value)

    async def count(self, name: str, hertz: float) -> None:
        """1, 2, 3 … until `rest`."""
        await self._process.ask("count", name=name, every=round(1000 / hertz))

    async def do(self, what: str, **given: Any) -> Any:
        return await self._process.ask(what, **given)


@asynccontextmanager
async def running(process: NodeProcess, **options: Any) -> AsyncIterator[NodePlant]:
    """A plant; options as those of the constructor in `node_opcua/plant.mjs`."""
    plant = NodePlant(process, (await process.ask("start", **options))["port"])
    try:
        yield plant
    finally:
        await process.ask("stop")


def once(record: Record, name: str = "count") -> list:
    """What a counter went through: node-opcua tells the last value again, with its time, to a session that goes on."""
    return [value for value, _ in groupby(record.values(name))]
