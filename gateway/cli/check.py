"""`gateway check`: is the configuration right, and if not, where and what would be."""

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.config.problems import ConfigError


def check_config(folder: Path, *, connect: bool = False) -> int:
    """0 and a summary, or 2 and every problem; with `connect` also 1 if a device is not as configured."""
    started = time.monotonic()
    try:
        plant = load_plant(folder)
    except ConfigError as error:
        show_problems(error)
        return 2
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"[green]ok[/]  {_summary(plant)}, checked in {time.monotonic() - started:.2f} s")
    for spec in plant.equipment:
        writes = ", ".join(spec.download.parameters) if spec.download else "none"
        out.print(f"    {spec.path}: {len(spec.tags)} tags, writes allowed: {writes}")
    if plant.in_clear:
        out.print(f"    [yellow]neither signed nor encrypted:[/] {', '.join(plant.in_clear)}")
    if not connect:
        return 0
    from gateway.cli.connect import check_devices

    return check_devices(plant)


def show_problems(error: ConfigError) -> None:
    """Every problem on a line of its own, on standard error."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in error.problems:
        place = f"{problem.place.file}:{problem.place.line}"
        where = f"{problem.where}: " if problem.where else ""
        out.print(f"[bold]{escape(place)}[/]: {escape(where)}{escape(problem.message)}")
    count = len(error.problems)
    out.print(f"[red]{count} problem{'s' if count != 1 else ''}[/]; nothing was started")


def _summary(plant: Plant) -> str:
    tags = sum(len(spec.tags) for spec in plant.equipment)
    sizes = f"{len(plant.devices)} devices, {len(plant.equipment)} equipment, {tags} tags"
    return f"{sizes}, configuration {plant.fingerprint}"
