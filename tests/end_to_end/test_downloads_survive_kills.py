"""Downloads to nine machines over real sockets; the gateway is killed, or the machines restart, at their requests.

At each of these moments all machines stand at the same request of their own download, so one kill tries nine of them.
"""

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from simulators.models.handshakes.faults import Faults
from simulators.models.handshakes.ways import WAYS
from tests.end_to_end.cells import IS_FULL, NEW, OLD, PlayedCell, Trap

Moment = tuple[int, bool]
"""The request at which it happens, and whether that was carried out, unanswered."""

CLAMPED = {"speed": 110, "oven": NEW["oven"]}
ON_THE_WAY: list[Moment] = [(2, True), (4, False)]
ON_THE_WAY_BACK: list[Moment] = [(8, True)]
RESTARTS: list[tuple[Moment, bool]] = [((4, True), False)]
if IS_FULL:
    ON_THE_WAY = [(at, is_done) for at in range(1, 8) for is_done in (False, True)]
    ON_THE_WAY_BACK = [(at, is_done) for at in range(5, 19) for is_done in (False, True)]
    RESTARTS = [((at, True), is_retentive) for at in range(1, 8) for is_retentive in (False, True)]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cell(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PlayedCell]:
    """One for all tests; its machines are renewed for each."""
    folder = tmp_path_factory.mktemp("cell")
    async with PlayedCell.played(folder) as one:
        yield one


async def kill_at(cell: PlayedCell, moment: Moment, cmd: str) -> int:
    """Kill the gateway when every machine is at that request; returns how many were, the others were through."""
    trap = Trap(moment[0], is_done=moment[1])
    await cell.catch(trap, cmd)
    cell.kill_gateway()
    trap.open()
    cell.restart_gateway()
    await cell.wait_until_ended(cmd)
    return len(trap.held)


async def test_killed_at_any_request_a_download_has_one_true_end(
    cell: PlayedCell, record_property: Callable[[str, object], None]
) -> None:
    """ACTIVE or rolled back, and the machine says the same; no value written twice, no half recipe ever active."""
    held = 0
    for moment in ON_THE_WAY:
        cmd = f"kill-{moment[0]}-{moment[1]}"
        await cell.renew()
        held += await kill_at(cell, moment, cmd)
        assert set(cell.endings(cmd).values()) <= {("ACTIVE", ()), ("FAILED", ("interrupted",))}
        for way in WAYS:
            assert all(recipe in (OLD, NEW) for recipe in cell.machines[way].taken), (cmd, way)
    assert held >= 5 * len(ON_THE_WAY), "most machines have that many requests"
    record_property("figure", f"{held} downloads at {len(ON_THE_WAY)} kills: each has one end, and it is true")


async def test_killed_on_the_way_back_a_download_still_ends_with_what_the_machine_holds(
    cell: PlayedCell,
) -> None:
    """Every machine clamps a value, so every download is rolled back, and the gateway dies while that is done."""
    for moment in ON_THE_WAY_BACK:
        cmd = f"back-{moment[0]}-{moment[1]}"
        await cell.renew(Faults(ceilings={"speed": CLAMPED["speed"]}))
        await kill_at(cell, moment, cmd)
        for way, (result, codes) in cell.endings(cmd).items():
            assert result == "FAILED", (cmd, way)
            assert codes[0] in ("readback", "interrupted"), (cmd, way, codes)
            assert all(recipe in (OLD, CLAMPED) for recipe in cell.machines[way].taken), (cmd, way)
            is_back = cell.machines[way].active == OLD
            assert is_back or "rollback_failed" in codes, (cmd, way, codes)


async def test_machines_that_restart_in_the_middle_hold_what_the_answer_says(
    cell: PlayedCell,
) -> None:
    """Their connections are lost, their memory is kept or lost."""
    for (at, is_done), is_retentive in RESTARTS:
        cmd = f"restart-{at}-{is_retentive}"
        await cell.renew()
        trap = Trap(at, is_done=is_done)
        await cell.catch(trap, cmd)
        for way in trap.held:
            await cell.server.restart(way, is_retentive=is_retentive)
        trap.open()
        await cell.wait_until_ended(cmd)
        endings = cell.endings(cmd)
        assert {result for result, _ in endings.values()} <= {"ACTIVE", "FAILED"}
        assert not is_retentive or {codes for _, codes in endings.values()} <= {(), ("interrupted",)}, endings
