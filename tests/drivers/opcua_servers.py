"""OPC UA servers to test against, and a TCP proxy that can cut or freeze what goes through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncua import Server, ua

PLC = "urn:test:plc"


class Plc:
    """An asyncua server with a namespace of its own; reaches into asyncua where a test needs to see the other side."""

    def __init__(self, server: Server, index: int) -> None:
        self.server = server
        self.index = index
        self._nodes: list = []
        self.port = server.bserver._server.sockets[0].getsockname()[1]

    async def add(self, name: str, value, variant_type=ua.VariantType.Int32):
        """A writable variable `s=<name>`."""
        node = await self.server.nodes.objects.add_variable(ua.NodeId(name, self.index), name, value, variant_type)
        await node.set_writable()
        self._nodes.append(node)
        return node

    async def clear(self) -> None:
        """Forget what a test has made, whatever it left connected."""
        for client in list(self.server.bserver.clients):
            client.transport.abort()
        service = self.server.iserver.subscription_service
        await service.delete_subscriptions(list(service.subscriptions))
        for session in list(self.server.iserver._external_sessions.values()):
            await session.close_session(True)
        await self.server.delete_nodes(self._nodes)
        self._nodes = []

    @property
    def subscriptions(self) -> list:
        return list(self.server.iserver.subscription_service.subscriptions.values())

    @property
    def subscription(self):
        (only,) = self.subscriptions
        return only

    @property
    def unacknowledged(self) -> list[int]:
        """Sequence numbers that the server keeps because no client has acknowledged them."""
        return list(self.subscription._not_acknowledged_results)

    @property
    def processor(self):
        """The server's end of the only connection."""
        (client,) = self.server.bserver.clients
        return client.processor


@asynccontextmanager
async def plc(port: int = 0, namespaces: tuple[str, ...] = (PLC,)) -> AsyncIterator[Plc]:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    indices = [await server.register_namespace(uri) for uri in namespaces]
    await server.start()
    made = Plc(server, indices[namespaces.index(PLC)] if PLC in namespaces else 0)
    try:
        yield made
    finally:
        await made.clear()
        # The server's clock ticks once a second, and its stop would wait for the tick.
        server.iserver.time_task.cancel()
        await asyncio.gather(server.iserver.time_task, return_exceptions=True)
        server.iserver.time_task = None
        await server.stop()


class Proxy:
    """Forwards to a port. `freeze` lets nothing more through, `cut` aborts every connection, `refuse` takes no new
    ones until `accept`, and `delay` seconds pass before anything is forwarded.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self._refusing = False
        self._through = asyncio.Event()
        self._through.set()
        self._tasks: set[asyncio.Task] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)  # before it waits, so that a test that ends now finds it
        self._tasks.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while content := await source.read(65536):
                await self._through.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                sink.write(content)
        except ConnectionError:
            pass
        finally:
            sink.close()

    def freeze(self) -> None:
        self._through.clear()

    def refuse(self) -> None:
        self._refusing = True

    def accept(self) -> None:
        self._refusing = False

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    made = Proxy(target)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        for task in made._tasks:
            task.cancel()
        await asyncio.gather(*made._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
