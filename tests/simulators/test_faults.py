"""Protocol faults over real sockets: each does what it says, for as long as it says, and the rest stays right."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, Node, ua
from pymodbus.client import AsyncModbusTcpClient
from stages import DEMO, Stage, eventually, opened, ready, simulator

from simulators.faults import (
    BadStatus,
    Clamp,
    DeviceFault,
    ErrorCode,
    ExceptionReply,
    IgnoredWrite,
    LateAcknowledgement,
    LateReply,
    MissingNode,
    NoAcknowledgement,
    Overflow,
    RefuseSubscriptions,
    SequenceJump,
    ShortReply,
    Silence,
    SwapNamespaces,
    WrongUnit,
    with_faults,
)  # fmt: skip
from simulators.models.line import Line
from simulators.scenario import Scenario, ScenarioError, parse
from simulators.servers import fil01
from simulators.servers.faulty_opcua import DECOY_URI
from simulators.servers.lbl01 import ModbusDevice
from tests.stopwatch import Stopwatch

STATE, PERMIT, VOLUME = "FIL01.Status.StateCurrent", "FIL01.MES.Permit", "FIL01.Command.Parameter[0].Value"


class Press:
    """FIL01 and a client of it."""

    def __init__(self, stage: Stage, device: Any, client: Client) -> None:
        self.stage, self.device, self.client = stage, device, client

    def node(self, name: str) -> Node:
        return self.client.get_node(self.device.node_id(name))

    async def read(self, name: str) -> ua.DataValue:
        return await self.node(name).read_data_value(raise_on_bad_status=False)

    async def write(self, name: str, value: float, kind: ua.VariantType) -> None:
        await self.node(name).write_value(ua.DataValue(ua.Variant(value, kind)))

    async def command(self, number: int) -> tuple[int, int, int]:
        """Send a command; AckSeq, CmdStatus and CmdError a scan later."""
        await self.write("FIL01.MES.CmdSeq", number, ua.VariantType.Int32)
        await self.stage.to(self.stage.line.at + 0.1)
        return await self.answer()

    async def answer(self) -> tuple[int, int, int]:
        ack, status, error = [
            (await self.read(f"FIL01.MES.{name}")).Value.Value for name in ("AckSeq", "CmdStatus", "CmdError")
        ]
        return ack, status, error


@pytest.fixture
async def press(stage: Stage) -> AsyncIterator[Press]:
    device = fil01.server(stage.play)
    async with opened(stage, device), Client(device.url) as client:
        yield Press(stage, device, client)


class Changes:
    """Notifications of one subscription, as a plain client gets them."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, int]] = []

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        status = data.monitored_item.Value.StatusCode
        self.seen.append((value, status.value if status is not None else 0))


# --- OPC UA -----------------------------------------------------------------------------------------------------


async def test_a_bad_status_lasts_from_when_to_when_it_is_meant_to(press: Press) -> None:
    press.device.faults.inject(BadStatus(tag=STATE, code="BadSensorFailure", since=10, until=20))
    statuses = []
    for second in (9, 10, 19, 20):
        await press.stage.to(second)
        value = await press.read(STATE)
        statuses.append((value.StatusCode.name, value.Value is not None and value.Value.Value))
    assert statuses == [("Good", 4), ("BadSensorFailure", None), ("BadSensorFailure", None), ("Good", 4)]
    assert (await press.read(PERMIT)).StatusCode.is_good(), "its neighbours are well"


async def test_the_overflow_bit_comes_with_the_value(press: Press) -> None:
    press.device.faults.inject(Overflow(tag=STATE))
    await press.stage.to(70)
    value = await press.read(STATE)
    assert (value.Value.Value, value.StatusCode.value) == (6, 0x480)
    press.device.faults.clear()
    await press.stage.to(71)
    assert (await press.read(STATE)).StatusCode.value == 0


async def test_a_missing_node_is_told_to_who_monitors_it_and_comes_back_to_them(press: Press) -> None:
    changes = Changes()
    subscription = await press.client.create_subscription(20, changes)
    await subscription.subscribe_data_change(press.node(STATE))
    press.device.faults.inject(MissingNode(tag=STATE, since=10, until=20))
    await press.stage.to(10)
    await eventually(lambda: changes.seen[-1:] == [(None, ua.StatusCodes.BadNodeIdUnknown)])
    assert (await press.read(STATE)).StatusCode.name == "BadNodeIdUnknown"
    await press.stage.to(70)
    await eventually(lambda: changes.seen[-1:] == [(6, 0)])
    await subscription.delete()


