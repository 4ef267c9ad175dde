"""Alarm conditions on a real server: each event with an id of its own, Acknowledge and Confirm as Part 9 has them."""

from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.event_objects import OffNormalAlarm
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from tests.drivers.clocks import PlantClock

ACKNOWLEDGE = ua.NodeId(ObjectIds.AcknowledgeableConditionType_Acknowledge)
CONFIRM = ua.NodeId(ObjectIds.AcknowledgeableConditionType_Confirm)


class Condition:
    """One alarm of `source`; every change of it is an event. What it was asked is kept in `asked`."""

    def __init__(self, server: Any, source: str, code: str, *, is_confirmed: bool | None = None) -> None:
        self.node_id = ua.NodeId(f"{source}.Alarm.{code}", server.index)
        self.asked: list[tuple[str, str]] = []
        self.silent = False
        self.answer: int | None = None
        self.acknowledged_by: str | None = None
        self._server, self._source, self._code = server, source, code
        self._active, self._acked, self._confirmed = True, False, is_confirmed
        self._events = 0

    @property
    def event_id(self) -> bytes:
        return f"{self._code}:{self._events}".encode()

    async def tell(self, *, active: bool | None = None, branch: ua.NodeId | None = None) -> None:
        """One event, with the state as it is; `active` changes it."""
        self._active = self._active if active is None else active
        self._events += 1
        event: Any = OffNormalAlarm(message=f"alarm {self._code}", severity=700)
        event.emitting_node = ua.NodeId(ObjectIds.Server)
        at = datetime.fromtimestamp((PlantClock.START + self._events) / 1000, UTC)
        for name, value, kind in (
            ("NodeId", self.node_id, ua.VariantType.NodeId),
            ("EventId", self.event_id, ua.VariantType.ByteString),
            ("SourceName", self._source, ua.VariantType.String),
            ("Time", at, ua.VariantType.DateTime),
            ("ConditionName", self._code, ua.VariantType.String),
            ("BranchId", branch or ua.NodeId(), ua.VariantType.NodeId),
            ("Retain", self._active or not self._acked, ua.VariantType.Boolean),
            ("ActiveState/Id", self._active, ua.VariantType.Boolean),
            ("AckedState/Id", self._acked, ua.VariantType.Boolean),
            ("ConfirmedState/Id", self._confirmed, ua.VariantType.Boolean),
            ("ClientUserId", self.acknowledged_by, ua.VariantType.String),
            ("Comment", ua.LocalizedText(self.asked[-1][1] if self.asked else None), ua.VariantType.LocalizedText),
        ):
            if value is not None:
                event.add_property(name, value, kind)
        await self._server.server.iserver.subscription_service.trigger_event(event)

    async def acknowledge(self, event_id: ua.Variant, comment: ua.Variant) -> ua.StatusCode:
        self.asked.append(("Acknowledge", comment.Value.Text))
        if self.answer is not None or event_id.Value != self.event_id:
            return ua.StatusCode(self.answer or StatusCodes.BadEventIdUnknown)
        if self._acked:
            return ua.StatusCode(StatusCodes.BadConditionBranchAlreadyAcked)
        if not self.silent:
            await self.become_acked()
        return ua.StatusCode()

    async def become_acked(self, by: str | None = None) -> None:
        """As an operator at the machine does it, or after a gateway asked for it."""
        self._acked, self.acknowledged_by = True, by
        self._confirmed = None if self._confirmed is None else False
        await self.tell()

    async def confirm(self, event_id: ua.Variant, comment: ua.Variant) -> ua.StatusCode:
        self.asked.append(("Confirm", comment.Value.Text))
        if event_id.Value != self.event_id or self._confirmed is not False:
            return ua.StatusCode(StatusCodes.BadEventIdUnknown)
        self._confirmed = True
        await self.tell()
        return ua.StatusCode()


def serve(server: Any, conditions: list[Condition]) -> None:
    """Let the server offer refresh, Acknowledge and Confirm for these conditions, whatever is added to the list."""

    def called(name: str) -> Any:
        async def method(condition: ua.NodeId, event_id: ua.Variant, comment: ua.Variant) -> ua.StatusCode:
            (one,) = [known for known in conditions if known.node_id == condition]
            return await getattr(one, name)(event_id, comment)

        return method

    for node_id, name in ((ACKNOWLEDGE, "acknowledge"), (CONFIRM, "confirm")):
        server.server.link_method(server.server.get_node(node_id), called(name))
    refresh = ua.NodeId(ObjectIds.ConditionType_ConditionRefresh)
    service = server.server.iserver.subscription_service
    server.server.link_method(server.server.get_node(refresh), service.condition_refresh)


def placed(server: Any, condition: Condition) -> Any:
    """A condition must be a node of the server before a method can be called on it."""
    return server.server.nodes.objects.add_object(condition.node_id, condition.node_id.Identifier)
