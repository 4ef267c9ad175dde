"""The stage for the reliability cases of the uplink: an ear at the broker, and processes that are killed and asked."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import paho.mqtt.client as paho

from tests.brokers import Consumer, eventually

ROOT: Final = Path(__file__).parents[2]
LONG: Final = 60.0
IS_FULL: Final = bool(os.environ.get("FULL"))


class Heard(NamedTuple):
    """A message as it came, when by the wall clock, and what the user property `historical` says of it."""

    topic: str
    payload: bytes
    historical: str | None
    at: float

    @property
    def body(self) -> Any:
        return json.loads(self.payload)


class Ear(Consumer):
    """Hears everything, at QoS 0: so it has whatever the broker acknowledged."""

    def __init__(self, port: int, topic: str = "#") -> None:
        super().__init__(port, topic)
        self.heard: list[Heard] = []
        self._client.on_message = self._note

    def _note(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        properties = dict(getattr(message.properties, "UserProperty", []))
        self.heard.append(
            Heard(message.topic, bytes(message.payload), properties.get("historical"), time.time()),
        )


class Process:
    """A program of ours: what it says line by line in JSON, its log, and its end. `with` kills what is left of it."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.said: list[dict[str, Any]] = []
        self.began = time.time()
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]

    @property
    def now(self) -> dict[str, Any]:
        """The last thing it said; nothing before the first."""
        return self.said[-1] if self.said else defaultdict(int)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def tell(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words.encode() + b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        self._process.kill()
        self._end()

    def _end(self) -> int:
        code = self._process.wait(LONG)
        self._reader.join()
        assert self._process.stdin is not None
        self._process.stdin.close()
        return code

    async def stop(self) -> dict[str, Any]:
        """In good order, by the word `stop`; the last thing that it said."""
        self.tell("stop")
        assert await asyncio.to_thread(self._end) == 0, self.log
        return self.now

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as out:
            for line in out:
                if line.endswith(b"\n"):
                    self.said.append(json.loads(line))


def writer(
    folder: Path, port: int, *, rate: float = 0, limit: int | None = None, pace: float = 1, **mqtt: object
) -> Process:
    """The uplink as a process, on the record in that folder; see `uplink_writer`. `pace` is that of its backoff."""
    given = {
        "store": str(folder / "record.db"), "rate": rate, "limit": limit, "pace": pace,
        "mqtt": {"client_id": "edge", "port": port, **mqtt},
    }  # fmt: skip
    return Process(["tests.end_to_end.uplink_writer", json.dumps(given)], folder / "writer.log")


class Verdict(NamedTuple):
    """What a checker found in what came: by topic the last number, and which messages came again."""

    last: dict[str, int]
    repeats: list[int]
    """Their places in what was heard."""


def judge(heard: Sequence[Heard], may_miss: str = "nothing") -> Verdict:
    """Hold what came against the promise: per stream 1, 2, 3 … as first seen, and a repeat byte for byte the same.

    Topics that end in `may_miss` may have holes.
    """
    first: dict[tuple[str, int], bytes] = {}
    last: dict[str, int] = defaultdict(int)
    repeats = []
    for place, one in enumerate(heard):
        seq, before = one.body["seq"], last[one.topic]
        if seq <= before:
            assert first.get((one.topic, seq)) == one.payload, f"{one.topic} {seq} came again, and not the same"
            repeats.append(place)
            continue
        assert seq == before + 1 or one.topic.endswith(may_miss), f"{one.topic}: {seq} came behind {before}"
        last[one.topic] = seq
        first[one.topic, seq] = one.payload
    return Verdict(last, repeats)


def of_machines(heard: Iterable[Heard]) -> list[Heard]:
    """Without the status topic."""
    return [one for one in list(heard) if one.topic.endswith(("/evt", "/tel"))]


async def came(ear: Ear, count: int, process: Process) -> None:
    """Wait until so many messages of the machines have come, repeats included."""
    await eventually(lambda: len(of_machines(ear.heard)) >= count, f"{count} messages; {process.log}", LONG)
