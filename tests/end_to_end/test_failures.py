"""Broker or device absent, commands that make no sense: said once, survived, repaired without help."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import Mosquitto
from tests.end_to_end.playing import DEVICES, PlayedLine
from tests.end_to_end.uplink_plant import account

START = "2026-03-02T06:00:00Z"


@pytest.fixture
def line(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[PlayedLine]:
    with PlayedLine(tmp_path, mosquitto.port, start=START, speed=20) as played:
        yield played
    assert asyncio.run(account(played.folder / "gateway.db")).unaccounted == 0


@pytest.mark.timeout(180)
def test_without_a_broker_the_gateway_runs_buffers_and_says_so_once(mosquitto: Mosquitto, line: PlayedLine) -> None:
    line.start_gateway(without=mosquitto)
    line.wait_until("06:02:30")
    mosquitto.start()
    line.wait_for(lambda: bool(line.events("gateway.outage")), "the outage's event")
    line.wait_for(lambda: len(line.events("equipment.state")) >= 3, "the states from before the broker was there")
    assert line.gateway_log.count("broker lost") == 1
    (outage,) = line.events("gateway.outage")
    assert outage["data"]["buffered_discrete"] >= 3
    states = line.events("equipment.state")
    assert sorted(event["data"]["to"] for event in states if event["data"]["initial"]) == ["IDLE", "IDLE", "SETUP"]


@pytest.mark.timeout(180)
def test_a_device_that_is_away_disturbs_no_other(line: PlayedLine) -> None:
    line.start_gateway(away="LBL01")
    line.wait_for(lambda: "RUN" in told(line, "FIL01"), "the filler's first bottle")
    line.wait_for(lambda: bool(told(line, "LBL01")), "NO_CONTACT")
    states = {event["eq"][-5:]: event["data"] for event in line.events("equipment.state")}
    assert (told(line, "LBL01"), states["LBL01"]["cause"]) == (["UNKNOWN"], "NO_CONTACT")
    # At twenty times the speed a machine that stands still for 1.5 s is silent for half a minute: then UNKNOWN is right.
    known = {unit: [state for state in dict.fromkeys(told(line, unit)) if state != "UNKNOWN"] for unit in states}
    assert known["FIL01"][:2] == ["IDLE", "RUN"]
    assert known["PAL01"][0] == "IDLE"
    assert line.gateway_log.count("device lost") == 1


@pytest.mark.timeout(180)
def test_devices_that_were_away_come_back_by_themselves(line: PlayedLine) -> None:
    line.start_gateway()
    line.wait_until("06:03:30")
    line.wait_for(lambda: len(_states(line)) == len(DEVICES), "a first state of all")
    line.stop_machines()
    line.wait_until("06:04:30")
    line.wait_for(
        lambda: _states(line) == {"FIL01": "UNKNOWN", "LBL01": "UNKNOWN", "PAL01": "UNKNOWN"}, "UNKNOWN for all"
    )
    line.start_machines()
    line.wait_for(lambda: "UNKNOWN" not in _states(line).values(), "the states after the return")
    moves = [(event["data"]["device"], event["data"]["up"]) for event in line.events("gateway.connection")]
    assert sorted(moves) == sorted((device, up) for device in DEVICES for up in (False, True))


def told(line: PlayedLine, unit: str) -> list[str]:
    """The states of one equipment that the MES was told, in their order."""
    return [event["data"]["to"] for event in line.events("equipment.state") if event["eq"].endswith(unit)]


def _states(line: PlayedLine) -> dict[str, str]:
    return {event["eq"][-5:]: event["data"]["to"] for event in line.events("equipment.state")}


def send(port: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


def answers(line: PlayedLine) -> list[dict[str, object]]:
    rows = [json.loads(row) for row in line.capture.read_text(encoding="utf-8").splitlines()]
    return [row["payload"] for row in rows if "/res/" in row["topic"]]


@pytest.mark.timeout(180)
def test_commands_that_make_no_sense_are_rejected_in_words_and_nothing_crashes(
    mosquitto: Mosquitto, line: PlayedLine
) -> None:
    line.start_gateway()
    line.wait_for(lambda: bool(line.events("equipment.state")), "the first state")
    base = "mfg/v1/ACME/HZ/PACK/L1/LBL01/cmd/"
    send(mosquitto.port, base + "params.download", b"\xff\xfe not json")
    send(mosquitto.port, base + "params.download", b'{"cmd": "B-1", "eq": "LBL01"}')
    send(mosquitto.port, base + "explode", b'{"cmd": "B-2"}')
    send(mosquitto.port, base + "params.download", json.dumps(
        {"cmd": "B-3", "eq": "LBL01", "set": "S", "rev": "A", "items": [{"name": "estop", "value": 1}]}
    ).encode())  # fmt: skip
    send(
        mosquitto.port, base + "params.download", b'{"cmd": "B-4", "eq": "LBL01", "set": "S", "rev": "A", "items": []}'
    )
    send(mosquitto.port, base + "order.end", b'{"cmd": "B-5", "eq": "FIL01"}')
    line.wait_for(lambda: len([a for a in answers(line) if str(a["cmd"])[:1] in ("B", "")]) >= 6, "six answers")
    told = {str(answer["cmd"]): (answer["answer"], answer["codes"]) for answer in answers(line)}
    assert told[""] == ("rejected", ["malformed"])
    assert told["B-1"] == ("rejected", ["malformed"])
    assert told["B-2"] == ("rejected", ["unknown_type"])
    assert told["B-3"] == ("rejected", ["not_allowed"])
    assert told["B-4"] == ("rejected", ["no_items"])
    assert told["B-5"] == ("rejected", ["wrong_topic"])
    assert line.gateway is not None
    assert line.gateway.poll() is None


@pytest.mark.timeout(180)
def test_a_retained_command_is_refused_at_every_start(mosquitto: Mosquitto, line: PlayedLine) -> None:
    topic = "mfg/v1/ACME/HZ/PACK/L1/LBL01/cmd/params.download"
    body = {"cmd": "R-9", "eq": "LBL01", "set": "S", "rev": "A", "items": [{"name": "oven_sp", "value": 175.0}]}
    send(mosquitto.port, topic, json.dumps(body).encode(), retain=True)
    line.start_gateway()
    line.wait_for(lambda: any(answer["cmd"] == "R-9" for answer in answers(line)), "the refusal")
    (told,) = [answer for answer in answers(line) if answer["cmd"] == "R-9"]
    assert (told["answer"], told["codes"], told["final"]) == ("rejected", ["retained"], True)
    assert line.events("param.result") == []
