"""`gateway check`: is the configuration right, and if not, where and what would be."""

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from gateway.cli.lock import locks_in_words
from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.config.problems import ConfigError
from gateway.domain.equipment import EquipmentSpec


def check_config(folder: Path, *, connect: bool = False) -> int:
    """0 and a summary, or 2 and every problem; with `connect` also 1 if a device or a broker is not as configured."""
    started = time.monotonic()
    try:
        plant = load_plant(folder)
    except ConfigError as error:
        show_problems(error)
        return 2
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"[green]ok[/]  {_summary(plant)}, checked in {time.monotonic() - started:.2f} s")
    for spec in plant.equipment:
        derived = f"{len(spec.derived)} derived, " if spec.derived else ""
        out.print(f"    {spec.path}: {len(spec.tags)} tags, {derived}writes allowed: {_writes(spec)}")
        if spec.state is not None and spec.state.model:
            out.print(f"        state: {escape(spec.state.model)}")
    if plant.in_clear:
        out.print(f"    [yellow]neither signed nor encrypted:[/] {', '.join(plant.in_clear)}")
    for lock in locks_in_words(plant):
        out.print(f"    [yellow]{escape(lock)}[/]")
    if not connect:
        return 0
    from gateway.cli.connect import check_devices
    from gateway.cli.connect_brokers import check_brokers

    return max(check_devices(plant), check_brokers(plant))


def _writes(spec: EquipmentSpec) -> str:
    """All that the gateway may change in an equipment."""
    writes = [*spec.download.parameters] if spec.download is not None else []
    if spec.hold is not None:
        writes.append(f"{spec.hold.name} (quality hold)")
    if spec.alarms is not None and spec.alarms.acknowledged_at is not None:
        writes.append("acknowledging alarms")
    return ", ".join(writes) or "none"


def show_problems(error: ConfigError) -> None:
    """Every problem on a line of its own, on standard error."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in error.problems:
        place = f"{problem.place.file}:{problem.place.line}"
        where = f"{problem.where}: " if problem.where else ""
        out.print(f"[bold]{escape(place)}[/]: {escape(where)}{escape(problem.message)}")
    out.print(f"[red]{_count(len(error.problems), 'problem')}[/]; nothing was started")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _summary(plant: Plant) -> str:
    tags = sum(len(spec.tags) for spec in plant.equipment)
    sizes = f"{_count(len(plant.devices), 'device')}, {len(plant.equipment)} equipment, {_count(tags, 'tag')}"
    return f"{sizes}, configuration {plant.fingerprint}"
