"""Acknowledge and confirm: from the MES's command over the core and the link to real conditions, and back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from clocks import PlantClock
from opcua_conditions import Condition, placed, serve
from opcua_servers import PLC, plc
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.domain.commands.acknowledgement import ACKNOWLEDGE
from gateway.domain.operations import OperationResult
from gateway.domain.values import Batch
from gateway.domain.writing.locks import Lock, WriteLocks
from gateway.runtime.device_link import DeviceLink
from tests.gates import Remembered, open_gate
from tests.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{client_id: edge-01}}
devices:
  SCADA: {{driver: opcua, url: "opc.tcp://127.0.0.1:{port}", namespace: "{plc}", security: none,
           publishing_interval: 20ms, alarm_conditions: true}}
equipment:
  ACME/HZ/PACK/L1/PAL01:
    device: SCADA
    tags: {{speed: {{node: s=speed, type: int32}}}}
    alarms: {alarms}
"""
PERMITTED = "{conditions: PAL01, acknowledge: true}"


class Gateway:
    """The core on a stage, and the one link to its device: what the daemon is, without a broker."""

    def __init__(self, plant: Any) -> None:
        self.clock = PlantClock()
        self.stage = Stage(plant)
        self.moved = asyncio.Event()
        self.audit = Remembered()
        self.link = DeviceLink(plant.devices["SCADA"], self, self.clock, open_gate(self.clock, self.audit))

    def link_changed(self, device: str, up: bool, detail: str | None = None, resumed: bool = False) -> None:
        now = self.clock.now()
        self.stage.core.handle_link(device, up, now, now, detail, resumed)
        self._commit()

    async def take_batch(self, device: str, batch: Batch) -> None:
        self.stage.core.handle_changes(device, batch, self.clock.now())
        self._commit()

    def operation_done(self, result: OperationResult) -> None:
        self.stage.core.handle_operation(result, self.clock.now())
        self._commit()

    def _commit(self) -> None:
        self.stage.now = self.clock.now()
        self.stage.commit()
        operations, self.stage.operations[:] = list(self.stage.operations), []
        for operation in operations:
            self.link.submit(operation)
        self.moved.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.moved.clear()
                await self.moved.wait()

    async def ask(self, cmd: str = "A-1", **body: Any) -> list[str]:
        """Send the command and wait for its final answer; all answers to it, in order."""
        said = {"eq": "PAL01", "occ": self.occurrence, "user": "op17", "comment": "cleared bottle", **body}
        self.stage.command("alarm.ack", cmd=cmd, **said)
        self._commit()
        await self.until(lambda: any(answer.cmd == cmd and answer.final for answer in self.stage.answers))
        return [" ".join((answer.answer, *answer.codes)) for answer in self.stage.answers if answer.cmd == cmd]

    @property
    def occurrence(self) -> str:
        raised = self.told("alarm.raised")
        return str(raised[-1]["occ"]) if raised else ""

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [data for _, data in self.stage.told(kind)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scada() -> AsyncIterator[Any]:
    async with plc() as server:
        server.conditions = []
        serve(server, server.conditions)
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def server(scada: Any) -> AsyncIterator[Any]:
    scada.conditions.clear()
    yield scada
    await scada.clear()
    scada.server.iserver.subscription_service._conditions.clear()


@asynccontextmanager
async def gateway(server: Any, folder: Path, alarms: str = PERMITTED) -> AsyncIterator[Gateway]:
    (folder / "plant.yaml").write_text(PLANT.format(port=server.port, plc=PLC, alarms=alarms), encoding="utf-8")
    made = Gateway(load_plant(folder))
    task = asyncio.create_task(made.link.run())
    try:
        await made.until(lambda: made.stage.core.links.get("SCADA"))
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def alarm(server: Any, made: Gateway, code: str = "2107", **keys: Any) -> Condition:
    """A condition that is up, and that the gateway knows of."""
    condition = Condition(server, "PAL01", code, **keys)
    server.conditions.append(condition)
    server._nodes.append(await placed(server, condition))
    await condition.tell()
    await made.until(lambda: made.occurrence.startswith(code))
    return condition


async def test_a_locked_server_is_asked_nothing_and_the_audit_names_the_person(server: Any, tmp_path: Path) -> None:
    async with gateway(server, tmp_path) as made:
        condition = await alarm(server, made)
        made.audit.locks = locked = WriteLocks(devices={"SCADA": Lock("new server", "it", 0)})
        assert await made.ask("A-1") == ["accepted", "failed locked"], "the gate looks for itself"
        made.stage.core.handle_locks(locked, made.clock.now())
        assert await made.ask("A-2") == ["rejected locked"]
        made.audit.locks = WriteLocks()
        made.stage.core.handle_locks(WriteLocks(), made.clock.now())
        assert await made.ask("A-3") == ["accepted", "done"]
    assert condition.asked == [("Acknowledge", "cleared bottle (op17)")]
    told = [(entry.kind, entry.cmd, entry.by, entry.action) for entry in made.audit.entries]
    assert told == [(kind, cmd, "op17", "acknowledge") for kind, cmd in (
        ("refused", "A-1"), ("intent", "A-3"), ("outcome", "A-3"),
    )]  # fmt: skip
    (call,) = made.audit.entries[1].changes
    assert (call.method, call.arguments[1]) == (ACKNOWLEDGE, "cleared bottle (op17)")
    assert [change.status for change in made.audit.entries[2].changes] == ["Good"]


async def test_an_alarm_is_acknowledged_in_a_persons_name_and_the_condition_itself_says_so(
    server: Any, tmp_path: Path
) -> None:
    async with gateway(server, tmp_path) as made:
        condition = await alarm(server, made)
        assert await made.ask() == ["accepted", "done"]
        await made.until(lambda: made.told("alarm.acked"))
        assert condition.asked == [("Acknowledge", "cleared bottle (op17)")]
        (acked,) = made.told("alarm.acked")
        assert (acked["occ"], acked["by"], acked["comment"]) == (made.occurrence, "op17", "cleared bottle (op17)")
        assert await made.ask() == ["accepted", "done", "done"], "the same id again: the stored answer, and no call"
        assert len(condition.asked) == 1
        assert await made.ask(cmd="A-2") == ["rejected already_acknowledged"]


async def test_a_server_that_says_good_and_shows_nothing_has_acknowledged_nothing(server: Any, tmp_path: Path) -> None:
    async with gateway(server, tmp_path) as made:
        condition = await alarm(server, made)
        condition.silent = True
        assert await made.ask() == ["accepted", "done"]
        await condition.tell()
        other = await alarm(server, made, "2108")
        assert made.told("alarm.acked") == []
        await other.become_acked(by="maintenance")
        await made.until(lambda: made.told("alarm.acked"))
        assert [(acked["code"], acked["by"]) for acked in made.told("alarm.acked")] == [("2108", "maintenance")]


async def test_confirming_comes_after_acknowledging_and_keeps_the_alarm_until_then(server: Any, tmp_path: Path) -> None:
    async with gateway(server, tmp_path) as made:
        condition = await alarm(server, made, is_confirmed=True)
        assert await made.ask("A-1", confirm=True) == ["rejected not_acknowledged nothing_to_confirm"]
        assert await made.ask("A-2") == ["accepted", "done"]
        await made.until(lambda: made.told("alarm.acked"))
        await condition.tell(active=False)
        await made.until(lambda: made.told("alarm.cleared"))
        assert await made.ask("A-3", confirm=True, comment="") == ["accepted", "done"]
        assert condition.asked == [("Acknowledge", "cleared bottle (op17)"), ("Confirm", "op17")]
        memory = made.stage.core.equipment["ACME/HZ/PACK/L1/PAL01"].memory.alarms
        await made.until(lambda: not memory.open)
        assert await made.ask("A-4", confirm=True) == ["rejected unknown_alarm"]


async def test_a_refusal_of_the_server_is_told_by_its_reason(server: Any, tmp_path: Path) -> None:
    async with gateway(server, tmp_path) as made:
        condition = await alarm(server, made)
        condition._events += 1  # it has changed, and the gateway has not heard of it
        assert await made.ask("A-1") == ["accepted", "failed changed"]
        await condition.tell()
        condition.answer = ua.StatusCodes.BadUserAccessDenied
        assert await made.ask("A-2") == ["accepted", "failed access_denied"]
        condition.answer = ua.StatusCodes.BadConditionDisabled
        assert await made.ask("A-3") == ["accepted", "failed refused"]
        assert "0x80990000" in made.stage.answers[-1].detail[0]
        await condition.become_acked(by="hmi")
        await made.until(lambda: made.told("alarm.acked"))
        assert made.told("alarm.acked")[0]["by"] == "hmi", "the gateway asked in vain: it was somebody else"


@pytest.mark.parametrize(
    ("alarms", "body", "answer"),
    [
        ("{conditions: PAL01}", {}, "rejected not_allowed"),
        (PERMITTED, {"eq": "PAL02"}, "rejected unknown_equipment"),
        (PERMITTED, {"occ": "2107@2026-01-01T00:00:00.000Z"}, "rejected unknown_alarm"),
        (PERMITTED, {"user": " "}, "rejected user"),
        (PERMITTED, {"valid_until": "2026-03-01T00:00:00Z"}, "rejected expired"),
    ],
)
async def test_what_may_not_be_acknowledged_is_rejected_and_nothing_is_called(
    server: Any, tmp_path: Path, alarms: str, body: dict[str, Any], answer: str
) -> None:
    async with gateway(server, tmp_path, alarms) as made:
        condition = await alarm(server, made)
        assert await made.ask(**body) == [answer]
        assert condition.asked == []


async def test_an_earlier_state_that_still_waits_is_not_the_alarm(server: Any, tmp_path: Path) -> None:
    async with gateway(server, tmp_path) as made:
        condition = await alarm(server, made)
        condition._active, branch = False, ua.NodeId("branch", server.index)
        await condition.tell(branch=branch)
        condition._active = True
        other = await alarm(server, made, "2108")
        await other.tell(active=False)
        await made.until(lambda: made.told("alarm.cleared"))
        assert [cleared["code"] for cleared in made.told("alarm.cleared")] == ["2108"]


async def test_a_command_that_a_restart_or_a_lost_link_interrupts_is_answered_once_and_not_with_a_guess(
    server: Any, tmp_path: Path
) -> None:
    async with gateway(server, tmp_path) as made:
        await alarm(server, made)
        stage, occurrence = made.stage, made.occurrence
    body = {"eq": "PAL01", "occ": occurrence, "user": "op17"}
    assert [answer.answer for answer in stage.command("alarm.ack", cmd="A-1", **body)] == ["accepted"]
    assert stage.command("alarm.ack", cmd="A-2", **body)[0].codes == ("under_way",)
    stage.answer_operation(lost=True)
    assert (stage.answers[-1].answer, stage.answers[-1].codes) == ("failed", ("link_lost",))
    stage.command("alarm.ack", cmd="A-3", **body)
    for _ in range(2):
        stage.kill_and_restart("06:30:00")
        stage.pass_time("06:30:01")
    final = [(answer.answer, answer.codes) for answer in stage.answers if answer.cmd == "A-3" and answer.final]
    assert final == [("failed", ("interrupted",))]


async def test_only_conditions_can_be_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(PLANT.format(port=4840, plc=PLC, alarms="{acknowledge: true}"))
    with pytest.raises(ConfigError) as caught:
        load_plant(tmp_path)
    (problem,) = caught.value.problems
    assert "plant.yaml:10" in str(problem)
    assert "only OPC UA conditions can be acknowledged; name their source with conditions:" in str(problem)


@pytest.mark.parametrize(("alarms", "says"), [(PERMITTED, "acknowledging alarms"), ("{conditions: PAL01}", "none")])
async def test_the_check_says_whether_alarms_may_be_acknowledged(tmp_path: Path, alarms: str, says: str) -> None:
    (tmp_path / "plant.yaml").write_text(PLANT.format(port=4840, plc=PLC, alarms=alarms))
    done = CliRunner().invoke(app, ["check", "-c", str(tmp_path)])
    assert f"PAL01: 1 tags, writes allowed: {says}\n" in done.output
