"""Commands from the MES: each is checked, answered, and answered finally exactly once."""

import math
from collections.abc import Iterator, Mapping

from gateway.domain.acknowledgement import PREFIX, Acknowledgements
from gateway.domain.alarms import Asked
from gateway.domain.conversion import to_raw
from gateway.domain.dispatch import Dispatch
from gateway.domain.download import Download, DownloadMemory, Outcome
from gateway.domain.download_spec import DownloadSpec
from gateway.domain.effects import Recorder
from gateway.domain.envelope import Answer
from gateway.domain.equipment import Equipment
from gateway.domain.events import ChangeApplied, ParamResult
from gateway.domain.expressions import NoValue
from gateway.domain.forgetting import KEPT
from gateway.domain.objections import Objection
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.requests import EQUIPMENT_COMMANDS, AlarmAck, Command, ParameterItem, ParamsDownload
from gateway.domain.shared import SharedRecord
from gateway.domain.times import parse_timestamp
from gateway.domain.values import DataType, PlainValue, Timestamp, plain


class Commands:
    """Takes in commands, answers them, and drives the downloads that they start."""

    def __init__(
        self,
        record: SharedRecord,
        equipment: Mapping[str, Equipment],
        site: Recorder,
        answers: Mapping[str, Answer],
        links: Mapping[str, bool],
    ) -> None:
        self._record = record
        self._equipment = equipment
        self._by_unit = {item.spec.unit: item for item in equipment.values()}
        self._site = site
        self._answers = dict(answers)
        self._links = links
        self._dispatch = Dispatch(record, equipment, site)
        self._acknowledgements = Acknowledgements(equipment, links)
        self._downloads: dict[str, Download] = {}
        for path, item in equipment.items():
            if item.memory.download is not None and item.spec.download is not None:
                self._downloads[path] = Download(item.spec.download, item.memory.download, path)

    def handle(self, command: Command, now: Timestamp) -> None:
        """Answer a well-formed command at once; a known id gets its stored answer and nothing else happens."""
        stored = self._answers.get(command.cmd)
        if stored is not None:
            self._publish(stored, self._path_of(command))
            return
        expired = _expired(command, now)
        if expired is not None:
            self._answer(command, "rejected", [expired], now)
        elif isinstance(command, ParamsDownload):
            self._download(command, now)
        elif isinstance(command, AlarmAck):
            self._acknowledge(command, now)
        else:
            objections = list(self._dispatch.take(command, now))
            self._answer(command, "rejected" if objections else "done", objections, now)

    def refuse(self, cmd: str, kind: str, objection: Objection, path: str | None, now: Timestamp) -> None:
        """Answer what could not be understood. Such an id is not remembered: nothing was done under it."""
        refusal = Answer(
            cmd=cmd, type=kind, answer="rejected", codes=(objection.code,), detail=(objection.detail,),
            final=True, at=now,
        )  # fmt: skip
        self._site.effects.answers.append((path, refusal))

    def handle_result(self, result: OperationResult, now: Timestamp) -> None:
        """A device operation ended; that of a hold bit carries no download."""
        if result.token.startswith(PREFIX):
            self._end_acknowledgement(self._acknowledgements.end(result), now)
            return
        path = result.token.split("|", 1)[0]
        download = self._downloads.get(path)
        if download is not None:
            self._proceed(path, download.handle_result(result, self._equipment[path].state, now), now)

    def handle_link_up(self, device: str) -> None:
        """The device is in reach again: a download that was under way looks at it and goes on."""
        for path, download in self._downloads.items():
            if download.spec.device == device and download.memory.step != "WAIT_PERMIT":
                self._equipment[path].recorder.changed = True
                self._site.effects.operations.append(download.resume())

    def handle_scan(self, path: str, now: Timestamp) -> None:
        """An equipment's inputs changed: perhaps the operator gave the permit, or a dispatched order can be loaded."""
        download, equipment = self._downloads.get(path), self._equipment[path]
        if download is None:
            due = self._dispatch.due_download(equipment, now) if self._permitted(equipment) else None
            if due is not None and not any(True for _ in self._objections(due, equipment)):
                self._begin(due, equipment, now)
        elif download.memory.step == "WAIT_PERMIT" and self._permitted(equipment):
            self._proceed(path, download.permit(), now)

    def handle_timer(self, now: Timestamp) -> None:
        """Deadlines of downloads, and what a restart has left without an answer."""
        for interrupted in self._acknowledgements.take_interrupted():
            self._end_acknowledgement(interrupted, now)
        for path, download in list(self._downloads.items()):
            timer = download.next_timer()
            if timer is not None and timer <= now:
                self._proceed(path, download.handle_timer(now), now)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        timers = [download.next_timer() for download in self._downloads.values()]
        return min((timer for timer in timers if timer is not None), default=None)

    # --- acknowledging ------------------------------------------------------------------------------------------

    def _acknowledge(self, command: AlarmAck, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        if equipment is None:
            self._answer(command, "rejected", [self._unknown(command.eq)], now)
            return
        objections = list(self._acknowledgements.objections(command, equipment))
        self._answer(command, "rejected" if objections else "accepted", objections, now)
        if not objections:
            self._site.effects.operations.append(self._acknowledgements.begin(command, equipment))

    def _end_acknowledgement(self, ended: tuple[str, str, Asked, Objection | None] | None, now: Timestamp) -> None:
        if ended is None:
            return
        path, cmd, asked, failure = ended
        answer = Answer(
            cmd=cmd, type=asked.type, answer="failed" if failure else "done", final=True, at=now,
            codes=(failure.code,) if failure else (), detail=(failure.detail,) if failure else (),
        )  # fmt: skip
        self._remember(answer, path)

    # --- downloads ----------------------------------------------------------------------------------------------

    def _download(self, command: ParamsDownload, now: Timestamp) -> None:
        equipment = self._find(command.eq)
        objections = list(self._objections(command, equipment))
        if equipment is None or equipment.spec.download is None or objections:
            self._answer(command, "rejected", objections, now)
            codes = tuple(dict.fromkeys(objection.code for objection in objections))
            self._report(command, equipment, Outcome("REJECTED", codes, (), ()), now)
            return
        self._answer(command, "accepted", [], now)
        self._begin(command, equipment, now)

    def _begin(self, command: ParamsDownload, equipment: Equipment, now: Timestamp) -> None:
        spec, path = equipment.spec.download, equipment.spec.path
        assert spec is not None
        memory = DownloadMemory(
            cmd=command.cmd, type=command.type, order=command.order, set=command.set, rev=command.rev,
            corr=command.corr,
            requested={item.name: item.value for item in command.items}, targets=_targets(command, spec),
        )  # fmt: skip
        equipment.memory.download = memory
        memory.limits = {item.name: (item.min, item.max) for item in command.items}
        download = self._downloads[path] = Download(spec, memory, path)
        self._proceed(path, download.begin(self._permitted(equipment), now), now)

    def _objections(self, command: ParamsDownload, equipment: Equipment | None) -> Iterator[Objection]:
        if equipment is None:
            yield self._unknown(command.eq)
            return
        spec = equipment.spec.download
        if spec is None:
            yield Objection("not_allowed", f"{command.eq} has no parameters on its write allow-list")
            return
        if not self._links.get(spec.device, False):
            yield Objection("no_contact", f"{spec.device} is out of reach")
        if equipment.spec.path in self._downloads:
            active = self._downloads[equipment.spec.path].memory
            yield Objection("active_download", f"{active.cmd} is under way at step {active.step}")
        for condition in spec.conditions:
            if not _holds(condition.when, equipment):
                yield Objection(condition.name, f"the precondition {condition.name} does not hold")
        if not command.items:
            yield Objection("no_items", "the set has no items")
        for item in command.items:
            yield from _item_objections(item, equipment)

    def _permitted(self, equipment: Equipment) -> bool:
        permit = equipment.spec.download.permit if equipment.spec.download else None
        return permit is None or _holds(permit, equipment)

    def _proceed(self, path: str, move: Operation | Outcome | None, now: Timestamp) -> None:
        equipment = self._equipment[path]
        equipment.recorder.changed = True
        if isinstance(move, Operation):
            self._site.effects.operations.append(move)
        elif isinstance(move, Outcome):
            self._finish(equipment, move, now)

    def _finish(self, equipment: Equipment, outcome: Outcome, now: Timestamp) -> None:
        memory = self._downloads.pop(equipment.spec.path).memory
        equipment.memory.download = None
        if memory.cmd.startswith("auto:") and memory.order is not None:
            equipment.memory.production.order.loaded.append(memory.order)
        if outcome.result == "ACTIVE":
            if memory.order is not None:
                equipment.orders.arm(memory.order, memory.set, memory.rev)
            equipment.memory.production.usage.limits |= memory.limits
            active = {item.n: item.rb for item in outcome.items}
            if equipment.kpi is not None:
                equipment.kpi.learn(memory.set, memory.rev, active)
            equipment.deviations.expect(active)
            equipment.recorder.retain("params", {"set": memory.set, "rev": memory.rev, "items": active})
        self._report(memory, equipment, outcome, now)
        if outcome.result == "ACTIVE":
            self._tell_change(memory, now)
        verdict = {"ACTIVE": "done", "REJECTED": "rejected"}.get(outcome.result, "failed")
        answer = Answer(
            cmd=memory.cmd, type=memory.type, answer=verdict, codes=outcome.codes, detail=outcome.detail, final=True,
            at=now,
        )  # fmt: skip
        self._remember(answer, equipment.spec.path)

    def _tell_change(self, memory: DownloadMemory, now: Timestamp) -> None:
        """Once per notice and order: the first download with what it changed is active."""
        notice = self._record.library.notice_of(memory.set, memory.rev, now)
        if notice is not None and memory.order is not None and memory.order not in notice.applied:
            notice.applied.append(memory.order)
            applied = ChangeApplied(cn=notice.cn, set=memory.set, rev=memory.rev, for_order=memory.order)
            self._site.event(applied, now, now, time_quality="gateway")

    def _report(
        self, about: ParamsDownload | DownloadMemory, equipment: Equipment | None, outcome: Outcome, now: Timestamp
    ) -> None:
        recorder = equipment.recorder if equipment else self._site
        result = ParamResult(
            cmd=about.cmd, set=about.set, rev=about.rev, result=outcome.result, codes=outcome.codes,
            items=outcome.items, rolled_back=outcome.rolled_back,
        )  # fmt: skip
        owner = equipment.orders.owner(now) if equipment else None
        recorder.event(result, now, now, order=owner, time_quality="gateway", corr=about.corr)

    # --- answers ------------------------------------------------------------------------------------------------

    def _answer(self, command: Command, verdict: str, objections: list[Objection], now: Timestamp) -> None:
        answer = Answer(
            cmd=command.cmd, type=command.type, answer=verdict, at=now, final=verdict != "accepted",
            codes=tuple(dict.fromkeys(objection.code for objection in objections)),
            detail=tuple(objection.detail for objection in objections),
        )  # fmt: skip
        self._remember(answer, self._path_of(command))

    def _remember(self, answer: Answer, path: str | None) -> None:
        answers = self._answers
        answers.pop(answer.cmd, None)  # so that they stand in the order of their times
        answers[answer.cmd] = answer
        while (oldest := next(iter(answers.values()))).at < answer.at - KEPT:
            del answers[oldest.cmd]
        self._publish(answer, path)

    def _publish(self, answer: Answer, path: str | None) -> None:
        self._site.effects.answers.append((path, answer))

    def _path_of(self, command: Command) -> str | None:
        equipment = self._find(command.eq) if isinstance(command, EQUIPMENT_COMMANDS) else None
        return equipment.spec.path if equipment else None

    def _unknown(self, name: str) -> Objection:
        known = ", ".join(sorted(self._by_unit))
        return Objection("unknown_equipment", f"{name} is not configured; here are {known}")

    def _find(self, name: str) -> Equipment | None:
        return self._equipment.get(name) or self._by_unit.get(name)


def _targets(command: ParamsDownload, spec: DownloadSpec) -> dict[str, PlainValue]:
    return {item.name: plain(to_raw(item.value, spec.parameters[item.name].conversion)) for item in command.items}


def _expired(command: Command, now: Timestamp) -> Objection | None:
    if command.valid_until is None or parse_timestamp(command.valid_until) >= now:
        return None
    return Objection("expired", f"it was valid until {command.valid_until}")


def _holds(condition: object, equipment: Equipment) -> bool:
    try:
        return bool(condition(equipment.inputs))  # type: ignore[operator]
    except NoValue:
        return False


def _item_objections(item: ParameterItem, equipment: Equipment) -> Iterator[Objection]:
    spec = equipment.spec.download.parameters.get(item.name) if equipment.spec.download else None
    if spec is None:
        yield Objection("not_allowed", f"{item.name} is not on the write allow-list of {equipment.spec.unit}")
        return
    if item.unit is not None and spec.unit is not None and item.unit != spec.unit:
        yield Objection("unit", f"{item.name} is given in {item.unit}; the machine takes {spec.unit}")
    number = _number(item.value, spec.conversion.type)
    if number is None:
        expected = "true or false" if spec.conversion.type is DataType.BOOL else "a finite number"
        yield Objection("type", f"{item.name}: {item.value!r} is not {expected}")
        return
    for low, high, whose in ((item.min, item.max, "the set's"), (spec.minimum, spec.maximum, "the machine's")):
        if (low is not None and number < low) or (high is not None and number > high):
            yield Objection("limit", f"{item.name} = {number} is outside {whose} limits {low} to {high}")
    try:
        to_raw(item.value, spec.conversion)
    except ValueError as error:
        yield Objection("type", f"{item.name} {error}")


def _number(value: PlainValue, data_type: DataType) -> float | None:
    """The number that is held against the limits: a bool of a bool parameter as 0 or 1, and of no other."""
    if not isinstance(value, int | float) or isinstance(value, bool) is not (data_type is DataType.BOOL):
        return None
    return float(value) if math.isfinite(value) else None
