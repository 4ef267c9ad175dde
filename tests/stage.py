"""A line of three machines without machines: changes go straight into the core, on a clock that the test moves."""

from pathlib import Path
from typing import Any

import msgspec

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.domain.contract.envelope import Answer, Event, Kept
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import Command
from gateway.domain.core import Core
from gateway.domain.effects import Effects, GatewayIdentity
from gateway.domain.operations import CommandEnd, Operation, OperationResult
from gateway.domain.times import format_timestamp, parse_timestamp
from gateway.domain.uplink import UplinkRequest
from gateway.domain.values import Batch, TagChange, TagWrite, Value, WriteResult
from gateway.mqtt.payloads import decode_command
from gateway.mqtt.topics import Topics
from tests.contract import check_effects

DAY = "2026-03-02"
ROOT = Path(__file__).parents[1]
LINE = "ACME/HZ/PACK/L1"


def at(clock: str) -> int:
    """Milliseconds of a time of the test's day."""
    return parse_timestamp(f"{DAY}T{clock}Z")


def demo_plant() -> Plant:
    return load_plant(ROOT / "config")


FIL01 = {
    "state": 4, "mode": 1, "starved": False, "stop_reason": 0, "power_ok": True, "estop": False, "heartbeat": False,
    "processed": 100, "defective": 10, "speed": 120.0, "permit": True, "remote": True, "cmd_seq": 0, "ack_seq": 0,
    "cmd_status": 0, "cmd_error": 0, "fill_volume_set": 0.0, "fill_volume_active": 0.0, "speed_set": 0.0,
    "speed_active": 0.0,
}  # fmt: skip
LBL01 = {"word": 0b100000, "heartbeat": 0, "total_in": 65530, "good": 500, "reject": 7, "oven_actual": 1750,
         "batch_id": "", "cmd_seq": 7, "ack_seq": 7, "cmd_status": 0, "cmd_error": 0, "oven_sp": 1700,
         "belt_speed": 240}  # fmt: skip
PAL01 = {"state": 0, "current_order": "", "good_total": 0, "pallet_seq": 3, "pallet_sscc": "", "pallet_cases": 0,
         "pallet_qty": 0, "heartbeat": False}  # fmt: skip
BITS = ("running", "fault", "starved", "remote", "warm_up", "permit")


