"""The gateway as a process at the broker that we ship: its rights are enough for everything it does, and no more."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.store.store import Store
from tests.brokers import eventually
from tests.drivers.modbus_devices import Device, device
from tests.shipped_mosquitto import Party, ShippedMosquitto
from tests.stopwatch import Stopwatch

PLANT: Final = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}, username: edge-01, password_file: "{password}", protocol: "{protocol}"}}
devices:
  PRESS: {{driver: modbus, host: 127.0.0.1, port: {press}, poll_interval: 50ms}}
equipment:
  ACME/HZ/PACK/L1/PRESS:
    device: PRESS
    tags:
      remote: {{register: 0, type: uint16}}
      force: {{register: 1, type: uint16, publish: true}}
    state: {{debounce: 0s, rules: [{{to: RUN, when: "remote == 1"}}, {{to: IDLE, when: "true"}}]}}
    download:
      conditions: {{remote_mode: "remote == 1"}}
      parameters: {{force: {{tag: force, min: 0, max: 900, class: trim}}}}
"""
FORGOTTEN: Final = """\
  ACME/HZ/PACK/L3/PRESS3:
    device: PRESS
    tags: {{force: {{register: 2, type: uint16, publish: true}}}}
"""
"""A machine of a line that the rights do not name."""
WIDE: Final = """\
  ACME/HZ/PACK/L1/WIDE:
    device: PRESS
    tags:
""" + "".join(
    f"      temperature_of_zone_{n}: {{{{register: {n}, type: uint16, publish: true}}}}\n" for n in range(100)
)
"""A machine whose first message is larger than 2,000 bytes."""
SITE: Final = "mfg/v1/ACME/HZ"
UNIT: Final = f"{SITE}/PACK/L1/PRESS"
GATEWAY: Final = f"{SITE}/_gw/edge-01"
DOWNLOAD: Final = {"eq": "PRESS", "order": "4711", "set": "S", "rev": "A"}
LONG: Final = 30.0
TOO_LARGE: Final = [("5", 1, "exceed the broker's Maximum Packet Size of 2,000")]
"""By version of MQTT: how many connections it takes to put a message aside, and what is said of it then."""
if os.environ.get("FULL"):  # three backoffs; time-scaled in tests/runtime/test_broker_link_refusals.py
    TOO_LARGE.append(("3.1.1", 4, "3 connections in a row ended with it"))


class Process:
    """`gateway run`, and what it logged."""

    def __init__(self, folder: Path, broker: ShippedMosquitto, press: int, protocol: str, more: str = "") -> None:
        (folder / "plant").mkdir()
        text = PLANT + more
        password = broker.password_files["edge-01"]
        (folder / "plant" / "plant.yaml").write_text(
            text.format(folder=folder, broker=broker.port, press=press, protocol=protocol, password=password)
        )
        self._log = folder / "gateway.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(folder / "plant")], stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        """In good order; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(LONG)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def running(
    folder: Path, broker: ShippedMosquitto, mes: Party, protocol: str = "5", more: str = ""
) -> AsyncIterator[tuple[Process, Device]]:
    """A press that runs, and the gateway in front of it, online and in contact."""
    async with device() as press:
        await press.set(0, 1)
        process = Process(folder, broker, press.port, protocol, more)
        try:
            ready = f"{UNIT}/now/state"
            await eventually(lambda: b"RUN" in b"".join(mes.heard_on(ready)), f"RUN; {process.log}", LONG)
            yield process, press
            assert process.stop() == 0, process.log
        finally:
            process.kill()


def told(party: Party, topic: str) -> list[Any]:
    return [json.loads(payload) for payload in party.heard_on(topic) if payload]


