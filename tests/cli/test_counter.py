"""`gateway counter rebase` against a running gateway, through a broker that wants a password."""

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.cli.ask import Unanswered, ask
from gateway.config.load import load_plant
from gateway.domain.contract.envelope import Answer
from gateway.mqtt.payloads import encode_answer
from tests.brokers import Consumer, Mosquitto, eventually, free_port, mute_broker
from tests.contract import the_contract
from tests.drivers.modbus_devices import device

PASSWORD = "turn-the-crank"


def plant(folder: Path, broker: int, machine: int, password: str = PASSWORD, protocol: str = "auto") -> Path:
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o600)
    mqtt = {"host": "127.0.0.1", "port": broker, "client_id": "edge", "username": "gw", "protocol": protocol}
    equipment = {
        "device": "PRESS",
        "tags": {"strokes": {"register": 0, "type": "uint16"}},
        "counters": {"good": {"tag": "strokes", "max": 65535, "max_rate": "5/s"}},
    }
    sections = {
        "gateway": {"id": "edge", "site": "ACME/HZ", "store": str(folder / "gateway.db")},
        "mqtt": {**mqtt, "password_file": str(folder / "password")},
        "devices": {"PRESS": {"driver": "modbus", "host": "127.0.0.1", "port": machine, "poll_interval": "50ms"}},
        "equipment": {"ACME/HZ/STAMP/L1/PRESS": equipment},
    }
    (folder / "plant.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
    return folder


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[None]:
    """The gateway as a process of its own, ended in good order."""
    command = [sys.executable, "-m", "gateway", "run", "-c", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def rebase(folder: Path, *arguments: str):
    """The command, in this process: starting another one for each costs more than what it does."""
    return CliRunner().invoke(app, ["counter", "rebase", *arguments, "-c", str(folder)])


async def test_an_operator_settles_a_jump_with_one_command(tmp_path: Path, mosquitto: Mosquitto) -> None:
    option = mosquitto.add_user("gw", PASSWORD)
    mosquitto.restart(option, "allow_anonymous true")
    with Consumer(mosquitto.port) as consumer:

        def events(kind: str) -> list[dict]:
            told = [json.loads(m.payload) for m in list(consumer.messages) if m.topic.endswith(f"/evt/{kind}")]
            return [event["data"] for event in told]

        async with device() as machine:
            folder = plant(tmp_path, mosquitto.port, machine.port)
            async with running(folder):
                await eventually(lambda: machine.requests, "the gateway polls", 30)
                await machine.set(0, 30_000)
                await eventually(lambda: events("counter.suspect"), "the jump is told", 30)
                done = await asyncio.to_thread(rebase, folder, "PRESS", "good", "--pieces", "12", "--by", "op17")
                again = await asyncio.to_thread(rebase, folder, "PRESS", "good")
                unknown = await asyncio.to_thread(rebase, folder, "PRESS", "goood")
        for message in list(consumer.messages):
            the_contract().check(message.topic, json.loads(message.payload))
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout == "done: PRESS good goes on from where it is; 12 pieces counted for the jump\n"
        assert [(event["pieces"], event["by"], event["value"]) for event in events("counter.rebased")] == [
            (12, "op17", 30_000)
        ]
        assert (again.exit_code, again.stdout) == (1, "")
        assert again.stderr == "rejected: nothing_suspect: no jump of good is open; nothing is to be settled\n"
        assert unknown.stderr == "rejected: unknown_counter: goood is not counted here; the counters are: good\n"
        assert PASSWORD not in done.output + again.output + unknown.output


def test_an_equipment_that_does_not_exist_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    folder = plant(tmp_path, free_port(), free_port())
    done = rebase(folder, "PRES", "good")
    assert (done.exit_code, done.stderr) == (2, "counter rebase: PRES is not configured; the equipment is: PRESS\n")


def test_a_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    port = free_port()
    done = rebase(plant(tmp_path, port, free_port()), "PRESS", "good")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"counter rebase: broker 127.0.0.1:{port}: ")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_gateway_that_does_not_run_is_told_and_the_visit_leaves_nothing_behind(
    tmp_path: Path, mosquitto: Mosquitto, protocol: str
) -> None:
    option = mosquitto.add_user("gw", PASSWORD)
    mosquitto.restart(option, "allow_anonymous true")
    configured = load_plant(plant(tmp_path, mosquitto.port, free_port(), protocol=protocol))
    with pytest.raises(Unanswered, match=r"no answer came within 0\.5 s; does the gateway edge run"):
        await ask(configured, "ACME/HZ/STAMP/L1/PRESS", "counter.rebase", {"eq": "PRESS", "counter": "good"}, 0.5)
    mosquitto.stop()
    (saved,) = tmp_path.rglob("mosquitto.db")
    assert b"edge-cli-" not in saved.read_bytes(), "the broker keeps a session for somebody who never comes back"


async def test_the_answer_to_somebody_elses_command_is_none_of_ours(tmp_path: Path, mosquitto: Mosquitto) -> None:
    option = mosquitto.add_user("gw", PASSWORD)
    mosquitto.restart(option, "allow_anonymous true")
    configured, press = load_plant(plant(tmp_path, mosquitto.port, free_port())), "ACME/HZ/STAMP/L1/PRESS"
    with Consumer(mosquitto.port, "mfg/v1/#") as gateway:
        asked = asyncio.create_task(ask(configured, press, "counter.rebase", {"eq": "PRESS", "counter": "good"}))
        await eventually(lambda: gateway.messages, "the command is there")
        cmd = json.loads(gateway.messages[0].payload)["cmd"]
        for whose, verdict in (("MES-17", "done"), (cmd, "rejected")):
            answer = Answer(cmd=whose, type="counter.rebase", answer=verdict, final=True, at=0)
            gateway.publish(f"mfg/v1/{press}/res/counter.rebase", encode_answer(answer))
        assert (await asked).answer == "rejected"


async def test_of_several_brokers_the_command_goes_where_the_gateway_is_and_nowhere_else(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """At another it would wait in the gateway's session, and be carried out days later."""
    (tmp_path / "second").mkdir()
    second, press, nobody = Mosquitto(tmp_path / "second"), "ACME/HZ/STAMP/L1/PRESS", free_port()
    second.start()
    configured = load_plant(plant(tmp_path, mosquitto.port, free_port()))
    brokers = tuple(configured.mqtt.model_copy(update={"port": p}) for p in (nobody, mosquitto.port, second.port))
    configured = dataclasses.replace(configured, mqtt=configured.mqtt.model_copy(update={"brokers": brokers}))
    try:
        with Consumer(mosquitto.port, "mfg/v1/#") as left, Consumer(second.port, "mfg/v1/#") as gateway:
            for consumer in (left, gateway):
                consumer.publish("mfg/v1/ACME/HZ/_gw/edge/status", b'{"state":"offline"}', retain=True)
            with pytest.raises(Unanswered) as caught:
                await ask(configured, press, "counter.rebase", {"eq": "PRESS", "counter": "good"})
            gateway.publish("mfg/v1/ACME/HZ/_gw/edge/status", b'{"state":"online"}', retain=True)
            asked = asyncio.create_task(ask(configured, press, "counter.rebase", {"eq": "PRESS", "counter": "good"}))
            await eventually(lambda: len(gateway.messages) == 3, "the command is there")
            cmd = json.loads(gateway.messages[2].payload)["cmd"]
            answer = Answer(cmd=cmd, type="counter.rebase", answer="done", final=True, at=0)
            gateway.publish(f"mfg/v1/{press}/res/counter.rebase", encode_answer(answer))
            assert (await asked).answer == "done"
            assert len(left.messages) == 1
    finally:
        second.kill()
    assert f"broker 127.0.0.1:{nobody}: " in str(caught.value)
    assert f"broker 127.0.0.1:{second.port}: the gateway edge is not there" in str(caught.value)


def test_a_wrong_password_is_told(tmp_path: Path, mosquitto: Mosquitto) -> None:
    option = mosquitto.add_user("gw", PASSWORD)
    mosquitto.restart(option, "allow_anonymous false")
    done = rebase(plant(tmp_path, mosquitto.port, free_port(), password="guessed"), "PRESS", "good")
    assert done.exit_code == 1
    assert "refused the connection (Not authorized)" in done.stderr
    assert "guessed" not in done.output


async def test_a_broker_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with mute_broker() as port:
        configured = load_plant(plant(tmp_path, port, free_port()))
        with pytest.raises(Unanswered):
            await ask(configured, "ACME/HZ/STAMP/L1/PRESS", "counter.rebase", {}, 0.3)
