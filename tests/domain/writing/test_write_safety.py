"""How much, how often and where a parameter may change; and a machine of which nobody knows what it holds."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.problems import ConfigError
from gateway.domain.commands.allow_list import Bounds, _bounds, allow_list
from gateway.domain.operations import Operation
from gateway.domain.tags.conversion import Conversion, to_engineering, to_raw
from gateway.domain.values import INTEGER_RANGES, DataType, MethodCall, TagChange, TagWrite
from gateway.domain.writing.download_spec import DownloadSpec, ParameterSpec
from gateway.domain.writing.handshake import Handshake
from gateway.domain.writing.profiles import PROFILES
from gateway.domain.writing.write_safety import change_objections
from tests.domain.profile_cell import Cell
from tests.domain.profile_machines import NEW
from tests.stage import demo_plant

SPEED = "speed: {tag: speed_set, "


def limited(folder: Path, keys: str, *faults: str) -> Cell:
    return Cell(folder, "none", *faults, edits=((SPEED, f"{SPEED}{keys}, "),))


@pytest.mark.parametrize(
    ("value", "ends"), [(120, ("ACTIVE", ())), (121, ("REJECTED", ("step",))), (79, ("REJECTED", ("step",)))]
)
def test_a_parameter_changes_by_its_step_at_most(tmp_path: Path, value: int, ends: Any) -> None:
    cell = limited(tmp_path, "step: 20")
    cell.download(values={"speed": value})
    cell.play()
    assert cell.outcomes == [ends]
    if ends[1]:
        assert cell.machine.written == []
        assert cell.stage.answers[-1].detail == (f"speed would go from 100 to {value}; at most 20 at once",)


def test_a_parameter_is_written_as_often_as_it_may_also_over_a_restart(tmp_path: Path) -> None:
    cell = limited(tmp_path, "rate: 2/h")
    for number, value in enumerate((101, 102)):
        cell.download(f"A{number}", {"speed": value})
        cell.play()
        cell.stage.events.clear()
    cell.stage.kill_and_restart("06:10:00")
    cell.stage.connect("M1")
    cell.show()
    cell.download("A3", {"speed": 103})
    assert (cell.stage.answers[-1].codes, len(cell.machine.written)) == (("rate",), 2)
    assert cell.stage.answers[-1].detail[0].startswith("speed may be written 2/h; again from 2026-03-02T07:00:0")
    cell.download("A4", {"oven": 1710})
    cell.play()
    assert cell.outcomes[-1] == ("ACTIVE", ()), "the other parameter has no rate"
    cell.stage.events.clear()
    cell.stage.pass_time("07:00:30")
    cell.show()
    cell.download("A5", {"speed": 103})
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]


def test_a_parameter_changes_only_where_the_yaml_permits_it(tmp_path: Path) -> None:
    rule = '    state: {rules: [{to: RUN, when: "speed_now > 0"}, {to: IDLE, when: "true"}], debounce: 0s}\n    order:'
    cell = Cell(tmp_path, "none", edits=((SPEED, f"{SPEED}states: [IDLE, SETUP], "), ("    order:", rule)))
    cell.stage.now += 1_000
    cell.show()
    cell.download(values={"speed": 120})
    cell.play()
    assert cell.outcomes == [("REJECTED", ("state",))]
    assert cell.stage.answers[-1].detail == ("speed may not change in RUN; the YAML permits it in IDLE, SETUP",)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("rate: often", "'often' does not say how often; write times per time: 2/min, 4/h or 10/d"),
        ("rate: 0/h", "'0/h' does not say how often"),
        ("step: 0", "greater than 0"),
        ("states: [SLEEPING]", "SLEEPING"),
        ("states: []", "states"),
    ],
)
def test_a_wrong_limit_is_told_at_the_check(tmp_path: Path, keys: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        limited(tmp_path, keys)
    assert any("plant.yaml:" in str(problem) and says in str(problem) for problem in caught.value.problems), keys


# --- nobody knows what the machine holds ----------------------------------------------------------------------------


def lost(folder: Path) -> Cell:
    """A download that could not be taken back, in the middle of an order."""
    cell = Cell(folder, "none", "clamp speed", "refuse oven_set 1700")
    cell.download(order="4711")
    cell.play()
    assert cell.outcomes == [("FAILED", ("readback", "write_refused", "rollback_failed"))]
    return cell


def test_a_rollback_that_failed_raises_an_alarm_until_a_set_is_active_again(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    ((_, raised),) = cell.stage.told("alarm.raised")
    assert (raised["code"], raised["class"], raised["sev"]) == ("ROLLBACK_FAILED", "gateway", 800)
    assert cell.stage.retained["ACME/HZ/A/L1/M1", "params"] == {
        "set": None, "rev": None, "items": {"speed": 110, "oven": 1750},
    }  # fmt: skip
    cell.stage.kill_and_restart("06:10:00")
    cell.stage.connect("M1")
    cell.show()
    cell.machine.faults = frozenset()
    cell.stage.events.clear()
    cell.download("C2", NEW)
    cell.play()
    assert cell.outcomes == [("ACTIVE", ())]
    ((_, cleared),) = cell.stage.told("alarm.cleared")
    assert (cleared["occ"], cleared["dur_s"] > 500) == (raised["occ"], True)
    assert cell.stage.retained["ACME/HZ/A/L1/M1", "params"]["set"] == "S"


def test_the_alarm_is_over_only_when_everything_that_is_unknown_was_brought_down_again(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    cell.machine.faults = frozenset()
    for cmd, values, cleared in (("C2", {"speed": 120}, 0), ("C3", {"oven": 1750}, 1)):
        cell.stage.events.clear()
        cell.download(cmd, values)
        cell.play()
        assert (cell.outcomes, len(cell.stage.told("alarm.cleared"))) == ([("ACTIVE", ())], cleared)


def test_a_second_failure_is_the_same_alarm(tmp_path: Path) -> None:
    cell = lost(tmp_path)
    cell.stage.events.clear()
    cell.machine.faults = frozenset({"clamp speed", "refuse oven_set 1750"})
    cell.download("C2", {"speed": 130, "oven": 1720})
    cell.play()
    assert "rollback_failed" in cell.outcomes[0][1]
    assert cell.stage.told("alarm.raised") == []


@pytest.mark.parametrize("known", [True, False])
def test_nothing_goes_by_itself_into_a_machine_that_may_hold_anything(tmp_path: Path, known: bool) -> None:
    state = '    state: {rules: [{to: IDLE, when: "speed_now < 500"}], debounce: 0s}\n    order:'
    cell = Cell(tmp_path, "none", edits=(("    order:", state),))
    cell.machine.faults = frozenset() if known else frozenset({"clamp speed", "refuse oven_set 1700"})
    cell.download()
    cell.play()
    assert cell.outcomes == [("ACTIVE", ()) if known else ("FAILED", ("readback", "write_refused", "rollback_failed"))]
    cell.machine.faults = frozenset()
    items = [{"name": name, "value": value} for name, value in NEW.items()]
    cell.stage.command("params.release", cmd="R-1", sets=[{"set": "S", "rev": "B", "items": items}])
    ops = [{"op": "10", "eq": "M1", "set": "S", "rev": "released"}]
    automatic = {"when": ["IDLE"]}
    cell.stage.command("dispatch.order", cmd="D-1", order="4712", qty=1, ops=ops, auto_download=automatic)
    cell.stage.now += 10_000
    cell.show()
    assert bool(cell.stage.operations) is known


def test_a_download_that_ends_in_doubt_leaves_a_machine_that_may_hold_anything(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "sequence_number", extra="      contact_timeout: 60s\n")
    cell.download()
    cell.play(until=2)
    for _ in range(20):
        cell.break_link(10)
        cell.stage.core.handle_deadline(cell.stage.now)
        cell.stage.commit()
    assert cell.outcomes == [("FAILED", ("in_doubt",))]
    assert [raised["code"] for _, raised in cell.stage.told("alarm.raised")] == ["ROLLBACK_FAILED"]


def test_an_order_that_was_loaded_does_not_start_with_parameters_that_nobody_knows(tmp_path: Path) -> None:
    rule = (
        '    state: {rules: [{to: RUN, when: "speed_now > 200"}, {to: IDLE, when: "true"}], debounce: 0s}\n    order:'
    )
    cell = Cell(tmp_path, "none", edits=(("    order:", rule),))
    cell.download("C0", order="4711")
    cell.play()
    cell.stage.events.clear()
    cell.machine.faults = frozenset({"clamp speed", "refuse oven_set 1750"})
    cell.download("C2", {"speed": 130, "oven": 1720}, order="4711")
    cell.play()
    assert "rollback_failed" in cell.outcomes[0][1]
    cell.machine.memory["speed_now"] = 300
    cell.stage.now += 10_000
    cell.show()
    assert cell.stage.told("order.started") == []


# --- the last look, at the raw value --------------------------------------------------------------------------------


def test_what_whole_numbers_cannot_say_is_refused_and_not_rounded(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "none")
    cell.download(values={"oven": 1710.5})
    assert (cell.stage.answers[-1].codes, cell.machine.written) == (("type",), [])
    assert cell.stage.answers[-1].detail == ("oven: 1710.5 would be 1710 in the machine, which counts whole",)


def test_what_the_machine_held_outside_the_limits_is_put_back_past_the_gate(tmp_path: Path) -> None:
    cell = Cell(tmp_path, "none", "clamp speed", oven_set=9_000, oven_now=9_000)
    cell.download()
    allowed, restored = allow_list("M1", [part.spec for part in cell.stage.core.equipment.values()]), []
    while not cell.outcomes:
        for operation in cell.stage.operations:
            assert allowed.objection(operation, "M1") is None, operation
            restored += [write.value for write in operation.writes if operation.restores]
        cell.play(0.1, until=cell.carried_out + 1)
    assert cell.outcomes == [("FAILED", ("readback",))]
    assert restored == [9_000, 100]
    bad = Operation("M1", "", writes=(TagWrite("M1.oven_set", 9_000),))
    assert allowed.objection(bad, "M1") is not None, "only on the way back"


def test_a_negative_scale_turns_the_limits_round() -> None:
    parameter = ParameterSpec("p", "M1.p", "M1.p", Conversion(DataType.INT16, -0.5), 10, 20)
    assert [raw for raw in range(-60, 60) if _bounds(parameter).refusal(raw, restores=False) is None] == [
        *range(-40, -19)
    ]


def test_a_step_of_a_tenth_is_not_too_far_by_what_binary_adds() -> None:
    parameter = ParameterSpec("p", "t", "t", Conversion(DataType.FLOAT32), 0, 9, step=0.1)
    spec = DownloadSpec("M1", {"p": parameter}, Handshake(PROFILES["none"], {}), "M1")
    assert abs(0.8 - 0.7) > 0.1 or abs(0.4 - 0.3) > 0.1, "as binary has it"
    for before, after in ((0.7, 0.8), (0.3, 0.4)):
        assert list(change_objections({"p": (before, after)}, spec, None)) == []
    (far,) = change_objections({"p": (0.2, 0.31)}, spec, None)
    assert far.detail == "p would go from 0.2 to 0.31; at most 0.1 at once"


def test_a_limit_between_two_raw_numbers_is_not_passed_at_the_gate() -> None:
    parameter = ParameterSpec("p", "M1.p", "M1.p", Conversion(DataType.UINT16, 10.0), 105, 195)
    passed = [raw for raw in range(30) if _bounds(parameter).refusal(raw, restores=False) is None]
    assert passed == list(range(11, 20)), "110 to 190, and neither 100 nor 200"


NUMBERS = [data_type for data_type in INTEGER_RANGES if "64" not in data_type] + [DataType.FLOAT32, DataType.FLOAT64]


@given(
    st.sampled_from(NUMBERS), st.floats(-1e6, 1e6), st.sampled_from([1.0, 0.1, -0.5, 10.0]), st.sampled_from([0.0, 32.0]),
    st.floats(-1e5, 1e5), st.floats(0, 1e5),
)  # fmt: skip
def test_whatever_is_asked_for_what_goes_out_means_it_within_the_limits_or_nothing_goes_out(
    data_type: DataType, asked: float, scale: float, offset: float, low: float, width: float
) -> None:
    conversion = Conversion(data_type, scale, offset)
    bounds = _bounds(ParameterSpec("p", "M1.p", "M1.p", conversion, low, low + width))
    try:
        raw = to_raw(asked, conversion)
    except ValueError:
        return
    meant = to_engineering(TagChange("", raw), conversion)[0]
    assert isinstance(meant, int | float)
    rounding = abs(scale) if data_type in INTEGER_RANGES else abs(asked) * 1e-6 + 1e-6
    assert math.isclose(meant, asked, abs_tol=rounding)
    tiny = 1e-5 + (abs(low) + width) * 1e-8
    if bounds.refusal(raw, restores=False) is None:
        assert low - tiny <= meant <= low + width + tiny
    if low <= asked <= low + width and math.isclose(meant, asked, rel_tol=1e-12):
        assert bounds.refusal(raw, restores=False) is None


@pytest.mark.parametrize(
    ("data_type", "value", "restores", "says"),
    [
        (DataType.FLOAT32, math.nan, False, "is not finite"),
        (DataType.FLOAT32, math.inf, True, "is not finite"),
        (DataType.UINT16, 70_000, True, "is outside 0 to 65535"),
        (DataType.UINT16, 500, False, "is outside 0 to 100"),
        (DataType.UINT16, 500, True, None),
        (DataType.UINT16, 1.5, False, "is no uint16"),
        (DataType.UINT16, True, False, "is no number"),
        (DataType.UINT16, "7", False, "is no number"),
        (DataType.BOOL, 1, False, "is no bool"),
        (DataType.BOOL, True, False, None),
    ],
)
def test_what_no_rule_caught_is_caught_where_it_would_go_out(
    data_type: DataType, value: Any, restores: bool, says: str | None
) -> None:
    assert Bounds(data_type, 0, 100).refusal(value, restores=restores) == says


def test_the_gate_names_every_tag_and_value_that_may_not_pass() -> None:
    allowed = allow_list("LBL01", demo_plant().equipment)
    writes = (TagWrite("LBL01.oven_sp", 9999), TagWrite("LBL01.cmd_seq", "8"), TagWrite("LBL01.belt_speed", 240))
    objection = allowed.objection(Operation("LBL01", "", writes=writes), "LBL01")
    assert objection is not None
    assert (objection.code, objection.detail) == (
        "limit",
        "LBL01.oven_sp: the raw value 9999 is outside 1000 to 2000; "
        "LBL01.cmd_seq: the raw value '8' is no whole number, as a signal must be",
    )
    stranger = Operation("LBL01", "", writes=(TagWrite("LBL01.good", 0),), calls=(MethodCall("i=1", "s=Reset"),))
    refused = allowed.objection(stranger, "LBL01")
    assert refused is not None
    assert (refused.code, refused.detail) == (
        "not_allowed", "LBL01.good, s=Reset: not on the write allow-list of LBL01",
    )  # fmt: skip
