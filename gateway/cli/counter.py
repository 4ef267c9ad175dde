"""`gateway counter rebase`: an operator settles a jump that the gateway announced as `counter.suspect`."""

import asyncio
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.domain.equipment import EquipmentSpec

counter = typer.Typer(help="Counters of the running gateway.", no_args_is_help=True)


@counter.command()
def rebase(
    unit: Annotated[
        str, typer.Argument(metavar="UNIT", help="The equipment, for example LBL01, or a lane of it: LBL01.A.")
    ],
    name: Annotated[str, typer.Argument(metavar="COUNTER", help="Its counter, for example good.")],
    pieces: Annotated[
        int, typer.Option(min=0, help="How many pieces the jump was; they are counted where it was.")
    ] = 0,
    at: Annotated[
        str | None, typer.Option(help="t_src of the counter.suspect, where more than one jump is open.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who says so. Default: the user of this machine.")] = None,
    config: Annotated[Path, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files.")] = Path(
        "config"
    ),
) -> None:
    """Accept where a counter stands after a jump. Exit 1 if the gateway rejects that, or does not answer."""
    from gateway.cli.usage import exit_code

    body = {"counter": name, "pieces": pieces, "t": at, "by": by or getpass.getuser()}
    raise typer.Exit(exit_code("counter rebase", lambda: _rebase(config, unit, body)))


def _lanes(spec: "EquipmentSpec") -> list[str]:
    return [f"{spec.unit}.{lane.name}" for lane in spec.lanes]


def _rebase(config: Path, unit: str, body: dict[str, object]) -> int:
    from gateway.cli.ask import Unanswered, ask
    from gateway.cli.usage import UsageError
    from gateway.config.load import load_plant

    plant = load_plant(config)
    paths = {name: spec.path for spec in plant.equipment for name in (spec.unit, *_lanes(spec))}
    path = paths.get(unit)
    if path is None:
        raise UsageError(f"{unit} is not configured; the equipment is: {', '.join(paths)}")
    try:
        answer = asyncio.run(ask(plant, path, "counter.rebase", {"eq": unit, **body}))
    except Unanswered as error:
        typer.echo(f"counter rebase: {error}", err=True)
        return 1
    if answer.answer != "done":
        for code, detail in zip(answer.codes, answer.detail, strict=True):
            typer.echo(f"{answer.answer}: {code}: {detail}", err=True)
        return 1
    typer.echo(f"done: {unit} {body['counter']} goes on from where it is; {body['pieces']} pieces counted for the jump")
    return 0