class Stage:
    """The core and what it said. Changes carry the source time at which they are shown."""

    def __init__(self, plant: Plant | None = None, clock: str = "06:00:00") -> None:
        self.plant = plant or demo_plant()
        self._topics = Topics(self.plant.topic_root, self.plant.site, self.plant.gateway_id)
        self.now = at(clock)
        self.epoch = "epoch"
        self.events: list[Event] = []
        self.answers: list[Answer] = []
        self.kept: dict[str, Kept] = {}
        self.operations: list[Operation] = []
        self.ends: list[CommandEnd] = []
        self.telemetry: list[Any] = []
        self.uplink: list[UplinkRequest] = []
        self.notices_told: list[int] = []
        self.retained: dict[tuple[str, str], dict[str, Any]] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.beating = True
        self._beat = False
        self.core = self._core()

    def _core(self) -> Core:
        identity = GatewayIdentity("edge-01", self.plant.fingerprint, self.epoch, "0")
        return Core(self.plant.equipment, identity, self.checkpoints, self.kept, self.now)

    def kill_and_restart(self, clock: str) -> None:
        """Everything in memory is gone; what was committed is not."""
        self.now = at(clock)
        self.core = self._core()
        self.commit()

    def connect(self, device: str, clock: str | None = None) -> None:
        self.now = at(clock) if clock else self.now
        self.core.handle_link(device, True, self.now, self.now)
        self.commit()

    def disconnect(self, device: str, clock: str) -> None:
        self.now = at(clock)
        self.core.handle_link(device, False, self.now, self.now, "cut")
        self.commit()

    def show(self, device: str, clock: str, unit: str | None = None, lag: int = 0, **values: Value) -> None:
        """The device shows these values at that time, or up to `lag` milliseconds later; they arrive at once."""
        self.now = at(clock)
        unit = unit or {"SCADA": "PAL01"}.get(device, device)
        if device == "LBL01" and "word" in values:
            word = values.pop("word")
            values |= dict.fromkeys(BITS, word)
        if self.beating:
            self._beat = not self._beat
            values.setdefault("heartbeat", self._beat)
        changes = [TagChange(f"{unit}.{name}", value, 0, self.now) for name, value in values.items()]
        self.core.handle_changes(device, Batch(changes, self.now, lag=lag), self.now)
        self.commit()

    def hear(self, device: str, *clocks: str) -> None:
        """The device says that nothing changed."""
        for clock in clocks:
            self.show(device, clock)

    def pass_time(self, clock: str) -> None:
        """No device says anything until then."""
        while (deadline := self.core.next_deadline()) is not None and deadline <= at(clock):
            self.now = max(self.now + 1, deadline)
            self.core.handle_deadline(self.now)
            self.commit()
        self.now = at(clock)
        self.core.handle_deadline(self.now)
        self.commit()

    def start_line(self, clock: str = "06:00:00") -> None:
        """All three devices are connected and show their first values."""
        for device, values in (("FIL01", FIL01), ("LBL01", LBL01), ("SCADA", PAL01)):
            self.connect(device, clock)
            self.show(device, clock, **values)

    def command(self, kind: str, /, **body: Any) -> list[Answer]:
        """A command arrives as JSON; returns the answers given at once."""
        before = len(self.answers)
        command = decode_command(kind, msgspec.json.encode(body))
        if isinstance(command, Command):
            self.core.handle_command(command, self.now)
        else:
            self.core.refuse_command(command.cmd, kind, command.objection, None, self.now)
        self.commit()
        return self.answers[before:]

    def dispatch(self, order: str = "4711", qty: int = 100, lot: str = "4711-L1") -> None:
        ops = [{"op": "0010", "eq": "FIL01"}, {"op": "0020", "eq": "LBL01"}, {"op": "0030", "eq": "PAL01"}]
        assert (
            self.command("dispatch.order", cmd=f"D-{order}", order=order, qty=qty, lot=lot, ops=ops)[0].answer == "done"
        )

    def answer_operation(
        self, reads: dict[str, Value] | None = None, refuse: tuple[str, ...] = (), lost: bool = False
    ) -> Operation:
        """Play the device: take the oldest operation and answer it."""
        operation = self.operations.pop(0)
        values = reads or {}
        result = OperationResult(
            operation.token,
            tuple(TagChange(tag, values[tag.split(".")[1]], 0, self.now) for tag in operation.reads),
            tuple(WriteResult(w.tag_id, 0x803B0000 if w.tag_id.split(".")[1] in refuse else 0) for w in operation.writes),
            lost,
        )  # fmt: skip
        self.core.handle_operation(result, self.now)
        self.commit()
        return operation

    def take_result(self, operation: Operation, reads: list[TagChange], writes: list[WriteResult]) -> None:
        """A real device has answered an operation."""
        self.core.handle_operation(OperationResult(operation.token, tuple(reads), tuple(writes)), self.now)
        self.commit()

    def commit(self) -> None:
        effects = self.core.take_effects(self.now)
        if effects is None:
            return
        self._keep(effects)

    def _keep(self, effects: Effects) -> None:
        self.events += effects.events
        self.answers += [answer for _, answer, _ in effects.answers]
        self.kept |= effects.kept
        self.operations += effects.operations
        self.ends += effects.ends
        self.telemetry += effects.telemetry
        self.retained |= effects.retained
        self.uplink += effects.uplink
        self.notices_told += effects.notices_told
        for key, value in effects.checkpoints.items():
            if value is None:
                self.checkpoints.pop(key, None)
            else:
                self.checkpoints[key] = value
        check_effects(effects, self._topics)

    def told(self, kind: str, unit: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """(time of day, data) of all events of a type, in the order they were published."""
        return [
            (format_timestamp(event.source_time)[11:19], msgspec.to_builtins(event.data))
            for event in self.events
            if event.type == kind and (unit is None or (event.equipment or "").endswith(unit))
        ]

    def states(self, unit: str) -> list[tuple[str, str]]:
        return [(clock, data["to"]) for clock, data in self.told("equipment.state", unit)]

    def counted(self, unit: str, order: str | None, counter: str) -> int:
        return sum(
            event.data.delta
            for event in self.events
            if event.type == "production.count"
            and event.equipment == f"{LINE}/{unit}"
            and (event.order.id if event.order else None) == order
            and event.data.counter == counter
        )


def writes_of(operation: Operation) -> dict[str, Value]:
    return {write.tag_id.split(".")[1]: write.value for write in operation.writes if isinstance(write, TagWrite)}


__all__ = ["FIL01", "LBL01", "LINE", "PAL01", "Objection", "Stage", "at", "demo_plant", "writes_of"]
