"""Alarms & Conditions: which fields are asked of an event, and what they say (OPC 10000-9).

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
from gateway.drivers.opcua.node_ids import make_node_id
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
_FIELDS: Final = (_SOURCE, _TIME, _MESSAGE, _SEVERITY, _NAME, _ACTIVE, _ACKED)


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


def decode_condition(fields: Sequence[Any]) -> ConditionChange | None:
    """What one event says; None for an event that is no alarm condition (the marks of a refresh, for example)."""
    values = dict(zip(_FIELDS, (variant.Value for variant in fields), strict=False))
    name, active = values.get(_NAME), values.get(_ACTIVE)
    if not name or active is None:
        return None
    message, severity = values.get(_MESSAGE), values.get(_SEVERITY)
    return ConditionChange(
        source=str(values.get(_SOURCE) or ""),
        code=str(name),
        active=bool(active),
        acked=bool(values.get(_ACKED)),
        text=getattr(message, "Text", None),
        severity=int(severity) if severity is not None else None,
        at=timestamp_of(values.get(_TIME)),
    )


def _clause(field: _Field) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=_node(field.defined_by),
        BrowsePath=[ua.QualifiedName(name, 0) for name in field.path],
        AttributeId=AttributeIds.Value,
    )


def _node(identifier: int) -> ua.NodeId:
    return make_node_id(identifier)
