"""The parameter downloads that are under way: begun by a command or by a dispatched order, driven, told of, ended."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gateway.domain.commands.answers import Answers
from gateway.domain.commands.preconditions import may_begin, objections, permitted
from gateway.domain.commands.pulls import Pulls
from gateway.domain.commands.set_conditions import (
    AdjustedDownload,
    machine_objections,
    set_objections,
    with_release,
    withdrawn,
)
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.param_events import ChangeApplied, ParamItem, ParamResult
from gateway.domain.contract.requests import ParameterItem, ParamsAdjust, ParamsDownload
from gateway.domain.dispatching.dispatch import Dispatch
from gateway.domain.dispatching.order_queue import begun_orders
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.operations import CommandEnd, Operation, OperationResult
from gateway.domain.shared import SharedRecord
from gateway.domain.tags.conversion import to_raw
from gateway.domain.values import PlainValue, Timestamp, plain
from gateway.domain.writing import purposes
from gateway.domain.writing.download import Download
from gateway.domain.writing.download_memory import DownloadMemory, Outcome, Step
from gateway.domain.writing.download_spec import DownloadSpec
from gateway.domain.writing.job_download import JobDownload
from gateway.domain.writing.job_spec import OrderFacts
from gateway.domain.writing.write_safety import rate_objections

FOR_GOOD: Final = frozenset({"not_allowed", "no_items", "duplicate", "unit", "type", "limit"})
"""Codes against a set that time does not cure."""

_VERDICTS = {"ACTIVE": "done", "REJECTED": "rejected"}


class Downloads:
    """At most one for each equipment; what is under way is in the equipment's memory."""

    def __init__(
        self,
        record: SharedRecord,
        equipment: Mapping[str, Equipment],
        site: Recorder,
        answers: Answers,
        dispatch: Dispatch,
        links: Mapping[str, bool],
        now: Timestamp,
    ) -> None:
        self._record = record
        self._equipment = equipment
        self._site = site
        self._answers = answers
        self._dispatch = dispatch
        self._links = links
        self._pulls = Pulls(equipment)
        self._active: dict[str, Download | JobDownload] = {}
        self._orphans: list[tuple[Equipment, DownloadMemory]] = []
        for path, item in equipment.items():
            memory, spec = item.memory.download, item.spec.download
            if memory is not None and (spec is None or spec.fingerprint != memory.spec):
                self._orphans.append((item, memory))
            elif memory is not None and spec is not None:
                download = self._active[path] = self._driver(item, spec, memory)
                download.lose(now)

    # --- facts --------------------------------------------------------------------------------------------------

    def take(self, command: ParamsDownload, equipment: Equipment, now: Timestamp) -> None:
        """A command to bring a set into this equipment: accepted and begun, or rejected with every reason."""
        path, command = equipment.spec.path, with_release(command, self._record.library)
        against = [
            *self._objections(command, equipment, now),
            *set_objections(command, equipment, self._record, now),
        ]
        if against:
            self._answers.give(command.cmd, command.type, "rejected", path, now, objections=against)
            self.reject(command, against, equipment, now)
            return
        self._answers.give(command.cmd, command.type, "accepted", path, now)
        self._begin(command, equipment, now)

    def adjust(self, command: ParamsAdjust, equipment: Equipment, now: Timestamp) -> Objection | None:
        """A command to change `trim` parameters of the active set; an objection if no set is active."""
        orders = equipment.orders.memory
        if orders.parameters is None:
            return Objection("no_active_set", f"{command.eq} has no active set; params.download brings one")
        order = orders.current.order.id if orders.current is not None else orders.armed.order if orders.armed else None
        if command.order not in (None, order):
            return Objection("order", f"{command.eq} has {order or 'no order'}, not {command.order}")
        items = tuple(ParameterItem(name=item.name, value=item.value, unit=item.unit) for item in command.items)
        adjusted = AdjustedDownload(
            cmd=command.cmd, eq=command.eq, set=orders.parameters["set"], rev=orders.parameters["rev"], items=items,
            order=order, by=command.by, corr=command.corr,
        )  # fmt: skip
        self.take(adjusted, equipment, now)
        return None

    def reject(
        self, command: ParamsDownload, against: Sequence[Objection], equipment: Equipment | None, now: Timestamp
    ) -> None:
        """Tell as an event that the set did not come into the machine, and why."""
        codes = tuple(dict.fromkeys(objection.code for objection in against))
        detail = tuple(objection.detail for objection in against)
        self._report(command, equipment, Outcome("REJECTED", codes, detail, ()), now)

    def handle_result(self, result: OperationResult, now: Timestamp) -> None:
        """A device operation ended; that of a hold bit carries no download."""
        path = result.token.split("|", 1)[0]
        download = self._active.get(path)
        if download is None:
            return
        self._proceed(path, download.handle_result(result, self._equipment[path].state, now), now)
        if result.lost and self._links.get(download.device, False):
            download.look_again(now)  # one request was lost, and no new link will come that could tell

    def handle_link_up(self, device: str, now: Timestamp) -> None:
        """The device is in reach again: a download that was under way looks at it and goes on."""
        for path, download in list(self._active.items()):
            if download.waits_for(device):
                self._proceed(path, download.resume(now), now)

    def handle_scan(self, path: str, now: Timestamp) -> None:
        """An equipment's inputs changed: perhaps the operator gave the permit, or a dispatched order can be loaded."""
        download, equipment = self._active.get(path), self._equipment[path]
        if download is None:
            self._look_for_work(equipment, now)
        elif download.memory.step is Step.WAIT_PERMIT:
            self._look_at_waiting(equipment, download, now)

    def _look_at_waiting(self, equipment: Equipment, download: Download | JobDownload, now: Timestamp) -> None:
        """Perhaps the permit is there, and nothing holds it up; perhaps what waits is not meant any more."""
        memory, record = download.memory, self._record
        against = list(withdrawn(memory, equipment, record, now))
        if against:
            codes, detail = tuple(o.code for o in against), tuple(o.detail for o in against)
            self._finish(equipment, Outcome("REJECTED", codes, detail, ()), now)
        elif may_begin(equipment) and not any(True for _ in machine_objections(memory, equipment, record)):
            self._proceed(equipment.spec.path, download.permit(), now)

    def _look_for_work(self, equipment: Equipment, now: Timestamp) -> None:
        """What a dispatched order waits for; a machine that asks gets what it was given before, if nothing new."""
        due = None
        if equipment.memory.writes.unknown is not None:
            pass  # nothing goes by itself into a machine that may hold anything
        elif permitted(equipment):
            due = self._dispatch.due_download(equipment, now) or self._pulls.again(equipment, now)
        else:
            self._pulls.rest(equipment.spec.path)
        against = list(self._objections(due, equipment, now)) if due is not None else []
        if due is not None and not against:
            self._pulls.give(equipment.spec.path)
            self._begin(due, equipment, now)
        elif due is not None and due.order is not None and any(objection.code in FOR_GOOD for objection in against):
            equipment.memory.production.order.loaded.append(due.order)
            self.reject(due, against, equipment, now)
        elif (operation := self._pulls.decline(equipment)) is not None:
            self._site.effects.operations.append(operation)

    def handle_timer(self, now: Timestamp) -> None:
        """Deadlines, the next look at an acknowledgement, and what a new configuration has left behind."""
        while self._orphans:
            self._abandon(*self._orphans.pop(), now)
        for path, download in list(self._active.items()):
            timer = download.next_timer()
            if download.memory.give_up is not None and not self._links.get(download.device, False):
                download.memory.next_look = None
            if timer is not None and timer <= now:
                self._proceed(path, download.handle_timer(now), now)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        timers = [download.next_timer() for download in self._active.values()]
        timers += [0] * len(self._orphans)
        return min((timer for timer in timers if timer is not None), default=None)

    def _objections(self, command: ParamsDownload, equipment: Equipment, now: Timestamp) -> Iterator[Objection]:
        """Every reason why this equipment may not take this set now, a person's lock before all."""
        spec = equipment.spec.download
        locked = self._record.locks.objection(spec.device) if spec is not None else None
        if locked is not None:
            yield locked
        if spec is not None and spec.job is not None and not command.order:
            yield Objection("no_order", f"{command.eq} takes sets in job orders; say for which order this one is")
        yield from objections(command, equipment, self._links)
        yield from machine_objections(command, equipment, self._record)
        if spec is not None:
            yield from rate_objections(command, spec, equipment.memory.writes, now)

    # --- one download -------------------------------------------------------------------------------------------

    def _begin(self, command: ParamsDownload, equipment: Equipment, now: Timestamp) -> None:
        spec, path = equipment.spec.download, equipment.spec.path
        assert spec is not None
        memory = DownloadMemory(
            cmd=command.cmd, type=command.type, order=command.order, set=command.set, rev=command.rev,
            spec=spec.fingerprint, corr=command.corr, by=command.by,
            classes={item.name: item.parameter_class for item in command.items if item.parameter_class is not None},
            requested={item.name: item.value for item in command.items}, targets=_targets(command, spec),
        )  # fmt: skip
        equipment.memory.download = memory
        memory.limits = {item.name: (item.min, item.max) for item in command.items}
        download = self._active[path] = self._driver(equipment, spec, memory)
        self._proceed(path, download.begin(permitted(equipment), now), now)

    def _driver(self, equipment: Equipment, spec: DownloadSpec, memory: DownloadMemory) -> Download | JobDownload:
        """Whatever drives it: tags and a handshake, or a job order."""
        if spec.job is None:
            return Download(spec, memory, equipment.spec.path)
        order = memory.order or ""
        known = self._record.orders.get(order)
        facts = OrderFacts(order, memory.set, memory.rev, equipment.spec.unit, known)
        return JobDownload(spec, memory, equipment.spec.path, facts)

    def _proceed(self, path: str, move: Operation | Outcome | None, now: Timestamp) -> None:
        equipment = self._equipment[path]
        equipment.recorder.changed = True
        if isinstance(move, Operation):
            download = self._active[path]
            purpose = purposes.of_download(download.memory, download.spec, move)
            self._site.effects.operations.append(msgspec.structs.replace(move, purpose=purpose))
        elif isinstance(move, Outcome):
            self._finish(equipment, move, now)

    def _finish(self, equipment: Equipment, outcome: Outcome, now: Timestamp) -> None:
        download = self._active.pop(equipment.spec.path)
        memory = download.memory
        loaded, is_own = equipment.memory.production.order.loaded, memory.cmd.startswith("auto:")
        if memory.order is not None and memory.order not in loaded and (is_own or outcome.result == "ACTIVE"):
            loaded.append(memory.order)
        if outcome.result == "ACTIVE":
            self._make_active(equipment, memory, outcome)
            if isinstance(download, JobDownload):
                download.remember(equipment.memory.jobs)
        self._end(memory, equipment, outcome, now)
        if outcome.result == "ACTIVE":
            self._tell_change(memory, now)

    def _abandon(self, equipment: Equipment, memory: DownloadMemory, now: Timestamp) -> None:
        """The configuration is another than the one it was begun with, so nobody can go on with it."""
        detail = "the configuration of this machine was changed while it was under way"
        codes = ("reconfigured", "in_doubt") if memory.is_written else ("reconfigured",)
        items = tuple(ParamItem(name, value, None) for name, value in memory.requested.items())
        result = "FAILED" if memory.is_written else "REJECTED"
        self._end(memory, equipment, Outcome(result, codes, (detail,), items), now)

    def _end(self, memory: DownloadMemory, equipment: Equipment, outcome: Outcome, now: Timestamp) -> None:
        """The event, and the one final answer."""
        equipment.memory.download = None
        equipment.recorder.changed = True
        writes = equipment.memory.writes
        writes.note(memory, equipment.spec.download, now)
        writes.judge(outcome, equipment.recorder, equipment.orders.owner(now), now)
        if writes.unknown is not None:
            equipment.orders.memory.armed = None  # no order starts with parameters that nobody knows
            items = {item.n: item.rb for item in outcome.items}
            equipment.recorder.retain("params", {"set": None, "rev": None, "items": items})
        self._report(memory, equipment, outcome, now)
        verdict = _VERDICTS.get(outcome.result, "failed")
        self._answers.end(memory.cmd, memory.type, verdict, outcome.codes, outcome.detail, equipment.spec.path, now)

    def _make_active(self, equipment: Equipment, memory: DownloadMemory, outcome: Outcome) -> None:
        if memory.order is not None:
            equipment.orders.arm(memory.order, memory.set, memory.rev)
        else:
            equipment.orders.memory.parameters = {"set": memory.set, "rev": memory.rev}
        equipment.memory.production.usage.limits |= memory.limits
        active = {item.n: item.rb for item in outcome.items}
        if equipment.kpi is not None:
            equipment.kpi.learn(memory.set, memory.rev, active)
        equipment.deviations.expect(active)
        if memory.type == AdjustedDownload.type:
            active = dict(equipment.deviations.memory.expected)
        equipment.recorder.retain("params", {"set": memory.set, "rev": memory.rev, "items": active})

    def _tell_change(self, memory: DownloadMemory, now: Timestamp) -> None:
        """Once per notice and order: the first download with what it changed is active."""
        known = self._record.orders.get(memory.order or "")
        lot = known.lot if known is not None else None
        notice = self._record.library.notice_of(memory.set, memory.rev, now, memory.order, lot)
        if notice is not None and memory.order is not None and memory.order not in notice.applied:
            begun = begun_orders(self._record, self._equipment.values())
            notice.reach(now, [order for order in begun if order != memory.order])
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
        spec = equipment.spec.download if equipment else None
        self._site.effects.ends.append(
            CommandEnd(
                purpose=purposes.of_end(about), device=spec.device if spec else None, result=outcome.result,
                codes=outcome.codes, detail=outcome.detail, items=outcome.items,
            )
        )  # fmt: skip


def _targets(command: ParamsDownload, spec: DownloadSpec) -> dict[str, PlainValue]:
    return {item.name: plain(to_raw(item.value, spec.parameters[item.name].conversion)) for item in command.items}