async def final(mes: Party, topic: str, cmd: str) -> str:
    """How a command ended, by its final answer on this topic."""

    def answers() -> list[Any]:
        return [answer for answer in told(mes, topic) if answer["cmd"] == cmd and answer["final"]]

    await eventually(lambda: bool(answers()), f"the final answer to {cmd}", LONG)
    (answer,) = answers()
    return str(answer["answer"])


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_s09_the_gateway_lacks_no_right_for_events_commands_and_answers(
    shipped: ShippedMosquitto, tmp_path: Path, protocol: str, record_property: Callable[[str, object], None]
) -> None:
    with Party(shipped, "mes", "mfg/#") as mes, Party(shipped, "dashboard", "mfg/#") as screen:
        async with running(tmp_path, shipped, mes, protocol) as (process, press):
            body = {**DOWNLOAD, "cmd": "D-1", "items": [{"name": "force", "value": 450}]}
            mes.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode())
            assert await final(mes, f"{UNIT}/res/params.download", "D-1") == "done"
            assert await press.get(1) == [450]
            mes.publish(f"{SITE}/cmd/quality.release", b'{"cmd": "Q-1"}', answer_to=f"{SITE}/_res/mes-1")
            where = f"{SITE}/_res/mes-1" if protocol == "5" else f"{SITE}/res/quality.release"
            assert await final(mes, where, "Q-1") == "rejected", "something is missing in it"
            mes.publish(f"{GATEWAY}/cmd/replay", b'{"cmd": "R-1", "eq": null, "from_seq": 1, "to_seq": 1}')
            assert await final(mes, f"{GATEWAY}/res/replay", "R-1") == "done"
            await eventually(lambda: forces(screen, UNIT)[-1:] == [450], "what the press has now", LONG)
        await eventually(lambda: "offline" in str(told(screen, f"{GATEWAY}/status")[-1]), "its goodbye", LONG)
    assert {"equipment.state", "param.result"} <= {topic.rpartition("/")[2] for topic, _, _ in screen.heard}
    assert not any("/cmd/" in topic for topic, _, _ in screen.heard)
    for complaint in ("quarantined", "refuse", "broker lost"):
        assert complaint not in process.log
    record_property("figure", f"MQTT {protocol}: events, tel, now, status, answers, commands at 3 levels; 0 refused")


def forces(party: Party, unit: str) -> list[int]:
    """What the run parameters of a unit said, batch by batch."""
    return [value for batch in told(party, f"{unit}/tel") for _, _, value in batch["rows"]]


async def test_r05_what_may_not_be_written_is_told_keeps_nobody_waiting_and_comes_when_it_may(
    shipped: ShippedMosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """S9: mosquitto answers 135 to the topics of a line that was forgotten in the rights."""
    forgotten = f"{SITE}/PACK/L3/PRESS3"
    with Party(shipped, "mes", "mfg/#") as mes:
        async with running(tmp_path, shipped, mes, more=FORGOTTEN) as (_, press):
            put_aside = f"{GATEWAY}/evt/gateway.quarantined"
            await eventually(lambda: bool(told(mes, put_aside)), "what was put aside is told", LONG)
            await press.set(1, 7)
            await eventually(lambda: forces(mes, UNIT) == [0, 7], "the others flow", LONG)
            assert forces(mes, forgotten) == []
            data = told(mes, put_aside)[0]["data"]
            assert (data["topic"], data["reason"]) == (f"{forgotten}/tel", "the broker refused it: Not authorized")
            assert data["messages"] == 1

            shipped.allow("edge-01", f"topic write {forgotten}/#")
            mes.publish(f"{GATEWAY}/cmd/quarantine.retry", b'{"cmd": "Q-1"}')
            assert await final(mes, f"{GATEWAY}/res/quarantine.retry", "Q-1") == "done"
            await eventually(lambda: forces(mes, forgotten) == [0], "what was put aside", LONG)
    assert [batch["seq"] for batch in told(mes, f"{forgotten}/tel")] == [1]
    async with Store(tmp_path / "gateway.db", new_epoch="unused") as store:
        counted = store.statistics
    assert (counted.quarantined, counted.queued, counted.acknowledged) == (0, 0, counted.ingested)
    record_property("figure", "1 of 1 put aside, told, and sent when it might be; the others were not held up")


@pytest.mark.parametrize(("protocol", "connections", "reason"), TOO_LARGE)
async def test_r06_what_is_too_large_for_the_broker_does_not_stop_what_is_behind_it(
    shipped: ShippedMosquitto,
    tmp_path: Path,
    protocol: str,
    connections: int,
    reason: str,
    record_property: Callable[[str, object], None],
) -> None:
    """The first message of all is too large. MQTT 5 says so beforehand; before MQTT 5 mosquitto hangs up (trap C5)."""
    shipped.restart("max_packet_size 2000")
    with Party(shipped, "mes", "mfg/#") as mes, Stopwatch() as watch:
        async with running(tmp_path, shipped, mes, protocol, WIDE) as (process, press):
            await press.set(50, 7)
            await eventually(lambda: 7 in forces(mes, f"{SITE}/PACK/L1/WIDE"), "what came behind it", LONG)
            took = watch.seconds
            put_aside = f"{GATEWAY}/evt/gateway.quarantined"
            await eventually(lambda: bool(told(mes, put_aside)), "what was put aside is told", LONG)
    data = told(mes, put_aside)[0]["data"]
    assert (data["topic"], data["messages"]) == (f"{SITE}/PACK/L1/WIDE/tel", 1)
    assert reason in data["reason"]
    assert process.log.count("broker connected") == connections
    assert [batch["seq"] for batch in told(mes, f"{SITE}/PACK/L1/WIDE/tel") if batch["rows"]] == [2]
    assert took < 10
    record_property(
        "figure", f"MQTT {protocol}: put aside after {connections} connections, the next row at {took:.1f} s"
    )
