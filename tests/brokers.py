"""Brokers for tests, all on free loopback ports: a real mosquitto, one that never answers, and a consumer of both."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import paho.mqtt.client as paho
import pytest

FOLDERS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])

REQUIRED = "REQUIRE_ALL"
"""Set in the environment where a missing program is a failure, not a reason to skip."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def program(name: str) -> str:
    """The path of one of mosquitto's programs; skips the test, aloud, or fails it where there is none."""
    path = shutil.which(name, path=FOLDERS)
    if path is not None:
        return path
    text = f"{name} is not installed; install it (apt-get install mosquitto) to test against a real broker"
    if os.environ.get(REQUIRED):
        pytest.fail(text)
    pytest.skip(text)


class Mosquitto:
    """One mosquitto process. It keeps its port, and its sessions if it is stopped in good order, over a restart."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(*options)

    def configure(self, *options: str) -> None:
        """Other options from the next start on; users and rights by default nobody needs."""
        lines = [
            f"listener {self.port} 127.0.0.1",
            "set_tcp_nodelay true",
            "persistence true",
            f"persistence_location {self._folder}/",
            "max_queued_messages 1000000",
            "max_inflight_messages 0",
            "user root",
            *options,
        ]
        if not any(line.startswith("allow_anonymous") for line in options):
            lines.append("allow_anonymous true")
        (self._folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> Self:
        command = [program("mosquitto"), "-c", str(self._folder / "mosquitto.conf")]
        with (self._folder / "mosquitto.log").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        until(self._answers, "mosquitto listens")
        return self

    def kill(self) -> None:
        """SIGKILL: whatever it did not write is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it saves its sessions and retained messages."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, and nothing comes out of them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP: it reads its rights and passwords again, connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def add_user(self, name: str, password: str) -> str:
        """Make a password file with one user; returns the option that uses it."""
        file = self._folder / "passwords"
        subprocess.run([program("mosquitto_passwd"), "-b", "-c", str(file), name, password], check=True)
        return f"password_file {file}"

    @property
    def database(self) -> Path:
        """Where it saves sessions and retained messages."""
        return self._folder / "mosquitto.db"

    def restart(self, *options: str) -> None:
        """In good order, with other options."""
        self.stop()
        self.configure(*options)
        self.start()

    def _end(self, how: signal.Signals) -> None:
        """Again and again: a mosquitto that is just starting forgets a SIGTERM."""
        process, self._process = self._process, None
        while process is not None and process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.5)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0


class Message(NamedTuple):
    topic: str
    payload: bytes
    retain: bool


class Consumer:
    """A plain subscriber at QoS 0: mosquitto hands it a message before it acknowledges it to the sender.

    So it has whatever was acknowledged, even by a broker that is killed in the next instant.
    """

    def __init__(self, port: int, topic: str = "#") -> None:
        self.messages: list[Message] = []
        self._subscribed = False
        self._topic = topic
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False)
        self._client.on_connect = lambda client, *_: client.subscribe(topic)
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.on_message = lambda _, __, m: self.messages.append(Message(m.topic, bytes(m.payload), m.retain))
        self._port = port

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        until(lambda: self._subscribed, "the consumer is subscribed")
        return self

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def hear_out(self) -> None:
        """After the broker's end: read what it had already sent, and close."""
        until(lambda: not self._client.is_connected(), "the connection is at its end")
        self.close()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, **properties: object) -> None:
        """Publish and wait until the broker has it."""
        given = paho.Properties(paho.PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(given, name, value)
        self._client.publish(topic, payload, qos=qos, retain=retain, properties=given).wait_for_publish(5)

    def payloads(self, prefix: str = "") -> list[bytes]:
        return [message.payload for message in list(self.messages) if message.topic.startswith(prefix)]


@asynccontextmanager
async def mute_broker() -> AsyncIterator[int]:
    """A server that takes every connection and never says a word; yields its port."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.read(1_000):
            pass
        writer.close()

    async with speaking_broker(listen) as port:
        yield port
    for writer in writers:
        writer.close()


@asynccontextmanager
async def speaking_broker(talk: Callable) -> AsyncIterator[int]:
    """A server that treats each connection as `talk(reader, writer)` does; yields its port."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Gate:
    """A door in front of a broker: closed, it refuses connections, and cuts those there are."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0.001)

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """What is passed on first; `OldGate` looks at it."""
        return await reader.read(65_536)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            greeting = await self.greet(reader, writer)
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(there_writer)
            there_writer.write(greeting)
            try:
                await asyncio.gather(self._carry(reader, there_writer), self._carry(there_reader, writer))
            finally:
                self._writers.discard(there_writer)
                there_writer.close()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


class OldGate(Gate):
    """A door that makes a broker one of before 2019: MQTT 5 gets the refusal of 3.1.1 (§3.2.2.3), code 1."""

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        connect = await reader.read(65_536)
        if connect[connect.index(b"MQTT") + 4] > 4:
            writer.write(b"\x20\x02\x00\x01")
            await writer.drain()
            raise ConnectionError("unacceptable protocol version")
        return connect


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Wait until it holds; fails with `what` otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.002)


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """`until` for the event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        await asyncio.sleep(0.002)
