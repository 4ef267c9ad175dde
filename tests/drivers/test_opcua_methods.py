"""Methods of a real server: typed arguments out, results back, refusals told, and one place that may call at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from clocks import PlantClock
from opcua_servers import PLC, plc, proxy
from structlog.testing import capture_logs

from gateway.config.plant import Device
from gateway.domain.commands.allow_list import AllowList
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import Argument, Batch, CallResult, DataType, MethodCall, StatusCode, TagWrite
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.modbus.config import ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver
from gateway.runtime.device_link import DeviceLink
from tests.gates import open_gate

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOT_EXECUTED = 0x81110000
"""BadNotExecutable: what the server's method gives while the machine cannot start."""
ORDER = Argument(DataType.STRING, "4711")


class Orders:
    """A job order receiver: takes orders, starts those that it has, and remembers who called what."""

    def __init__(self) -> None:
        self.called: list[tuple[str, ...]] = []

    async def store(self, parent: ua.NodeId, order: ua.Variant, quantity: ua.Variant, *rest: ua.Variant) -> Any:
        kinds = tuple(argument.VariantType.name for argument in (order, quantity, *rest))
        self.called.append(("store", order.Value, *kinds))
        if quantity.VariantType is not ua.VariantType.UInt32:
            codes = [ua.StatusCode(), ua.StatusCode(ua.StatusCodes.BadTypeMismatch)]
            return ua.CallMethodResult(ua.StatusCode(ua.StatusCodes.BadInvalidArgument), codes)
        return [ua.Variant(1, ua.VariantType.UInt64), ua.Variant(ua.LocalizedText("gespeichert"))]

    async def start(self, parent: ua.NodeId, order: ua.Variant) -> Any:
        self.called.append(("start", order.Value))
        return ua.StatusCode(NOT_EXECUTED)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncIterator[Any]:
    async with plc() as server:
        made = server.server.nodes.objects
        folder = await made.add_object(ua.NodeId("Orders", server.index), "Orders")
        server.orders = Orders()
        for name in ("store", "start"):
            method = getattr(server.orders, name)
            await folder.add_method(ua.NodeId(f"Orders.{name}", server.index), name, method, [], [])
        yield server


@pytest.fixture
def called(receiver: Any) -> list[tuple[str, ...]]:
    receiver.orders.called.clear()
    return receiver.orders.called  # type: ignore[no-any-return]


def settings(port: int) -> OpcUaSettings:
    url = f"opc.tcp://127.0.0.1:{port}"
    return OpcUaSettings(url=url, namespace=PLC, security="none", request_timeout="500ms", publishing_interval="50ms")


def driver(port: int) -> OpcUaDriver:
    return OpcUaDriver("FIL01", settings(port), [], PlantClock())


def call(method: str, *arguments: Argument) -> MethodCall:
    return MethodCall("s=Orders", f"nsu={PLC};s=Orders.{method}", arguments)


async def test_arguments_go_out_with_their_types_and_results_come_back_as_plain_values(
    receiver: Any, called: list[Any]
) -> None:
    arguments = [
        ORDER, Argument(DataType.UINT32, 500), Argument(DataType.FLOAT32, (1.5, 2.0)),
        Argument(DataType.STRING, "keine Eile", localized=True), Argument(DataType.DATETIME, PlantClock.START),
    ]  # fmt: skip
    async with driver(receiver.port) as link:
        (result,) = await link.call([call("store", *arguments)])
    assert result == CallResult(StatusCode.GOOD, (1, "gespeichert"), (0,) * 5)
    assert called == [("store", "4711", "String", "UInt32", "Float", "LocalizedText", "DateTime")]


async def test_a_refusal_is_a_result_and_holds_back_what_was_to_follow_it(receiver: Any, called: list[Any]) -> None:
    wrong = call("store", ORDER, Argument(DataType.INT16, 500))
    async with driver(receiver.port) as link:
        refused, held_back = await link.call([wrong, call("start", ORDER)])
        (not_now,) = await link.call([call("start", ORDER)])
        unknown, _ = await link.call([call("stop", ORDER), call("start", ORDER)])
        (good,) = await link.call([call("store", ORDER, Argument(DataType.UINT32, 1))])
    assert refused == CallResult(0x80AB0000, (), (0, StatusCode.BAD_TYPE_MISMATCH))
    assert held_back == CallResult(StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT)
    assert not_now.status_code == NOT_EXECUTED
    assert unknown.status_code == 0x80330000, "BadNodeIdInvalid, as this server says it"
    assert good.status_code == StatusCode.GOOD
    assert [name for name, *_ in called] == ["store", "start", "store"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (call("store", ORDER, Argument(DataType.UINT32, -1)), CallResult(0x80AB0000, (), (0, 0x803C0000))),
        (call("store", ORDER, Argument(DataType.UINT32, "5")), CallResult(0x80AB0000, (), (0, 0x80740000))),
        (MethodCall("s=Orders", "nsu=urn:elsewhere;s=Orders.store"), CallResult(StatusCode.BAD_NODE_ID_UNKNOWN)),
    ],
)
async def test_what_cannot_be_right_is_refused_without_a_packet(
    receiver: Any, called: list[Any], wanted: MethodCall, told: CallResult
) -> None:
    async with driver(receiver.port) as link:
        assert await link.call([wanted]) == [told]
    assert called == []


