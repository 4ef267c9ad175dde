"""Commands: how long an answer takes, a download of fifty parameters, and a hundred thousand commands at once."""

import json
import os
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho

from bench.parameter_device import ACKNOWLEDGED, BEAT, COMMAND, ERROR, STATUS
from bench.processes import PATIENCE, Part, module, mosquitto

PARAMETERS = 50
ASKED = 1_000
"""Commands of which the time is taken, one after the other; within the burst that the gateway takes."""
FLOOD = 100_000
ON_THEIR_WAY = 20_000
"""Commands that the broker may not have yet: of more than 65,535 paho forgets some, as their ids come again."""
SITE = "mfg/v1/BENCH/SITE"
UNIT = f"{SITE}/AREA/LINE/PRESS"


class Times(NamedTuple):
    """Milliseconds: the middle, and what one in a hundred exceeds."""

    p50: float
    p99: float


class Flood(NamedTuple):
    """What came of a flood: answers by kind, seconds, resident bytes, the longest pause between values in ms."""

    answers: Counter[str]
    seconds: float
    rss_before: int
    rss_most: int
    pause_before: float
    pause_most: float


class Figures(NamedTuple):
    """Everything of one run."""

    fsync: Times
    answer: Times
    accepted: Times
    download: Times
    fifty: Times
    fifty_by_number: Times
    writes: int
    flood: Flood


