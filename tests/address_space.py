"""OPC UA's standard address space, loaded once per test process.

asyncua builds its six thousand nodes anew for every server, a second of work each, and the tests start a hundred
servers. Each still gets nodes of its own; the values and references in them, which are never changed in place, are
shared.
"""

from pathlib import Path
from typing import Final

from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer

_standard: Final[dict[ua.NodeId, NodeData]] = {}
_load = InternalServer.load_standard_address_space


def load_once() -> None:
    """For all servers that this process makes from now on."""
    InternalServer.load_standard_address_space = _copy_standard  # type: ignore[method-assign]


async def _copy_standard(server: InternalServer, shelf_file: Path | None = None) -> None:
    if not _standard:
        await _load(server)
        _standard.update(_copied(server.aspace._nodes))
    else:
        server.aspace._nodes.update(_copied(_standard))


def _copied(nodes: dict[ua.NodeId, NodeData]) -> dict[ua.NodeId, NodeData]:
    copies = {}
    for node_id, node in nodes.items():
        copy = copies[node_id] = NodeData(node.nodeid)
        copy.attributes = {number: AttributeValue(attribute.value) for number, attribute in node.attributes.items()}
        copy.references = list(node.references)
        copy.call = node.call
    return copies
