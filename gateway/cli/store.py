"""`gateway store`: what is in the record, whether it is whole, and a copy of its messages for a post mortem."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

if TYPE_CHECKING:
    from gateway.store.inspection import Connection, Inspection

store = typer.Typer(help="The record: what waits, what was published, what was put aside.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files.")]
File = Annotated[Path | None, typer.Option("--file", help="A record, such as a copy of one, instead of the plant's.")]

MOST_SHOWN: Final = 50
"""Flaws that are named; the others are counted."""

COLUMNS: Final = ("stream", "equipment", "queued", "since", "published", "quarantined", "numbers")


class Condition(StrEnum):
    """What became of a message."""

    QUEUED = "queued"
    PUBLISHED = "published"
    QUARANTINED = "quarantined"


@store.command()
def status(
    config: Config = Path("config"),
    file: File = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what is in the record of a gateway that does not run. A running one tells its own: …/now/messages."""

    def command() -> int:
        import msgspec

        from gateway.store.inspection import inspect

        with _reading(config, file) as (connection, path):
            found = inspect(connection, path)
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            _show(found, path)
        return 0

    _exit("store status", command)


@store.command()
def verify(config: Config = Path("config"), file: File = None) -> None:
    """Read every byte. Exit 1 and every place that is not as it was written, or does not follow from the one before."""

    def command() -> int:
        from gateway.store.inspection import WHEN_SALVAGED, flaws, inspect

        with _reading(config, file) as (connection, path):
            found = inspect(connection, path)
            wrong = 0
            for flaw in flaws(connection, path):
                wrong += 1
                if wrong <= MOST_SHOWN:
                    typer.echo(flaw, err=True)
        if wrong:
            typer.echo(f"{wrong:,} flaws in all; {WHEN_SALVAGED}", err=True)
            return 1
        kept = found.queued + found.published + found.quarantined
        typer.echo(f"ok: {kept:,} messages, each as it was written, none unaccounted for")
        return 0

    _exit("store verify", command)


@store.command()
def salvage(config: Config = Path("config"), file: File = None) -> None:
    """Let the next start read what can be read into a new record, and tell the rest as lost. Changes nothing by now."""

    def command() -> int:
        from gateway.cli.usage import UsageError
        from gateway.store.salvaging.integrity import is_ours, mark

        path = _record(config, file)
        if not path.is_file() or not is_ours(path):
            raise UsageError(f"{path} is no record of a gateway; give one with --file, or the plant's with -c")
        mark(path, "gateway store salvage asks for it")
        typer.echo(f"{path} is salvaged when the gateway starts the next time; it is kept beside the new one")
        return 0

    _exit("store salvage", command)


@store.command()
def export(
    to: Annotated[str, typer.Argument(metavar="FILE|-", help="Where to; - is standard output.")],
    config: Config = Path("config"),
    *,
    file: File = None,
    equipment: Annotated[str | None, typer.Option("--eq", help="Only of this equipment: FIL01 or its path.")] = None,
    condition: Annotated[Condition | None, typer.Option(help="Only in this condition.")] = None,
    first: Annotated[int, typer.Option("--from", help="Only from this seq on.")] = 0,
    last: Annotated[int, typer.Option("--to", help="Only up to this seq.")] = 2**62,
) -> None:
    """Write the messages as JSON lines, in the order of their commits, each with what became of it."""

    def command() -> int:
        import msgspec

        from gateway.cli.usage import UsageError
        from gateway.store.inspection import equipment_in, messages

        count = 0
        with _reading(config, file) as (connection, path):
            known = equipment_in(connection)
            if equipment is not None and not any(equipment in (one, one.rpartition("/")[2]) for one in known):
                raise UsageError(f"{path} has nothing of {equipment}, but of: {', '.join(known) or 'no equipment'}")
            with _opened(to) as out:
                for message in messages(connection, equipment, condition, first, last):
                    out.write(msgspec.json.encode(message) + b"\n")
                    count += 1
        typer.echo(f"{count:,} messages", err=True)
        return 0

    _exit("store export", command)


def _exit(name: str, command: Callable[[], int]) -> None:
    from gateway.cli.usage import UsageError, exit_code
    from gateway.store.schema import StoreDamaged, StoreError

    damaged = False

    def told() -> int:
        nonlocal damaged
        try:
            return command()
        except StoreError as error:
            damaged = isinstance(error, StoreDamaged)
            raise UsageError(str(error)) from error

    code = exit_code(name, told)
    raise typer.Exit(1 if damaged else code)


def _record(config: Path, file: Path | None) -> Path:
    from gateway.config.load import load_plant

    return file if file is not None else Path(load_plant(config).store)


@contextmanager
def _reading(config: Path, file: Path | None) -> "Iterator[tuple[Connection, Path]]":
    from gateway.store.inspection import reading

    path = _record(config, file)
    with reading(path) as connection:
        yield connection, path


@contextmanager
def _opened(to: str) -> Iterator[BinaryIO]:
    if to == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with Path(to).open("wb") as out:
        yield out


def _show(found: "Inspection", path: Path) -> None:
    from gateway.cli.table import print_table

    typer.echo(f"{path}: {_megabytes(found.file_bytes)}, log {_megabytes(found.log_bytes)}, epoch {found.epoch}")
    if found.log_is_missing:
        typer.secho(
            f"{path.name}-wal is missing, and with it what was committed last; a copy needs both files",
            fg=typer.colors.RED,
        )
    typer.echo(
        f"{found.ingested:,} messages ingested = {found.acknowledged:,} acknowledged + {found.queued:,} queued "
        f"+ {found.dropped:,} dropped + {found.quarantined:,} quarantined"
        + (f" + {found.unaccounted:,} UNACCOUNTED FOR" if found.unaccounted else "")
    )
    since = f" since {_time(found.kept_since)}" if found.kept_since else ""
    typer.echo(
        f"kept for replay: {found.published:,}{since}; retained topics: {found.retained:,}; "
        f"answers: {found.answers:,}; still to be told by events: {found.notices:,}"
    )
    rows = [
        (
            one.kind, one.equipment or "-", f"{one.queued:,}", _time(one.oldest_queued) if one.queued else "-",
            f"{one.published:,}", f"{one.quarantined:,}", f"{one.first}-{one.last}" if one.last else "-",
        )
        for one in found.streams
    ]  # fmt: skip
    if rows:
        print_table(COLUMNS, rows, [one.quarantined > 0 for one in found.streams])
    for topic, reason, count in found.quarantine:
        typer.echo(f"quarantined: {count:,} on {topic}: {reason}")
    if found.quarantine:
        typer.echo("mend the cause, then send cmd/quarantine.retry at the gateway's own level")


def _time(at: int | None) -> str:
    from gateway.domain.times import format_timestamp

    return f"{format_timestamp(at)[:19]}Z" if at else "-"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
