"""What `gateway browse` makes of the nodes: a tree or lines for people, CSV for Excel, YAML to paste."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import typer

from gateway.cli.values_shown import shorten, show_status, show_time, show_value
from gateway.drivers.base import BrowsedNode, NodeFacts

_COLUMNS: Final = ("path", "node", "type", "array", "access", "value", "status", "source_time", "server_time")
_CELL: Final = 32_000
"""Excel cuts a cell after 32,767 characters."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Excel takes a text that begins so for a formula and carries it out."""
_LONGEST_NAME: Final = 64


class Output(Protocol):
    """Takes the nodes as they come; leaving the block completes what was made of them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def take(self, nodes: Sequence[BrowsedNode]) -> None:
        """One batch, parents before their children."""
        ...


def access(facts: NodeFacts) -> str:
    """`read`, `read write`, `none`; a right that the device does not tell has a question mark: `read write?`."""
    rights = [("read", facts.readable), ("write", facts.writable)]
    return " ".join(word if may else f"{word}?" for word, may in rights if may is not False) or "none"


def type_text(facts: NodeFacts) -> str:
    """`int32`, `float64[]`, or what the server calls a type that no tag can have."""
    return f"{facts.type_name or '?'}{'[]' if facts.is_array else ''}"


class _NothingToClose:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Lines(_NothingToClose):
    """One variable a line, fields parted by tabs, at once: for a pipe."""

    def take(self, nodes: Sequence[BrowsedNode]) -> None:
        """Print the variables."""
        for node in nodes:
            if node.facts is not None:
                change = node.facts.change
                fields = (
                    "/".join(node.path), node.address, type_text(node.facts), access(node.facts),
                    show_value(change.value, node.facts.type), show_status(change.status_code),
                    show_time(change.source_timestamp),
                )  # fmt: skip
                typer.echo("\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields))


class Tree:
    """All nodes as one indented tree, printed at the end: level by level, as they come, nobody could read them."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], str] = {}

    def __enter__(self) -> Self:
        return self

    def take(self, nodes: Sequence[BrowsedNode]) -> None:
        """Keep one line for each."""
        for node in nodes:
            self._rows[node.path] = self._row(node)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shown: set[tuple[str, ...]] = set()
        for path in sorted(self._rows):
            # Where a filter took the folder away its name still stands above its children.
            for depth in range(1, len(path)):
                if path[:depth] not in shown and path[:depth] not in self._rows:
                    typer.echo("  " * (depth - 1) + typer.style(path[depth - 1], bold=True))
                shown.add(path[:depth])
            shown.add(path)
            typer.echo("  " * (len(path) - 1) + self._rows[path])

    @staticmethod
    def _row(node: BrowsedNode) -> str:
        name, facts = node.path[-1], node.facts
        if facts is None:
            return f"{typer.style(name, bold=True)}  {typer.style(node.address, dim=True)}"
        change = facts.change
        value = typer.style(shorten(show_value(change.value, facts.type)), fg="green")
        if change.status_code:
            value += " " + typer.style(show_status(change.status_code), fg="red")
        kind = typer.style(f"{type_text(facts)}, {access(facts)}", fg="cyan")
        return f"{name} = {value}  {kind}  {typer.style(node.address, dim=True)}"


class CsvFile:
    """A file that Excel opens as it is: UTF-8 with BOM, and no text in it that Excel would carry out as a formula."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8-sig", newline="")
        self._writer = csv.writer(self._file)

    def __enter__(self) -> Self:
        self._writer.writerow(_COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, nodes: Sequence[BrowsedNode]) -> None:
        """Write the variables, a row each."""
        self._writer.writerows(self._row(node.path, node.address, node.facts) for node in nodes if node.facts)

    @staticmethod
    def _row(path: tuple[str, ...], address: str, facts: NodeFacts) -> list[str]:
        change = facts.change
        value = show_value(change.value, facts.type)[:_CELL]
        is_number = isinstance(change.value, int | float)
        return [
            _harmless("/".join(path)), _harmless(address), _harmless(facts.type_name),
            "yes" if facts.is_array else "no", access(facts), value if is_number else _harmless(value),
            show_status(change.status_code), show_time(change.source_timestamp), show_time(change.server_timestamp),
        ]  # fmt: skip


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


class YamlTags:
    """A `tags:` section to paste into an equipment; what no tag can hold is there as a comment that says why."""

    def __init__(self, path: Path, source: str) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._source = source
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        self._file.write(f"# What {self._source} has. Paste into an equipment and keep what is needed.\ntags:\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def take(self, nodes: Sequence[BrowsedNode]) -> None:
        """Write the variables, a line each."""
        for node in nodes:
            if node.facts is not None:
                self._file.write(f"  {self._line(node.path, node.address, node.facts)}\n")

    def _line(self, path: tuple[str, ...], address: str, facts: NodeFacts) -> str:
        # JSON's strings are YAML's double-quoted ones.
        quoted = json.dumps(address, ensure_ascii=False)
        if facts.type is None:
            return f"# {quoted}: no tag can hold its type {type_text(facts)!r}"
        now = shorten(show_value(facts.change.value, facts.type))
        note = f"{access(facts)}{', array' if facts.is_array else ''}, now {now!r}"
        enum = ", ".join(f"{code}: {json.dumps(text, ensure_ascii=False)}" for code, text in facts.labels.items())
        keys = f"type: {facts.type}, enum: {{{enum}}}" if enum else f"type: {facts.type}"
        return f"{self._name(path)}: {{node: {quoted}, {keys}}}  # {note}"

    def _name(self, path: tuple[str, ...]) -> str:
        """The shortest end of the path that is not taken yet, in the form that rules can name: `admin_stop_reason`."""
        words = [_identifier(part) for part in path]
        for start in range(len(words) - 1, -1, -1):
            name = "_".join(filter(None, words[start:]))[-_LONGEST_NAME:].lstrip("_")
            if name and not name[0].isdigit() and name not in self._names:
                break
        else:
            name = f"tag_{len(self._names) + 1}"
        self._names.add(name)
        return name


def _identifier(text: str) -> str:
    """`StateCurrent` → `state_current`, `Alarm[0]` → `alarm_0`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
