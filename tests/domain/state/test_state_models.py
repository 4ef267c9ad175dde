"""Ready-made state models: what each number and name of a standard means, without a rule in YAML."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_plant
from gateway.domain.state.state_models import STATE_MODELS, StateModel
from gateway.domain.state.states import Cause, State, observe
from gateway.domain.tags.expressions import Inputs, tags_used
from gateway.domain.values import Value
from tests.domain.one_machine import machine, shown, tags
from tests.stage import ROOT, demo_plant

PACKML = {
    0: "UNKNOWN", 1: "DOWN", 2: "IDLE", 3: "IDLE", 4: "IDLE", 5: "STARVED", 6: "RUN", 7: "IDLE", 8: "DOWN", 9: "DOWN",
    10: "HELD", 11: "HELD", 12: "HELD", 13: "STARVED", 14: "STARVED", 15: "IDLE", 16: "RUN", 17: "IDLE",
    18: "UNKNOWN", 19: "UNKNOWN", 20: "UNKNOWN",
}  # fmt: skip
PACKML_NAMES = [
    "Undefined", "Clearing", "Stopped", "Starting", "Idle", "Suspended", "Execute", "Stopping", "Aborting", "Aborted",
    "Holding", "Held", "Unholding", "Suspending", "Unsuspending", "Resetting", "Completing", "Complete", "Running",
    "Cleared", "Dancing",
]  # fmt: skip


def test_packtags_need_one_line_of_yaml(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(StateCurrent="int32") + "    state: {model: packml}\n")
    assert {number: str(shown(stage, StateCurrent=number).state) for number in PACKML} == PACKML


def test_packml_by_name_is_packml_by_number(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(state="string") + "    state: {model: packml}\n")
    codes = {name: code for role in STATE_MODELS["packml"].roles for name, code in role.codes.items()}
    assert [codes[name] for name in PACKML_NAMES[:-1]] == list(range(20))
    said = {number: str(shown(stage, state=name).state) for number, name in enumerate(PACKML_NAMES)}
    assert said == PACKML
    assert shown(stage, state="Completed").state is State.IDLE


def test_the_innermost_state_of_nested_packml_machines_counts(tmp_path: Path) -> None:
    """OPC 30050: an inner state machine that is not active is Bad, and is not asked."""
    names = tags(state="string", MachineState="string", ExecuteState="string")
    stage = machine(tmp_path, names + "    state: {model: packml}\n")
    assert shown(stage, state="Aborted").state is State.DOWN
    assert shown(stage, state="Cleared", MachineState="Stopped").state is State.IDLE
    assert shown(stage, state="Cleared", MachineState="Running", ExecuteState="Execute").state is State.RUN
    lost = shown(stage, state="Cleared", MachineState="Running")
    assert (lost.state, lost.cause) == (State.UNKNOWN, Cause.BAD_QUALITY)


def test_packml_suspends_by_its_neighbours_and_is_held_by_its_reasons(tmp_path: Path) -> None:
    names = tags(state="int32", mode="int32", starved="bool", blocked="bool", stop_reason="int32")
    stage = machine(tmp_path, names + "    state: {model: packml, reasons: {9001: HELD/QUALITY, 2107: DOWN/JAM}}\n")
    calm: dict[str, Value] = {"mode": 1, "starved": False, "blocked": False, "stop_reason": 0}
    assert shown(stage, **calm | {"state": 5, "starved": True}).state is State.STARVED
    assert shown(stage, **calm | {"state": 13, "blocked": True}).state is State.BLOCKED
    held = shown(stage, **calm | {"state": 11, "stop_reason": 9001})
    assert (held.state, held.reason) == (State.HELD, "HELD/QUALITY")
    jam = shown(stage, **calm | {"state": 11, "stop_reason": 2107})
    assert (jam.state, jam.reason, jam.debounce) == (State.DOWN, "DOWN/JAM", 0)
    assert shown(stage, **calm | {"state": 6, "mode": 2}).state is State.MAINT


def test_an_unmapped_number_is_unknown_with_the_number_as_evidence(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(state="int32", mode="int32") + "    state: {model: packml}\n")
    stage.show("M1", "06:00:00", state=6, mode=1)
    stage.show("M1", "06:10:00", state=77, mode=1)
    stage.hear("M1", "06:11:00")
    clock, told = stage.told("equipment.state")[-1]
    assert (clock, told["to"], told["cause"], told["raw"]) == (
        "06:10:00", "UNKNOWN", "UNMAPPED", {"state": 77, "mode": 1},
    )  # fmt: skip


def test_own_rules_come_before_those_of_the_model(tmp_path: Path) -> None:
    body = tags(state="int32", mode="int32", power="bool") + (
        "    state:\n      model: packml\n      rules:\n"
        '        - {to: "OFF", when: "not power"}\n'
        '        - {to: SETUP, when: "mode == 4"}\n'
    )
    stage = machine(tmp_path, body)
    assert shown(stage, state=6, mode=1, power=False).state is State.OFF
    assert shown(stage, state=6, mode=4, power=True).state is State.SETUP
    assert shown(stage, state=6, mode=1, power=True).state is State.RUN


def test_roles_are_bound_by_name_by_yaml_or_not_at_all(tmp_path: Path) -> None:
    names = tags(word="int32", mode="int32", Status_UnitModeCurrent="int32")
    stage = machine(tmp_path, names + "    state: {model: packml, tags: {state: word}}\n")
    assert shown(stage, word=6, mode=2).state is State.MAINT
    stage = machine(tmp_path, names + "    state: {model: packml, tags: {state: word, mode: Status_UnitModeCurrent}}\n")
    assert shown(stage, word=6, mode=2, Status_UnitModeCurrent=1).state is State.RUN
    stage = machine(tmp_path, names + "    state: {model: packml, tags: {state: word, mode: ~}}\n")
    assert shown(stage, word=6, mode=2).state is State.RUN


TABLES: dict[str, tuple[dict[str, str], list[tuple[dict[str, Any], str, str | None]]]] = {
    "machinery": ({"MachineryItemState": "uint32", "OperationMode": "uint32"}, [
        ({"MachineryItemState": 0, "OperationMode": 3}, "OFF", None),
        ({"MachineryItemState": 1, "OperationMode": 3}, "DOWN", None),
        ({"MachineryItemState": 1, "OperationMode": 1}, "MAINT", None),
        ({"MachineryItemState": 2, "OperationMode": 2}, "SETUP", None),
        ({"MachineryItemState": 2, "OperationMode": 0}, "IDLE", None),
        ({"MachineryItemState": 3, "OperationMode": 3}, "RUN", None),
        ({"MachineryItemState": 3, "OperationMode": 0}, "RUN", None),
        ({"MachineryItemState": 4, "OperationMode": 3}, "UNKNOWN", None),
        ({"MachineryItemState": 4, "OperationMode": 2}, "UNKNOWN", None),
    ]),
    "mtconnect": ({"execution": "string", "controller_mode": "string", "availability": "string", "estop": "string"}, [
        ({"execution": "ACTIVE"}, "RUN", None),
        ({"execution": "WAIT"}, "RUN", None),
        ({"execution": "FEED_HOLD"}, "HELD", "HELD/FEED_HOLD"),
        ({"execution": "INTERRUPTED"}, "HELD", "HELD/INTERRUPTED"),
        ({"execution": "OPTIONAL_STOP"}, "HELD", "HELD/PROGRAM_STOP"),
        ({"execution": "READY"}, "IDLE", None),
        ({"execution": "PROGRAM_COMPLETED"}, "IDLE", None),
        ({"execution": "ACTIVE", "controller_mode": "MANUAL_DATA_INPUT"}, "SETUP", None),
        ({"execution": "ACTIVE", "estop": "TRIGGERED"}, "DOWN", "DOWN/EMERGENCY_STOP"),
        ({"execution": "ACTIVE", "availability": "UNAVAILABLE"}, "UNKNOWN", None),
        ({"execution": "DANCING"}, "UNKNOWN", None),
    ]),
    "weihenstephan": ({"WS_Cur_State": "uint32", "WS_Cur_Mode": "uint32", "WS_Cur_Prog": "uint32",
                       "WS_Not_Of_Fail_Code": "uint32"}, [
        ({"WS_Cur_State": 128}, "RUN", None),
        ({"WS_Cur_State": 8}, "STARVED", None),
        ({"WS_Cur_State": 16}, "BLOCKED", None),
        ({"WS_Cur_State": 64}, "BLOCKED", "BLOCKED/BRANCH_LINE"),
        ({"WS_Cur_State": 1024, "WS_Not_Of_Fail_Code": 512}, "DOWN", "512"),
        ({"WS_Cur_State": 2048}, "DOWN", "DOWN/EXTERNAL_FAILURE"),
        ({"WS_Cur_State": 4096}, "DOWN", "DOWN/EMERGENCY_STOP"),
        ({"WS_Cur_State": 4}, "IDLE", None),
        ({"WS_Cur_State": 32768}, "IDLE", None),
        ({"WS_Cur_State": 1, "WS_Cur_Mode": 1}, "OFF", None),
        ({"WS_Cur_State": 1, "WS_Cur_Prog": 16}, "SETUP", "SETUP/CHANGEOVER"),
        ({"WS_Cur_State": 128, "WS_Cur_Prog": 8}, "SETUP", "SETUP/CLEANING"),
        ({"WS_Cur_State": 1, "WS_Cur_Prog": 32}, "MAINT", None),
        ({"WS_Cur_State": 1, "WS_Cur_Prog": 64}, "IDLE", "IDLE/BREAK"),
        ({"WS_Cur_State": 3}, "UNKNOWN", None),
    ]),
    "run-stop": ({"running": "bool", "fault": "bool", "starved": "bool"}, [
        ({"running": True}, "RUN", None),
        ({"running": True, "fault": True}, "DOWN", None),
        ({"starved": True}, "STARVED", None),
        ({}, "IDLE", None),
    ]),
}  # fmt: skip
CALM: dict[str, dict[str, Any]] = {
    "machinery": {},
    "mtconnect": {"controller_mode": "AUTOMATIC", "availability": "AVAILABLE", "estop": "ARMED"},
    "weihenstephan": {"WS_Cur_Mode": 8, "WS_Cur_Prog": 1, "WS_Not_Of_Fail_Code": 0},
    "run-stop": {"running": False, "fault": False, "starved": False},
}


@pytest.mark.parametrize("model", TABLES)
def test_each_model_says_what_its_standard_means(tmp_path: Path, model: str) -> None:
    names, rows = TABLES[model]
    stage = machine(tmp_path, tags(**names) + f"    state: {{model: {model}}}\n")
    for values, state, reason in rows:
        seen = shown(stage, **CALM[model] | values)
        assert (values, str(seen.state), seen.reason) == (values, state, reason)


def test_a_machine_with_one_bit_runs_or_is_idle(tmp_path: Path) -> None:
    stage = machine(tmp_path, tags(running="bool") + "    state: {model: run-stop}\n")
    stage.show("M1", "06:00:00", running=False)
    stage.show("M1", "06:10:00", running=True)
    stage.hear("M1", "06:10:10")
    assert stage.states("M1") == [("06:00:00", "IDLE"), ("06:10:00", "RUN")]


@pytest.mark.parametrize("model", STATE_MODELS.values(), ids=lambda model: model.name)
def test_every_name_in_a_rule_is_a_role_or_a_code_and_means_one_thing(model: StateModel) -> None:
    roles = [role.name for role in model.roles]
    codes: dict[str, int] = {}
    for role in model.roles:
        assert all(codes.setdefault(name, code) == code for name, code in role.codes.items()), role.name
    for rule in model.rules:
        assert tags_used(rule.when) <= {*roles, *codes, "held_reasons"}, rule


def test_the_packml_model_says_what_the_demo_plants_own_rules_say(tmp_path: Path) -> None:
    """FIL01's hand-written rules and the model agree on every number, mode, bit and reason that both know."""
    for file in (ROOT / "config").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        if file.name == "fil01.yaml":
            begin, end = text.index("      rules:"), text.index("      reasons:")
            own = '      model: packml\n      rules: [{to: DOWN, when: "estop", debounce: 0s, reason: stop_reason}]\n'
            text = text[:begin] + own + text[end:]
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    (written,) = [spec.state for spec in demo_plant().equipment if spec.unit == "FIL01"]
    (ready,) = [spec.state for spec in load_plant(tmp_path).equipment if spec.unit == "FIL01"]
    assert written is not None
    assert ready is not None
    inputs = Inputs([tag.name for tag in demo_plant().equipment[0].tags])
    inputs.statuses = [0] * len(inputs.names)
    place = {name: slot for slot, name in enumerate(inputs.names)}
    inputs.values[place["power_ok"]] = True
    for state, mode, starved, reason, estop in product(
        range(18), (1, 2, 3), (False, True), (0, 2107, 9001), (False, True)
    ):
        for name, value in (("state", state), ("mode", mode), ("starved", starved), ("stop_reason", reason),
                            ("estop", estop)):  # fmt: skip
            inputs.values[place[name]] = value
        if mode == 2 and estop:
            continue  # maintenance before the emergency stop, or the other way round: the plant's choice
        one, other = observe(written, inputs, 0), observe(ready, inputs, 0)
        assert (state, mode, one.state, one.reason, one.debounce) == (
            state, mode, other.state, other.reason, other.debounce
        )  # fmt: skip
