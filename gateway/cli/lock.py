"""`gateway lock` and `gateway unlock`: nothing is written to a device while somebody works at it."""

import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config.plant import Plant

Config = Annotated[Path, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files.")]
Device = Annotated[str | None, typer.Argument(metavar="[DEVICE]", help="Default: every device.")]
By = Annotated[str | None, typer.Option(help="Who says so. Default: the user of this machine.")]


def lock(
    device: Device = None,
    reason: Annotated[str | None, typer.Option(help="Why; whoever is refused reads it.")] = None,
    by: By = None,
    show: Annotated[bool, typer.Option("--show", help="Only show the locks that hold.")] = False,
    config: Config = Path("config"),
) -> None:
    """Let nothing be written to a device, or to any, until it is unlocked; whether the gateway runs or not.

    It holds from the next operation on: what is on the wire in this moment is not torn. Values are read and told as
    before.
    """
    _exit("lock", lambda: _show(config) if show else _lock(config, device, reason, by))


def unlock(device: Device = None, by: By = None, config: Config = Path("config")) -> None:
    """Lift a lock: that of a device, or without one the lock on everything."""
    _exit("unlock", lambda: _unlock(config, device, by))


def _exit(name: str, command: Callable[[], int]) -> None:
    from gateway.cli.usage import exit_code

    raise typer.Exit(exit_code(name, command))


def _lock(config: Path, device: str | None, reason: str | None, by: str | None) -> int:
    from gateway.cli.usage import UsageError
    from gateway.runtime import locks

    plant = _plant(config, device)
    if reason is None or not reason.strip():
        raise UsageError("say why, with --reason: whoever is refused reads it")
    try:
        locks.lock(Path(plant.store), device, reason.strip(), by or getpass.getuser(), _now())
    except locks.LockError as error:
        typer.echo(f"lock: {error}", err=True)
        return 1
    typer.echo(f"locked: nothing is written to {device or 'any device'} until: gateway unlock {device or ''}".rstrip())
    return 0


def _unlock(config: Path, device: str | None, by: str | None) -> int:
    from gateway.runtime import locks

    plant = _plant(config, device)
    try:
        lifted = locks.unlock(Path(plant.store), device, by or getpass.getuser(), _now())
    except locks.LockError as error:
        typer.echo(f"unlock: {error}", err=True)
        return 1
    typer.echo(f"unlocked: {device or 'no lock on every device any more'}; it was locked by {lifted.by}")
    for line in locks_in_words(plant):
        typer.echo(f"still {line}")
    return 0


def _show(config: Path) -> int:
    for line in locks_in_words(_plant(config, None)) or ["nothing is locked"]:
        typer.echo(line)
    return 0


def locks_in_words(plant: "Plant") -> list[str]:
    """One line for each lock that holds in this plant."""
    from gateway.domain.times import format_timestamp
    from gateway.runtime.locks import LockFile, lock_file

    return [
        f"locked: {device or 'every device'}, by {held.by} since {format_timestamp(held.at)}: {held.reason}"
        for device, held in LockFile(lock_file(plant.store)).current().shown()
    ]


def _plant(config: Path, device: str | None) -> "Plant":
    from gateway.cli.usage import UsageError
    from gateway.config.load import load_plant

    plant = load_plant(config)
    if device is not None and device not in plant.devices:
        raise UsageError(f"{device} is not configured; the devices are: {', '.join(plant.devices)}")
    return plant


def _now() -> int:
    return time.time_ns() // 1_000_000
