"""A cell of machines behind one OPC UA server (asyncua), each taking parameters in its own way.

The tags of the machine `packml` are `packml.request`, `packml.speed_set` and so on in the namespace `URI`, parameters
as Int32, other numbers as UInt32. The method of `method` is `method.Apply` of the object `method`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from asyncua import ua
from asyncua.common.callback import CallbackType, ServerItemCallback
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from simulators.models.handshakes.machine import Machine
from simulators.models.handshakes.ways import Value

URI: Final = "urn:simulators:cell"
_BEFORE: Final = {CallbackType.PreRead: "read", CallbackType.PreWrite: "write"}
_AFTER: Final = {CallbackType.PostRead: "read", CallbackType.PostWrite: "write"}


class Asked(NamedTuple):
    """What a client asked of a machine: `read`, `write` or `call`; before it `is_done`, or after and unanswered."""

    machine: str
    kind: str
    is_done: bool


async def let_pass(_asked: Asked) -> None:
    """Nobody stands at the gate."""


class CellServer:
    """The machines, scanned every `scan_s` seconds; port 0 is any, `port` tells which.

    `gate` is awaited around every request of a client that names tags of a machine; if it raises, the request is
    answered by a fault of the service, and before its time it has no effect.
    """

    def __init__(
        self, machines: Mapping[str, Machine], host: str = "127.0.0.1", port: int = 0, scan_s: float = 0.01
    ) -> None:
        self.machines = machines
        self.port = port
        self.gate: Callable[[Asked], Awaitable[None]] = let_pass
        self._host = host
        self._scan_s = scan_s
        self._server = Server()
        self._nodes: dict[tuple[str, str], Node] = {}
        self._names: dict[ua.NodeId, tuple[str, str]] = {}
        self._shown: dict[tuple[str, str], Value] = {}
        self._scanning: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"opc.tcp://{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        server = self._server
        await server.init()
        server.set_endpoint(self.url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        namespace = await server.register_namespace(URI)
        for machine in self.machines.values():
            await self._build(machine, namespace)
        for kind in _BEFORE:
            server.subscribe_server_callback(kind, self._before)
        server.subscribe_server_callback(CallbackType.PostRead, self._after)
        server.subscribe_server_callback(CallbackType.PostWrite, self._take)
        await server.start()
        assert server.bserver is not None
        self.port = server.bserver.port
        self._scanning = asyncio.create_task(self._scan())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ticking = self._server.iserver.time_task  # it ticks once a second, and stop would wait for the tick
        for task in (self._scanning, ticking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._server.iserver.time_task = None
        self._drop_connections()
        await self._server.stop()

    async def restart(self, machine: str, *, is_retentive: bool) -> None:
        """The power of that machine was away; the connections of all are gone, for they share their server."""
        self.machines[machine].restart(is_retentive=is_retentive)
        await self.show()
        self._drop_connections()

    async def show(self) -> None:
        """Write every tag that changed, as one scan."""
        for machine in self.machines.values():
            for tag, value in machine.tags.items():
                await self._show(machine, tag, value)

    # --- the address space --------------------------------------------------------------------------------------

    async def _build(self, machine: Machine, namespace: int) -> None:
        folder = await self._server.nodes.objects.add_object(
            _node(machine.name, namespace), f"{namespace}:{machine.name}"
        )
        for tag, value in machine.tags.items():
            node = await folder.add_variable(
                _node(f"{machine.name}.{tag}", namespace), f"{namespace}:{tag}", value, _type(tag, value)
            )
            if tag in machine.writable:
                await node.set_writable()
            self._nodes[machine.name, tag] = node
            self._names[node.nodeid] = (machine.name, tag)
        if machine.name == "method":
            called = self._called(machine)
            await folder.add_method(
                _node("method.Apply", namespace), f"{namespace}:Apply", called, [], [ua.VariantType.Int32]
            )

    def _called(self, machine: Machine) -> Callable[..., Awaitable[list[ua.Variant]]]:
        async def apply(_parent: ua.NodeId) -> list[ua.Variant]:
            await self.gate(Asked(machine.name, "call", is_done=False))
            await asyncio.sleep(machine.faults.late_ms / 1000)
            error = machine.call()
            await self.show()
            await self.gate(Asked(machine.name, "call", is_done=True))
            return [ua.Variant(error, ua.VariantType.Int32)]

        return apply

    async def _show(self, machine: Machine, tag: str, value: Value) -> None:
        if self._shown.get((machine.name, tag)) == value:
            return
        self._shown[machine.name, tag] = value
        shown = ua.DataValue(ua.Variant(value, _type(tag, value)), SourceTimestamp=ua.DateTime.now(UTC))
        await self._server.write_attribute_value(self._nodes[machine.name, tag].nodeid, shown)

    # --- what goes on -------------------------------------------------------------------------------------------

    async def _scan(self) -> None:
        while True:
            for machine in self.machines.values():
                machine.scan(_now_ms())
            await self.show()
            await asyncio.sleep(self._scan_s)

    async def _before(self, event: ServerItemCallback, _: Any) -> None:
        await self._announce(event, is_done=False)

    async def _after(self, event: ServerItemCallback, _: Any) -> None:
        await self._announce(event, is_done=True)

    async def _announce(self, event: ServerItemCallback, *, is_done: bool) -> None:
        """Tell the gate which machine a request is for; requests for none, and our own, pass."""
        is_write = isinstance(event.request_params, ua.WriteParameters)
        nodes = event.request_params.NodesToWrite if is_write else event.request_params.NodesToRead
        named = next((self._names[node.NodeId] for node in nodes if node.NodeId in self._names), None)
        is_value = nodes and nodes[0].AttributeId == AttributeIds.Value
        if event.is_external and named is not None and is_value:
            await self.gate(Asked(named[0], "write" if is_write else "read", is_done))

    async def _take(self, event: ServerItemCallback, _: Any) -> None:
        """What a client wrote reaches the machine in one scan; what the machine made of it is shown at once."""
        if not event.is_external:
            return
        results = event.response_params
        for place, write in enumerate(event.request_params.NodesToWrite):
            if write.NodeId in self._names and results[place].is_good():
                name, tag = self._names[write.NodeId]
                accepted = self.machines[name].write(tag, write.Value.Value.Value, _now_ms())
                self._shown.pop((name, tag), None)
                if not accepted:
                    results[place] = ua.StatusCode(ua.UInt32(StatusCodes.BadUserAccessDenied))
        await self.show()
        await self._announce(event, is_done=True)

    def _drop_connections(self) -> None:
        for transport in [*self._server.iserver.asyncio_transports]:
            with contextlib.suppress(OSError):
                transport.abort()


def _node(name: str, namespace: int) -> ua.NodeId:
    return ua.NodeId(ua.String(name), ua.Int16(namespace))


def _type(tag: str, value: Value) -> ua.VariantType:
    if isinstance(value, bool):
        return ua.VariantType.Boolean
    return ua.VariantType.Int32 if tag.endswith(("_set", "_now")) else ua.VariantType.UInt32


def _now_ms() -> int:
    return round(time.monotonic() * 1000)
