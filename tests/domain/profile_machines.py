"""Machines that take parameters in all the ways of the profiles, as memory of tags and one scan; levels, no edges.

Each works with `speed` and `oven`, written to `*_set` and shown in `*_now`. What goes wrong is in `faults`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import CallResult, DataType, TagChange, WriteResult
from gateway.domain.writing.checksums import crc16_modbus
from gateway.domain.writing.profiles import PROFILES
from gateway.domain.writing.recipe_buffer import buffer_bytes

OLD = {"speed": 100, "oven": 1700}
NEW = {"speed": 120, "oven": 1750}


class ProfileMachine:
    """Answers operations at once, counts what is written, and scans after each."""

    def __init__(self, profile: str, faults: frozenset[str] = frozenset()) -> None:
        self.profile = profile
        self.faults = faults
        self.behaves: Callable[[ProfileMachine], None] | None = None
        self.memory: dict[str, Any] = dict(START[profile])
        for name, value in OLD.items():
            self.memory |= {f"{name}_set": value, f"{name}_now": value}
        self.written: list[tuple[str, Any]] = []
        self.taken: list[dict[str, int]] = []
        self.scan()

    @property
    def raised(self) -> list[str]:
        """The signals of the gateway that are still up."""
        ours = {"request": {"request_bits", "packml"}, "trigger": {"recipe_buffer", "scada_trigger"}}
        ours["answered"] = {"machine_pull"}
        return [name for name, profiles in ours.items() if self.profile in profiles and self.memory[name]]

    @property
    def active(self) -> dict[str, int]:
        return {name: self.memory[f"{name}_now"] for name in OLD}

    def writes_of(self, name: str) -> list[Any]:
        return [value for tag, value in self.written if tag == name]

    def answer(self, operation: Operation) -> OperationResult:
        """Carry the operation out; what is refused stays as it was."""
        writes = []
        for write in operation.writes:
            name = write.tag_id.split(".")[1]
            refused = {f"refuse {name}", f"refuse {name} {write.value}"} & self.faults
            if not refused:
                self.written.append((name, write.value))
                ignored = f"ignore {name}" in self.faults
                self.memory[name] = self.memory[name] if ignored else write.value
            writes.append(WriteResult(write.tag_id, 0x803B0000 if refused else 0))
        self.scan()
        calls = [CallResult(0, (0 if self.apply(call.method) else 7,)) for call in operation.calls]
        reads = [self._read(tag) for tag in operation.reads]
        return OperationResult(operation.token, tuple(reads), tuple(writes), calls=tuple(calls))

    def _read(self, tag: str) -> TagChange:
        name = tag.split(".")[1]
        hidden = f"hide {name}" in self.faults
        return TagChange(tag, None if hidden else self.memory[name], 0x803A0000 if hidden else 0)

    def scan(self) -> None:
        if "deaf" not in self.faults:
            (self.behaves or SCANS[self.profile])(self)

    def restart(self) -> None:
        """The power was away: what the machine works with is kept, its answers are not."""
        kept = {name: value for name, value in self.memory.items() if name.endswith(("_set", "_now"))}
        self.memory |= START[self.profile] | kept

    def take(self) -> None:
        for name in OLD:
            value = self.memory[f"{name}_set"]
            self.memory[f"{name}_now"] = min(value, 110) if f"clamp {name}" in self.faults else value
        self.taken.append(self.active)

    def apply(self, method: str) -> bool:
        assert method.endswith("Apply")
        if "error" in self.faults:
            return False
        self.take()
        return True


def _sequence_number(machine: ProfileMachine) -> None:
    memory = machine.memory
    if memory["command"] == memory["acknowledged"] or memory["command"] == 0:
        return
    memory["acknowledged"] = memory["command"]
    bad = "error" in machine.faults
    memory |= {"status": 3 if bad else 2, "error": 5 if bad else 0}
    if not bad:
        machine.take()


def _request_bits(machine: ProfileMachine) -> None:
    memory = machine.memory
    if not memory["request"]:
        memory |= {"acknowledged": False, "done": False, "error": 0}
    elif not memory["acknowledged"]:
        memory["acknowledged"] = True
        if "error" in machine.faults:
            memory["error"] = 5
        else:
            machine.take()
            memory["done"] = True


def _data_ready(machine: ProfileMachine) -> None:
    memory = machine.memory
    if memory["ready"] == memory["echo"]:
        memory["error"] = 0
    elif "error" in machine.faults:
        memory["error"] = 5
    else:
        machine.take()
        memory["echo"] = memory["ready"]


def _packml(machine: ProfileMachine) -> None:
    memory = machine.memory
    if memory["request"]:
        memory["request"] = False
        if "error" not in machine.faults:
            machine.take()
            memory["state"] = 4 if memory["command"] == 1 else memory["state"]


def _recipe_buffer(machine: ProfileMachine) -> None:
    memory = machine.memory
    if not memory["trigger"]:
        return
    content = buffer_bytes([(DataType.INT32, memory[f"{name}_set"]) for name in OLD], "big")
    sealed = memory["checksum"] == crc16_modbus(content) and memory["length"] == len(content)
    bad = "error" in machine.faults or not sealed
    memory |= {"status": 3 if bad else 2, "error": 5 if bad else 0, "trigger": False}
    if not bad:
        machine.take()


def _machine_pull(machine: ProfileMachine) -> None:
    memory = machine.memory
    if memory["answered"] and memory["request"]:
        machine.take()
        memory["request"] = False


def _scada_trigger(machine: ProfileMachine) -> None:
    memory = machine.memory
    if memory["trigger"] and not memory["done"] and "error" not in machine.faults:
        machine.take()
        memory["done"] = True
    elif not memory["trigger"]:
        memory["done"] = False


def _none(machine: ProfileMachine) -> None:
    if machine.active != {name: machine.memory[f"{name}_set"] for name in OLD}:
        machine.take()


SCANS: dict[str, Callable[[ProfileMachine], None]] = {
    "sequence_number": _sequence_number,
    "request_bits": _request_bits,
    "data_ready": _data_ready,
    "packml": _packml,
    "recipe_buffer": _recipe_buffer,
    "machine_pull": _machine_pull,
    "scada_trigger": _scada_trigger,
    "none": _none,
    "method": lambda machine: None,
}
START: dict[str, dict[str, Any]] = {
    "sequence_number": {"command": 0, "acknowledged": 0, "status": 0, "error": 0},
    "request_bits": {"request": False, "acknowledged": False, "done": False, "error": 0},
    "data_ready": {"ready": False, "echo": False, "error": 0},
    "packml": {"command": 0, "request": False, "state": 2, "in_process": False},
    "recipe_buffer": {"checksum": 0, "length": 0, "trigger": False, "status": 0, "error": 0},
    "machine_pull": {"request": True, "answered": False, "refused": False},
    "scada_trigger": {"trigger": False, "done": False},
    "none": {},
    "method": {},
}
KEYS: dict[str, dict[str, Any]] = {
    **{profile: {name: name for name in tags} for profile, tags in START.items()},
    "method": {"object": "s=Recipe", "method": "s=Recipe.Apply", "result": 0},
}
SHORT = {"poll": "500ms", "acknowledge_timeout": "1s", "done_timeout": "2s", "readback_timeout": "1s", "pulse": "500ms"}
"""So that few looks happen before a time is over, and each of them can be a moment to die."""
KEYS["packml"] |= {"value": 1, "reached": 4}


def yaml_of(profile: str, extra: str = "") -> str:
    """The plant whose machine M1 takes its parameters by this profile."""
    types = {bool: "bool", int: "int32"}
    rows = [f"{name}: {{node: s={name}, type: {types[type(value)]}}}" for name, value in START[profile].items()]
    for name in OLD:
        rows += [f"{name}_set: {{node: s={name}_set, type: int32}}", f"{name}_now: {{node: s={name}_now, type: int32}}"]
    tags = "".join(f"      {row}\n" for row in rows)
    parameters = "".join(
        f"        {name}: {{tag: {name}_set, readback: {name}_now, min: 0, max: 5000, class: trim}}\n" for name in OLD
    )
    times = {name: SHORT[name] for name in PROFILES[profile].times}
    handshake = msgspec.json.encode({"type": profile, **KEYS[profile], **times}).decode()
    return (
        "gateway: {id: edge-01, site: ACME/HZ}\nmqtt: {client_id: edge-01}\n"
        "devices:\n  M1: {driver: opcua, url: 'opc.tcp://127.0.0.1:4840', namespace: urn:m1, security: none}\n"
        f"equipment:\n  ACME/HZ/A/L1/M1:\n    device: M1\n    tags:\n{tags}    order: {{from: download}}\n"
        f"    download:\n      handshake: {handshake}\n{extra}      parameters:\n{parameters}"
    )
