"""What fails where: a driver's fault costs one device a reconnection, an error of the core ends the gateway."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.cli.run import run_gateway
from gateway.config.load import load_plant
from gateway.domain.core import Core
from gateway.domain.equipment import Equipment
from gateway.domain.operations import Operation, OperationResult
from gateway.domain.values import StatusCode, TagWrite
from gateway.drivers.modbus.driver import ModbusDriver
from gateway.mqtt.topics import Topics
from gateway.runtime import daemon
from gateway.runtime.clock import SystemClock
from gateway.runtime.commit import Committer
from gateway.runtime.device_link import DeviceLink
from gateway.store.records import StoredAnswer, Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store
from tests.brokers import eventually
from tests.drivers.clocks import PlantClock
from tests.drivers.modbus_devices import Device, device
from tests.gates import open_gate
from tests.stage import Stage

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ, store: STORE}
mqtt: {client_id: edge-01, port: 1}
devices:
  PRESS: {driver: modbus, host: 127.0.0.1, port: PORT, poll_interval: 100ms}
equipment:
  ACME/HZ/A/L1/PRESS:
    device: PRESS
    tags:
      running: {register: 0, type: uint16}
      strokes: {register: 1, type: uint16}
    state: {rules: [{to: RUN, when: "running == 1"}, {to: IDLE, when: "true"}]}
    counters: {good: {tag: strokes, max: 65535, max_rate: 1000/s}}
    download: {parameters: {strokes: {tag: strokes, min: 0, max: 9}}}
"""
PATH = "ACME/HZ/A/L1/PRESS"


def write_plant(folder: Path, port: int) -> Path:
    config = folder / "config"
    config.mkdir()
    text = PLANT.replace("STORE", str(folder / "gateway.db")).replace("PORT", str(port))
    (config / "plant.yaml").write_text(text, encoding="utf-8")
    return config


@pytest.fixture
async def press() -> AsyncIterator[Device]:
    async with device() as served:
        yield served


def leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


def recorded(store: Path, table: str) -> list[bytes]:
    column = {"checkpoint": "value", "outbox": "payload"}[table]
    with closing(sqlite3.connect(store)) as connection:
        return [row[0] for row in connection.execute(f"SELECT {column} FROM {table}").fetchall()]


