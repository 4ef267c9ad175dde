"""One way to print a table: ruled on a terminal, parted by tabs in a pipe, so that other programs read it as it is."""

import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Sequence[str]


def print_table(columns: Row, rows: Sequence[Row], bad: Sequence[bool]) -> None:
    """Print the rows; those marked bad stand out on a terminal."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            typer.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    Console(highlight=False).print(ruled(columns, rows, bad))


def ruled(columns: Row, rows: Sequence[Row], bad: Sequence[bool]) -> Table:
    """The table as a terminal shows it; what a device said is text, never markup."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row, is_wrong in zip(rows, bad, strict=True):
        table.add_row(*map(Text, row), style="red" if is_wrong else None)
    return table
