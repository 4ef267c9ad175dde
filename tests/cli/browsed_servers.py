"""OPC UA servers for browsing: a small one with all that matters, and one that hands out its references in pieces."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from asyncua import ua
from asyncua.server.uaprocessor import UaProcessor

from tests.drivers.opcua_servers import Plc, plc


@asynccontextmanager
async def press() -> AsyncIterator[Plc]:
    """A press: `Press/Count` (int32, writable), `/Text`, `/Curve` (array), `/Broken`, `/Range` (a structure), `/Sub/Deep`."""
    async with plc() as server:
        i, objects = server.index, server.server.nodes.objects
        folder = await objects.add_object(ua.NodeId("Press", i), f"{i}:Press")
        count = await folder.add_variable(ua.NodeId("Press.Count", i), f"{i}:Count", 42, ua.VariantType.Int32)
        await count.set_writable()
        await folder.add_variable(ua.NodeId("Press.Text", i), f"{i}:Text", "=1+1", ua.VariantType.String)
        await folder.add_variable(ua.NodeId("Press.Curve", i), f"{i}:Curve", [1.5, 2.5], ua.VariantType.Double)
        broken = await folder.add_variable(ua.NodeId("Press.Broken", i), f"{i}:Broken", 1, ua.VariantType.UInt16)
        bad = ua.DataValue(None, ua.StatusCode(ua.StatusCodes.BadDeviceFailure))
        await server.server.write_attribute_value(broken.nodeid, bad)
        await folder.add_variable(ua.NodeId("Press.Range", i), f"{i}:Range", ua.Range(0, 1))
        sub = await folder.add_object(ua.NodeId("Press.Sub", i), f"{i}:Sub")
        await sub.add_variable(ua.NodeId("Press.Deep", i), f"{i}:Deep", True)
        # A loop, as vendors have them: the child organizes its parent.
        await sub.add_reference(folder, ua.ObjectIds.Organizes)
        yield server


@contextmanager
def references_in_pieces(server: Plc, size: int) -> Iterator[list[int]]:
    """The server gives at most `size` references a node and answer; yields the number of points of each BrowseNext.

    asyncua's server has no continuation points, so they are made here, on the wire as any server would.
    """
    rests: dict[bytes, list] = {}
    asked: list[int] = []
    view, process = server.server.iserver.view_service, UaProcessor._process_message

    def cut(result: ua.BrowseResult) -> ua.BrowseResult:
        if len(result.References) > size:
            point = str(len(rests)).encode()
            rests[point], result.References = result.References[size:], result.References[:size]
            result.ContinuationPoint = point
        return result

    whole = view.browse

    async def process_message(self: UaProcessor, kind: ua.NodeId, request_header, header, body) -> bool:
        if kind != ua.NodeId(ua.ObjectIds.BrowseNextRequest_Encoding_DefaultBinary):
            return await process(self, kind, request_header, header, body)
        parameters = ua.ua_binary.struct_from_binary(ua.BrowseNextParameters, body)
        asked.append(len(parameters.ContinuationPoints))
        response = ua.BrowseNextResponse()
        response.Parameters.Results = [
            cut(ua.BrowseResult(References=rests[point])) for point in parameters.ContinuationPoints
        ]
        self.send_response(request_header.RequestHandle, header, response)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "browse", lambda parameters: [cut(result) for result in whole(parameters)])
        patch.setattr(UaProcessor, "_process_message", process_message)
        yield asked
