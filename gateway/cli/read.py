"""`gateway read`: the present value of tags, asked of the devices themselves."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import typer

from gateway.cli.chosen_tags import ChosenDevice, choose_tags
from gateway.cli.table import print_table
from gateway.cli.usage import exit_code
from gateway.cli.values_shown import show_status, show_time, show_value
from gateway.config.load import load_plant
from gateway.domain.values import StatusCode, TagChange, is_good
from gateway.drivers.base import LinkLost
from gateway.runtime.clock import SystemClock

COLUMNS: Final = ("tag", "value", "status", "source time", "raw")


class Answer(NamedTuple):
    """What one device answered; `lost` says why the tags of a device out of reach have no value."""

    device: ChosenDevice
    changes: list[TagChange]
    lost: str | None = None


def read_tags(config: Path, names: Sequence[str]) -> int:
    """0 if every value is good; 1 if one is not, or a device is out of reach; 2 if a name or the plant is wrong."""
    return exit_code("read", lambda: _read_tags(config, names))


def _read_tags(config: Path, names: Sequence[str]) -> int:
    answers = asyncio.run(_ask_all(choose_tags(load_plant(config), names)))
    rows = [row(answer.device, change) for answer in answers for change in answer.changes]
    bad = [not is_good(change.status_code) for answer in answers for change in answer.changes]
    print_table(COLUMNS, rows, bad)
    for answer in answers:
        if answer.lost is not None:
            typer.echo(f"{answer.device.device.name}: {answer.lost}", err=True)
    return 1 if any(bad) else 0


def row(device: ChosenDevice, change: TagChange) -> list[str]:
    """One change as a row of `COLUMNS`. Modbus has no source time."""
    value, status_code = device.engineering(change.tag_id, change)
    data_type = device.tags[change.tag_id].type
    return [
        change.tag_id, show_value(value, data_type), show_status(status_code), show_time(change.source_timestamp),
        show_value(change.value, data_type),
    ]  # fmt: skip


async def _ask_all(devices: Sequence[ChosenDevice]) -> list[Answer]:
    """All devices at once: one that is dead costs the others no time."""
    return await asyncio.gather(*map(_ask, devices))


async def _ask(device: ChosenDevice) -> Answer:
    try:
        async with device.driver(SystemClock()) as driver:
            return Answer(device, await driver.read(device.tag_ids))
    except LinkLost as lost:
        missing = [TagChange(tag_id, None, StatusCode.BAD_NOT_CONNECTED) for tag_id in device.tag_ids]
        return Answer(device, missing, str(lost))