async def test_subscriptions_are_refused_as_often_as_it_says(press: Press) -> None:
    press.device.faults.inject(RefuseSubscriptions(count=2))
    for _ in range(2):
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await press.client.create_subscription(100, Changes())
        assert refused.value.code == ua.StatusCodes.BadTooManySubscriptions
    subscription = await press.client.create_subscription(100, Changes())
    await subscription.delete()


async def test_a_sequence_jump_leaves_out_so_many_numbers_once(press: Press) -> None:
    changes = Changes()
    subscription = await press.client.create_subscription(20, changes)
    await subscription.subscribe_data_change(press.node("FIL01.Machine.Heartbeat"))
    await eventually(lambda: changes.seen)
    (inside,) = press.device._server.iserver.subscription_service.subscriptions.values()
    before = inside._notification_seq
    press.device.faults.inject(SequenceJump(by=3))
    await press.stage.to(0)
    await press.stage.to(0.5)
    assert inside._notification_seq == before + 3
    await subscription.delete()


async def test_after_a_swap_of_namespaces_the_old_index_holds_a_decoy(stage: Stage) -> None:
    device = fil01.server(stage.play)
    async with opened(stage, device):
        async with Client(device.url) as client:
            old = await client.get_namespace_index(fil01.URI)
        device.faults.inject(SwapNamespaces())
        await device.cut(restart=True)
        device.faults.clear()
        await device.mend()
        async with Client(device.url) as client:
            assert await client.get_namespace_index(DECOY_URI) == old
            assert await client.get_namespace_index(fil01.URI) == old + 1
            decoy = await client.get_node(ua.NodeId(ua.String(STATE), ua.Int16(old))).read_value()
            real = await client.get_node(device.node_id(STATE)).read_value()
    assert (decoy, real) == (13, 4), "who keeps the index reads a wrong value, and it is Good"


# --- Modbus -----------------------------------------------------------------------------------------------------


class Registers:
    """LBL01 and a client of it that believes whatever comes."""

    def __init__(self, stage: Stage, device: ModbusDevice, client: AsyncModbusTcpClient) -> None:
        self.stage, self.device, self.client = stage, device, client

    async def read(self, address: int, count: int) -> Any:
        return await self.client.read_holding_registers(address, count=count, device_id=1)


@pytest.fixture
async def registers(stage: Stage) -> AsyncIterator[Registers]:
    device = ModbusDevice(stage.play)
    async with opened(stage, device):
        port = int(device.url.rpartition(":")[2])
        client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, reconnect_delay=0, timeout=2)
        await client.connect()
        yield Registers(stage, device, client)
        client.close()


async def test_a_silent_device_answers_nothing_and_then_answers_again(registers: Registers) -> None:
    registers.device.faults.inject(Silence())
    with pytest.raises(Exception, match="No response"):
        await registers.read(0, 1)
    registers.device.faults.clear()
    assert not (await registers.read(0, 1)).isError()


async def test_a_late_reply_comes_so_much_later(registers: Registers) -> None:
    registers.device.faults.inject(LateReply(seconds=0.1))
    asked = time.monotonic()
    with Stopwatch() as waited:
        assert not (await registers.read(0, 1)).isError()
    assert time.monotonic() - asked >= 0.1
    assert waited.seconds < 0.3


async def test_an_exception_hits_only_requests_that_touch_its_registers(registers: Registers) -> None:
    registers.device.faults.inject(ExceptionReply(first=20, last=21, code=4))
    assert [(await registers.read(*asked)).isError() for asked in ((10, 10), (10, 11), (21, 1), (22, 5))] == [
        False,
        True,
        True,
        False,
    ]
    assert (await registers.read(20, 1)).exception_code == 4


async def test_a_short_reply_has_one_register_less_and_is_right_in_itself(registers: Registers) -> None:
    registers.device.faults.inject(ShortReply())
    answer = await registers.read(10, 3)
    assert len(answer.registers) == 2


async def test_a_reply_from_the_wrong_unit_says_so(registers: Registers) -> None:
    registers.device.faults.inject(WrongUnit())
    with pytest.raises(Exception, match="No response"):
        await registers.read(0, 1)  # pymodbus's own client looks at the unit


# --- machines ---------------------------------------------------------------------------------------------------


async def test_a_late_acknowledgement_comes_that_many_plant_seconds_later(press: Press) -> None:
    press.device.faults.inject(LateAcknowledgement(seconds=5))
    assert await press.command(1) == (0, 0, 0)
    await press.stage.to(4.9)
    assert (await press.answer())[0] == 0
    await press.stage.to(5.1)
    assert (await press.answer())[:2] == (1, 1)
    await press.stage.to(7.1)
    assert (await press.answer())[:2] == (1, 2), "from then on it works as ever"


