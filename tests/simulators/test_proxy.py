"""The fault proxy between real sockets, and as a command."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from stages import eventually, ready, simulator

from simulators.proxy import FaultProxy
from simulators.proxy_command import parse_line
from tests.stopwatch import Stopwatch


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while content := await reader.read(1000):
                writer.write(content)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)


class Caller:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, content: bytes, seconds: float = 5) -> bytes:
        self.writer.write(content)
        async with asyncio.timeout(seconds):
            return await self.reader.readexactly(len(content))


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def line() -> AsyncIterator[tuple[FaultProxy, Caller]]:
    """A proxy before an echo, and a caller connected through it."""
    async with echo() as port, FaultProxy(port) as proxy, caller(proxy.port) as made:
        yield proxy, made


async def test_without_a_fault_all_goes_through_and_is_counted() -> None:
    async with line() as (proxy, far):
        content = bytes(range(256)) * 1000
        assert await far.ask(content) == content
        counted = proxy.statistics
        assert (counted.connections, counted.bytes_up, counted.bytes_down) == (1, 256_000, 256_000)


async def test_a_cut_resets_the_connection_and_the_next_one_is_taken() -> None:
    async with line() as (proxy, far):
        await far.ask(b"before")
        assert proxy.cut() == 1
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await far.ask(b"after")
        async with caller(proxy.port) as again:
            assert await again.ask(b"again") == b"again"
        assert proxy.statistics.cut == 1


async def test_a_refused_port_refuses_and_is_the_same_when_it_accepts_again() -> None:
    async with line() as (proxy, far):
        await far.ask(b"before")
        port = proxy.port
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await proxy.accept()
        assert proxy.port == port
        async with caller(port) as again:
            assert await again.ask(b"again") == b"again"


async def test_a_frozen_line_stays_open_takes_callers_says_nothing_and_loses_nothing() -> None:
    async with line() as (proxy, far):
        await far.ask(b"before")
        proxy.freeze()
        with pytest.raises(TimeoutError):
            await far.ask(b"frozen", seconds=0.1)
        async with caller(proxy.port) as second:
            with pytest.raises(TimeoutError):
                await second.ask(b"second", seconds=0.1)
            assert proxy.statistics.bytes_up == 6, "only what came before the frost"
            proxy.thaw()
            assert await far.reader.readexactly(6) == b"frozen"
            assert await second.reader.readexactly(6) == b"second"


async def test_a_delay_is_added_to_each_way_and_does_not_slow_what_follows() -> None:
    async with line() as (proxy, far):
        proxy.delay(0.1)
        started = time.monotonic()
        with Stopwatch() as both_ways:
            assert await far.ask(b"x" * 100_000, seconds=20) == b"x" * 100_000
        assert time.monotonic() - started >= 0.2
        assert both_ways.seconds < 0.8, "two ways of 0.1 s, however many chunks went"
        proxy.delay(0, "down")
        started = time.monotonic()
        with Stopwatch() as one_way:
            await far.ask(b"one way", seconds=20)
        assert time.monotonic() - started >= 0.1
        assert one_way.seconds < 0.19


async def test_a_trickle_comes_byte_by_byte() -> None:
    async with line() as (proxy, far):
        proxy.trickle(1, 0.005, "down")
        far.writer.write(b"0123456789")
        pieces = [await far.reader.read(100)]
        while sum(map(len, pieces)) < 10:
            pieces.append(await far.reader.read(100))
        assert b"".join(pieces) == b"0123456789"
        assert len(pieces) >= 5


async def test_every_tenth_byte_arrives_with_one_wrong_bit_whatever_the_chunks() -> None:
    async with line() as (proxy, far):
        proxy.corrupt(10, "down")
        came = b"".join([await far.ask(bytes(7)) for _ in range(10)])
        assert [at for at, byte in enumerate(came) if byte] == [9, 19, 29, 39, 49, 59, 69]
        assert {byte for byte in came if byte} == {0x40}
        assert proxy.statistics.corrupted == 7
        await proxy.clear()
        assert await far.ask(bytes(50)) == bytes(50)


async def test_a_target_that_is_not_there_ends_the_call_and_not_the_proxy() -> None:
    async with echo() as port:
        proxy = FaultProxy(port)
    async with proxy:
        async with caller(proxy.port) as far:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await far.ask(b"anybody?")
        assert proxy.statistics.failed == 1


@pytest.mark.parametrize(
    "text", ["delay", "delay 5", "trickle 1", "corrupt all", "cut it", "wait", "delay 1s sideways"]
)
def test_a_line_that_is_wrong_is_told_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text}.*: write "):
        parse_line(text)


async def test_the_command_obeys_a_script_and_answers_each_line_with_figures(tmp_path: Path) -> None:
    script = tmp_path / "faults.txt"
    script.write_text("delay 20ms up   # a slow line\nwait 10ms\ncut\nquit\n")
    async with echo() as port:
        with simulator("proxy", "--to", f"127.0.0.1:{port}", "--script", str(script)) as process:
            assert process.wait(timeout=20) == 0
            assert process.stdout is not None
            answers = [json.loads(text) for text in process.stdout]
    assert [answer["did"] for answer in answers[1:]] == ["delay 20ms up", "wait 10ms", "cut"]
    assert answers[-1]["connections"] == 0


async def test_the_command_obeys_stdin_and_a_script_with_a_mistake_is_refused_whole(tmp_path: Path) -> None:
    async with echo() as port:
        with simulator("proxy", "--to", f"127.0.0.1:{port}", stdin=-1) as process:
            own = int(ready(process)["ready"]["proxy"].rpartition(":")[2])
            assert process.stdin is not None
            assert process.stdout is not None
            async with caller(own) as far:
                assert await far.ask(b"hello") == b"hello"
                process.stdin.write("nonsense\nfreeze\n")
                process.stdin.flush()
                assert "no such word" in json.loads(process.stdout.readline())["error"]
                assert json.loads(process.stdout.readline()) == {
                    "did": "freeze", "connections": 1, "failed": 0, "cut": 0, "bytes_up": 5, "bytes_down": 5, "corrupted": 0,
                }  # fmt: skip
            process.stdin.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0

    script = tmp_path / "faults.txt"
    script.write_text("cut\n\nfreze\n")
    with simulator("proxy", "--to", "127.0.0.1:1", "--script", str(script), stderr=-1) as process:
        assert process.wait(timeout=20) == 2
        assert process.stderr is not None
        assert f"{script}:3: 'freze': no such word" in process.stderr.read()


async def test_all_is_closed_when_the_block_is_left() -> None:
    async with echo() as port:
        async with FaultProxy(port) as proxy:
            proxy.freeze()
            async with caller(proxy.port) as far:
                far.writer.write(b"held")
                await eventually(lambda: proxy.statistics.connections == 1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "proxied connection"]
