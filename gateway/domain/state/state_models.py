"""Ready-made state models: what machines of a standard say, and which canonical state that is.

Each model is a table. `roles` are the tags it looks at, with the numbers of the names that its rules use; `rules` are
read like those in YAML, first match wins, and a rule that needs a role without a tag is left out. A number or text that
no rule covers makes the state UNKNOWN, cause UNMAPPED, so nothing is listed that its source does not define.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.domain.state.states import State


class Role(msgspec.Struct, frozen=True):
    """One tag that a model looks at.

    `names` are how such tags are called in their standard: an equipment's tag of that name is taken without being
    told. `codes` are the numbers of the values; a device that says text instead says these names.
    """

    name: str
    names: tuple[str, ...] = ()
    codes: Mapping[str, int] = {}
    is_required: bool = False
    is_evidence: bool = False
    """Its value is published as `raw` beside the canonical state."""


class ModelRule(msgspec.Struct, frozen=True):
    """One row: `when` over the names of roles, of their codes, and `held_reasons` (see `packml`).

    `reason` is a fixed reason or the role that carries a code; `only_with` a role without which the row is left out.
    """

    to: State
    when: str
    debounce: int | None = None
    reason: str | None = None
    only_with: str | None = None


class StateModel(msgspec.Struct, frozen=True):
    """A standard's states. `innermost` says how a state is read that is told by nested state machines."""

    name: str
    roles: tuple[Role, ...]
    rules: tuple[ModelRule, ...]
    innermost: Mapping[str, str] = {}

    def role(self, name: str) -> Role | None:
        """The role of that name, if there is one."""
        return next((role for role in self.roles if role.name == name), None)


_PACKML_STATES: Final = {
    "Undefined": 0, "Clearing": 1, "Stopped": 2, "Starting": 3, "Idle": 4, "Suspended": 5, "Execute": 6, "Stopping": 7,
    "Aborting": 8, "Aborted": 9, "Holding": 10, "Held": 11, "Unholding": 12, "Suspending": 13, "Unsuspending": 14,
    "Resetting": 15, "Completing": 16, "Complete": 17, "Completed": 17, "Running": 18, "Cleared": 19,
}  # fmt: skip

_SUSPENDED: Final = "state in [Suspended, Suspending, Unsuspending]"
_HELD: Final = "state in [Held, Holding, Unholding]"

PACKML: Final = StateModel(
    "packml",
    roles=(
        Role("state", ("StateCurrent", "Status.StateCurrent"), _PACKML_STATES, is_required=True, is_evidence=True),
        Role("machine_state", ("MachineState",), _PACKML_STATES, is_evidence=True),
        Role("execute_state", ("ExecuteState",), _PACKML_STATES, is_evidence=True),
        Role("mode", ("UnitMode", "UnitModeCurrent", "Status.UnitModeCurrent"),
             {"Production": 1, "Maintenance": 2, "Manual": 3}, is_evidence=True),
        Role("starved", ("EquipmentStarved", "EquipmentInterlock.Starved", "Status.EquipmentInterlock.Starved")),
        Role("blocked", ("EquipmentBlocked", "EquipmentInterlock.Blocked", "Status.EquipmentInterlock.Blocked")),
        Role("stop_reason", ("StopReason", "StopReason.ID", "Admin.StopReason.ID")),
    ),
    rules=(
        ModelRule(State.MAINT, "mode == Maintenance"),
        ModelRule(State.DOWN, "state in [Aborting, Aborted, Clearing]", debounce=0, reason="stop_reason"),
        ModelRule(State.HELD, f"{_HELD} and stop_reason in held_reasons", reason="stop_reason"),
        ModelRule(State.DOWN, _HELD, debounce=0, reason="stop_reason", only_with="stop_reason"),
        ModelRule(State.HELD, _HELD),
        ModelRule(State.STARVED, f"{_SUSPENDED} and starved"),
        ModelRule(State.BLOCKED, f"{_SUSPENDED} and blocked"),
        ModelRule(State.BLOCKED, _SUSPENDED, only_with="starved"),
        ModelRule(State.STARVED, _SUSPENDED),
        ModelRule(State.RUN, "state in [Execute, Completing]"),
        ModelRule(State.IDLE, "state in [Idle, Stopped, Stopping, Complete, Completed, Starting, Resetting]"),
    ),
    innermost={
        "state": "state if state != Cleared else machine_state if machine_state != Running else execute_state",
    },
)  # fmt: skip
"""PackML: `Status.StateCurrent` of PackTags (ANSI/ISA-TR88.00.02) and the states of OPC 30050, which share numbers and
names (Complete is called Completed since 2022). OPC 30050 has no single state: a machine state inside Cleared, an
execute state inside Running, each Bad while its outer state is another one (OPC 10000-16 4.4.2); with the tags
`machine_state` and `execute_state` the innermost counts. Held is a fault, DOWN, where the machine has stop reasons;
`held_reasons` are the codes that `reasons:` puts under HELD/. Suspended is the line's fault: where only `starved` is
known, what is not starved is blocked, and where neither bit is, it counts as STARVED. Modes from 4 on are the plant's
own: `{to: SETUP, when: "mode == 4"}` in `rules:`."""

