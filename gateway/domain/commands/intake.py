"""Commands from the MES: each is checked, answered, and answered finally exactly once."""

from collections.abc import Mapping, Sequence

from gateway.domain.commands.acknowledgement import PREFIX, Acknowledgements
from gateway.domain.commands.answers import PER_SECOND, Answers
from gateway.domain.commands.confirmations import PREFIX as CONFIRM_PREFIX
from gateway.domain.commands.confirmations import Confirmations
from gateway.domain.commands.downloads import Downloads
from gateway.domain.commands.job_control import PREFIX as JOB_PREFIX
from gateway.domain.commands.job_control import JobCommands
from gateway.domain.commands.uplink_requests import MOST, UplinkRequests
from gateway.domain.contract.envelope import NOBODY, Kept, Sender
from gateway.domain.contract.event_data import Level
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import (
    EQUIPMENT_COMMANDS,
    GATEWAY_COMMANDS,
    AlarmAck,
    Command,
    DispatchChange,
    JobControl,
    OrderStart,
    ParamsAdjust,
    ParamsConfirm,
    ParamsDownload,
    QuarantineRetry,
    Replay,
)
from gateway.domain.dispatching.dispatch import Dispatch
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.operations import CommandEnd, OperationResult, Purpose
from gateway.domain.shared import SharedRecord
from gateway.domain.state.alarms import Asked
from gateway.domain.times import parse_timestamp
from gateway.domain.values import Timestamp
from gateway.domain.writing import purposes


