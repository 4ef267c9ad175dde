"""What every kind of machine does badly, over real sockets, and what the MES is told of it."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from simulators.models.handshakes.faults import Faults
from simulators.models.handshakes.ways import WAYS
from tests.end_to_end.cells import EXAMPLE, IS_FULL, OLD, Ending, PlayedCell

ACTIVE: Ending = ("ACTIVE", ())
ASKED_NO_MORE: Ending = ("FAILED", ("readback", "not_asked", "rollback_failed"))
"""A machine that asks once took something else, and cannot be given the old values."""


def all_but(others: dict[str, Ending], *codes: str) -> dict[str, Ending]:
    """Every machine fails with these codes, but the `others`."""
    return dict.fromkeys(WAYS, ("FAILED", codes)) | others


NO_END: Ending = ("FAILED", ("done_timeout",))
SHOWS: Ending = ("FAILED", ("readback",))
TABLE: dict[str, tuple[Faults, dict[str, Ending]]] = {
    "late": (Faults(late_ms=300), dict.fromkeys(WAYS, ACTIVE)),
    "error": (
        Faults(error=5),
        all_but(
            {
                "packml": NO_END,
                "machine_pull": ("FAILED", ("readback", "not_asked")),
                "scada_trigger": NO_END,
                "none": SHOWS,
            },
            "device_error",
        ),
    ),
    "clamp": (Faults(ceilings={"speed": 110}), all_but({"machine_pull": ASKED_NO_MORE}, "readback")),
    "ignored": (
        Faults(ignored=frozenset({"speed_set"})),
        all_but({"machine_pull": ASKED_NO_MORE, "recipe_buffer": ("FAILED", ("device_error",))}, "readback"),
    ),
    "refused": (Faults(refused=frozenset({"oven_set"})), all_but({}, "write_refused")),
    "deaf": (
        Faults(is_deaf=True),
        all_but(
            {
                **dict.fromkeys(("data_ready", "machine_pull", "scada_trigger"), NO_END),
                **dict.fromkeys(("none", "method"), SHOWS),
            },
            "ack_timeout",
        ),
    ),
}
if not IS_FULL:  # machines behind Modbus clamp, too, and those of the kills on the way back
    del TABLE["clamp"], TABLE["ignored"]


def hurried(folder: Path) -> Path:
    """The example with less patience, for machines that will not answer anyway."""
    config = folder / "config"
    shutil.copytree(EXAMPLE, config)
    text = (config / "plant.yaml").read_text(encoding="utf-8")
    for long, short in (("acknowledge_timeout: 2s", 1), ("done_timeout: 3s", 1), ("readback_timeout: 1s", 0.5)):
        assert long in text
        text = text.replace(long, f"{long.partition(':')[0]}: {short}s")
    (config / "plant.yaml").write_text(text, encoding="utf-8")
    return config


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cell(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PlayedCell]:
    """One for all tests; its machines are renewed for each."""
    folder = tmp_path_factory.mktemp("cell")
    async with PlayedCell.played(folder, hurried(folder)) as one:
        yield one


async def test_every_fault_of_every_machine_is_told_by_name_and_what_the_machine_holds_is_true(
    cell: PlayedCell, record_property: Callable[[str, object], None]
) -> None:
    for name, (faults, expected) in TABLE.items():
        await cell.renew(faults)
        cell.download(name)
        await cell.wait_until_ended(name)
        assert cell.endings(name) == expected, name
        for way, (_, codes) in expected.items():
            is_back = cell.machines[way].active == OLD
            assert is_back is (bool(codes) and "rollback_failed" not in codes), (name, way)
    record_property("figure", f"{len(TABLE)} faults x {len(WAYS)} machines: every end is the expected one, and true")


async def test_what_a_crash_left_up_in_a_machine_does_not_pass_for_an_answer(
    cell: PlayedCell,
) -> None:
    """A request left up, an old done, an echo turned over, a status of long ago: cleared first, then downloaded."""
    await cell.renew(is_stale=True)
    cell.download("stale")
    await cell.wait_until_ended("stale")
    assert cell.endings("stale") == dict.fromkeys(WAYS, ACTIVE)
    assert {len(machine.taken) for machine in cell.machines.values()} == {2}, "each took the new recipe once"
