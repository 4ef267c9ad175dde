"""A job order receiver behind an OPC UA server (asyncua), with the types of the OPC Foundation's own nodeset.

Before its first order the list is a null value, not an empty array, as with real machines. A change of the list is
one write of the whole list.
"""

import asyncio
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes

from simulators.models.job_control import Answer, Entry, JobReceiver

URI: Final = "urn:simulators:job-control"
NAMESPACE: Final = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/"
NODESET: Final = Path(__file__).parents[1] / "nodesets" / "opc.ua.isa95-jobcontrol.nodeset2.xml"
_RECEIVER_TYPE: Final = 1002
_BY_ID: Final = ("Start", "Stop", "Pause", "Resume", "Abort", "Cancel", "Clear", "RevokeStart")
_BY_ORDER: Final = ("Store", "StoreAndStart", "Update")


class JobControlServer:
    """One machine with one receiver, `s=JobControl` in its namespace; port 0 is any, `port` tells which."""

    def __init__(self, receiver: JobReceiver, host: str = "127.0.0.1", port: int = 0) -> None:
        self.receiver = receiver
        self.port = port
        self._host = host
        self._server = Server()
        self._list: Node | None = None
        self.uncertain = False
        """A failure is told with an Uncertain status, which carries the ReturnStatus too."""
        self.bad: int | None = None
        """The Bad status that every method has instead of an answer."""

    async def __aenter__(self) -> Self:
        server = self._server
        await server.init()
        server.set_endpoint(f"opc.tcp://{self._host}:{self.port}")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await server.import_xml(str(NODESET))
        await self._build(await server.get_namespace_index(NAMESPACE), await server.register_namespace(URI))
        await server.start()
        self.port = server.bserver._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ticking = self._server.iserver.time_task  # it ticks once a second, and stop would wait for the tick
        if ticking is not None:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            self._server.iserver.time_task = None
        await self._server.stop()

    async def step(self) -> None:
        """Let the machine go on, and show the list if anything changed in it."""
        self.receiver.step()
        await self.show()

    async def show(self) -> None:
        """Write the list as it is now."""
        assert self._list is not None
        entries = [self._listed(entry) for entry in self.receiver.entries.values()]
        value = ua.Variant(entries, ua.VariantType.ExtensionObject, is_array=True)
        await self._list.write_value(ua.DataValue(value, SourceTimestamp=ua.DateTime.now(UTC)))

    # --- the address space --------------------------------------------------------------------------------------

    async def _build(self, types: int, own: int) -> None:
        name = ua.QualifiedName("JobControl", own)
        receiver = await self._server.nodes.objects.add_object(
            _node("JobControl", own), name, objecttype=_node(_RECEIVER_TYPE, types), instantiate_optional=True
        )
        self._list = await receiver.get_child(f"{types}:JobOrderList")
        capacity = await receiver.get_child(f"{types}:MaxDownloadableJobOrders")
        await capacity.write_value(ua.Variant(self.receiver.capacity, ua.VariantType.UInt16))
        for method in _BY_ID:
            self._server.link_method(await receiver.get_child(f"{types}:{method}"), self._by_id(method))
        for method in _BY_ORDER:
            self._server.link_method(await receiver.get_child(f"{types}:{method}"), self._by_order(method))

    def _by_id(self, method: str) -> Any:
        async def called(_parent: ua.NodeId, job: ua.Variant, _comment: ua.Variant) -> ua.CallMethodResult:
            return await self._answer(self.receiver.change(method, job.Value))

        return called

    def _by_order(self, method: str) -> Any:
        async def called(_parent: ua.NodeId, order: ua.Variant, _comment: ua.Variant) -> ua.CallMethodResult:
            entry = _entry(order.Value)
            if method == "Update":
                return await self._answer(self.receiver.update(entry))
            return await self._answer(self.receiver.store(entry, start=method == "StoreAndStart"))

        return called

    async def _answer(self, answer: Answer) -> ua.CallMethodResult:
        await self.show()
        result = ua.CallMethodResult()
        if self.bad is not None:
            result.StatusCode = ua.StatusCode(ua.UInt32(self.bad))
            return result
        is_uncertain = self.uncertain and answer is not Answer.GOOD
        result.StatusCode = ua.StatusCode(ua.UInt32(StatusCodes.Uncertain if is_uncertain else 0))
        code = answer.code(zero_is_success=self.receiver.zero_is_success)
        result.OutputArguments = [ua.Variant(code, ua.VariantType.UInt64)]
        return result

    # --- structures ---------------------------------------------------------------------------------------------

    def _listed(self, entry: Entry) -> Any:
        """One entry of the list: the order with the values that the machine holds, and its state."""
        made: Any = ua  # asyncua adds the classes of a nodeset at run time
        for parameter in entry.content.JobOrderParameters or ():
            held = entry.parameters[parameter.ID]
            parameter.Value = ua.Variant(held, parameter.Value.VariantType)
        number, text = self.receiver.shown(entry)
        state = made.ISA95StateDataType(
            BrowsePath=ua.RelativePath(), StateText=ua.LocalizedText(text, "en"), StateNumber=ua.UInt32(number)
        )
        return made.ISA95JobOrderAndStateDataType(JobOrder=entry.content, State=[state])


def _node(identifier: Any, namespace: Any) -> ua.NodeId:
    return ua.NodeId(identifier, namespace)


def _entry(order: Any) -> Entry:
    values = {parameter.ID: parameter.Value.Value for parameter in order.JobOrderParameters or ()}
    return Entry(order.JobOrderID, values, order, order.Priority or 0)