class Commands:
    """Takes in commands and what comes of them; what they mean is in the modules beside it."""

    def __init__(
        self,
        record: SharedRecord,
        equipment: Mapping[str, Equipment],
        recorders: Mapping[str | None, Recorder],
        answers: Mapping[str, Kept],
        links: Mapping[str, bool],
        now: Timestamp,
    ) -> None:
        """`recorders` are those of every stream of events that the record has, by its path; of the gateway and the
        site, by None."""
        site = recorders[None]
        self._equipment = equipment
        self._by_unit = {item.spec.unit: item for item in equipment.values()}
        self._site = site
        self._answers = Answers(answers, site)
        self._dispatch = Dispatch(record, equipment, site)
        self._downloads = Downloads(record, equipment, site, self._answers, self._dispatch, links, now)
        self._confirmations = Confirmations(equipment, site, self._answers, links)
        self._acknowledgements = Acknowledgements(record, equipment, links)
        self._jobs = JobCommands(record, equipment, site, self._answers, links, now)
        self.uplink = UplinkRequests(record.uplink, recorders, self._answers)

    def handle(self, command: Command, now: Timestamp, sender: Sender = NOBODY) -> None:
        """Answer a well-formed command at once; a known id gets its stored answer and nothing else happens."""
        stored = self._answers.find(command.cmd)
        if stored is not None:
            self._repeat(command, stored, now, sender)
            return
        busy = self._busy(command, now)
        if busy is not None:
            self._answers.refuse(command.cmd, command.type, busy, self._path_of(command), now, sender)
            return
        self._answers.expect(command.cmd, sender)
        expired = _expired(command, now)
        if expired is not None:
            self._answer(command, [expired], now)
        elif isinstance(command, ParamsDownload):
            self._download(command, now)
        elif isinstance(command, ParamsAdjust):
            self._adjust(command, now)
        elif isinstance(command, ParamsConfirm):
            self._confirm(command, now)
        elif isinstance(command, AlarmAck):
            self._acknowledge(command, now)
        elif isinstance(command, JobControl | OrderStart) and self._jobs.takes(command, self._find(command.eq)):
            self._control_job(command, now)
        elif isinstance(command, Replay | QuarantineRetry):
            self.uplink.take(command, now)
        else:
            against = list(self._dispatch.take(command, now))
            self._answer(command, against, now)
            if isinstance(command, DispatchChange) and command.action == "cancel" and not against:
                self._jobs.withdraw(command.order, command.cmd, command.corr, now)

    def refuse(
        self, cmd: str, kind: str, objection: Objection, path: str | None, now: Timestamp, sender: Sender = NOBODY
    ) -> None:
        """Answer what could not be understood."""
        self._answers.refuse(cmd, kind, objection, path, now, sender)

    def _busy(self, command: Command, now: Timestamp) -> Objection | None:
        if self._answers.is_busy(now):
            reason = f"more than {PER_SECOND} commands a second"
        elif isinstance(command, GATEWAY_COMMANDS) and self.uplink.is_full:
            reason = f"{MOST} requests to the broker's link are under way"
        else:
            return None
        return Objection("busy", f"{reason}; nothing was done, send it again later")

    def _repeat(self, command: Command, stored: Kept, now: Timestamp, sender: Sender) -> None:
        path = self._path_of(command)
        if sender.digest and stored.sender.digest and sender.digest != stored.sender.digest:
            text = f"{command.cmd} was another command before; nothing was done, give this one an id of its own"
            self._answers.refuse(command.cmd, command.type, Objection("id_reused", text), path, now, sender)
        else:
            self._answers.repeat(stored, path, sender)

    def handle_result(self, result: OperationResult, now: Timestamp) -> None:
        """A device operation ended."""
        if result.token.startswith(PREFIX):
            self._end_acknowledgement(self._acknowledgements.end(result), now)
        elif result.token.startswith(JOB_PREFIX):
            self._jobs.handle_result(result, now)
        elif result.token.startswith(CONFIRM_PREFIX):
            self._confirmations.handle_result(result, now)
        else:
            self._dispatch.handle_result(result)
            self._downloads.handle_result(result, now)

    def handle_link_up(self, device: str, now: Timestamp) -> None:
        """The device is in reach again."""
        self._downloads.handle_link_up(device, now)
        self._jobs.handle_link_up(device, now)

    def handle_scan(self, path: str, now: Timestamp) -> None:
        """An equipment's inputs changed."""
        self._dispatch.follow_hold(self._equipment[path])
        self._downloads.handle_scan(path, now)

    def handle_timer(self, now: Timestamp) -> None:
        """Deadlines of downloads, and what a restart has left without an answer."""
        for interrupted in self._acknowledgements.take_interrupted():
            self._end_acknowledgement(interrupted, now)
        self._confirmations.handle_timer(now)
        self._downloads.handle_timer(now)
        self._jobs.handle_timer(now)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        timers = (self._downloads.next_timer(), self._jobs.next_timer(), self._confirmations.next_timer())
        return min((timer for timer in timers if timer is not None), default=None)

    # --- what runs on after its first answer --------------------------------------------------------------------

    def _download(self, command: ParamsDownload, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        if equipment is not None:
            self._downloads.take(command, equipment, now)
            return
        unknown = [self._unknown(command.eq)]
        self._answer(command, unknown, now)
        self._downloads.reject(command, unknown, None, now)

    def _adjust(self, command: ParamsAdjust, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        fault = self._unknown(command.eq) if equipment is None else self._downloads.adjust(command, equipment, now)
        if fault is not None:
            self._answer(command, [fault], now)

    def _confirm(self, command: ParamsConfirm, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        if equipment is None:
            self._answer(command, [self._unknown(command.eq)], now)
        else:
            self._confirmations.take(command, equipment, now)

    def _control_job(self, command: JobControl | OrderStart, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        if equipment is None:
            self._answer(command, [self._unknown(command.eq)], now)
        else:
            self._jobs.take(command, equipment, now)

    def _acknowledge(self, command: AlarmAck, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        if equipment is None:
            self._answer(command, [self._unknown(command.eq)], now)
            return
        objections = list(self._acknowledgements.objections(command, equipment))
        self._answer(command, objections, now, otherwise="accepted")
        if not objections:
            self._site.effects.operations.append(self._acknowledgements.begin(command, equipment))
            return
        alarms = equipment.spec.alarms
        device = alarms.acknowledged_at if alarms is not None else None
        self._tell_audit(purposes.of_acknowledgement(command), device, "rejected", objections)

    def _end_acknowledgement(self, ended: tuple[str, str, Asked, Objection | None] | None, now: Timestamp) -> None:
        if ended is None:
            return
        path, cmd, asked, failure = ended
        verdict, objections = ("failed", [failure]) if failure else ("done", [])
        self._answers.give(cmd, asked.type, verdict, path, now, objections=objections)
        alarms = self._equipment[path].spec.alarms
        device = alarms.acknowledged_at if alarms is not None else None
        self._tell_audit(Purpose(cmd=cmd, type=asked.type, by=asked.user), device, verdict, objections)

    def _tell_audit(self, purpose: Purpose, device: str | None, result: str, objections: Sequence[Objection]) -> None:
        codes, detail = [o.code for o in objections], [o.detail for o in objections]
        self._site.effects.ends.append(
            CommandEnd(purpose=purpose, device=device, result=result, codes=codes, detail=detail)
        )

    # --- answers ------------------------------------------------------------------------------------------------

    def _answer(self, command: Command, objections: list[Objection], now: Timestamp, otherwise: str = "done") -> None:
        verdict = "rejected" if objections else otherwise
        self._answers.give(command.cmd, command.type, verdict, self._path_of(command), now, objections=objections)

    def _path_of(self, command: Command) -> str | None:
        """Where it is answered."""
        if isinstance(command, GATEWAY_COMMANDS):
            return Level.GATEWAY
        equipment = self._find(command.eq) if isinstance(command, EQUIPMENT_COMMANDS) else None
        return equipment.spec.path if equipment else None

    def _unknown(self, name: str) -> Objection:
        known = ", ".join(sorted(self._by_unit))
        return Objection("unknown_equipment", f"{name} is not configured; here are {known}")

    def _find(self, name: str) -> Equipment | None:
        return self._equipment.get(name) or self._by_unit.get(name)


def _expired(command: Command, now: Timestamp) -> Objection | None:
    if command.valid_until is None or parse_timestamp(command.valid_until) >= now:
        return None
    return Objection("expired", f"it was valid until {command.valid_until}")
