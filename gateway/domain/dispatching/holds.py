"""Lots on hold: their machines are asked to stop, by a bit, also one that begins with such a lot later.

The bit follows the order that the machine runs. It counts as written when the device has answered: what was under way
when the link or the gateway broke, or what a lock stopped, is written at the next scan after that.
"""

from collections.abc import Collection, Iterator
from typing import Final

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import QualityHold, QualityRelease
from gateway.domain.effects import Recorder
from gateway.domain.equipment import Equipment
from gateway.domain.operations import CommandEnd, Operation, OperationResult, Purpose
from gateway.domain.shared import SharedRecord
from gateway.domain.values import TagWrite
from gateway.domain.writing import purposes

MARK: Final = "hold:"
"""What the tokens of these operations have behind the equipment."""


class Holds:
    """Takes holds and releases; which bits are set is in the record, which are under way is not."""

    def __init__(self, record: SharedRecord, equipment: Collection[Equipment], site: Recorder) -> None:
        self._record = record
        self._equipment = equipment
        self._site = site
        self._asked: dict[str, str | None] = {}

    def hold(self, command: QualityHold) -> list[Objection]:
        """This lot is on hold; the machines that run it are told now."""
        lot = command.scope.lot
        running = [item for item in self._equipment if _lot(item) == lot]
        if locked := list(self._locked(running)):
            return self._refuse(command, locked)
        if lot not in self._record.held_lots:
            self._record.held_lots.append(lot)
        for item in running:
            self._set(item, lot, purposes.of_hold(command, _order(item)))
        return []

    def release(self, command: QualityRelease) -> list[Objection]:
        """The lot may go on; every bit that was set for it is taken back, whatever runs there now."""
        lot = command.scope.lot
        held = [item for item in self._equipment if lot in (_lot(item), *self._told(item.spec.path))]
        if locked := list(self._locked(held)):
            return self._refuse(command, locked)
        if lot in self._record.held_lots:
            self._record.held_lots.remove(lot)
        for item in held:
            self._set(item, None, purposes.of_hold(command, _order(item)))
        return []

    def follow(self, equipment: Equipment) -> None:
        """A scan is over: the bit belongs to the order that runs now. Without holds this costs nothing."""
        held, bits = self._record.held_lots, self._record.hold_bits
        if not (held or bits) or equipment.spec.path in self._asked:
            return
        told = bits.get(equipment.spec.path)
        lot = told if equipment.orders.memory.current is None else _lot(equipment)
        wanted = lot if lot in held else None
        if wanted != told and not list(self._locked([equipment])):
            action = "hold" if wanted is not None else "release"
            self._set(equipment, wanted, Purpose(type="quality.hold", order=_order(equipment), action=action))

    def handle_result(self, result: OperationResult) -> None:
        """The bit was written, or it was not: then `follow` writes it again."""
        path, mark, rest = result.token.partition(f"|{MARK}")
        if not mark:
            return
        self._asked.pop(path, None)
        if result.lost or result.refused is not None:
            return
        lot, _, was_set = rest.rpartition("|")
        if was_set == "1":
            self._record.hold_bits[path] = lot
        else:
            self._record.hold_bits.pop(path, None)
        self._site.changed = True

    def _refuse(self, command: QualityHold | QualityRelease, locked: list[Objection]) -> list[Objection]:
        """Nothing is written, and that is in the audit, too."""
        codes, detail = [one.code for one in locked], [one.detail for one in locked]
        purpose = purposes.of_hold(command, None)
        self._site.effects.ends.append(
            CommandEnd(purpose=purpose, device=None, result="rejected", codes=codes, detail=detail)
        )
        return locked

    def _set(self, equipment: Equipment, lot: str | None, purpose: Purpose) -> None:
        tag, path, bits = equipment.spec.hold, equipment.spec.path, self._record.hold_bits
        if tag is None:
            return
        token = f"{path}|{MARK}{lot or bits.get(path)}|{int(lot is not None)}"
        self._asked[path] = lot
        writes = (TagWrite(tag.tag_id, lot is not None),)
        self._site.effects.operations.append(Operation(tag.device, token, writes=writes, purpose=purpose))

    def _told(self, path: str) -> tuple[str | None, str | None]:
        """For which lot its bit is set, and is being set."""
        return self._record.hold_bits.get(path), self._asked.get(path)

    def _locked(self, machines: Collection[Equipment]) -> Iterator[Objection]:
        """Why a machine cannot be told: then nobody shall believe that it was."""
        for item in machines:
            locked = self._record.locks.objection(item.spec.hold.device) if item.spec.hold is not None else None
            if locked is not None:
                yield locked


def _lot(equipment: Equipment) -> str | None:
    run = equipment.orders.memory.current
    return run.order.lot if run is not None else None


def _order(equipment: Equipment) -> str:
    run = equipment.orders.memory.current
    return run.order.id if run is not None else ""