async def test_only_a_lost_link_raises(receiver: Any) -> None:
    async with proxy(receiver.port) as wire, driver(wire.port) as link:
        wire.freeze()
        with pytest.raises(LinkLost, match="does not answer a CallRequest within"):
            await link.call([call("start", ORDER)])
        wire.cut()


async def test_modbus_has_no_methods() -> None:
    link = ModbusDriver("LBL01", ModbusSettings(host="127.0.0.1"), [], PlantClock())
    assert await link.call([call("start"), call("start")]) == [CallResult(StatusCode.BAD_NOT_SUPPORTED)] * 2


# --- the one place that may call ------------------------------------------------------------------------------------


class Intake:
    """Keeps what operations came to."""

    def __init__(self) -> None:
        self.results: asyncio.Queue[OperationResult] = asyncio.Queue()
        self.is_up = asyncio.Event()

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        self.is_up.set()

    async def take_batch(self, device: str, batch: Batch) -> None: ...

    def operation_done(self, result: OperationResult) -> None:
        self.results.put_nowait(result)


@asynccontextmanager
async def supervised(port: int, allowed: AllowList, *tags: Tag[OpcUaAddress]) -> AsyncIterator[Any]:
    """A device as the daemon has it; gives a function that performs one operation."""
    intake = Intake()
    clock = PlantClock()
    link = DeviceLink(Device("FIL01", "opcua", settings(port), tags, allowed), intake, clock, open_gate(clock))
    task = asyncio.create_task(link.run())

    async def perform(**operation: Any) -> OperationResult:
        link.submit(Operation("FIL01", "token", **operation))
        async with asyncio.timeout(20):
            return await intake.results.get()

    try:
        async with asyncio.timeout(20):
            await intake.is_up.wait()
        yield perform
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


SPEED = Tag("FIL01.speed", DataType.INT32, OpcUaAddress(node="s=speed"))


async def test_a_call_that_is_not_on_the_allow_list_never_leaves_the_gateway(receiver: Any, called: list[Any]) -> None:
    allowed = AllowList(frozenset(), frozenset({call("store").method}))
    with capture_logs() as logs:
        async with supervised(receiver.port, allowed) as perform:
            refused = await perform(calls=(call("store"), call("start", ORDER)))
            unlisted = await perform(writes=(TagWrite("FIL01.speed", 1),))
    assert refused.calls == (CallResult(StatusCode.BAD_USER_ACCESS_DENIED),) * 2
    assert [write.status_code for write in unlisted.writes] == [StatusCode.BAD_USER_ACCESS_DENIED]
    assert called == []
    reasons = [log["reason"] for log in logs if log["log_level"] == "error"]
    listed = "not on the write allow-list of FIL01"
    assert reasons == [f"{call('start').method}: {listed}", f"FIL01.speed: {listed}"]


async def test_an_operation_writes_then_calls_then_reads_and_a_refused_write_holds_the_calls_back(
    receiver: Any, called: list[Any]
) -> None:
    speed = await receiver.add("speed", 100)
    allowed = AllowList(frozenset({"FIL01.speed"}), frozenset({call("store").method}))
    store = call("store", ORDER, Argument(DataType.UINT32, 500))
    async with supervised(receiver.port, allowed, SPEED) as perform:
        done = await perform(writes=(TagWrite("FIL01.speed", 250),), calls=(store,), reads=("FIL01.speed",))
        held = await perform(writes=(TagWrite("FIL01.speed", 2**40),), calls=(store,))
    assert [result.status_code for result in done.calls] == [StatusCode.GOOD]
    assert [change.value for change in done.reads] == [250] == [await speed.read_value()]
    assert held.calls == (CallResult(StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT),)
    assert len(called) == 1
