"""A play shows every second once, with its own stamp, and takes links away and gives them back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import Client
from pymodbus.client import AsyncModbusTcpClient
from stages import eventually

from simulators.clock import PlayClock
from simulators.models.line import Line
from simulators.scenario import Scenario, parse
from simulators.servers import fil01, registers
from simulators.servers.lbl01 import ModbusDevice
from simulators.servers.play import Device, Play


class Screen:
    """A device that only notes what it was asked to do, and when in plant time."""

    name = "SCADA"
    url = "nowhere"

    def __init__(self, line: Line) -> None:
        self.line = line
        self.shown: list[int] = []
        self.cuts: list[tuple[str, int]] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def publish(self) -> None:
        self.shown.append(self.line.time.ms)

    async def cut(self, *, restart: bool) -> None:
        self.cuts.append(("restart" if restart else "cut", self.line.time.ms))

    async def mend(self) -> None:
        self.cuts.append(("mend", self.line.time.ms))


@asynccontextmanager
async def playing(line: Line, devices: list[Device], *, speed: float, at: float = 0) -> AsyncIterator[Play]:
    """The line, played by the real clock from that second on."""
    play = Play(line, PlayClock(line.scenario, time.time() - at / speed, speed))
    task = asyncio.create_task(play.run(devices))
    try:
        yield play
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_every_second_is_shown_once_also_when_the_play_is_late(line: Line) -> None:
    screen = Screen(line)
    async with playing(line, [screen], speed=100):
        await eventually(lambda: len(screen.shown) > 20)
        time.sleep(0.2)  # the loop is held up for 20 plant seconds
        await eventually(lambda: len(screen.shown) > 60)

    assert screen.shown == [*range(0, len(screen.shown) * 1000, 1000)]


async def test_registers_without_time_stamps_show_little_of_what_is_made_up_for(line: Line, monkeypatch: Any) -> None:
    device = ModbusDevice(Play(line, SimpleNamespace(plant_ms=lambda: 100_500)))
    shown: list[int] = []
    monkeypatch.setattr(registers, "image", lambda _tags: shown.append(line.time.ms))
    for scan in (30_000, 31_000, 89_000, 90_000, 91_000, 99_000, 100_000):
        line.time.ms = scan
        await device.publish()

    assert shown == [30_000, 90_000, 100_000], "the first, one after a minute, and the one that is up to date"


async def test_a_play_that_begins_late_does_not_show_what_nobody_could_see(line: Line) -> None:
    screen = Screen(line)
    async with playing(line, [screen], speed=10, at=300.5):
        await eventually(lambda: screen.shown)

    assert screen.shown[0] == 300_000


async def test_before_the_epoch_the_machines_stand_at_their_start(line: Line) -> None:
    screen = Screen(line)
    async with playing(line, [screen], speed=10, at=-5):
        await eventually(lambda: screen.shown)
        await asyncio.sleep(0.2)

    assert screen.shown == [0]


async def test_a_write_while_the_play_is_late_does_not_swallow_the_scans_that_are_due(line: Line) -> None:
    screen = Screen(line)
    async with playing(line, [screen], speed=100) as play:
        await eventually(lambda: len(screen.shown) > 5)
        time.sleep(0.1)  # ten scans are due
        before = len(screen.shown)
        play.touch()
        await eventually(lambda: len(screen.shown) > before + 20)

    assert [ms for ms in screen.shown if ms % 1000 == 0] == [*range(0, screen.shown[-1] // 1000 * 1000 + 1, 1000)]


async def test_a_handshake_that_ends_within_a_second_is_not_kept_waiting(small: dict[str, Any]) -> None:
    small["filler"]["handshake_s"] = 0.25
    line = Line(parse(small))
    screen = Screen(line)
    async with playing(line, [screen], speed=0.2, at=20.1) as play:
        await eventually(lambda: screen.shown)
        await asyncio.sleep(0)
        play.touch()
        line.filler.write("FIL01.MES.CmdSeq", 1)
        due = line.due_ms
        await eventually(lambda: line.filler.tags()["FIL01.MES.CmdStatus"] == 2, seconds=4)

    assert screen.shown == [20_000, due]


async def test_a_handshake_is_shown_when_it_is_done_not_a_scan_later(line: Line) -> None:
    screen = Screen(line)
    async with playing(line, [screen], speed=10, at=20) as play:
        await eventually(lambda: screen.shown)
        play.touch()
        line.filler.write("FIL01.MES.CmdSeq", 1)
        due = line.due_ms
        await eventually(lambda: line.filler.tags()["FIL01.MES.CmdStatus"] == 2)
        await eventually(lambda: screen.shown[-1] >= (due or 0))

    assert due is not None
    assert due in screen.shown


async def test_a_link_is_cut_and_a_device_restarted_when_the_script_says_so(small: dict[str, Any]) -> None:
    small["faults"] = [
        {"kind": "link_cut", "device": "SCADA", "from": "23:55:10", "to": "23:55:20"},
        {"kind": "device_restart", "device": "SCADA", "from": "23:55:25", "to": "23:55:30"},
        {"kind": "broker_outage", "from": "23:55:32", "to": "23:55:34"},
        {"kind": "link_cut", "device": "FIL01", "from": "23:55:32", "to": "23:55:34"},
    ]
    line = Line(parse(small))
    screen = Screen(line)
    async with playing(line, [screen], speed=100):
        await eventually(lambda: line.time.ms > 40_000)

    assert screen.cuts == [("cut", 10_000), ("mend", 20_000), ("restart", 25_000), ("mend", 30_000)]


@pytest.mark.parametrize("restart", [False, True])
async def test_an_opcua_server_goes_away_and_comes_back_on_its_port_and_only_a_cut_link_keeps_the_session(
    scenario: Scenario, *, restart: bool
) -> None:
    play = Play(Line(scenario), PlayClock(scenario, 2.0**40, 1))
    device = fil01.server(play)
    await device.open()
    client = Client(device.url)
    await client.connect()
    try:
        subscription = await client.create_subscription(50, None)
        url = device.url
        await device.cut(restart=restart)
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await Client(url, timeout=1).connect()
        play.line.advance_to(100_000)
        await device.publish()
        await device.mend()

        assert device.url == url
        async with Client(url) as other:
            namespace = await other.get_namespace_index("urn:simulators:fil01")
            count = other.get_node(f"ns={namespace};s=FIL01.Admin.ProdProcessedCount[0].Count")
            assert await count.read_value() == 40
        kept = subscription.subscription_id in device._server.iserver.subscription_service.subscriptions
        assert kept is not restart
    finally:
        client.disconnect_socket()
        await device.close()


@pytest.mark.parametrize("server", [fil01.server, ModbusDevice])
async def test_nobody_slips_in_while_the_link_is_being_cut(
    scenario: Scenario, server: Callable[[Play], Device]
) -> None:
    device = server(Play(Line(scenario), PlayClock(scenario, 2.0**40, 1)))
    await device.open()
    port = int(device.url.rpartition(":")[2])

    async def knock() -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return b""
        try:
            return await asyncio.wait_for(reader.read(), 2)  # ends when the server hangs up
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    knocking = [asyncio.create_task(knock()) for _ in range(30)]
    await asyncio.sleep(0)
    try:
        await device.cut(restart=False)
        assert await asyncio.gather(*knocking) == [b""] * 30
    finally:
        await device.close()


async def test_a_modbus_server_goes_away_and_comes_back_on_its_port(scenario: Scenario) -> None:
    device = ModbusDevice(Play(Line(scenario), PlayClock(scenario, 2.0**40, 1)))
    await device.open()
    port = int(device.url.rpartition(":")[2])
    client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, reconnect_delay=0, timeout=1)
    try:
        assert await client.connect()
        await device.cut(restart=False)
        await eventually(lambda: not client.connected)
        assert not await client.connect()
        await device.mend()
        assert await client.connect()
        assert (await client.read_holding_registers(10, device_id=1)).registers == [65500]
    finally:
        client.close()
        await device.close()