async def test_a_deaf_machine_never_acknowledges(press: Press) -> None:
    press.device.faults.inject(NoAcknowledgement())
    assert await press.command(1) == (0, 0, 0)
    await press.stage.to(300)
    assert await press.answer() == (0, 0, 0)


async def test_a_machine_that_rejects_says_its_error(press: Press) -> None:
    press.device.faults.inject(ErrorCode(code=17))
    assert await press.command(1) == (1, 3, 17)
    press.device.faults.clear()
    assert (await press.command(2))[:2] == (2, 1)


async def test_an_ignored_write_is_answered_as_good_and_a_clamped_one_holds_less(press: Press) -> None:
    press.device.faults.inject(IgnoredWrite(tag=VOLUME, until=10))
    press.device.faults.inject(Clamp(tag=VOLUME, max=400, since=10))
    await press.write(VOLUME, 500.0, ua.VariantType.Float)
    assert (await press.read(VOLUME)).Value.Value == 0
    assert [write.accepted for write in press.stage.line.writes] == [False], "the ledger knows"
    await press.stage.to(10)
    await press.write(VOLUME, 500.0, ua.VariantType.Float)
    assert (await press.read(VOLUME)).Value.Value == 400


async def test_modbus_writes_are_ignored_and_clamped_too(registers: Registers) -> None:
    registers.device.faults.inject(IgnoredWrite(tag="110"))
    before = (await registers.read(110, 1)).registers
    assert not (await registers.client.write_register(110, 1234, device_id=1)).isError()
    assert (await registers.read(110, 1)).registers == before
    registers.device.faults.clear()
    registers.device.faults.inject(Clamp(tag="110", max=1600))
    await registers.stage.to(40)
    values = [1700, *(await registers.read(111, 8)).registers]
    from simulators.models.labeller import crc16

    await registers.client.write_registers(110, [*values, crc16(values)], device_id=1)
    await registers.client.write_register(100, 1, device_id=1)
    await registers.stage.to(45)
    assert (await registers.read(102, 1)).registers == [2], "done"
    assert (await registers.read(110, 1)).registers == [1600], "and clamped without a word"


# --- where they are written ---------------------------------------------------------------------------------------


async def test_a_scenario_lists_them_beside_its_link_faults(small: dict[str, Any]) -> None:
    small["faults"] = [
        {"kind": "bad_status", "device": "FIL01", "tag": STATE, "from": "23:55:10", "to": "23:55:20"},
        {"kind": "link_cut", "device": "FIL01", "from": "23:56:00", "to": "23:56:10"},
    ]
    stage = Stage(Line(parse(small)))
    device = fil01.server(stage.play)
    await stage.to(15)
    (fault,) = device.faults.active(DeviceFault)
    assert fault == BadStatus(tag=STATE, since=10, until=20)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("freeze", "this device has no such fault; it has bad_status, clamp"),
        ("silence", "this device has no such fault"),
        ("bad_status", "tag: Field required"),
        (f"bad_status,tag={STATE},code=BadLuck", "no status of the specification"),
        ("bad_status,tag=FIL01.Status.StateCurent", f"has not got; it has {STATE}"),
        (f"bad_status,tag={STATE},from=6", "is not a time"),
        ("sequence_jump,by", "without spaces"),
    ],
)
def test_a_fault_that_cannot_be_played_is_refused_with_what_would_be_right(
    scenario: Scenario, text: str, complaint: str
) -> None:
    with pytest.raises(ScenarioError, match=complaint.replace("[", r"\[")):
        fil01.server(Stage(Line(with_faults(scenario, [text], "FIL01"))).play)


async def test_the_command_line_takes_them_too() -> None:
    faults = ["--fault", f"bad_status,tag={STATE}", "--fault", f"clamp,tag={VOLUME},max=400,from=06:10:00"]
    with simulator("fil01", "--scenario", str(DEMO), *faults) as process:
        async with Client(ready(process)["ready"]["FIL01"]) as client:
            index = await client.get_namespace_index(fil01.URI)
            node = client.get_node(ua.NodeId(ua.String(STATE), ua.Int16(index)))
            value = await node.read_data_value(raise_on_bad_status=False)
    assert value.StatusCode.name == "BadDeviceFailure"


def test_the_line_asks_which_device_is_meant() -> None:
    with simulator("line", "--scenario", str(DEMO), "--fault", "silence", stderr=-1) as process:
        assert process.wait(timeout=20) == 2
        assert process.stderr is not None
        assert "which device? write silence,device=FIL01" in process.stderr.read()
