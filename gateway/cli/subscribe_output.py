"""What `gateway subscribe` shows: the record on standard output, what is wrong with it on standard error."""

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import Console

from gateway.cli.event_words import words
from gateway.cli.table import ruled
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, Filled, GivenUp, NotTaken, Report, Reused, Told, Unread
from gateway.consumer.tally import Tally

COLUMNS: Final = ("equipment", "events", "revisions", "repeats", "missed", "came", "missing", "tel", "tel missing")

_RED: Final = typer.colors.RED
_GREEN: Final = typer.colors.GREEN
_YELLOW: Final = typer.colors.YELLOW


class Record:
    """The events, each once: lines for people, or each as the JSON that came. `keep` is called when they are out.

    Lines leave together, whole: from one that a kill tears, the next run could not be told apart.
    """

    def __init__(self, *, as_json: bool, keep: Callable[[], None]) -> None:
        self._write = _json_line if as_json else _line
        self._keep = keep
        self._lines = [] if _ends_whole() else [""]

    def hear(self, report: Report) -> None:
        """An event for the record, or a note beside it."""
        if isinstance(report, Told):
            self._lines.append(self._write(report))
        else:
            self._let_out()  # on a terminal, the note stands behind what it follows
            _note(report)

    def keep(self) -> None:
        """What was heard is on its way to whoever reads it."""
        self._let_out()
        self._keep()

    def _let_out(self) -> None:
        if self._lines:
            sys.stdout.write("".join(f"{line}\n" for line in self._lines))
            sys.stdout.flush()
            self._lines.clear()

    def link(self, state: str) -> None:
        """The broker."""
        _say("broker", state)


def _ends_whole() -> bool:
    """False if standard output goes on in a file whose last line was torn, by a power cut or a kill."""
    with suppress(OSError), Path(f"/dev/fd/{sys.stdout.fileno()}").open("rb") as before:
        if stat.S_ISREG(os.fstat(before.fileno()).st_mode) and before.seek(0, os.SEEK_END):
            before.seek(-1, os.SEEK_END)
            return before.read(1) == b"\n"
    return True


def _json_line(told: Told) -> str:
    """As it came; JSON may have been written over several lines by another make of gateway."""
    payload = told.event.payload
    return (msgspec.json.format(payload, indent=-1) if b"\n" in payload else payload).decode()


class _Event(msgspec.Struct):
    t_src: str
    data: dict[str, object]


def _line(told: Told) -> str:
    event = told.event
    unit = f"({event.gateway})" if event.of_nobody else event.place.rpartition("/")[2]
    told_of = msgspec.json.decode(event.payload, type=_Event)
    marks = "".join((f"  [revision {event.rev}]" if event.rev > 1 else "", "  [late]" if told.late else ""))
    return _printable(f"{told_of.t_src}  {unit:<10}  {event.type:<20}  {words(event.type, told_of.data)}{marks}")


def _note(report: Report) -> None:
    match report:
        case Asked(stream, _, first, last, missing, _, again):
            _say("missing", f"{stream} {_range(first, last)}: {_count(missing)}, asked for{' again' * again}", _YELLOW)
        case Filled(stream, first, last, messages, missing):
            came = _count(missing) if messages == missing else f"{messages:,} of {_count(missing)}"
            _say("filled", f"{stream} {_range(first, last)}: {came} came", _GREEN)
        case GivenUp(stream, first, last, reason):
            _say("lost", f"{stream} {_range(first, last)}: {reason}", _RED)
        case NotTaken(stream, reason):
            _say("waiting", f"{stream}: {reason}; asked for again later", _YELLOW)
        case Reused(stream, seq):
            text = "two events have this number; do two gateways have one id, or does one run on an old copy?"
            _say("doubled", f"{stream} {seq}: {text}", _RED)
        case Unread(topic, reason):
            _say("unread", f"{topic}: {reason}", _RED)


def tell_result(text: str) -> None:
    """How it ended, where there is nothing to sum up."""
    _say("result", text, _RED)


def summarise(reconciler: Reconciler) -> None:
    """What came and what did not, on standard error: the record stays what it is."""
    rows = _rows(reconciler)
    bad = [row[6] != "0" or row[8] != "0" for row in rows]
    if sys.stderr.isatty():
        Console(stderr=True, highlight=False).print(ruled(COLUMNS, rows, bad))
    else:
        for row in (COLUMNS, *rows):
            typer.echo("\t".join(row), err=True)
    tallies = reconciler.tallies
    events = sum(tally.events for tally in tallies.by_place.values())
    if tallies.unreadable:
        _say("unread", f"{tallies.unreadable} messages could not be read", _RED)
    unsure = reconciler.roll_call.open
    if unsure:
        _say("unsure", f"the end of {unsure} streams: no gateway told the last number", _YELLOW)
    if reconciler.missing:
        _say("result", f"{events:,} events; {_messages(reconciler.missing)} missing", _RED)
    else:
        told = "nothing is known to be missing" if unsure else "nothing is missing"
        _say("result", f"{events:,} events; {told}", _YELLOW if unsure else _GREEN)


def _rows(reconciler: Reconciler) -> list[tuple[str, ...]]:
    places = sorted({name.place for name, _ in reconciler.streams} | reconciler.tallies.by_place.keys())
    return [_row(place, reconciler, reconciler.tallies.of(place)) for place in places]


def _row(place: str, reconciler: Reconciler, tally: Tally) -> tuple[str, ...]:
    of_nobody = any(name.of_nobody for name, _ in reconciler.streams if name.place == place)
    own = [(name.kind, numbers) for name, numbers in reconciler.streams if name.place == place]
    events = [numbers for kind, numbers in own if kind == "evt"]
    missing = sum(numbers.left for numbers in events)
    filled = sum(numbers.filled for numbers in events)
    telemetry = tally.lost_before + sum(numbers.left for kind, numbers in own if kind == "tel")
    figures = (
        tally.events, tally.revisions, tally.repeats, filled + missing, filled, missing, tally.telemetry, telemetry
    )  # fmt: skip
    return f"{place} (no equipment)" if of_nobody else place, *(str(figure) for figure in figures)


def _say(word: str, text: str, colour: str | None = None) -> None:
    typer.secho(_printable(f"{word:<8} {text}"), fg=colour, err=True)


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor: anybody may have written an alarm's text."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _count(messages: int) -> str:
    return "1 event" if messages == 1 else f"{messages:,} events"


def _messages(missing: int) -> str:
    return "1 message is" if missing == 1 else f"{missing:,} messages are"
