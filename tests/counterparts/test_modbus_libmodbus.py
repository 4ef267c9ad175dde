"""The Modbus driver against libmodbus: a server that shares no line of code with pymodbus or with us."""

import asyncio
import os
import shutil
import subprocess
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from gateway.domain.values import DataType, StatusCode, TagWrite, WriteResult
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver

SOURCE = Path(__file__).with_name("modbus_server.c")


class WallClock:
    """Time for a driver that is only read and written, never polled."""

    rate = 1.0
    jumped = 0

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
def program(tmp_path_factory) -> Path:
    """The libmodbus server, compiled here; skips aloud where that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing("there is no C compiler")
    made: Path = tmp_path_factory.mktemp("libmodbus") / "modbus_server"
    command = [str(compiler), "-Wall", "-o", made, SOURCE, "-lmodbus"]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode:
        missing(f"libmodbus is missing ({built.stderr.splitlines()[0]})")
    return made


@contextmanager
def running(*command: object) -> Iterator[int]:
    """The server as a process; what it prints when it listens."""
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@pytest.fixture(scope="module")
def port(program) -> Iterator[int]:
    """The port of a running Modbus TCP server with the units 1 to 3."""
    with running(program) as port:
        yield port


@asynccontextmanager
async def serial_line(program: Path, *units: int) -> AsyncIterator[str]:
    """A line with these units, a process each, where all hear what one sends, as on RS-485; the path of its end."""
    loop, opened = asyncio.get_running_loop(), ExitStack()
    with opened:
        own, path = _pty(opened)
        ends = [_pty(opened) for _ in units]
        for unit, (_, end) in zip(units, ends, strict=True):
            opened.enter_context(running(program, end, unit))
        everybody = [own, *(other for other, _ in ends)]
        for source in everybody:
            loop.add_reader(source, _pass_on, source, [sink for sink in everybody if sink != source])
            opened.callback(loop.remove_reader, source)
        yield path


def _pty(opened: ExitStack) -> tuple[int, str]:
    """One end to read and write here, and the path of the other, which stays open until the end."""
    own, other = os.openpty()
    opened.callback(os.close, own)
    opened.callback(os.close, other)
    tty.setraw(other)
    return own, os.ttyname(other)


def _pass_on(source: int, sinks: list[int]) -> None:
    data = os.read(source, 512)
    for sink in sinks:
        os.write(sink, data)


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
SERIAL = {"transport": "rtu", "parity": "none"}  # a pty has no parity bit, and Linux says so


def driver(keys: dict, tags=TAGS) -> ModbusDriver:
    """One unit of the server."""
    return ModbusDriver("PLC", ModbusSettings.model_validate({"timeout": "10s", **keys}), tags, WallClock())


WRITES = {"holding": 4711, "oven": 180.5, "coil": True, "next_coil": True, "mode": 9}


async def read_and_write_everything(opened: ModbusDriver) -> None:
    """FC1-FC6, FC15, FC16 (or FC23) and FC22, and what the device says when it refuses."""
    changes = {change.tag_id: change for change in await opened.read([tag.tag_id for tag in TAGS])}
    assert changes.pop("hole").status_code == StatusCode.BAD_NODE_ID_UNKNOWN
    values = {name: changes[name].value for name in ("holding", "pair", "input", "coil", "contact", "word")}
    assert values == {
        "holding": 1017, "pair": 1021 << 16 | 1020, "input": 1033, "coil": False, "contact": True, "word": 1050,
    }  # fmt: skip
    results = await opened.write([TagWrite(name, value) for name, value in WRITES.items()])
    assert results == [WriteResult(name) for name in WRITES]
    after = {change.tag_id: change.value for change in await opened.read([*WRITES, "word"])}
    assert after == {**WRITES, "word": 1050 & ~0xF0 | 9 << 4}
    assert await opened.write([TagWrite("hole", 1)]) == [WriteResult("hole", StatusCode.BAD_NODE_ID_UNKNOWN)]


FUNCTIONS = {"FC6 and FC16": {}, "FC23": {"read_write_multiple": True}}


@pytest.mark.parametrize("functions", FUNCTIONS)
async def test_another_stack_is_read_and_written_by_every_function_over_tcp(program, functions):
    with running(program) as port:
        async with driver({"host": "127.0.0.1", "port": port, **FUNCTIONS[functions]}) as opened:
            await read_and_write_everything(opened)


@pytest.mark.parametrize("functions", FUNCTIONS)
async def test_another_stack_is_read_and_written_by_every_function_on_a_serial_line(program, functions):
    async with (
        serial_line(program, 1) as path,
        driver({**SERIAL, "port": path, **FUNCTIONS[functions]}) as opened,
    ):
        await read_and_write_everything(opened)


async def test_the_longest_reply_of_another_stack_comes_whole_over_a_serial_line(program):
    words = [tag(f"w{at}", DataType.UINT16, at) for at in range(125)]
    async with serial_line(program, 1) as path, driver({**SERIAL, "port": path}, words) as opened:
        assert [change.value for change in await opened.read([word.tag_id for word in words])] == [*range(1000, 1125)]
        assert opened.statistics.requests == 1


def own_register(unit: int) -> Tag[ModbusAddress]:
    return tag(f"unit{unit}", DataType.UINT16, 7)


async def test_units_of_one_endpoint_are_told_apart_by_another_stack_and_an_absent_one_is_bad(port):
    async with AsyncExitStack() as opened:
        seen = []
        for unit in (1, 2, 3, 4):
            keys = {"host": "127.0.0.1", "port": port, "unit_id": unit}
            one = await opened.enter_async_context(driver(keys, [own_register(unit)]))
            seen += [(change.value, change.status_code) for change in await one.read([f"unit{unit}"])]
    assert seen == [(1007, 0), (2007, 0), (3007, 0), (None, StatusCode.BAD_NOT_CONNECTED)]


async def test_two_units_on_one_serial_line_are_read_in_turn(program):
    async with (
        serial_line(program, 1, 2) as path,
        driver({**SERIAL, "port": path, "unit_id": 1}, [own_register(1)]) as one,
        driver({**SERIAL, "port": path, "unit_id": 2}, [own_register(2)]) as two,
    ):
        for _ in range(20):
            assert [change.value for change in await one.read(["unit1"])] == [1007]
            assert [change.value for change in await two.read(["unit2"])] == [2007]


async def test_a_unit_that_is_not_on_the_serial_line_is_lost_and_its_neighbour_is_read_on(program):
    """libmodbus waits for the absent unit's reply and takes the next request for it: that one is repeated."""
    patient = {"unit_id": 1, "timeout": "1s", "retries_before_lost": 5, "quiet_time": "100ms"}
    absent = {"unit_id": 9, "timeout": "200ms", "retries_before_lost": 0, "quiet_time": "100ms"}
    async with (
        serial_line(program, 1) as path,
        driver({**SERIAL, "port": path, **patient}, [own_register(1)]) as one,
        driver({**SERIAL, "port": path, **absent}, [own_register(9)]) as nine,
    ):
        with pytest.raises(LinkLost, match=rf"{path} unit 9: no answer within 0\.2 s"):
            await nine.read(["unit9"])
        for _ in range(5):
            assert [change.value for change in await one.read(["unit1"])] == [1007]
