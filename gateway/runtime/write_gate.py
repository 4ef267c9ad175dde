"""What stands between an operation and a device: the allow-list, the locks, and the audit that is told first."""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from gateway.audit.folder import AuditError, Head
from gateway.audit.lines import Change, Entry, shown
from gateway.audit.rejections import Rejections, shortened
from gateway.config.plant import Device
from gateway.domain.contract.objections import Objection
from gateway.domain.operations import CommandEnd, Operation, OperationResult
from gateway.domain.writing.locks import WriteLocks
from gateway.drivers.base import Clock
from gateway.drivers.opcua.status_codes import status_name

log = structlog.get_logger()

AUDIT_KEY: Final = "audit"
"""The checkpoint with the end of the audit's chain."""


class Locks(Protocol):
    """Where the gate looks for locks."""

    def current(self) -> WriteLocks:
        """Those that hold at this moment."""
        ...


class Trail(Protocol):
    """Where the gate tells what it lets pass."""

    @property
    def head(self) -> Head:
        """The end of the chain."""
        ...

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """Returns the lines' numbers when they are on the disk; raises `AuditError`."""
        ...

    async def tell(self, entries: Sequence[Entry]) -> None:
        """The same for what has happened already: what the disk does not take now it gets later."""
        ...


class Passage(msgspec.Struct, frozen=True):
    """An operation that was let pass: its line in the audit, to which its outcome belongs."""

    number: int
    intent: Entry


class WriteGate:
    """One for all devices. Whatever it does not let pass reaches no device."""

    def __init__(self, locks: Locks, trail: Trail, clock: Clock) -> None:
        self.locks = locks
        self._trail = trail
        self._clock = clock
        self._anchored = trail.head
        self._rejections = Rejections()

    async def admit(self, device: Device, operation: Operation) -> Passage | Objection:
        """Let an operation pass that may change something, when that is in the audit; or say why not."""
        intent = self._entry("intent", device, operation)
        refused = self._refusal(device, operation)
        if refused is None:
            try:
                (number,) = await self._trail.append([intent])
            except AuditError as error:
                return Objection("audit", f"nothing is written that cannot be audited: {error}")
            # Whoever locks while the disk is waited for means this operation as well.
            refused = self.locks.current().objection(device.name)
        if refused is None:
            return Passage(number, intent)
        log.error("operation refused", device=device.name, code=refused.code, reason=refused.detail)
        told = msgspec.structs.replace(intent, kind="refused", codes=(refused.code,), detail=(refused.detail,))
        await self._trail.tell([told])
        return refused

    async def tell_outcome(self, passage: Passage, result: OperationResult) -> None:
        """What the device said to what was let pass."""
        answers = [written.status_code for written in result.writes] + [call.status_code for call in result.calls]
        changes = [
            Change(tag=change.tag, method=change.method, status=status_name(code))
            for change, code in zip(passage.intent.changes, answers, strict=False)
        ]
        said = "lost" if result.lost else "answered"
        await self._trail.tell(
            [
                msgspec.structs.replace(
                    passage.intent, kind="outcome", t=self._clock.now(), of=passage.number, result=said,
                    changes=tuple(changes),
                )
            ]
        )  # fmt: skip

    async def tell_ends(self, ends: Sequence[CommandEnd]) -> None:
        """How commands ended, before their answers are given; of a flood of rejected ones the first of a minute.

        To be called without ends too: what was gathered in a minute that is over is told then.
        """
        now = self._clock.now()
        lines = self._rejections.due(now)
        for end in ends:
            verdict = _verdict(end, now)
            if not _did_nothing(end):
                lines.append(verdict)
            elif self._rejections.is_told_alone(verdict):
                lines.append(shortened(verdict))
        if lines:
            await self._trail.tell(lines)

    async def tell_gathered(self) -> None:
        """What was gathered up to the end of the gateway."""
        if lines := self._rejections.take_gathered():
            await self._trail.tell(lines)

    def checkpoint(self) -> dict[str, bytes]:
        """How far the audit goes, if that is further than it was said last."""
        head = self._trail.head
        if head == self._anchored:
            return {}
        self._anchored = head
        return {AUDIT_KEY: msgspec.json.encode(head)}

    def _refusal(self, device: Device, operation: Operation) -> Objection | None:
        return device.allowed.objection(operation, device.name) or self.locks.current().objection(device.name)

    def _entry(self, kind: str, device: Device, operation: Operation) -> Entry:
        purpose = operation.purpose
        return Entry(
            kind=kind, t=self._clock.now(), device=device.name, cmd=purpose.cmd, type=purpose.type,
            order=purpose.order, by=purpose.by, corr=purpose.corr, action=purpose.action,
            changes=tuple(_changes(device, operation)),
        )  # fmt: skip


def _changes(device: Device, operation: Operation) -> Iterator[Change]:
    for write in operation.writes:
        address = next((tag.address.shown for tag in device.tags if tag.tag_id == write.tag_id), None)
        old = shown(operation.purpose.old.get(write.tag_id))
        yield Change(tag=write.tag_id, address=address, old=old, new=shown(write.value))
    for call in operation.calls:
        arguments = tuple(shown(argument.value) for argument in call.arguments)
        if call.structure is not None:
            arguments = (msgspec.json.encode(call.structure).decode(), *arguments)
        yield Change(method=call.method, address=call.object, arguments=arguments)


def _did_nothing(end: CommandEnd) -> bool:
    """True for a command that was rejected before anything was asked of a device for it."""
    return end.result.lower() == "rejected" and not end.items


def _verdict(end: CommandEnd, at: int) -> Entry:
    purpose = end.purpose
    items = tuple(Change(tag=item.n, new=shown(item.req), read_back=shown(item.rb)) for item in end.items)
    return Entry(
        kind="verdict", t=at, device=end.device, cmd=purpose.cmd, type=purpose.type, order=purpose.order,
        by=purpose.by, corr=purpose.corr, action=purpose.action, result=end.result, codes=tuple(end.codes),
        detail=tuple(end.detail), changes=items,
    )  # fmt: skip
