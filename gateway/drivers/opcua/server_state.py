"""Whether the server itself is well: ServerStatus.State (OPC 10000-5 §12.6). A PLC in Failed or Suspended still answers
and its values still say Good, although nobody computes them any more (trap A8).
"""

from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.domain.values import TagChange, is_good
from gateway.drivers.opcua.node_ids import make_node_id
from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session

LAST_USABLE: Final = 0x40900000
"""UncertainLastUsableValue: whatever was updating this value has stopped doing so."""
_STATES: Final = frozenset(state.value for state in ua.ServerState)
_STATE: Final = make_node_id(ObjectIds.Server_ServerStatus_State)


class ServerState:
    """The state seen last. A server that does not say how it is counts as running."""

    def __init__(self) -> None:
        self.now = ua.ServerState.Running

    async def look(self, session: Session) -> bool:
        """Ask the server, which also shows that the link is not half open; True if it changed between well and not."""
        was_well = self.is_running
        try:
            (answer,) = await session.read([_STATE])
        except ServiceFault:
            return False
        told: Any = answer.Value.Value if answer.Value is not None else None
        self.now = ua.ServerState(told) if told in _STATES else ua.ServerState.Running
        return self.is_running is not was_well

    @property
    def is_running(self) -> bool:
        """True in state Running only."""
        return self.now is ua.ServerState.Running

    def judge(self, changes: Sequence[TagChange]) -> list[TagChange]:
        """What the changes are worth: of a server that is not running, the last usable value at best."""
        if self.is_running:
            return list(changes)
        return [
            TagChange(
                change.tag_id,
                change.value,
                LAST_USABLE if is_good(change.status_code) else change.status_code,
                change.source_timestamp,
                change.server_timestamp,
            )
            for change in changes
        ]
