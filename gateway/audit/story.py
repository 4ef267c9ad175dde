"""The audit's lines as a story that people read: each write with what came of it, each command with its end. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gateway.audit.lines import Change, Line
from gateway.domain.times import format_timestamp
from gateway.domain.values import PlainValue

UNTOLD: Final = "not told"
"""The result of what was about to be done when the gateway was ended: the device alone knows."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are wanted: those to which all that is given applies. `since` and `until` are milliseconds UTC."""

    device: str | None = None
    order: str | None = None
    cmd: str | None = None
    since: int | None = None
    until: int | None = None

    def __call__(self, line: Line) -> bool:
        """True for a line that is wanted."""
        wanted = ((self.device, line.device), (self.order, line.order), (self.cmd, line.cmd))
        if any(value is not None and value != has for value, has in wanted):
            return False
        return (self.since is None or line.t >= self.since) and (self.until is None or line.t < self.until)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One write, call, parameter of an ended command, or whatever else a line tells; as text."""

    n: int
    time: str
    kind: str
    cmd: str
    type: str
    order: str
    by: str
    corr: str
    device: str
    action: str
    what: str
    address: str
    old: str
    new: str
    read_back: str
    result: str
    detail: str

    @property
    def is_bad(self) -> bool:
        """True for what did not end as it was meant to."""
        good = ("Good", "ACTIVE", "done", "")
        return self.result not in good and self.kind not in ("lock", "unlock")


def rows(lines: Iterable[Line]) -> Iterator[Row]:
    """The lines in their order; an outcome is told with its intent."""
    told = list(lines)
    outcomes = {line.of: line for line in told if line.kind == "outcome"}
    for line in told:
        if line.kind == "outcome":
            continue
        results = _results(line, outcomes.get(line.n))
        for change, result in zip(line.changes or (Change(),), results, strict=True):
            yield _row(line, change, result)


def _results(line: Line, outcome: Line | None) -> list[str]:
    """One for each change of the line."""
    count = max(1, len(line.changes))
    if line.kind != "intent":
        return [line.result or ", ".join(line.codes) or line.kind] * count
    if outcome is None or outcome.result == "lost":
        return ["link lost" if outcome is not None else UNTOLD] * count
    return [change.status or "" for change in outcome.changes]


def _row(line: Line, change: Change, result: str) -> Row:
    new = ", ".join(map(_text, change.arguments)) if change.method is not None else _text(change.new)
    return Row(
        n=line.n, time=format_timestamp(line.t), kind=line.kind, cmd=line.cmd or "", type=line.type or "",
        order=line.order or "", by=line.by or "", corr=line.corr or "", device=line.device or "",
        action=line.action or "", what=change.tag or change.method or "", address=change.address or "",
        old=_text(change.old), new=new, read_back=_text(change.read_back), result=result,
        detail="; ".join(line.detail),
    )  # fmt: skip


def _text(value: PlainValue) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
