"""What the faults of an OPC UA device do inside its server (asyncua)."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes

from simulators.faults import BadStatus, DeviceFaults, MissingNode, Overflow, RefuseSubscriptions, SequenceJump

DECOY_URI: Final = "urn:simulators:decoy"
OVERFLOW: Final = 0x480
"""Info type DataValue with the overflow bit (OPC 10000-4 §7.39.1)."""


class FaultyServer:
    """Plays the faults on a server. `hidden` are the tags whose nodes do not exist at present."""

    def __init__(self, faults: DeviceFaults) -> None:
        self._faults = faults
        self._statuses: dict[str, int] = {}
        self._refused: Counter[RefuseSubscriptions] = Counter()
        self._jumped: set[SequenceJump] = set()
        self.hidden: dict[str, tuple[ua.NodeId, Any]] = {}

    def install(self, server: Server) -> None:
        """Stand between the server and who wants a subscription of it."""
        service = server.iserver.subscription_service
        create = service.create_subscription

        async def create_or_refuse(*args: Any, **kwargs: Any) -> Any:
            for fault in self._faults.active(RefuseSubscriptions):
                if self._refused[fault] < fault.count:
                    self._refused[fault] += 1
                    raise ServiceError(ua.UInt32(StatusCodes.BadTooManySubscriptions))
            return await create(*args, **kwargs)

        service.create_subscription = create_or_refuse  # type: ignore[method-assign]  # the only door there is

    def status(self, tag: str) -> int:
        """The status code that this tag's value carries."""
        return self._statuses.get(tag, 0)

    def take_changed(self) -> set[str]:
        """The tags whose status is another one than when last asked."""
        known, self._statuses = self._statuses, self._present_statuses()
        return {tag for tag in known.keys() | self._statuses if known.get(tag) != self._statuses.get(tag)}

    def _present_statuses(self) -> dict[str, int]:
        statuses = dict.fromkeys((fault.tag for fault in self._faults.active(Overflow)), OVERFLOW)
        statuses |= {fault.tag: getattr(StatusCodes, fault.code) for fault in self._faults.active(BadStatus)}
        missing = StatusCodes.BadNodeIdUnknown
        return statuses | dict.fromkeys((fault.tag for fault in self._faults.active(MissingNode)), missing)

    def bring_back(self, server: Server) -> None:
        """The nodes that exist again get back all they had, who monitors them too."""
        missing = {fault.tag for fault in self._faults.active(MissingNode)}
        for tag in [tag for tag in self.hidden if tag not in missing]:
            node_id, node = self.hidden.pop(tag)
            server.iserver.aspace._nodes[node_id] = node

    def take_away(self, server: Server, node_id: Callable[[str], ua.NodeId]) -> None:
        """The nodes that are missing are gone from the address space; their last value said so."""
        for fault in self._faults.active(MissingNode):
            if fault.tag not in self.hidden:
                name = node_id(fault.tag)
                self.hidden[fault.tag] = name, server.iserver.aspace._nodes.pop(name)

    def jump(self, server: Server) -> None:
        """Each sequence jump happens once, as soon as there is a subscription."""
        subscriptions = list(server.iserver.subscription_service.subscriptions.values())
        for fault in self._faults.active(SequenceJump):
            if subscriptions and fault not in self._jumped:
                self._jumped.add(fault)
                for subscription in subscriptions:
                    subscription._notification_seq += fault.by


async def build_decoys(server: Server, namespace: int, values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Variables with the names of the real ones under another namespace, each with a value that is wrong."""
    for name, value in values.items():
        node_id = ua.NodeId(ua.String(name), ua.Int16(namespace))
        await server.nodes.objects.add_variable(node_id, f"{namespace}:{name}", _wrong(value), types[name])


def _wrong(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_wrong(element) for element in value]
    if isinstance(value, bool):
        return not value
    return "decoy" if isinstance(value, str) else 13
