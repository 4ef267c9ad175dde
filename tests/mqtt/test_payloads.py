"""Topics and payloads: exactly the contract, and nothing that arrives can crash us."""

import json
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.contract.envelope import NAMESPACE, Answer, Event, Telemetry, event_id
from gateway.domain.contract.event_data import Level
from gateway.domain.contract.events import EquipmentState, OrderRef
from gateway.domain.contract.requests import ParamsDownload
from gateway.mqtt.payloads import (
    Refused,
    decode_answer,
    decode_command,
    encode_answer,
    encode_event,
    encode_telemetry,
    items_hash,
)
from gateway.mqtt.topics import CommandTopic, Topics
from tests.stage import at

TOPICS = Topics("mfg/v1", "ACME/HZ", "edge-01")
FIL01 = "ACME/HZ/PACK/L1/FIL01"


def test_topics_are_those_of_the_contract() -> None:
    assert TOPICS.event(FIL01, "equipment.state") == "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/equipment.state"
    assert TOPICS.event(None, "gateway.connection") == "mfg/v1/ACME/HZ/_gw/edge-01/evt/gateway.connection"
    assert TOPICS.event(None, "change.accepted") == "mfg/v1/ACME/HZ/evt/change.accepted"
    assert TOPICS.telemetry(FIL01) == "mfg/v1/ACME/HZ/PACK/L1/FIL01/tel"
    assert TOPICS.retained(FIL01, "state") == "mfg/v1/ACME/HZ/PACK/L1/FIL01/now/state"
    assert TOPICS.answer(FIL01, "params.download") == "mfg/v1/ACME/HZ/PACK/L1/FIL01/res/params.download"
    assert TOPICS.answer(None, "dispatch.order") == "mfg/v1/ACME/HZ/res/dispatch.order"
    assert TOPICS.answer(Level.GATEWAY, "replay") == "mfg/v1/ACME/HZ/_gw/edge-01/res/replay"
    assert TOPICS.command(Level.GATEWAY, "replay") == "mfg/v1/ACME/HZ/_gw/edge-01/cmd/replay"
    assert TOPICS.now("messages") == "mfg/v1/ACME/HZ/_gw/edge-01/now/messages"
    assert TOPICS.status == "mfg/v1/ACME/HZ/_gw/edge-01/status"


def test_command_topics_are_read_back() -> None:
    assert TOPICS.parse_command(f"mfg/v1/{FIL01}/cmd/params.download") == CommandTopic(
        "params.download", Level.EQUIPMENT, FIL01
    )
    assert TOPICS.parse_command("mfg/v1/ACME/HZ/cmd/dispatch.order") == CommandTopic("dispatch.order", Level.SITE)
    assert TOPICS.parse_command("mfg/v1/ACME/HZ/_gw/edge-01/cmd/replay") == CommandTopic("replay", Level.GATEWAY)
    assert TOPICS.parse_command("mfg/v1/ACME/HZ/_gw/edge-01/status") is None


def test_an_event_on_the_wire_is_the_contract_field_for_field() -> None:
    data = EquipmentState(from_state="RUN", to="DOWN", reason="DOWN/MECH/JAM_INFEED", raw={"state": 11})
    order = OrderRef("4711", "0010", "4711-L1")
    moment = at("07:25:00")
    event = Event(
        id=event_id(data, FIL01, moment, order), type=data.type, gw="edge-01", cfg="9f3c2a", epoch="e1", equipment=FIL01,
        seq=18231, source_time=moment, gateway_time=moment + 5031, order=order, data=data,
    )  # fmt: skip
    assert json.loads(encode_event(event)) == {
        "id": str(uuid5(NAMESPACE, f"equipment.state|{FIL01}|2026-03-02T07:25:00.000Z|DOWN")), "type": "equipment.state", "v": 1, "rev": 1, "gw": "edge-01",
        "cfg": "9f3c2a", "epoch": "e1", "eq": FIL01, "seq": 18231, "t_src": "2026-03-02T07:25:00.000Z",
        "t_gw": "2026-03-02T07:25:05.031Z", "t_q": "source", "order": {"id": "4711", "op": "0010", "lot": "4711-L1"},
        "corr": None,
        "data": {"from": "RUN", "to": "DOWN", "reason": "DOWN/MECH/JAM_INFEED", "cause": None, "raw": {"state": 11},
                 "initial": False},
    }  # fmt: skip


def test_the_same_fact_has_the_same_id_and_another_one_another() -> None:
    down = EquipmentState(from_state="RUN", to="DOWN", reason=None)
    later = EquipmentState(from_state="RUN", to="DOWN", reason="DOWN/MECH/JAM_INFEED")
    run = EquipmentState(from_state="DOWN", to="RUN", reason=None)
    moment = at("07:25:00")
    assert event_id(down, FIL01, moment, None) == event_id(later, FIL01, moment, OrderRef("4711"))
    others = {
        event_id(down, FIL01, moment, None),
        event_id(down, FIL01, moment + 1, None),
        event_id(down, "ACME/HZ/PACK/L1/LBL01", moment, None),
        event_id(run, FIL01, moment, None),
    }
    assert len(others) == 4


