"""Parts of an object by their browse names: an instance has its own node ids, but the names of its type.

What a type promises (a Job Control receiver its JobOrderList and its methods) is found in every instance by the path
of browse names from the object (TranslateBrowsePathsToNodeIds, OPC 10000-4 §5.9.4).
"""

from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.node_ids import ComponentName, make_node_id
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session, chunks

_PATHS_PER_CALL: Final = 100


async def find_components(
    session: Session, wanted: Sequence[tuple[ua.NodeId, ComponentName]]
) -> list[ua.NodeId | None]:
    """The node of each part of an object; None where the object has none. Raises `LinkLost` as the session does."""
    known = [one for one in wanted if one[1].namespace in session.namespaces]
    found: dict[tuple[ua.NodeId, ComponentName], ua.NodeId] = {}
    for chunk in chunks(known, _PATHS_PER_CALL):
        request = ua.TranslateBrowsePathsToNodeIdsRequest()
        request.Parameters.BrowsePaths = [_path(session, *one) for one in chunk]
        try:
            response = await session.channel.call(request, ua.TranslateBrowsePathsToNodeIdsResponse)
        except ServiceFault:
            continue
        for one, result in zip(chunk, session.all_of(chunk, response), strict=True):
            if result.StatusCode.is_good() and result.Targets:
                target = result.Targets[0].TargetId
                found[one] = make_node_id(target.Identifier, target.NamespaceIndex)
    return [found.get(one) for one in wanted]


def _path(session: Session, start: ua.NodeId, component: ComponentName) -> ua.BrowsePath:
    name = ua.QualifiedName(component.name, session.namespaces.index(component.namespace))
    downwards: Any = {"IsInverse": False, "IncludeSubtypes": True}
    references = make_node_id(ObjectIds.HierarchicalReferences)
    step = ua.RelativePathElement(ReferenceTypeId=references, TargetName=name, **downwards)
    return ua.BrowsePath(StartingNode=start, RelativePath=ua.RelativePath(Elements=[step]))
