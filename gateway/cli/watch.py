"""`gateway watch`: changes as the devices tell them, until Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gateway.cli.chosen_tags import ChosenDevice, choose_tags
from gateway.cli.read import COLUMNS, row
from gateway.cli.table import ruled
from gateway.cli.usage import exit_code
from gateway.cli.values_shown import show_time
from gateway.config.load import load_plant
from gateway.domain.values import TagChange, Timestamp, is_good
from gateway.drivers.base import LinkLost
from gateway.runtime.clock import SystemClock
from gateway.runtime.supervisor import Backoff

_FRAMES: Final = 5


class Watcher(Protocol):
    """Shows what happens."""

    def changed(self, device: ChosenDevice, change: TagChange, contact: Timestamp) -> None:
        """A tag has a new value or status; `contact` is when the device said so."""
        ...

    def link(self, device: str, state: str) -> None:
        """A device was connected or lost."""
        ...


def watch_tags(config: Path, names: Sequence[str]) -> int:
    """0 after Ctrl-C; 2 if a name or the plant is wrong."""
    return exit_code("watch", lambda: _watch_tags(config, names))


def _watch_tags(config: Path, names: Sequence[str]) -> int:
    devices = choose_tags(load_plant(config), names)
    try:
        if sys.stdout.isatty():
            table = LiveTable(devices)
            with Live(get_renderable=table.draw, refresh_per_second=_FRAMES, console=Console(highlight=False)):
                asyncio.run(_until_interrupted(devices, table))
        else:
            asyncio.run(_until_interrupted(devices, PlainLines()))
    except* BrokenPipeError:
        # Whoever read the lines has enough, as `head` has. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _until_interrupted(devices: Sequence[ChosenDevice], watcher: Watcher) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(_follow(device, watcher)) for device in devices]
        await stop.wait()
        for task in following:
            task.cancel()


async def _follow(device: ChosenDevice, watcher: Watcher) -> None:
    """One device for ever: a lost link is said once and mended; the other devices do not notice."""
    backoff, clock, said = Backoff(), SystemClock(), ""
    while True:
        try:
            async with device.driver(clock) as driver:
                backoff.reset()
                said = ""
                watcher.link(device.device.name, "connected")
                async for batch in driver.changes():
                    for change in batch.changes:
                        watcher.changed(device, change, batch.contact)
        except LinkLost as lost:
            if str(lost) != said:
                said = str(lost)
                watcher.link(device.device.name, said)
        await clock.sleep(backoff.next())


class PlainLines:
    """One line a change, fields parted by tabs; where the device has no clock the time is that of the contact."""

    def changed(self, device: ChosenDevice, change: TagChange, contact: Timestamp) -> None:
        """Print it at once."""
        tag, value, status, source_time, raw = row(device, change)
        fields = (source_time or show_time(contact), tag, value, status, raw)
        sys.stdout.write("\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields) + "\n")
        sys.stdout.flush()

    def link(self, device: str, state: str) -> None:
        """Links are no values: they are told beside."""
        typer.echo(f"{device}: {state}", err=True)


class LiveTable:
    """The latest of every tag, in place."""

    def __init__(self, devices: Sequence[ChosenDevice]) -> None:
        self._rows = {tag_id: [tag_id, *[""] * (len(COLUMNS) - 1)] for device in devices for tag_id in device.tag_ids}
        self._bad: dict[str, bool] = dict.fromkeys(self._rows, False)
        self._links = {device.device.name: "connecting" for device in devices}

    def changed(self, device: ChosenDevice, change: TagChange, contact: Timestamp) -> None:
        """Take it into its row."""
        shown = row(device, change)
        shown[3] = shown[3] or show_time(contact)
        self._rows[change.tag_id] = shown
        self._bad[change.tag_id] = not is_good(change.status_code)

    def link(self, device: str, state: str) -> None:
        """Keep the latest; it stands under the table."""
        self._links[device] = state

    def draw(self) -> Group:
        """The picture as it is now."""
        links = [Text(f"{device}: {state}", style="dim") for device, state in self._links.items()]
        table = ruled(COLUMNS, list(self._rows.values()), list(self._bad.values()))
        return Group(table, Text(), *links, Text("Ctrl-C ends", style="dim"))
