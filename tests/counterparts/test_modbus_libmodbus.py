"""The Modbus driver against libmodbus: a server that shares no line of code with pymodbus or with us."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain.values import DataType, StatusCode, TagWrite, WriteResult
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver

SOURCE = Path(__file__).with_name("modbus_server.c")


class WallClock:
    """Time for a driver that is only read and written, never polled."""

    rate = 1.0

    def now(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits for plant time")


def missing(what: str) -> None:
    text = f"{what}; install it (apt-get install gcc libmodbus-dev) to test against a second Modbus stack"
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """The port of a running libmodbus server, compiled here; skips aloud where that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing("there is no C compiler")
    program = tmp_path_factory.mktemp("libmodbus") / "modbus_server"
    built = subprocess.run(
        [str(compiler), "-o", program, SOURCE, "-lmodbus"], check=False, capture_output=True, text=True
    )
    if built.returncode:
        missing(f"libmodbus is missing ({built.stderr.splitlines()[0]})")
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.kill()


def tag(name: str, data_type: DataType, register, **address) -> Tag[ModbusAddress]:
    return Tag(name, data_type, ModbusAddress(register=register, **address))


TAGS = [
    tag("holding", DataType.UINT16, 17),
    tag("pair", DataType.UINT32, "20-21", word_order="low_first"),
    tag("input", DataType.UINT16, 33, table="input"),
    tag("coil", DataType.BOOL, 4, table="coil"),
    tag("next_coil", DataType.BOOL, 5, table="coil"),
    tag("contact", DataType.BOOL, 9, table="discrete"),
    tag("oven", DataType.FLOAT32, "40-41"),
    tag("mode", DataType.UINT16, 50, bits="4-7"),
    tag("word", DataType.UINT16, 50),
    tag("hole", DataType.UINT16, 205),
]


async def test_another_stack_is_read_and_written_by_every_function(port):
    settings = ModbusSettings(host="127.0.0.1", port=port, timeout="10s")
    async with ModbusDriver("PLC", settings, TAGS, WallClock()) as opened:
        changes = {change.tag_id: change for change in await opened.read([tag.tag_id for tag in TAGS])}
        assert changes.pop("hole").status_code == StatusCode.BAD_NODE_ID_UNKNOWN
        values = {name: changes[name].value for name in ("holding", "pair", "input", "coil", "contact", "word")}
        assert values == {"holding": 17, "pair": 21 << 16 | 20, "input": 33, "coil": False, "contact": True, "word": 50}
        writes = {"holding": 4711, "oven": 180.5, "coil": True, "next_coil": True, "mode": 9}
        results = await opened.write([TagWrite(name, value) for name, value in writes.items()])
        assert results == [WriteResult(name) for name in writes]
        after = {change.tag_id: change.value for change in await opened.read([*writes, "word"])}
        assert after == {**writes, "word": 50 & ~0xF0 | 9 << 4}
        assert await opened.write([TagWrite("hole", 1)]) == [WriteResult("hole", StatusCode.BAD_NODE_ID_UNKNOWN)]