MACHINERY: Final = StateModel(
    "machinery",
    roles=(
        Role("state", ("MachineryItemState",),
             {"NotAvailable": 0, "OutOfService": 1, "NotExecuting": 2, "Executing": 3},
             is_required=True, is_evidence=True),
        Role("mode", ("OperationMode", "MachineryOperationMode"),
             {"Maintenance": 1, "Setup": 2, "Processing": 3}, is_evidence=True),
    ),
    rules=(
        ModelRule(State.OFF, "state == NotAvailable"),
        ModelRule(State.MAINT, "mode == Maintenance and state in [OutOfService, NotExecuting, Executing]"),
        ModelRule(State.DOWN, "state == OutOfService"),
        ModelRule(State.SETUP, "mode == Setup and state in [NotExecuting, Executing]"),
        ModelRule(State.RUN, "state == Executing"),
        ModelRule(State.IDLE, "state == NotExecuting"),
    ),
)  # fmt: skip
"""OPC UA for Machinery, OPC 40001-1 chapters 12 and 13: MachineryItemState and MachineryOperationMode. NotAvailable is
a machine that does nothing and can do nothing, such as a switched-off one; OutOfService one that cannot, which the
specification reads as unscheduled downtime."""

MTCONNECT: Final = StateModel(
    "mtconnect",
    roles=(
        Role("execution", is_required=True, is_evidence=True),
        Role("mode", ("controller_mode",), is_evidence=True),
        Role("functional_mode"),
        Role("availability", ("avail",), is_evidence=True),
        Role("emergency_stop", ("estop",)),
        Role("condition", ("system_condition",)),
    ),
    rules=(
        ModelRule(State.UNKNOWN, "availability == 'UNAVAILABLE'"),
        ModelRule(State.UNKNOWN, "execution == 'UNAVAILABLE'"),
        ModelRule(State.DOWN, "emergency_stop == 'TRIGGERED'", debounce=0, reason="DOWN/EMERGENCY_STOP"),
        ModelRule(State.MAINT, "functional_mode == 'MAINTENANCE'"),
        ModelRule(State.DOWN, "condition == 'FAULT'", debounce=0),
        ModelRule(State.SETUP, "functional_mode in ['SETUP', 'TEARDOWN']"),
        ModelRule(State.SETUP, "mode in ['MANUAL', 'MANUAL_DATA_INPUT', 'EDIT']"),
        ModelRule(State.RUN, "execution in ['ACTIVE', 'WAIT']"),
        ModelRule(State.HELD, "execution == 'FEED_HOLD'", reason="HELD/FEED_HOLD"),
        ModelRule(State.HELD, "execution == 'INTERRUPTED'", reason="HELD/INTERRUPTED"),
        ModelRule(State.HELD, "execution in ['PROGRAM_STOPPED', 'OPTIONAL_STOP', 'PROGRAM_OPTIONAL_STOP']",
                  reason="HELD/PROGRAM_STOP"),
        ModelRule(State.IDLE, "execution in ['READY', 'PROGRAM_COMPLETED', 'STOPPED']"),
    ),
)  # fmt: skip
"""MTConnect, model version 2.5: Execution, ControllerMode, FunctionalMode, Availability, EmergencyStop, and a condition
NORMAL, WARNING or FAULT. All are text. WAIT is the cycle waiting for a secondary operation and going on by itself;
INTERRUPTED and the program stops wait for a person. UNAVAILABLE is the agent's word for "no value"."""

