"""Acknowledging and confirming alarm conditions for the MES: one method call, and its answer (OPC 10000-9 §5.7).

What the server answers ends the command. That the alarm is acknowledged is never concluded from it: the condition
itself says so, by its next event, and only that makes an `alarm.acked`.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import AlarmAck
from gateway.domain.equipment import Equipment
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.shared import SharedRecord
from gateway.domain.state.alarms import AlarmMemory, Asked, Occurrence
from gateway.domain.values import Argument, DataType, MethodCall, is_bad
from gateway.domain.writing import purposes

ACKNOWLEDGE: Final = "nsu=http://opcfoundation.org/UA/;i=9111"
"""AcknowledgeableConditionType.Acknowledge(EventId, Comment), called on the condition (OPC 10000-9 §5.7.3)."""
CONFIRM: Final = "nsu=http://opcfoundation.org/UA/;i=9113"
"""AcknowledgeableConditionType.Confirm, likewise (§5.7.4)."""
METHODS: Final = frozenset({ACKNOWLEDGE, CONFIRM})

PREFIX: Final = "alarm.ack|"
"""How the tokens of these operations begin; those of downloads begin with a path, which has a slash before any |."""
_REFUSALS: Final = {
    0x809A0000: Objection("changed", "the alarm has changed since; look at it again"),  # BadEventIdUnknown
    0x80CF0000: Objection("already_acknowledged", "somebody was faster"),  # BadConditionBranchAlreadyAcked
    0x80D00000: Objection("already_confirmed", "somebody was faster"),  # BadConditionBranchAlreadyConfirmed
    0x801F0000: Objection("access_denied", "the server does not let the gateway's user do this"),
}
_IN_DOUBT: Final = frozenset({"link_lost", "interrupted"})


class Acknowledgements:
    """Judges the commands, asks the device, and says what came of it. What is under way is in the alarms' memory."""

    def __init__(self, record: SharedRecord, equipment: Mapping[str, Equipment], links: Mapping[str, bool]) -> None:
        self._record = record
        self._equipment = equipment
        self._links = links
        self._interrupted = {cmd: path for path, memory in self._memories() for cmd in memory.asked}

    def _memories(self) -> Iterator[tuple[str, AlarmMemory]]:
        return ((path, item.memory.alarms) for path, item in self._equipment.items())

    def objections(self, command: AlarmAck, equipment: Equipment) -> Iterator[Objection]:
        """Every reason against the command."""
        spec, memory = equipment.spec.alarms, equipment.memory.alarms
        if spec is None or spec.acknowledged_at is None:
            yield Objection("not_allowed", f"{command.eq} does not permit it; its alarms need acknowledge: true")
            return
        if (locked := self._record.locks.objection(spec.acknowledged_at)) is not None:
            yield locked
        if not self._links.get(spec.acknowledged_at, False):
            yield Objection("no_contact", f"{spec.acknowledged_at} is out of reach")
        if not command.user.strip():
            yield Objection("user", "nobody is named; an alarm is acknowledged by a person")
        occurrence = _find(memory, command.occ)
        if occurrence is None:
            shown = ", ".join(known.name for known in memory.open.values() if known.is_published) or "none"
            yield Objection("unknown_alarm", f"{command.occ} is not there (any more); open are: {shown}")
        else:
            yield from _state_objections(command, occurrence)
        if any((asked.occ, asked.confirm) == (command.occ, command.confirm) for asked in memory.asked.values()):
            yield Objection("under_way", f"{command.occ} is being asked for already")

    def begin(self, command: AlarmAck, equipment: Equipment) -> Operation:
        """Note what is asked and say how; to be called without objections only."""
        spec, memory = equipment.spec.alarms, equipment.memory.alarms
        occurrence = _find(memory, command.occ)
        assert spec is not None
        assert spec.acknowledged_at is not None
        assert occurrence is not None
        memory.asked[command.cmd] = Asked(command.type, command.occ, command.user.strip(), command.confirm)
        if not command.confirm:
            occurrence.asked_by = command.user.strip()  # now, for the event may be faster than the answer
        equipment.recorder.changed = True
        # The server's own record names the person too: it knows the gateway as its user only.
        comment = f"{command.comment} ({command.user.strip()})" if command.comment else command.user.strip()
        arguments = (
            Argument(DataType.BYTES, bytes.fromhex(occurrence.event_id)),
            Argument(DataType.STRING, comment, localized=True),
        )
        call = MethodCall(occurrence.condition, CONFIRM if command.confirm else ACKNOWLEDGE, arguments)
        purpose = purposes.of_acknowledgement(command)
        return Operation(spec.acknowledged_at, f"{PREFIX}{command.cmd}", calls=(call,), purpose=purpose)

    def end(self, result: OperationResult) -> tuple[str, str, Asked, Objection | None] | None:
        """Path, command, what it asked, and why it failed if it did; None for one that is answered already."""
        cmd = result.token.removeprefix(PREFIX)
        path = next((path for path, memory in self._memories() if cmd in memory.asked), None)
        if path is None:
            return None
        return self._take(path, cmd, _failure(result))

    def take_interrupted(self) -> list[tuple[str, str, Asked, Objection | None]]:
        """Those that a restart of the gateway left without an answer; like `end`, and only once."""
        interrupted, self._interrupted = self._interrupted, {}
        why = Objection("interrupted", "the gateway was restarted; whether the server took it, the alarm itself tells")
        return [self._take(path, cmd, why) for cmd, path in interrupted.items()]

    def _take(self, path: str, cmd: str, failure: Objection | None) -> tuple[str, str, Asked, Objection | None]:
        equipment = self._equipment[path]
        asked = equipment.memory.alarms.asked.pop(cmd)
        equipment.recorder.changed = True
        occurrence = _find(equipment.memory.alarms, asked.occ)
        if occurrence is not None and failure is not None and failure.code not in _IN_DOUBT:
            occurrence.asked_by = None
        return path, cmd, asked, failure


def _find(memory: AlarmMemory, name: str) -> Occurrence | None:
    return next((known for known in memory.open.values() if known.name == name and known.is_published), None)


def _state_objections(command: AlarmAck, occurrence: Occurrence) -> Iterator[Objection]:
    if not occurrence.condition or not occurrence.event_id:
        yield Objection("no_condition", f"the server has not told the condition of {command.occ} since the link is up")
    if not command.confirm and occurrence.acked is not None:
        yield Objection("already_acknowledged", f"{command.occ} is acknowledged")
    if command.confirm and occurrence.acked is None:
        yield Objection("not_acknowledged", f"{command.occ} is confirmed after it was acknowledged, not before")
    if command.confirm and occurrence.confirmed is not False:
        yield Objection("nothing_to_confirm", f"{command.occ} has nothing to be confirmed")


def _failure(result: OperationResult) -> Objection | None:
    if result.refused is not None:
        return result.refused
    if result.lost:
        return Objection("link_lost", "whether the server took it, the alarm itself tells when the link is back")
    (call,) = result.calls
    if not is_bad(call.status_code):
        return None
    return _REFUSALS.get(call.status_code, Objection("refused", f"the server refused it: 0x{call.status_code:08X}"))
