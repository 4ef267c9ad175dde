"""Machines that ask for their parameters by themselves: at their start, or when they are ready for the next order.

What an order waits for they get as any other machine. One that asks in the middle of an order has lost what it had:
it gets the same set again. If there is nothing to give it is told so, until it asks no more.
"""

from collections.abc import Mapping

from gateway.domain.commands.preconditions import permitted
from gateway.domain.contract.requests import ParameterItem, ParamsDownload
from gateway.domain.equipment import Equipment
from gateway.domain.operations import Operation, Purpose
from gateway.domain.tags.tag_spec import TagSpec
from gateway.domain.values import TagId, TagWrite, Timestamp


class Pulls:
    """Answers to machines that ask. After a restart their own tags say what they were told."""

    def __init__(self, equipment: Mapping[str, Equipment]) -> None:
        self._told: dict[str, bool] = {}
        self._given: set[str] = set()
        self._declining: dict[str, tuple[str, TagSpec]] = {}
        for path, item in equipment.items():
            tag_id = _declining_tag(item)
            if tag_id is not None and item.spec.download is not None:
                tag = next(tag for tag in item.spec.tags if tag.tag_id == tag_id)
                self._declining[path] = item.spec.download.device, tag

    def rest(self, path: str) -> None:
        """The machine asks no more."""
        self._given.discard(path)

    def give(self, path: str) -> None:
        """What the machine asks for is on its way; it must ask anew for more."""
        self._given.add(path)

    def again(self, equipment: Equipment, now: Timestamp) -> ParamsDownload | None:
        """The set that the running order, or the one to come, has been given already; once for each asking."""
        spec, orders, path = equipment.spec.download, equipment.orders.memory, equipment.spec.path
        if spec is None or spec.handshake.profile.asks is None or path in self._given:
            return None
        order = orders.current.order.id if orders.current is not None else None
        order = orders.armed.order if order is None and orders.armed is not None else order
        held, expected = orders.parameters, equipment.deviations.memory.expected
        if order is None or held is None or not expected:
            return None
        items = tuple(ParameterItem(name=name, value=value) for name, value in expected.items())
        cmd = f"pull:{order}:{equipment.spec.unit}:{now}"
        return ParamsDownload(
            cmd=cmd, eq=equipment.spec.unit, set=held["set"], rev=held["rev"], items=items, order=order
        )  # fmt: skip

    def decline(self, equipment: Equipment) -> Operation | None:
        """Say that there is nothing to give, or take that back when the machine asks no more."""
        path = equipment.spec.path
        if path not in self._declining:
            return None
        device, tag = self._declining[path]
        says = permitted(equipment)
        if self._told.get(path, equipment.inputs.values[tag.slot]) == says:
            return None
        self._told[path] = says
        purpose = Purpose(action="decline" if says else "decline no more")
        return Operation(device, f"{path}|declined", writes=(TagWrite(tag.tag_id, says),), purpose=purpose)


def _declining_tag(equipment: Equipment) -> TagId | None:
    download = equipment.spec.download
    name = download.handshake.profile.declines if download is not None else None
    return download.handshake.tags.get(name) if download is not None and name is not None else None
