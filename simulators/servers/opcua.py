"""An OPC UA server that shows the points of machine models and takes writes for them (asyncua)."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.callback import CallbackType, ServerItemCallback
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds

from simulators.faults import HANDSHAKE, OPC_UA, DeviceFaults, SwapNamespaces
from simulators.models.handshake import Handshake
from simulators.models.line_time import Written
from simulators.servers.faulty_opcua import DECOY_URI, FaultyServer, build_decoys
from simulators.servers.play import Play

NO_TIME: Final = datetime(1601, 1, 1, tzinfo=UTC)
"""The null DateTime of OPC UA (Part 6 §5.2.2.5)."""
_MAX_CONNECTIONS: Final = 100


class Point(NamedTuple):
    """One variable: its NodeId's string, its type, what it shows before the first scan, whether clients may write."""

    name: str
    type: ua.VariantType
    writable: bool = False


class OpcUaDevice:
    """A server of one namespace. NodeIds are strings, dots make the folders that a browsing client sees.

    `scan` gives the value of every point; what a client writes goes to `write`, after `play` has brought the line up
    to now. DateTimes are given in milliseconds since the scenario's start.
    """

    def __init__(  # noqa: PLR0913 - name, uri and points say what it is, the rest connects it
        self,
        name: str,
        uri: str,
        points: Sequence[Point],
        play: Play,
        scan: Callable[[], Mapping[str, Any]],
        write: Callable[[str, Written], bool],
        *,
        handshake: Handshake | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.name = name
        self.uri = uri
        self._points = {point.name: point for point in points}
        self._play = play
        self._scan = scan
        self._write = write
        self._address = (host, port)
        self._server = Server()
        self._namespace = 0
        self._nodes: dict[str, Node] = {}
        self._names: dict[ua.NodeId, str] = {}
        self._shown: dict[str, Any] = {}
        self._handshake = handshake
        kinds = OPC_UA | HANDSHAKE if handshake is not None else OPC_UA
        self.faults = DeviceFaults(name, kinds, self._points, play.line.scenario, play.line.time)
        self._faulty = FaultyServer(self.faults)
        self._is_swapped = self._starts_anew = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"opc.tcp://{self._address[0]}:{self._address[1]}"

    @property
    def now(self) -> ua.DateTime:
        """Plant time of the scan."""
        return self.moment(self._play.line.time.ms)

    def moment(self, ms: int) -> ua.DateTime:
        """That many milliseconds after the scenario's start."""
        at = self._play.line.scenario.start.astimezone(UTC) + timedelta(milliseconds=ms)
        return ua.DateTime.combine(at.date(), at.timetz())

    async def open(self) -> None:
        """Build the address space, show the first scan and listen."""
        logging.getLogger("asyncua").setLevel(logging.ERROR)
        # It tells of a port that is taken by a traceback, and then raises what says so better.
        logging.getLogger("asyncua.server.server").setLevel(logging.CRITICAL)
        server = self._server
        self.prepare(server)
        await server.init()
        server.set_server_name(f"{self.name} simulator")
        server.set_endpoint(self.url)
        server.socket_address = self._address
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        # Plant time runs at its own speed: values carry the stamps of their scan, the wall has no say here.
        server.set_force_server_timestamp(False)
        server.disable_clock()
        decoy = await server.register_namespace(DECOY_URI) if self._is_swapped else 0
        self._namespace = await server.register_namespace(self.uri)
        await self._build(server)
        if self._is_swapped:
            types = {name: point.type for name, point in self._points.items()}
            times = {name for name, kind in types.items() if kind is ua.VariantType.DateTime}
            values = {name: value for name, value in self._scan().items() if name not in times}
            await build_decoys(server, decoy, values, types)
        self._faulty.install(server)
        server.subscribe_server_callback(CallbackType.PreWrite, self._stamp)
        server.subscribe_server_callback(CallbackType.PostWrite, self._take)
        await self.publish()
        await server.start()
        assert server.bserver is not None
        self._address = (self._address[0], server.bserver.port)

    def prepare(self, server: Server) -> None:
        """For servers that offer more than variables: called before the address space is loaded."""

    def node_id(self, name: str) -> ua.NodeId:
        """The NodeId of that string in this server's namespace."""
        return ua.NodeId(ua.String(name), ua.Int16(self._namespace))

    async def close(self) -> None:
        """Drop every connection and stop for good."""
        self._drop_connections()
        await self._server.stop()

    async def cut(self, *, restart: bool) -> None:
        """Drop every connection and the listening socket. Sessions outlive a cut link, but not a restart."""
        internal, listener = self._server.iserver, self._server.bserver
        assert listener is not None
        self._starts_anew = bool(self.faults.active(SwapNamespaces))
        internal.max_connections = 0  # who gets in while the socket is being closed is thrown out again
        if restart:
            await internal.subscription_service.delete_subscriptions([*internal.subscription_service.subscriptions])
        self._drop_connections()
        await listener.stop()

    async def mend(self) -> None:
        """Listen again on the same port."""
        if self._starts_anew:
            await self._start_swapped()
            return
        assert self._server.bserver is not None
        self._server.iserver.max_connections = _MAX_CONNECTIONS
        await self._server.bserver.start()

    async def _start_swapped(self) -> None:
        """The PLC was loaded with another program: a new server, its namespaces in another order."""
        await self._server.stop()
        self._server = Server()
        self._is_swapped, self._starts_anew = not self._is_swapped, False
        self._nodes, self._names, self._shown = {}, {}, {}
        self._faulty = FaultyServer(self.faults)
        await self.open()

    async def publish(self) -> None:
        """Write every point that changed. asyncua's write awaits nothing that yields, so a publish holds whole scans
        (a subscription with a publishing interval of 0 excepted)."""
        stamp = self.now
        self._faulty.bring_back(self._server)
        changed = self._faulty.take_changed()
        for name, value in self._scan().items():
            if name not in self._faulty.hidden and (name in changed or self._shown.get(name, self) != value):
                self._shown[name] = value
                await self._show(name, value, stamp)
        self._faulty.take_away(self._server, self.node_id)
        self._faulty.jump(self._server)

    async def _show(self, name: str, value: Any, stamp: ua.DateTime) -> None:
        point = self._points[name]
        if point.type is ua.VariantType.DateTime:
            value = NO_TIME if value is None else self.moment(value)
        status = ua.StatusCode(ua.UInt32(self._faulty.status(name)))
        variant = None if status.is_bad() else ua.Variant(value, point.type)
        await self._server.write_attribute_value(
            self._nodes[name].nodeid, ua.DataValue(variant, status, SourceTimestamp=stamp, ServerTimestamp=stamp)
        )

    async def _build(self, server: Server) -> None:
        folders: dict[str, Node] = {"": server.nodes.objects}
        values = self._scan()
        for name, point in self._points.items():
            path, _, leaf = name.rpartition(".")
            parent = await self._folder(folders, path)
            value = NO_TIME if point.type is ua.VariantType.DateTime else values[name]
            node = await parent.add_variable(self.node_id(name), f"{self._namespace}:{leaf}", value, point.type)
            if point.writable:
                await node.set_writable()
            self._nodes[name] = node
            self._names[node.nodeid] = name

    async def _folder(self, folders: dict[str, Node], path: str) -> Node:
        if path not in folders:
            above, _, leaf = path.rpartition(".")
            parent = await self._folder(folders, above)
            folders[path] = await parent.add_object(self.node_id(path), f"{self._namespace}:{leaf}")
        return folders[path]

    def _drop_connections(self) -> None:
        for transport in [*self._server.iserver.asyncio_transports]:
            transport.abort()

    async def _stamp(self, event: ServerItemCallback, _: Any) -> None:
        """What a client writes is stamped with plant time before anybody sees it."""
        if not event.is_external:
            return
        self._play.touch()
        for write in event.request_params.NodesToWrite:
            if write.AttributeId == AttributeIds.Value:
                write.Value = dataclasses.replace(write.Value, SourceTimestamp=self.now, ServerTimestamp=self.now)

    async def _take(self, event: ServerItemCallback, _: Any) -> None:
        """What a client wrote reaches the machine, in the order of the request, and its answer is shown at once."""
        if not event.is_external:
            return
        for write, status in zip(event.request_params.NodesToWrite, event.response_params, strict=True):
            name = self._names.get(write.NodeId)
            if name is None:
                continue
            value = write.Value.Value.Value if write.Value.Value is not None else None
            # asyncua lets an array or nothing at all into a scalar variable; the machine does not.
            accepted = status.is_good() and isinstance(value, Written) and self._pass_on(name, value)
            self._play.line.note(self.name, name, value, accepted=accepted)
            self._shown.pop(name, None)  # the machine's own idea of it is shown again
        await self.publish()

    def _pass_on(self, name: str, value: Written) -> bool:
        """Give the machine what was written, as far as its faults let it have that."""
        if self.faults.ignores(name):
            return False
        if self._handshake is not None:
            self._handshake.interference = self.faults.interference()
        if not isinstance(value, bool | str):
            value = min(value, self.faults.ceiling(name))
        return self._write(name, value)
