"""An alarm is acknowledged by message: the daemon between a real broker and a server with a real condition."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.load import load_plant
from gateway.runtime.clock import SystemClock
from gateway.runtime.daemon import Daemon
from tests.brokers import Consumer, Mosquitto, eventually
from tests.drivers.opcua_conditions import Condition, placed, serve
from tests.drivers.opcua_servers import PLC, plc
from tests.runtime.pressed import audited

PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{folder}/gateway.db"}}
mqtt: {{client_id: edge-01, port: {broker}}}
devices:
  SCADA: {{driver: opcua, url: "opc.tcp://127.0.0.1:{server}", namespace: "{plc}", security: none,
           publishing_interval: 50ms, alarm_conditions: true}}
equipment:
  ACME/HZ/PACK/L1/PAL01:
    device: SCADA
    tags: {{speed: {{node: s=speed, type: int32}}}}
    alarms: {{conditions: PAL01, acknowledge: true}}
"""
UNIT = "mfg/v1/ACME/HZ/PACK/L1/PAL01"


async def test_an_acknowledgement_is_answered_once_and_the_condition_tells_the_rest(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with plc() as server:
        conditions: list[Condition] = []
        serve(server, conditions)
        config = tmp_path / "config"
        config.mkdir()
        text = PLANT.format(folder=tmp_path, broker=mosquitto.port, server=server.port, plc=PLC)
        (config / "plant.yaml").write_text(text, encoding="utf-8")
        daemon, stop = Daemon(load_plant(config), SystemClock()), asyncio.Event()
        with Consumer(mosquitto.port, f"{UNIT}/#") as mes:

            def told(kind: str) -> list[Any]:
                return [msgspec.json.decode(payload) for payload in mes.payloads(f"{UNIT}/{kind}")]

            running = asyncio.create_task(daemon.run(stop))
            try:
                await server.add("speed", 1)
                condition = Condition(server, "PAL01", "2107")
                conditions.append(condition)
                server._nodes.append(await placed(server, condition))
                await condition.tell()  # whoever comes later hears of it by the refresh
                await eventually(lambda: bool(told("evt/alarm.raised")), "the alarm")
                (raised,) = told("evt/alarm.raised")
                command = {"cmd": "A-1", "eq": "PAL01", "occ": raised["data"]["occ"], "user": "op17"}
                for _ in range(2):
                    mes.publish(f"{UNIT}/cmd/alarm.ack", msgspec.json.encode(command))
                    await eventually(lambda: any(answer["final"] for answer in told("res/alarm.ack")), "the answer")
                await eventually(lambda: bool(told("evt/alarm.acked")), "the event")
                unknown = {"cmd": "A-9", "eq": "PAL01", "occ": "nothing-like-it", "user": "op18"}
                mes.publish(f"{UNIT}/cmd/alarm.ack", msgspec.json.encode(unknown))
                await eventually(lambda: told("res/alarm.ack")[-1]["cmd"] == "A-9", "the refusal")
            finally:
                stop.set()
                await running
    assert [(acked["data"]["occ"], acked["data"]["by"]) for acked in told("evt/alarm.acked")] == [
        (command["occ"], "op17")
    ]
    answers = [(answer["answer"], answer["final"]) for answer in told("res/alarm.ack") if answer["cmd"] == "A-1"]
    assert answers[:2] == [("accepted", False), ("done", True)]
    assert set(answers[2:]) <= {("done", True)}, "the second time it is the stored answer"
    assert condition.asked == [("Acknowledge", "op17")]
    told = [(line.kind, line.cmd, line.by, line.device, line.result) for line in audited(tmp_path)]
    assert told == [
        ("intent", "A-1", "op17", "SCADA", None), ("outcome", "A-1", "op17", "SCADA", "answered"),
        ("verdict", "A-1", "op17", "SCADA", "done"), ("verdict", "A-9", "op18", "SCADA", "rejected"),
    ]  # fmt: skip
    assert audited(tmp_path)[-1].codes == ("unknown_alarm",)