class Mes:
    """A client that sends commands and waits for their answers."""

    def __init__(self, port: int) -> None:
        self.answers: Counter[str] = Counter()
        self.beats: list[float] = []
        self._wanted: tuple[str, bool] = ("", True)
        self._answered = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = self._hear
        self._client.on_socket_open = lambda _, __, sock: sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        wanted = [(f"{SITE}/+/+/+/res/#", 1), (f"{SITE}/res/#", 1), (f"{UNIT}/tel", 1)]
        self._client.on_connect = lambda client, *_: client.subscribe(wanted)
        self._sender = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._sender.max_inflight_messages_set(1_000)
        self._sender.on_socket_open = self._client.on_socket_open
        for client in (self._client, self._sender):
            client.connect("127.0.0.1", port)
            client.loop_start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self._client, self._sender):
            client.disconnect()
            client.loop_stop()

    def _hear(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("/tel"):
            self.beats.append(time.perf_counter())
        elif "/res/" in message.topic:
            answer = json.loads(message.payload)
            self.answers[answer["codes"][0] if answer["codes"] else answer["answer"]] += 1
            cmd, is_final = self._wanted
            if answer["cmd"] == cmd and (answer["final"] or not is_final):
                self._answered.set()

    def send(self, topic: str, body: dict[str, Any]) -> paho.MQTTMessageInfo:
        """Without waiting."""
        return self._sender.publish(topic, json.dumps(body), qos=1)

    def ask(self, topic: str, body: dict[str, Any], *, final: bool = True) -> float:
        """Milliseconds until the answer, or the first one."""
        self._wanted = body["cmd"], final
        self._answered.clear()
        began = time.perf_counter()
        self.send(topic, body)
        if not self._answered.wait(PATIENCE):
            raise SystemExit(f"bench: no answer to {body['cmd']}; answers so far: {dict(self.answers)}")
        return 1000 * (time.perf_counter() - began)


def measure() -> Figures:
    """All of it, once."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, _running(Path(name)) as (mes, gateway, device):
        arrival = {"material": "LBL-330", "eta": "2026-03-02T08:00:00Z"}
        answers = [mes.ask(f"{SITE}/cmd/material.arrival", {"cmd": f"A{n}", **arrival}) for n in range(ASKED)]
        single = [mes.ask(*_download(f"C{n}", 1, n)) for n in range(ASKED // 5)]
        device.ask("report")
        fifty = [mes.ask(*_download(f"D{n}", PARAMETERS, n)) for n in range(20)]
        writes = round(device.ask("report")["writes"] / len(fifty))
        numbered = [mes.ask(*_download(f"E{n}", PARAMETERS, n, unit="NUMBERED")) for n in range(20)]
        accepted = [_accepted(mes, n) for n in range(ASKED // 5)]
        flood = _flood(mes, gateway)
        return Figures(
            _times(_fsyncs(Path(name))), _times(answers), _times(accepted), _times(single), _times(fifty),
            _times(numbered), writes, flood,
        )  # fmt: skip


def _accepted(mes: Mes, number: int) -> float:
    """Until the first answer; the download itself is waited for before the next one."""
    waited = mes.ask(*_download(f"F{number}", 1, number), final=False)
    mes.ask(*_download(f"F{number}", 1, number))
    return waited


def _flood(mes: Mes, gateway: Part) -> Flood:
    """As many commands as one client can send, while the machine's values are read on."""
    rss, before = gateway.spent().rss, _longest_pause(mes)
    mes.answers.clear()
    mes.beats.clear()
    most, began = rss, time.perf_counter()
    arrival = {"material": "LBL-330", "eta": "2026-03-02T08:00:00Z"}
    sent: deque[paho.MQTTMessageInfo] = deque()
    for number in range(FLOOD):
        sent.append(mes.send(f"{SITE}/cmd/material.arrival", {"cmd": f"X{number}", **arrival}))
        if len(sent) > ON_THEIR_WAY:
            sent.popleft().wait_for_publish(PATIENCE)
        if number % 5_000 == 0:
            most = max(most, gateway.spent().rss)
    while mes.answers.total() < FLOOD and time.perf_counter() < began + PATIENCE:
        time.sleep(0.1)
        most = max(most, gateway.spent().rss)
    return Flood(mes.answers.copy(), time.perf_counter() - began, rss, most, before, _longest_of(mes.beats))


def _longest_pause(mes: Mes, seconds: float = 5.0) -> float:
    mes.beats.clear()
    time.sleep(seconds)
    return _longest_of(list(mes.beats))


def _longest_of(moments: list[float]) -> float:
    return 1000 * max((b - a for a, b in pairwise(moments)), default=0.0)


def _download(cmd: str, number: int, seed: int, unit: str = "PRESS") -> tuple[str, dict[str, Any]]:
    items = [{"name": f"p{place}", "value": (seed * 7 + place) % 900 + 1} for place in range(number)]
    body = {"cmd": cmd, "eq": unit, "set": "BENCH", "rev": str(seed), "items": items}
    return f"{SITE}/AREA/LINE/{unit}/cmd/params.download", body


def _fsyncs(folder: Path) -> Iterator[float]:
    """What the disk alone takes to have a few bytes for sure."""
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(b"x" * 300)
            os.fsync(file.fileno())
            yield 1000 * (time.perf_counter() - began)


def _times(milliseconds: Any) -> Times:
    cuts = quantiles(milliseconds, n=100)
    return Times(round(cuts[49], 2), round(cuts[98], 2))


@contextmanager
def _running(folder: Path) -> Iterator[tuple[Mes, Part, Part]]:
    with ExitStack() as stack:
        broker, port = mosquitto(folder, inflight=20)
        stack.enter_context(broker)
        device = stack.enter_context(module("bench.parameter_device", folder=folder))
        _write_plant(folder, device.hear()["port"], port)
        mes = stack.enter_context(Mes(port))
        gateway = stack.enter_context(module("gateway", "run", "-c", str(folder / "config"), folder=folder))
        deadline = time.monotonic() + PATIENCE
        while not mes.beats:
            if time.monotonic() > deadline:
                raise SystemExit(
                    f"bench: no value came; the gateway said:\n{(folder / 'gateway.log').read_text()[-2000:]}"
                )
            time.sleep(0.05)
        yield mes, gateway, device


def _write_plant(folder: Path, device: int, broker: int) -> None:
    """Two units of one machine: one is read back, the other also acknowledges a number."""
    tags = "".join(f"      p{place}: {{register: {place}, type: uint16}}\n" for place in range(PARAMETERS))
    listed = "".join(
        f"        p{place}: {{tag: p{place}, min: 0, max: 1000, class: trim}}\n" for place in range(PARAMETERS)
    )
    registers = {"command": COMMAND, "acknowledged": ACKNOWLEDGED, "status": STATUS, "error": ERROR}
    signals = "".join(f"      {name}: {{register: {number}, type: uint16}}\n" for name, number in registers.items())
    named = ", ".join(f"{name}: {name}" for name in registers)
    head = f"""\
gateway: {{id: bench, site: BENCH/SITE, store: "{folder}/record.db"}}
mqtt: {{host: 127.0.0.1, port: {broker}, client_id: bench}}
devices:
  PRESS: {{driver: modbus, host: 127.0.0.1, port: {device}, poll_interval: 20ms}}
  NUMBERED: {{driver: modbus, host: 127.0.0.1, port: {device}, unit_id: 2, poll_interval: 1s}}
equipment:
"""
    beat = f"      beat: {{register: {BEAT}, type: uint16, publish: true}}\n"
    download = f"    download:\n      parameters:\n{listed}"
    plain = f"  BENCH/SITE/AREA/LINE/PRESS:\n    device: PRESS\n    tags:\n{beat}{tags}{download}"
    numbered = (
        f"  BENCH/SITE/AREA/LINE/NUMBERED:\n    device: NUMBERED\n    tags:\n{signals}{tags}    download:\n"
        f"      handshake: {{type: sequence_number, {named}, poll: 50ms}}\n      parameters:\n{listed}"
    )
    (folder / "config").mkdir()
    (folder / "config" / "plant.yaml").write_text(head + plain + numbered)