def test_telemetry_is_columns_and_names_a_status_only_where_it_is_not_good() -> None:
    batch = Telemetry(FIL01, 7, None, at("07:25:00"), ["speed", "level"], [[0, 0, 120.5], [250, 1, None, 0x80050000]])
    assert json.loads(encode_telemetry(batch)) == {
        "v": 1, "eq": FIL01, "seq": 7, "order": None, "t0": "2026-03-02T07:25:00.000Z", "names": ["speed", "level"],
        "rows": [[0, 0, 120.5], [250, 1, None, 2147811328]],
    }  # fmt: skip


def test_a_stored_answer_comes_back_as_it_was() -> None:
    answer = Answer(
        cmd="C3", type="params.download", answer="rejected", codes=("limit",), final=True, at=at("10:00:00")
    )
    assert decode_answer(encode_answer(answer)) == answer
    assert json.loads(encode_answer(answer))["t"] == "2026-03-02T10:00:00.000Z"


DOWNLOAD = {"cmd": "C3", "eq": "LBL01", "set": "S", "rev": "C", "items": [{"name": "a", "value": 1.5, "class": "trim"}]}


def test_a_download_is_understood_and_its_hash_is_held_against_its_items() -> None:
    command = decode_command("params.download", json.dumps(DOWNLOAD).encode())
    assert isinstance(command, ParamsDownload)
    assert command.items[0].parameter_class == "trim"
    right = {**DOWNLOAD, "hash": items_hash(DOWNLOAD["items"])}
    assert isinstance(decode_command("params.download", json.dumps(right).encode()), ParamsDownload)
    wrong = decode_command("params.download", json.dumps({**DOWNLOAD, "hash": "0" * 64}).encode())
    assert isinstance(wrong, Refused)
    assert wrong.objection.code == "hash"


@pytest.mark.parametrize(
    ("kind", "payload", "code", "says"),
    [
        ("params.download", b"", "malformed", "is not JSON"),
        ("params.download", b"[1]", "malformed", "is not a JSON object"),
        ("params.download", b'{"cmd": ""}', "malformed", "has no usable id"),
        ("params.download", b'{"cmd": "two words"}', "malformed", "has no usable id"),
        ("params.download", b'{"cmd": "C", "eq": 5}', "malformed", "Expected `str`, got `int`"),
        ("params.download", b"[" * 100_000, "malformed", "is not JSON"),
        ("params.download", b'{"cmd": "C", "items": [{"name": "a", "value": 1, "value": 2}]}', "malformed", "'value' twice"),
        ("params.download", b'{"cmd": "C", "n": ' + b"1" * 5_000 + b"}", "malformed", "is not JSON"),
        ("params.download", b'{"cmd": "C", "n": NaN}', "malformed", "is not JSON"),
        ("params.download", b'{"cmd": "C", "x": "' + b"x" * 300_000 + b'"}', "oversize", "at most 256,000"),
        ("reboot", b'{"cmd": "C"}', "unknown_type", "known are: alarm.ack, change.notice, counter.rebase"),
        ("params.download", b'{"cmd": "C", "type": "dispatch.order"}', "unknown_type", "its topic says params.download"),
        ("params.download", json.dumps({**DOWNLOAD, "valid_until": "tomorrow"}).encode(), "malformed", "valid_until 'tomorrow' is no time; write it as"),
        ("params.download", json.dumps({**DOWNLOAD, "valid_until": "2026-03-02T06:00:00"}).encode(), "malformed", "is no time; write it as 2026-03-02T06:00:00Z"),
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused_by_name(kind: str, payload: bytes, code: str, says: str) -> None:
    refused = decode_command(kind, payload)
    assert isinstance(refused, Refused)
    assert refused.objection.code == code
    assert says in refused.objection.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["cmd", "eq", "set", "rev", "items", "order", "hash", "valid_until", "type", "ops", "qty"])


@given(st.sampled_from(["params.download", "dispatch.order", "x"]), st.dictionaries(fields, json_values))
def test_random_objects_never_raise(kind: str, body: dict[str, object]) -> None:
    command = decode_command(kind, json.dumps(body).encode())
    assert isinstance(command, Refused) or command.type == kind


@given(st.sampled_from(["params.download", "dispatch.order"]), st.binary(max_size=200))
def test_random_bytes_never_raise(kind: str, payload: bytes) -> None:
    assert isinstance(decode_command(kind, payload), Refused)
