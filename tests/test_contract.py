"""The contract is what the code says, its examples are real, and whoever breaks it is told where."""

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.domain.contract.envelope import event_id
from gateway.domain.contract.event_data import OrderRef
from gateway.domain.contract.events import EVENT_TYPES
from gateway.domain.contract.requests import COMMAND_TYPES
from gateway.domain.times import parse_timestamp
from gateway.mqtt.contract import CURRENT, OF_THE_GATEWAY
from gateway.mqtt.payloads import Refused, decode_command
from gateway.mqtt.probes import SELF_TEST
from tests.contract import DOCUMENT, Contract, the_contract

KINDS = {kind.type: kind for kind in EVENT_TYPES}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))


def examples(document: dict[str, Any]) -> list[tuple[str, Any]]:
    messages = document["components"]["messages"].items()
    return [(name, example["payload"]) for name, message in messages for example in message["examples"]]


def test_the_committed_contract_is_what_the_code_says() -> None:
    printed = CliRunner().invoke(app, ["contract"])
    assert printed.exit_code == 0
    assert printed.stdout == DOCUMENT.read_text(encoding="utf-8"), "run: gateway contract > docs/contract.yaml"


def test_the_contract_in_json_is_the_same(document: dict[str, Any]) -> None:
    assert json.loads(CliRunner().invoke(app, ["contract", "--json"]).stdout) == document


def test_every_event_command_and_topic_is_there(document: dict[str, Any]) -> None:
    there = set(document["components"]["messages"])
    wanted = {*KINDS, *(f"cmd.{kind}" for kind in COMMAND_TYPES), *(f"now.{kind}" for kind in CURRENT)}
    assert there == {*wanted, *OF_THE_GATEWAY, "tel", "res", SELF_TEST}
    assert {operation["action"] for operation in document["operations"].values()} == {"send", "receive"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in references(item)]
        if not isinstance(part, dict):
            return []
        return [part["$ref"]] if "$ref" in part else [found for item in part.values() for found in references(item)]

    found = set(references(document))
    assert len(found) > 100
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, reference
            place = place[step]


def test_every_message_has_an_example_that_it_allows(document: dict[str, Any]) -> None:
    contract = Contract(document)
    shown = examples(document)
    assert {name for name, _ in shown} == set(document["components"]["messages"])
    assert [(name, wrong) for name, payload in shown if (wrong := contract.wrong(name, payload))] == []


def test_the_id_of_every_example_follows_from_its_natural_key(document: dict[str, Any]) -> None:
    for name, payload in examples(document):
        if name not in KINDS:
            continue
        data = msgspec.convert(payload["data"], KINDS[name])
        order = msgspec.convert(payload["order"], OrderRef | None)
        assert payload["id"] == event_id(data, payload["eq"], parse_timestamp(payload["t_src"]), order), name
        assert UUID(payload["id"]).version == 5


def test_every_part_of_a_natural_key_is_a_field_of_the_message(document: dict[str, Any]) -> None:
    for name, payload in examples(document):
        for part in document["components"]["messages"][name].get("x-natural-key", []):
            place = payload
            for step in part.split("."):
                assert place is None or step in place, f"{name}: {part}"
                place = place and place[step]


def test_the_gateway_takes_every_command_of_the_examples(document: dict[str, Any]) -> None:
    for name, payload in examples(document):
        if name.startswith("cmd."):
            taken = decode_command(name.removeprefix("cmd."), msgspec.json.encode(payload))
            assert not isinstance(taken, Refused), taken


TOPIC = "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/equipment.state"
BROKEN = {
    "a field that nobody promised": (lambda m: m["data"].update(colour="red"), "data: colour not in the contract"),
    "a missing field": (lambda m: m.pop("seq"), "seq missing"),
    "a number for a text": (lambda m: m["data"].update(to=7), "data: to: 7 is not of type string"),
    "a state that does not exist": (lambda m: m["data"].update(to="RUNNING"), "to: 'RUNNING' is not like ^(RUN|"),
    "a time without milliseconds": (lambda m: m.update(t_src="2026-03-02T07:25:00Z"), "t_src: '2026-03-02T07:25:00Z'"),
    "an order without its lot": (lambda m: m.update(order={"id": "4711", "op": None}), "order: lot missing or"),
    "another type than its topic's": (lambda m: m.update(type="downtime.closed"), "is not 'equipment.state'"),
    "an equipment's event without the equipment": (lambda m: m.update(eq=None), "eq: None is not of type string"),
}


@pytest.mark.parametrize(("breaks", "says"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_contract_is_told_with_its_place(document: dict[str, Any], breaks: Any, says: str) -> None:
    message = json.loads(json.dumps(dict(examples(document))["equipment.state"]))
    the_contract().check(TOPIC, message)
    breaks(message)
    with pytest.raises(AssertionError) as told:
        the_contract().check(TOPIC, message)
    assert says in str(told.value)


@pytest.mark.parametrize("topic", [
    "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/equipment.colour", "mfg/v1/ACME/HZ/evt/data.gap", "mfg/v1/ACME/HZ/tel",
    "mfg/v1/ACME/HZ/_gw/edge-01/evt/equipment.state",
])  # fmt: skip
def test_a_topic_that_the_contract_does_not_have_is_told(topic: str) -> None:
    with pytest.raises(AssertionError, match="is no topic of the contract"):
        the_contract().check(topic, {})


def test_a_plain_validator_of_json_schema_agrees(document: dict[str, Any]) -> None:
    validators = pytest.importorskip("jsonschema", reason="jsonschema is not installed; our own checker judges alone")
    contract, components = Contract(document), {"components": document["components"]}
    for name, payload in examples(document):
        schema = document["components"]["messages"][name]["payload"]
        validator = validators.Draft202012Validator({**components, **schema})
        assert list(validator.iter_errors(payload)) == [], name
        for field in payload:
            broken = {key: value for key, value in payload.items() if key != field}
            agreed = contract.wrong(name, broken) is None
            assert validator.is_valid(broken) is agreed, f"{name} without {field}"
