"""A person has looked at a machine of which nobody knows what it holds: it is read, told of, and in doubt no longer.

Nothing is written. What is read goes into the answer, the audit and `now/params`, which still names no set: the values
may belong to none.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.domain.commands.answers import Answers
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.param_events import ParamItem
from gateway.domain.contract.requests import ParamsConfirm
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.operations import CommandEnd, Operation, OperationResult
from gateway.domain.tags.conversion import to_engineering
from gateway.domain.values import Timestamp, plain
from gateway.domain.writing import purposes
from gateway.domain.writing.download_conversation import unreadable
from gateway.domain.writing.download_spec import ParameterSpec
from gateway.domain.writing.write_safety import Confirming

PREFIX: Final = "params.confirm|"
"""How the tokens of these operations begin; those of downloads begin with a path, which has a slash before any |."""


class Confirmations:
    """At most one for each equipment; what is under way is in the equipment's memory."""

    def __init__(
        self, equipment: Mapping[str, Equipment], site: Recorder, answers: Answers, links: Mapping[str, bool]
    ) -> None:
        self._equipment = equipment
        self._site = site
        self._answers = answers
        self._links = links
        self._interrupted = [item for item in equipment.values() if item.memory.writes.confirming is not None]

    def take(self, command: ParamsConfirm, equipment: Equipment, now: Timestamp) -> None:
        """Rejected with every reason, or accepted and begun."""
        path = equipment.spec.path
        asked = Confirming(command.cmd, command.type, command.by.strip(), command.corr)
        against = list(self._objections(command, equipment))
        if against:
            self._answers.give(command.cmd, command.type, "rejected", path, now, objections=against)
            self._tell_audit(asked, equipment, "rejected", against)
            return
        self._answers.give(command.cmd, command.type, "accepted", path, now)
        equipment.memory.writes.confirming = asked
        equipment.recorder.changed = True
        parameters, spec = _readable(equipment), equipment.spec.download
        if spec is None or not parameters:
            self._finish(equipment, asked, {}, now)
            return
        tags = tuple(dict.fromkeys(parameter.readback for parameter in parameters))
        token = f"{PREFIX}{path}|{command.cmd}"
        self._site.effects.operations.append(Operation(spec.readback_device, token, reads=tags))

    def handle_result(self, result: OperationResult, now: Timestamp) -> None:
        """The machine was read, or was not."""
        path, _, cmd = result.token.removeprefix(PREFIX).partition("|")
        equipment = self._equipment[path]
        asked = equipment.memory.writes.confirming
        if asked is None or asked.cmd != cmd:
            return
        failures = [Objection("unreadable", text) for text in unreadable(result.reads)]
        if result.lost:
            failures = [Objection("link_lost", "the link broke while the machine was read; send it again")]
        if failures:
            self._fail(equipment, asked, failures, now)
            return
        shown = {change.tag_id: change for change in result.reads}
        held = {
            parameter.name: ParamItem(
                parameter.name,
                None,
                plain(to_engineering(shown[parameter.readback], parameter.shown or parameter.conversion)[0]),
            )
            for parameter in _readable(equipment)
        }
        self._finish(equipment, asked, held, now)

    def handle_timer(self, now: Timestamp) -> None:
        """What a restart of the gateway has left without an answer."""
        while self._interrupted:
            equipment = self._interrupted.pop()
            asked = equipment.memory.writes.confirming
            if asked is not None:
                why = Objection("interrupted", "the gateway was restarted while the machine was read; send it again")
                self._fail(equipment, asked, [why], now)

    def next_timer(self) -> Timestamp | None:
        """When `handle_timer` wants to be called."""
        return 0 if self._interrupted else None

    def _objections(self, command: ParamsConfirm, equipment: Equipment) -> Iterator[Objection]:
        writes, spec, active = equipment.memory.writes, equipment.spec.download, equipment.memory.download
        if writes.unknown is None:
            yield Objection(
                "nothing_unknown", f"{command.eq} has no alarm ROLLBACK_FAILED; there is nothing to confirm"
            )
        if writes.confirming is not None:
            yield Objection("under_way", f"{writes.confirming.cmd} reads the machine already")
        if active is not None:
            yield Objection("active_download", f"{active.cmd} is under way at step {active.step}")
        if spec is not None and _readable(equipment) and not self._links.get(spec.readback_device, False):
            yield Objection("no_contact", f"{spec.readback_device} is out of reach")

    def _finish(self, equipment: Equipment, asked: Confirming, held: Mapping[str, ParamItem], now: Timestamp) -> None:
        """Nobody is in doubt any more: `held` was read, and a person stands for it."""
        equipment.memory.writes.confirm(equipment.recorder, equipment.orders.owner(now), asked.corr, now)
        if held:
            items = {name: item.rb for name, item in held.items()}
            equipment.recorder.retain("params", {"set": None, "rev": None, "items": items})
        detail = [f"{item.n} is {item.rb}" for item in held.values()]
        detail = detail or [f"{asked.by} has looked at it; it has no parameters that can be read"]
        self._answers.end(asked.cmd, asked.type, "done", (), detail, equipment.spec.path, now)
        self._tell_audit(asked, equipment, "done", (), tuple(held.values()))

    def _fail(self, equipment: Equipment, asked: Confirming, failures: Sequence[Objection], now: Timestamp) -> None:
        """It stays in doubt."""
        equipment.memory.writes.confirming = None
        equipment.recorder.changed = True
        codes = tuple(dict.fromkeys(failure.code for failure in failures))
        detail = [failure.detail for failure in failures]
        self._answers.end(asked.cmd, asked.type, "failed", codes, detail, equipment.spec.path, now)
        self._tell_audit(asked, equipment, "failed", failures)

    def _tell_audit(
        self,
        asked: Confirming,
        equipment: Equipment,
        result: str,
        objections: Sequence[Objection],
        items: Sequence[ParamItem] = (),
    ) -> None:
        spec = equipment.spec.download
        codes, detail = [o.code for o in objections], [o.detail for o in objections]
        self._site.effects.ends.append(
            CommandEnd(
                purpose=purposes.of_confirmation(asked), device=spec.device if spec is not None else None,
                result=result, codes=codes, detail=detail, items=items,
            )
        )  # fmt: skip


def _readable(equipment: Equipment) -> Sequence[ParameterSpec]:
    """The parameters that tags show; those of job orders have none."""
    spec = equipment.spec.download
    return () if spec is None or spec.job is not None else tuple(spec.parameters.values())
