"""Alarms & Conditions: which fields are asked of an event, and what they say (OPC 10000-9).

A condition is acknowledged by a method on its node, with the id of its newest event (§5.7.3); both are asked for with
every event. Events of a branch, which is an earlier state still waiting for somebody (§5.5.2), are left alone: the
condition as it is now is the alarm.

One monitored item on the Server object brings every condition of the server. After each new subscription a
ConditionRefresh has the server tell of all that still matter, so an alarm that was raised while nobody listened is not
missed; the domain knows the ones it had already and raises none twice.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from gateway.domain.values import ConditionChange
from gateway.drivers.opcua.node_ids import format_node, make_node_id
from gateway.drivers.opcua.values import timestamp_of

QUEUE_SIZE: Final = 10_000
"""Events that the server keeps for us between two publishes: a flood of alarms must fit."""


class _Field(NamedTuple):
    """One select clause: the type that defines it, and the browse path from the condition."""

    defined_by: int
    path: tuple[str, ...]


_SOURCE: Final = _Field(ObjectIds.BaseEventType, ("SourceName",))
_TIME: Final = _Field(ObjectIds.BaseEventType, ("Time",))
_MESSAGE: Final = _Field(ObjectIds.BaseEventType, ("Message",))
_SEVERITY: Final = _Field(ObjectIds.BaseEventType, ("Severity",))
_NAME: Final = _Field(ObjectIds.ConditionType, ("ConditionName",))
_ACTIVE: Final = _Field(ObjectIds.AlarmConditionType, ("ActiveState", "Id"))
_ACKED: Final = _Field(ObjectIds.AcknowledgeableConditionType, ("AckedState", "Id"))
_CONFIRMED: Final = _Field(ObjectIds.AcknowledgeableConditionType, ("ConfirmedState", "Id"))
_EVENT_ID: Final = _Field(ObjectIds.BaseEventType, ("EventId",))
_CONDITION: Final = _Field(ObjectIds.ConditionType, ())
"""The condition's own node: no path, and its NodeId attribute (§5.5.2.13)."""
_BRANCH: Final = _Field(ObjectIds.ConditionType, ("BranchId",))
_USER: Final = _Field(ObjectIds.ConditionType, ("ClientUserId",))
_COMMENT: Final = _Field(ObjectIds.ConditionType, ("Comment",))
_FIELDS: Final = (
    _SOURCE, _TIME, _MESSAGE, _SEVERITY, _NAME, _ACTIVE, _ACKED,
    _CONFIRMED, _EVENT_ID, _CONDITION, _BRANCH, _USER, _COMMENT,
)  # fmt: skip


def conditions_item(client_handle: int) -> ua.MonitoredItemCreateRequest:
    """The item on the Server object that brings every condition of the server."""
    event_filter = ua.EventFilter(SelectClauses=[_clause(field) for field in _FIELDS])
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=_node(ObjectIds.Server), AttributeId=AttributeIds.EventNotifier),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(
            ClientHandle=client_handle, SamplingInterval=0.0, QueueSize=QUEUE_SIZE, Filter=event_filter
        ),
    )


def refresh_request(subscription_id: int) -> ua.CallRequest:
    """ConditionRefresh: have all retained conditions told again (OPC 10000-9 §5.5.7)."""
    method = ua.CallMethodRequest(
        ObjectId=_node(ObjectIds.ConditionType),
        MethodId=_node(ObjectIds.ConditionType_ConditionRefresh),
        InputArguments=[ua.Variant(subscription_id, ua.VariantType.UInt32)],
    )
    return ua.CallRequest(Parameters=ua.CallParameters(MethodsToCall=[method]))


def decode_condition(fields: Sequence[Any], namespaces: Sequence[str]) -> ConditionChange | None:
    """What one event says; None for one that is no alarm condition's present state (a mark of a refresh, a branch)."""
    values = dict(zip(_FIELDS, (variant.Value for variant in fields), strict=False))
    name, active, branch = values.get(_NAME), values.get(_ACTIVE), values.get(_BRANCH)
    if not name or active is None or (branch is not None and not branch.is_null()):
        return None
    message, severity, confirmed = values.get(_MESSAGE), values.get(_SEVERITY), values.get(_CONFIRMED)
    condition = values.get(_CONDITION)
    return ConditionChange(
        source=str(values.get(_SOURCE) or ""),
        code=str(name),
        active=bool(active),
        acked=bool(values.get(_ACKED)),
        text=getattr(message, "Text", None),
        severity=int(severity) if severity is not None else None,
        at=timestamp_of(values.get(_TIME)),
        confirmed=None if confirmed is None else bool(confirmed),
        condition=_name(condition, namespaces) if condition is not None else "",
        event_id=values.get(_EVENT_ID) or b"",
        user=values.get(_USER) or None,
        comment=getattr(values.get(_COMMENT), "Text", None) or None,
    )


def _name(condition: ua.NodeId, namespaces: Sequence[str]) -> str:
    """The node by namespace URI, also one of the OPC UA namespace: without, the device's own would be meant."""
    text = format_node(condition, namespaces)
    return text if condition.NamespaceIndex else f"nsu={namespaces[0]};{text}"


def _clause(field: _Field) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=_node(field.defined_by),
        BrowsePath=[ua.QualifiedName(name, 0) for name in field.path],
        AttributeId=AttributeIds.Value if field.path else AttributeIds.NodeId,
    )


def _node(identifier: int) -> ua.NodeId:
    return make_node_id(identifier)
