"""`gateway audit`: what was written to which machine, for whom and with what result; and whether that is still so."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

if TYPE_CHECKING:
    from gateway.audit.folder import AuditFolder, Head
    from gateway.audit.lines import Line
    from gateway.audit.story import Row

audit = typer.Typer(help="What was written to the machines, for whom, with what result.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("-c", "--config", help="Folder with the plant's *.yaml files.")]
Device = Annotated[str | None, typer.Option(help="Only what was done to this device.")]
Order = Annotated[str | None, typer.Option(help="Only what was done for this order.")]
Command = Annotated[str | None, typer.Option("--cmd", help="Only what was done for this command id.")]
Since = Annotated[str | None, typer.Option("--from", help="Only from this moment on: 2026-11-22T06:00:00Z.")]
Until = Annotated[str | None, typer.Option("--to", help="Only before this moment.")]

COLUMNS: Final = ("n", "time", "cmd", "order", "by", "device", "step", "what", "old", "new", "read back", "result")


@audit.command()
def show(
    config: Config = Path("config"),
    last: Annotated[int, typer.Option(min=1, help="How many lines at most, the newest.")] = 50,
    device: Device = None,
    order: Order = None,
    cmd: Command = None,
    as_json: Annotated[bool, typer.Option("--json", help="The lines themselves, as JSON lines.")] = False,
) -> None:
    """Show the newest lines. A write whose result is `not told` was about to be made when the gateway was ended."""

    def command() -> int:
        from gateway.audit.story import Chosen, rows
        from gateway.cli.table import print_table

        chosen = Chosen(device=device, order=order, cmd=cmd)
        lines = [line for line in _lines(config) if chosen(line)][-last:]
        if as_json:
            _write_json(sys.stdout, lines)
            return 0
        shown = list(rows(lines))
        print_table(COLUMNS, [_cells(row) for row in shown], [row.is_bad for row in shown])
        return 0

    _exit("audit show", command)


@audit.command()
def verify(config: Config = Path("config")) -> None:
    """Go through every line. Exit 1 and the first that is changed, missing, moved or cut off, by file and line."""

    def command() -> int:
        from gateway.audit.folder import AuditFolder
        from gateway.audit.trail import audit_folder
        from gateway.audit.verify import verify as verify_chain

        store = _store(config)
        folder = AuditFolder(audit_folder(store))
        anchors, witness = _anchors(folder, store)
        verified = verify_chain(folder, anchors)
        for note in verified.notes:
            typer.echo(note)
        if verified.flaw is not None:
            typer.echo(f"{verified.flaw.place}: {verified.flaw.reason}", err=True)
            return 1
        typer.echo(f"ok: {verified.lines:,} lines, each as it was written; the end is held against {witness}")
        return 0

    _exit("audit verify", command)


@audit.command()
def export(
    config: Config = Path("config"),
    *,
    to_csv: Annotated[str | None, typer.Option("--csv", metavar="FILE|-", help="A table that Excel opens.")] = None,
    to_json: Annotated[str | None, typer.Option("--jsonl", metavar="FILE|-", help="The lines as JSON lines.")] = None,
    since: Since = None,
    until: Until = None,
    device: Device = None,
    order: Order = None,
    cmd: Command = None,
) -> None:
    """Write lines of a time range to a file, or to standard output."""

    def command() -> int:
        from gateway.audit.story import Chosen, rows
        from gateway.cli.usage import UsageError

        if to_csv is None and to_json is None:
            raise UsageError("say where to: --csv FILE, --jsonl FILE, or - for standard output")
        chosen = Chosen(device=device, order=order, cmd=cmd, since=_moment(since), until=_moment(until))
        lines = [line for line in _lines(config) if chosen(line)]
        if to_csv is not None:
            with _opened(to_csv) as out:
                _write_csv(out, list(rows(lines)))
        if to_json is not None:
            with _opened(to_json) as out:
                _write_json(out, lines)
        return 0

    _exit("audit export", command)


def _exit(name: str, command: Callable[[], int]) -> None:
    from gateway.cli.usage import exit_code

    raise typer.Exit(exit_code(name, command))


def _store(config: Path) -> Path:
    from gateway.config.load import load_plant

    return Path(load_plant(config).store)


def _lines(config: Path) -> "Iterator[Line]":
    from gateway.audit.folder import AuditFolder
    from gateway.audit.trail import audit_folder
    from gateway.audit.verify import lines

    return lines(AuditFolder(audit_folder(_store(config))))


def _anchors(folder: "AuditFolder", store: Path) -> "tuple[list[Head], str]":
    """The ends of the chain that are known beside its files, and in words whose they are."""
    import msgspec

    from gateway.audit.folder import Head
    from gateway.runtime.write_gate import AUDIT_KEY
    from gateway.store.peek import checkpoint
    from gateway.store.schema import StoreError

    head = folder.head()
    anchors = [head] if head is not None else []
    try:
        known = checkpoint(store, AUDIT_KEY)
    except StoreError as error:
        return anchors, f"{folder.path / 'head'} only, for the record cannot be asked: {error}"
    if known is None:
        return anchors, f"{folder.path / 'head'}; the record knows of none"
    return [*anchors, msgspec.json.decode(known, type=Head)], "the record"


def _moment(text: str | None) -> int | None:
    from gateway.cli.usage import UsageError
    from gateway.domain.times import parse_timestamp

    try:
        return parse_timestamp(text) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{error}; for example 2026-11-22T06:00:00Z") from None


def _cells(row: "Row") -> tuple[str, ...]:
    what = row.what or row.detail
    return (
        str(row.n), row.time, row.cmd, row.order, row.by, row.device, row.action or row.kind, what, row.old, row.new,
        row.read_back, row.result,
    )  # fmt: skip


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdout
        return
    with Path(name).open("w", encoding="utf-8", newline="") as out:
        yield out


def _write_csv(out: TextIO, shown: "list[Row]") -> None:
    from gateway.audit.story import Row

    columns = Row.__struct_fields__
    table = csv.writer(out)
    table.writerow(columns)
    table.writerows([_plain_cell(getattr(row, column)) for column in columns] for row in shown)


def _plain_cell(value: Any) -> Any:
    """A command's text must not become a formula of whoever opens the table (OWASP, CSV injection)."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _write_json(out: TextIO, lines: "list[Line]") -> None:
    import msgspec

    for line in lines:
        out.write(msgspec.json.encode(line).decode() + "\n")