async def test_an_error_of_the_core_ends_the_daemon_and_nothing_half_done_is_committed(
    press: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = daemon.Daemon(load_plant(write_plant(tmp_path, press.port)), SystemClock())
    run_scans = Equipment.run_scans

    def fail_behind_the_event(equipment: Equipment, source: str, contact: int, now: int) -> None:
        run_scans(equipment, source, contact, now)
        if equipment.inputs.values[1] == 666:
            gateway._committer.request()  # somebody else's fact in the same moment
            raise KeyError("strokes")

    monkeypatch.setattr(Equipment, "run_scans", fail_behind_the_event)
    running = asyncio.create_task(gateway.run(asyncio.Event()))
    await eventually(lambda: hasattr(gateway, "_core") and bool(gateway._core.links.get("PRESS")), "the link")
    await eventually(lambda: gateway._core.equipment[PATH].state == "IDLE", "the first state")
    await gateway._committer.committed()
    await press.set(0, 1, 666)
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(20):
            await running
    assert repr(leaf(ended.value)) == "KeyError('strokes')"
    assert gateway._core.equipment[PATH].state == "RUN", "the core had taken the fact in by half"
    states = [row for row in recorded(tmp_path / "gateway.db", "outbox") if b"equipment.state" in row]
    assert [msgspec.json.decode(row)["data"]["to"] for row in states] == ["IDLE"]
    checkpoints = b"".join(recorded(tmp_path / "gateway.db", "checkpoint"))
    assert b'"IDLE"' in checkpoints
    assert b'"RUN"' not in checkpoints


async def test_a_gateway_whose_disk_is_full_can_be_stopped(
    press: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise systemd would wait for it, and then kill it."""
    monkeypatch.setattr(daemon, "DRAIN", 0.2)
    gateway, stop = daemon.Daemon(load_plant(write_plant(tmp_path, press.port)), SystemClock()), asyncio.Event()
    with capture_logs() as lines:
        running = asyncio.create_task(gateway.run(stop))
        await eventually(lambda: hasattr(gateway, "_core") and bool(gateway._core.links.get("PRESS")), "the link")

        async def no_room(_: object) -> None:
            raise StoreFull("the disk is full")

        monkeypatch.setattr(gateway._store, "commit", no_room)
        await press.set(0, 1)
        await eventually(lambda: any(line["event"].startswith("intake waits") for line in lines), "there is no room")
        stop.set()
        async with asyncio.timeout(20):
            await running
    assert lines[-1]["event"].startswith("stopping"), lines
    assert "stopping without room in the record; whoever told what came last still has it" in {
        line["event"] for line in lines
    }


async def test_an_answer_that_the_disk_has_spoiled_does_not_keep_the_gateway_from_starting(
    press: Device, tmp_path: Path
) -> None:
    config = write_plant(tmp_path, press.port)
    async with Store(tmp_path / "gateway.db", "epoch") as store:
        now = SystemClock().now()
        await store.commit(
            Transaction(answers=[StoredAnswer("C-1", now, b'{"cmd":"C-\xff'), StoredAnswer("C-2", now, b"{}")])
        )
    stop = asyncio.Event()
    with capture_logs() as said:
        running = asyncio.create_task(daemon.Daemon(load_plant(config), SystemClock()).run(stop))
        await eventually(lambda: any(line["event"] == "device connected" for line in said), "it works")
        stop.set()
        await running
    spoiled = [line for line in said if line["event"].startswith("an answer in the record is not as it was kept")]
    assert [line["cmd"] for line in spoiled] == ["C-1", "C-2"]


async def test_after_an_error_in_the_core_the_committer_ends_without_another_commit(tmp_path: Path) -> None:
    stage = Stage()
    topics = Topics("mfg/v1", "ACME/HZ", "edge-01")
    async with Store(tmp_path / "gateway.db", "epoch") as store:
        committer = Committer(stage.core, store, topics, SystemClock())
        with suppress(KeyError), committer.facts() as core:
            core.handle_broker(False, stage.now, stage.now)
            raise KeyError("strokes")
        committer.request()
        async with asyncio.timeout(20):
            await committer.run(lambda operation: None, lambda: None)
        assert await store.checkpoints() == {}


def test_the_end_by_an_error_is_told_in_one_line_with_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(core: Core, now: int) -> None:
        raise KeyError("strokes")

    monkeypatch.setattr(Core, "handle_deadline", fail)
    assert run_gateway(write_plant(tmp_path, 1), None, report=False, log_json=True) == 1
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().err.splitlines() if '"critical"' in line]
    (told,) = lines
    assert told["error"] == "KeyError: 'strokes'"
    assert "goes on from its last commit" in told["event"]
    assert "_watch_deadlines > test_daemon_failures.py:" in told["calls"]
    assert told["calls"].endswith(" fail")


class Taken:
    """An intake that keeps what it is told, and fails when asked to."""

    def __init__(self) -> None:
        self.links: list[tuple[bool, str | None]] = []
        self.batches = 0
        self.results: list[OperationResult] = []
        self.error: Exception | None = None

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        self.links.append((up, detail))

    async def take_batch(self, device: str, batch: object) -> None:
        self.batches += 1
        if self.error is not None:
            raise self.error

    def operation_done(self, result: OperationResult) -> None:
        self.results.append(result)


@pytest.fixture
async def link(press: Device, tmp_path: Path) -> tuple[DeviceLink, Taken]:
    plant = load_plant(write_plant(tmp_path, press.port))
    taken = Taken()
    clock = PlantClock(rate=20)
    return DeviceLink(plant.devices["PRESS"], taken, clock, open_gate(clock)), taken


async def test_a_fault_in_the_driver_costs_its_device_a_reconnection_and_no_more(
    link: tuple[DeviceLink, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, taken = link
    changes = ModbusDriver.changes

    async def stumble(driver: ModbusDriver) -> AsyncIterator[object]:
        async for batch in changes(driver):
            yield batch
            if len(taken.links) == 1:
                raise TypeError("a mistake of ours")

    monkeypatch.setattr(ModbusDriver, "changes", stumble)
    with capture_logs() as lines:
        running = asyncio.create_task(made.run())
        await eventually(lambda: len(taken.links) == 3, "the return")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert taken.links == [(True, None), (False, "TypeError: a mistake of ours"), (True, None)]
    assert [line["event"] for line in lines].count("driver failed") == 1


async def test_an_error_of_the_core_gets_out_even_if_the_driver_fails_on_its_way_out(
    link: tuple[DeviceLink, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, taken = link
    leave = ModbusDriver.__aexit__

    async def stumble(driver: ModbusDriver, *how: object) -> None:
        await leave(driver, *how)
        raise OSError("the socket was closed already")

    monkeypatch.setattr(ModbusDriver, "__aexit__", stumble)
    taken.error = KeyError("strokes")
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(20):
            await made.run()
    assert leaf(ended.value) is taken.error
    assert taken.links == [(True, None)]


async def test_an_operation_in_which_the_driver_fails_is_refused_and_the_link_goes_on(
    link: tuple[DeviceLink, Taken], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, taken = link

    async def stumble(driver: ModbusDriver, writes: object) -> list[object]:
        raise TypeError("a mistake of ours")

    monkeypatch.setattr(ModbusDriver, "write", stumble)
    running = asyncio.create_task(made.run())
    await eventually(lambda: bool(taken.links), "the link")
    made.submit(Operation("PRESS", "1", writes=(TagWrite("PRESS.strokes", 1),)))
    made.submit(Operation("PRESS", "2", reads=("PRESS.strokes",)))
    await eventually(lambda: len(taken.results) == 2, "both results")
    seen = taken.batches
    await eventually(lambda: taken.batches > seen, "the next poll")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [write.status_code for write in taken.results[0].writes] == [StatusCode.BAD_INTERNAL_ERROR]
    assert [read.value for read in taken.results[1].reads] == [0]
    assert taken.links == [(True, None)]


def test_a_record_that_cannot_be_made_is_told_with_its_place_and_not_as_an_error_of_our_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_plant(tmp_path, 1)
    text = (config / "plant.yaml").read_text(encoding="utf-8")
    (config / "plant.yaml").write_text(text.replace(str(tmp_path / "gateway.db"), "/proc/none/gateway.db"))
    assert run_gateway(config, None, report=False, log_json=True) == 1
    told = capsys.readouterr().err
    assert "the record cannot be used" in told
    assert "/proc/none cannot be made" in told
    assert "see gateway: store: in the YAML" in told
    assert "error in its own code" not in told
