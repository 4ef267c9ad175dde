"""The MES sends what the contract wants, keeps everything that comes, and is there again after an outage."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from stages import DEMO, simulator

from simulators.mes_commands import Message, items_hash, messages
from simulators.scenario import parse

ITEM = {"fill_volume": {"value": 330.0, "unit": "mL", "min": 328, "max": 334, "class": "golden"}}


def _sent(small: dict[str, Any], **command: Any) -> Message:
    small["commands"] = [{"at": "23:55:10", "cmd": "X", **command}]
    (message,) = messages(parse(small))
    return message


def test_nothing_is_sent_before_a_gateway_is_online_when_that_is_asked(tmp_path: Path) -> None:
    """The record sees the gateway's status; the stale or the dead one is no gateway."""
    from simulators.mes import Record, Stop

    record = Record([(tmp_path / "capture").open("w", encoding="utf-8")], Stop())
    for topic, payload, seen in (
        ("mfg/v1/ACME/HZ/_gw/edge-01/status", b'{"state":"offline"}', False),
        ("mfg/v1/ACME/HZ/PACK/L1/FIL01/now/state", b'{"state":"online"}', False),
        ("mfg/v1/ACME/HZ/_gw/edge-01/status", b'{"state":"online"}', True),
    ):
        message = mqtt.MQTTMessage(topic=topic.encode())
        message.payload = payload
        record.keep(message)
        assert record.gateway_seen.is_set() is seen
    record._outputs[0].close()


def test_a_download_carries_the_whole_set_its_hash_and_an_expiry(small: dict[str, Any]) -> None:
    message = _sent(small, type="params.download", eq="FIL01", order="81", set="FS", rev="B")

    item = {"name": "fill_volume", "value": 330.0, "unit": "mL", "min": 328, "max": 334, "class": "golden"}
    assert message.topic == "mfg/v1/ACME/HZ/PACK/L1/FIL01/cmd/params.download"
    assert message.body == {
        "cmd": "X", "type": "params.download", "eq": "FIL01", "order": "81", "set": "FS", "rev": "B",
        "hash": items_hash([item]), "items": [item], "valid_until": "2026-03-03T00:05:10.000Z",
    }  # fmt: skip


def test_the_hash_is_that_of_canonical_json() -> None:
    # printf '%s' '[{"class":"golden","max":334,"min":328,"name":"fill_volume","unit":"mL","value":330.0}]' | sha256sum
    item = {"name": "fill_volume", **ITEM["fill_volume"]}
    assert items_hash([item]) == "7b8b71ad760a6ef693dd270b53bd78cf34ccee34b725645ad5e9d909524de724"


def test_a_command_may_give_other_values_and_limits(small: dict[str, Any]) -> None:
    change = {"items": {"fill_volume": 345.0}, "limits": {"fill_volume": [300, 350]}}
    body = _sent(small, type="params.download", eq="FIL01", order="81", set="FS", rev="B", **change).body

    assert [(item["value"], item["min"], item["max"]) for item in body["items"]] == [(345.0, 300, 350)]
    assert body["hash"] == items_hash(body["items"])


def test_a_dispatch_names_operations_equipment_and_sets(small: dict[str, Any]) -> None:
    message = _sent(small, type="dispatch.order", order="81", start="23:56:00", auto_download=True)

    assert message.topic == "mfg/v1/ACME/HZ/cmd/dispatch.order"
    assert message.body == {
        "cmd": "X", "type": "dispatch.order", "order": "81", "material": "P-1", "qty": 190, "unit": "pcs",
        "lot": "81-L1", "prio": 50, "start": "2026-03-02T23:56:00.000Z",
        "ops": [
            {"op": "10", "eq": "FIL01", "set": "FS", "rev": "released"},
            {"op": "20", "eq": "LBL01", "set": "LS", "rev": "released"},
            {"op": "30", "eq": "PAL01"},
        ],
        "auto_download": {"when": ["IDLE", "SETUP"], "permit": True},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (
            {"type": "change.notice", "cn": "CN-1", "effective": "23:58:00", "sets": {"FS": "B"}},
            {"cn": "CN-1", "items": [{"set": "FS", "from": "A", "to": "B"}],
             "effective": {"mode": "at_time", "t": "2026-03-02T23:58:00.000Z"}},
        ),
        (
            {"type": "quality.hold", "lot": "81-L1"},
            {"scope": {"lot": "81-L1"}, "reason": "weight<LSL", "action": "request_stop"},
        ),
        ({"type": "quality.release", "lot": "81-L1"}, {"scope": {"lot": "81-L1"}}),
        (
            {"type": "material.arrival", "material": "LBL-1", "eta": "23:59:00"},
            {"material": "LBL-1", "qty": None, "eta": "2026-03-02T23:59:00.000Z", "dock": "L1-LBL"},
        ),
        (
            {"type": "stock.task", "material": "LBL-1", "lot": "R2", "status": "delivered"},
            {"task": "T-X", "kind": "deliver", "material": "LBL-1", "lot": "R2", "status": "delivered"},
        ),
    ],
)  # fmt: skip
def test_the_other_systems_are_spoken_for_too(small: dict[str, Any], command: Any, body: Any) -> None:
    assert _sent(small, **command).body == {"cmd": "X", "type": command["type"], **body}


