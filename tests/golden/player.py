"""Plays a scenario in process with a stepped clock: simulator models on one side, the gateway's core on the other.

No sockets and no store: what would be committed is kept here, and what would be published is the capture. The
orchestrator's faults are played too: the broker's outage holds the capture back, the kill throws the core away.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.domain.contract.envelope import Kept
from gateway.domain.contract.requests import Command
from gateway.domain.core import Core
from gateway.domain.effects import Effects, GatewayIdentity
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import Batch, ConditionChange, TagChange, Timestamp, Value
from gateway.mqtt import payloads
from gateway.mqtt.topics import Topics
from simulators.mes_commands import messages
from simulators.models.line import Line
from simulators.scenario import Scenario, load
from tests.contract import the_contract
from tests.golden.machines import ModbusMachine, OpcUaMachine

ROOT = Path(__file__).parents[2]
CONTACT_FAULTS = ("link_cut", "device_restart")


@dataclass
class Broker:
    """Holds back what is published while it is away. What is published is held against the contract, if wanted."""

    capture: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    is_up: bool = True
    is_checked: bool = True

    def publish(self, topic: str, payload: bytes) -> None:
        """Deliver, now or when the broker is back."""
        message = {"topic": topic, "payload": json.loads(payload)}
        if self.is_checked:
            the_contract().check(**message)
        self.waiting.append(message)
        if self.is_up:
            self.flush()

    def flush(self) -> None:
        """Deliver what waited, in its order."""
        self.capture += self.waiting
        self.waiting = []


class Player:
    """One scenario from start to end."""

    def __init__(self, scenario: Path | Scenario, plant: Plant | None = None) -> None:
        self.scenario = scenario if isinstance(scenario, Scenario) else load(scenario)
        self.line = Line(self.scenario)
        self.plant = plant or load_plant(ROOT / "config")
        self.broker = Broker()
        self.start: Timestamp = int(self.scenario.start.timestamp() * 1000)
        line, write = self.line, self.line.filler.write
        self._machines: dict[str, OpcUaMachine | ModbusMachine] = {
            "FIL01": OpcUaMachine(self.plant, "FIL01", line.filler.tags, write, self.start),
            "LBL01": ModbusMachine(self.plant, "LBL01", line),
            "SCADA": OpcUaMachine(
                self.plant, "SCADA", lambda: {**line.palletiser.tags(), **line.checkweigher.tags()},
                line.palletiser.write, self.start,
            ),
        }  # fmt: skip
        self._topics = Topics(self.plant.topic_root, self.plant.site, self.plant.gateway_id)
        self._checkpoints: dict[str, bytes] = {}
        self._answers: dict[str, Kept] = {}
        self._shown: dict[str, dict[str, Value]] = {}
        self._told_alarms = -1
        self._refresh = False
        self._operations: list[Operation] = []
        self._core: Core | None = None
        self._commands = messages(self.scenario)

    def play(self, looks: Mapping[int, Collection[str]] | None = None) -> list[dict[str, Any]]:
        """The whole scenario, second by second or only where a device is looked at; returns the capture."""
        for second in range(self.scenario.length + 1) if looks is None else sorted(looks):
            self._second(second, self._machines if looks is None else looks[second])
        return self.broker.capture

    def alarms_suppressed(self, unit: str) -> int:
        """How many alarms of an equipment were too short to be told."""
        assert self._core is not None
        item = next(item for item in self._core.equipment.values() if item.spec.unit == unit)
        return item.memory.alarms.suppressed

    # --- one second ---------------------------------------------------------------------------------------------

    def _second(self, second: int, devices: Collection[str]) -> None:
        self.line.advance_to(second * 1000)
        now = self.start + second * 1000
        self._play_gateway(second, now)
        self._play_broker(second, now)
        if self._core is None:
            return
        for device in self._machines:
            if device in devices:
                self._play_device(device, second, now)
        self._core.handle_deadline(now)
        self._work(now)
        while self._commands and self._commands[0].at <= second:
            message = self._commands.pop(0)
            command = payloads.decode_command(str(message.body["type"]), json.dumps(message.body).encode())
            assert isinstance(command, Command), command
            self._core.handle_command(command, now)
            self._work(now)

    def _play_gateway(self, second: int, now: Timestamp) -> None:
        killed = any(f.kind == "gateway_kill" and f.from_ <= second < f.to for f in self.scenario.faults)
        if killed:
            self._core = None
            self._shown = {}
        elif self._core is None:
            identity = GatewayIdentity(self.plant.gateway_id, self.plant.fingerprint, "golden", "0")
            self._core = Core(self.plant.equipment, identity, self._checkpoints, self._answers, now)
            self._operations = []

    def _play_broker(self, second: int, now: Timestamp) -> None:
        away = any(f.kind == "broker_outage" and f.from_ <= second < f.to for f in self.scenario.faults)
        if self._core is not None and away == self.broker.is_up:
            self._core.handle_broker(not away, now, now)
            self._commit(now)
        if not away and not self.broker.is_up:
            self.broker.flush()
        self.broker.is_up = not away

    def _play_device(self, device: str, second: int, now: Timestamp) -> None:
        assert self._core is not None
        fault = next((f for f in self.scenario.faults if f.device == device and f.kind in CONTACT_FAULTS and f.from_ <= second < f.to), None)  # fmt: skip
        if fault is not None:
            if device in self._shown:
                self._core.handle_changes(device, Batch([], now), now)
                self._core.handle_link(device, False, now, now, fault.kind)
                del self._shown[device]
            return
        if device not in self._shown:
            self._core.handle_link(device, True, now, now)
            self._shown[device] = {}
            self._refresh = self._refresh or device == "SCADA"
        before, values = self._shown[device], self._machines[device].read()
        changes = [
            TagChange(tag_id, value, 0, now)
            for tag_id, value in values.items()
            if tag_id not in before or before[tag_id] != value
        ]
        self._shown[device] = values
        self.deliver(device, Batch(changes, now), now)
        if device == "SCADA":
            self._tell_conditions(now)

    def deliver(self, device: str, batch: Batch, now: Timestamp) -> None:
        """Hand a batch to the core, once and in order."""
        assert self._core is not None
        self._core.handle_changes(device, batch, now)

    def _tell_conditions(self, now: Timestamp) -> None:
        """PAL01's alarms as A&C conditions; after a reconnect a refresh has all retained ones told again."""
        assert self._core is not None
        ms = now - self.start
        told = []
        for alarm in self.line.alarms["PAL01"]:
            moments = [at for at in (alarm.raised, alarm.acked, alarm.cleared) if at is not None and at <= ms]
            news = [at for at in moments if at > self._told_alarms]
            if news or (self._refresh and alarm.retained(ms)):
                at = self.start + max(moments)
                acked, active = alarm.acknowledged(ms), alarm.active(ms)
                told.append(ConditionChange("PAL01", alarm.code, active, acked, alarm.text, alarm.severity, at))
        self._told_alarms, self._refresh = ms, False
        if told:
            self._core.handle_changes("SCADA", Batch([], now, conditions=tuple(told)), now)

    # --- commit and operations ----------------------------------------------------------------------------------

    def _work(self, now: Timestamp) -> None:
        """Commit, carry out what the core wants, until it wants nothing more at this moment."""
        assert self._core is not None
        self._commit(now)
        while self._operations:
            operation = self._operations.pop(0)
            self._core.handle_operation(self._perform(operation), now)
            self._commit(now)

    def _perform(self, operation: Operation) -> OperationResult:
        if operation.device not in self._shown:
            return OperationResult(operation.token, lost=True)
        machine = self._machines[operation.device]
        results = tuple(machine.write(operation.writes)) if operation.writes else ()
        values = machine.read() if operation.reads else {}
        reads = tuple(TagChange(tag_id, values[tag_id]) for tag_id in operation.reads)
        return OperationResult(operation.token, reads, results)

    def _commit(self, now: Timestamp) -> None:
        assert self._core is not None
        effects = self._core.take_effects(now)
        if effects is not None:
            self._keep(effects)

    def _keep(self, effects: Effects) -> None:
        for key, value in effects.checkpoints.items():
            if value is None:
                self._checkpoints.pop(key, None)
            else:
                self._checkpoints[key] = value
        for event in effects.events:
            self.broker.publish(self._topics.event(event.equipment, event.type), payloads.encode_event(event))
        self._answers |= effects.kept
        for path, answer, _ in effects.answers:
            self.broker.publish(self._topics.answer(path, answer.type), payloads.encode_answer(answer))
        for telemetry in effects.telemetry:
            self.broker.publish(self._topics.telemetry(telemetry.equipment), payloads.encode_telemetry(telemetry))
        self._operations += effects.operations
