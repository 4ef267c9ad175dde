"""What people see: on a pseudo-terminal browse draws a tree, watch a table in place; in a pipe both end when it does."""

import asyncio
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from asyncua import ua

from tests.brokers import eventually
from tests.cli.browsed_servers import press
from tests.drivers.opcua_servers import PLC, Plc

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a terminal of its own; `text` is what it wrote, without colours and cursor movements."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.raw = bytearray()

    @property
    def text(self) -> str:
        return _ESCAPES.sub("", self.raw.decode(errors="replace")).replace("\r\n", "\n")

    def take(self, master: int) -> None:
        try:
            self.raw += os.read(master, 65_536)
        except OSError:  # Linux says so when the other side has closed
            asyncio.get_running_loop().remove_reader(master)


@asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "160", "LINES": "40", "TERM": "xterm"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    made = Terminal(process)
    asyncio.get_running_loop().add_reader(master, made.take, master)
    try:
        yield made
    finally:
        asyncio.get_running_loop().remove_reader(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)


def plant(folder: Path, server: Plc) -> Path:
    """A plant of one tag."""
    device = {"driver": "opcua", "url": f"opc.tcp://127.0.0.1:{server.port}", "security": "none", "namespace": PLC}
    tags = {"count": {"node": "s=Press.Count", "type": "int32"}}
    sections = {
        "gateway": {"id": "edge", "site": "A/B"},
        "mqtt": {"host": "127.0.0.1", "port": 1883, "client_id": "edge"},
        "devices": {"PRESS": device},
        "equipment": {"A/B/PRESS": {"device": "PRESS", "tags": tags}},
    }
    (folder / "plant.yaml").write_text(yaml.safe_dump(sections))
    return folder


async def test_browse_draws_a_tree_with_the_children_under_their_parents() -> None:
    async with (
        press() as server,
        terminal("browse", f"opc.tcp://127.0.0.1:{server.port}", "--security", "none") as shown,
    ):
        assert await asyncio.wait_for(shown.process.wait(), 20) == 0
        await eventually(lambda: "Text =" in shown.text, "the tree")
    lines = [line.split("  nsu=")[0] for line in shown.text.splitlines()]
    start = lines.index("Press")
    assert lines[start + 1] == "  Broken =  BadDeviceFailure  uint16, read"
    assert lines[start + 2] == "  Count = 42  int32, read write"
    assert lines[start + 5 : start + 7] == ["  Sub", "    Deep = true  bool, read"]


async def test_a_filtered_tree_still_names_the_folders() -> None:
    async with press() as server:
        url = f"opc.tcp://127.0.0.1:{server.port}"
        async with terminal("browse", url, "--security", "none", "--filter", "*/deep") as shown:
            assert await asyncio.wait_for(shown.process.wait(), 20) == 0
            await eventually(lambda: "Deep" in shown.text, "the tree")
    lines = [line.split("  nsu=")[0] for line in shown.text.splitlines()]
    start = lines.index("Press")
    assert lines[start : start + 3] == ["Press", "  Sub", "    Deep = true  bool, read"]


async def test_watch_keeps_one_row_a_tag_with_its_latest_value(tmp_path: Path) -> None:
    async with press() as server, terminal("watch", "-c", str(plant(tmp_path, server))) as shown:
        await eventually(lambda: re.search(r"PRESS\.count +42 +Good", shown.text), "the first value", 20)
        assert "PRESS: connected" in shown.text
        await server.server.get_node(f"ns={server.index};s=Press.Count").write_value(43, ua.VariantType.Int32)
        await eventually(lambda: re.search(r"PRESS\.count +43 +Good", shown.text), "the next value")
        shown.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(shown.process.wait(), 10) == 0
    assert "Traceback" not in shown.text


async def test_watch_ends_in_silence_when_nobody_reads_its_pipe_any_more(tmp_path: Path) -> None:
    async with press() as server:
        arguments = ["-m", "gateway", "watch", "-c", str(plant(tmp_path, server))]
        pipe = asyncio.subprocess.PIPE
        ours, theirs = os.pipe()
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=theirs, stderr=pipe)
        os.close(theirs)
        first = await asyncio.to_thread(os.read, ours, 1000)
        assert b"PRESS.count\t42" in first
        os.close(ours)
        await server.server.get_node(f"ns={server.index};s=Press.Count").write_value(43, ua.VariantType.Int32)
        _, error = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, error.decode()) == (0, "PRESS: connected\n")