def test_orders_are_changed_trims_adjusted_and_master_data_synced(small: dict[str, Any]) -> None:
    head = {"cmd": "X"}
    change = _sent(small, type="dispatch.change", order="81", action="resequence", prio=90, start="23:58:00")
    assert change.topic == "mfg/v1/ACME/HZ/cmd/dispatch.change"
    start = "2026-03-02T23:58:00.000Z"
    assert change.body == {
        **head, "type": "dispatch.change", "order": "81", "action": "resequence", "prio": 90, "start": start
    }  # fmt: skip
    adjust = _sent(small, type="params.adjust", eq="FIL01", items={"fill_volume": 331.0}, by="proc2")
    assert adjust.topic == "mfg/v1/ACME/HZ/PACK/L1/FIL01/cmd/params.adjust"
    items = [{"name": "fill_volume", "value": 331.0, "unit": "mL"}]
    assert adjust.body == {**head, "type": "params.adjust", "eq": "FIL01", "items": items, "by": "proc2"}
    rows = [{"unit": "CS", "factor": 20}]
    sync = _sent(small, type="masterdata.sync", kind="unit", version=7, rows=rows)
    assert sync.body == {**head, "type": "masterdata.sync", "kind": "unit", "version": 7, "items": rows}


def test_a_release_brings_the_items_of_every_set(small: dict[str, Any]) -> None:
    body = _sent(small, type="params.release", change="CN-1", sets={"FS": "B", "LS": "A"}).body

    assert body["change"] == "CN-1"
    assert [(s["set"], s["rev"], s["hash"] == items_hash(s["items"])) for s in body["sets"]] == [
        ("FS", "B", True),
        ("LS", "A", True),
    ]


def test_a_repeated_command_is_the_same_message_and_the_gateways_own_are_not_sent(small: dict[str, Any]) -> None:
    download = {"type": "params.download", "cmd": "C3", "eq": "FIL01", "order": "81", "set": "FS", "rev": "B"}
    small["commands"] = [
        {"at": "23:55:20", **download},
        {"at": "23:55:25", **download, "repeat": True},
        {"at": "23:55:30", **download, "type": "auto.download"},
    ]
    first, second = messages(parse(small))

    assert (first.at, second.at) == (20, 25)
    assert first.body == second.body


def _captured(path: Path, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 15
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, f"{count} messages were to come, there are: {path.read_text()}"
        time.sleep(0.02)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_sends_at_plant_time_and_keeps_all_in_order_of_arrival(mosquitto: int, tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    url = f"mqtt://mes@127.0.0.1:{mosquitto}"
    options = ["--scenario", str(DEMO), "--speed", "60", "--capture", str(capture), "--print"]
    with simulator("mes", "--broker", url, *options) as process:
        rows = _captured(capture, 3)
        assert process.stdout is not None
        printed = [json.loads(process.stdout.readline()) for _ in range(3)]

    assert [row["payload"]["cmd"] for row in rows] == ["D-1", "C1", "C2"]
    assert {*rows[0]} == {"topic", "payload", "retain", "t_rx"}
    assert printed == rows
    assert process.returncode == 0


def test_it_gets_what_came_while_it_was_away(mosquitto: int, tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    arguments = ["mes", "--broker", f"mqtt://mes@127.0.0.1:{mosquitto}", "--scenario", str(DEMO), "--speed", "600"]
    with simulator(*arguments, "--capture", str(capture)):
        _captured(capture, 3)
    _publish(mosquitto, "mfg/v1/x/evt/y", ['{"n":"\\ud800 产量"}', "not json", "[" * 100_000])
    with simulator(*arguments, "--capture", str(capture)):
        rows = _captured(capture, 6)

    assert [row["payload"] for row in rows if row["topic"] == "mfg/v1/x/evt/y"] == [
        {"n": "\ud800 产量"},
        {"undecodable": b"not json".hex()},
        {"undecodable": b"[".hex() * 100_000},
    ]


def test_it_waits_for_a_broker_and_speaks_3_1_1_to_one_that_has_no_5(tmp_path: Path) -> None:
    capture, password = tmp_path / "capture.jsonl", tmp_path / "password"
    with simulator("broker", "--password-file", str(password)) as broker:
        assert broker.stdout is not None
        url = json.loads(broker.stdout.readline())["ready"]["broker"].replace("//", "//mes@")
        options = ["--password-file", str(password), "--scenario", str(DEMO), "--speed", "600"]
        with simulator("mes", "--broker", url, *options, "--capture", str(capture)):
            rows = _captured(capture, 3)

    assert [row["payload"]["cmd"] for row in rows] == ["D-1", "C1", "C2"]


def test_it_ends_aloud_when_it_cannot_write_down_what_came(mosquitto: int) -> None:
    options = ["--scenario", str(DEMO), "--speed", "600", "--capture", "/dev/full"]
    with simulator("mes", "--broker", f"mqtt://mes@127.0.0.1:{mosquitto}", *options, stderr=-1) as process:
        assert process.wait(timeout=15) == 2
        assert process.stderr is not None
        assert "cannot write down what came: " in process.stderr.read()


def _publish(port: int, topic: str, payloads: list[str]) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(5)
    for payload in payloads:
        client.publish(topic, payload, qos=1).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