_WS_STATES: Final = {
    "Stopped": 1, "Starting": 2, "Prepared": 4, "Lack": 8, "Tailback": 16, "LackBranchLine": 32,
    "TailbackBranchLine": 64, "Operating": 128, "Stopping": 256, "Aborting": 512, "EquipmentFailure": 1024,
    "ExternalFailure": 2048, "EmergencyStop": 4096, "Idle": 32768,
}  # fmt: skip

WEIHENSTEPHAN: Final = StateModel(
    "weihenstephan",
    roles=(
        Role("state", ("WS_Cur_State",), _WS_STATES, is_required=True, is_evidence=True),
        Role("mode", ("WS_Cur_Mode",), {"Off": 1, "Manual": 2, "SemiAutomatic": 4, "Automatic": 8}, is_evidence=True),
        Role("program", ("WS_Cur_Prog",),
             {"Production": 1, "StartUp": 2, "RunDown": 4, "Clean": 8, "Changeover": 16, "Maintenance": 32,
              "Break": 64},
             is_evidence=True),
        Role("fail_code", ("WS_Not_Of_Fail_Code",)),
    ),
    rules=(
        ModelRule(State.OFF, "mode == Off"),
        ModelRule(State.MAINT, "program == Maintenance"),
        ModelRule(State.DOWN, "state == EmergencyStop", debounce=0, reason="DOWN/EMERGENCY_STOP"),
        ModelRule(State.DOWN, "state == ExternalFailure", debounce=0, reason="DOWN/EXTERNAL_FAILURE"),
        ModelRule(State.DOWN, "state in [EquipmentFailure, Aborting]", debounce=0, reason="fail_code"),
        ModelRule(State.SETUP, "program == Changeover", reason="SETUP/CHANGEOVER"),
        ModelRule(State.SETUP, "program == Clean", reason="SETUP/CLEANING"),
        ModelRule(State.IDLE, "program == Break", reason="IDLE/BREAK"),
        ModelRule(State.RUN, "state == Operating"),
        ModelRule(State.STARVED, "state == Lack"),
        ModelRule(State.STARVED, "state == LackBranchLine", reason="STARVED/BRANCH_LINE"),
        ModelRule(State.BLOCKED, "state == Tailback"),
        ModelRule(State.BLOCKED, "state == TailbackBranchLine", reason="BLOCKED/BRANCH_LINE"),
        ModelRule(State.IDLE, "state in [Stopped, Starting, Stopping, Prepared, Idle]"),
    ),
)  # fmt: skip
"""Weihenstephan Standards for bottling: WS_Cur_Mode and WS_Cur_Prog with the numbers of OPC 40600 9.1 and 9.2,
WS_Cur_State with the powers of two that machines of the WS protocol send (OPC 40600 7.7 and 7.8 give the same states as
substates of Held and Suspended, by name). A machine that has OPC 40600's state machine instead is a `packml` one."""

RUN_STOP: Final = StateModel(
    "run-stop",
    roles=(
        Role("running", ("run", "is_running"), is_required=True, is_evidence=True),
        Role("fault"), Role("starved"), Role("blocked"),
    ),
    rules=(
        ModelRule(State.DOWN, "fault", debounce=0),
        ModelRule(State.RUN, "running"),
        ModelRule(State.STARVED, "starved"),
        ModelRule(State.BLOCKED, "blocked"),
        ModelRule(State.IDLE, "true"),
    ),
)  # fmt: skip
"""A machine that says whether it runs, and perhaps why it does not."""

STATE_MODELS: Final = {model.name: model for model in (PACKML, MACHINERY, MTCONNECT, WEIHENSTEPHAN, RUN_STOP)}
