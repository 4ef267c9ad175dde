"""Commands for the broker's link: judged, kept until the link has done them, also over a restart, and answered then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.domain.commands.answers import Answers
from gateway.domain.contract.event_data import Level
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import QuarantineRetry, Replay
from gateway.domain.effects import Recorder
from gateway.domain.uplink import ReplayRequest, RetryRequest, UplinkMemory, UplinkRequest
from gateway.domain.values import Timestamp

MOST: Final = 16
"""Requests that may be under way; who asks for more is told `busy`."""

SHOWN: Final = 50
"""Ranges named in an answer; of more than that, the rest is counted."""

Ranges = Sequence[tuple[int, int]]
"""Numbers, first and last of each range, ends included."""


class UplinkRequests:
    """What the link was asked for and has not done yet. `recorders` number the streams, by path.

    Of two with the same unit the one that is configured now has the short name: it comes last.
    """

    def __init__(self, memory: UplinkMemory, recorders: Mapping[str | None, Recorder], answers: Answers) -> None:
        """`memory` is part of the record; what an earlier run left pending is handed out again."""
        self._pending = memory.pending
        self._epochs = memory.epochs
        self._recorders = recorders
        self._paths = {path.rpartition("/")[2]: path for path in recorders if path is not None}
        self._gateway = recorders[None]
        self._answers = answers
        self._epoch = self._gateway.epoch
        self._gateway.effects.uplink += memory.pending.values()
        if self._epoch not in memory.epochs:
            memory.epochs.append(self._epoch)  # committed with the first event that has it

    @property
    def is_full(self) -> bool:
        """Whether another request has to wait."""
        return len(self._pending) >= MOST

    def take(self, command: Replay | QuarantineRetry, now: Timestamp) -> None:
        """Answer, and hand it to the link if nothing is against it."""
        request: UplinkRequest
        if isinstance(command, Replay):
            path = self._paths.get(command.eq or "", command.eq)
            objections = list(self._objections(command, path))
            epoch = command.epoch or self._epoch
            request = ReplayRequest(command.cmd, path, epoch, command.from_seq, command.to_seq)
        else:
            objections, request = [], RetryRequest(command.cmd, command.topic)
        verdict = "rejected" if objections else "accepted"
        self._answers.give(command.cmd, command.type, verdict, Level.GATEWAY, now, objections=objections)
        if not objections:
            self._pending[command.cmd] = request
            self._gateway.changed = True
            self._gateway.effects.uplink.append(request)

    def end_replay(self, cmd: str, sent: int, missing: Ranges, now: Timestamp) -> None:
        """The broker has everything of a replay that could be sent."""
        told = [f"{_counted(sent, 'event')} sent again"]
        if missing:
            told.append(f"no longer kept: {_shown(missing)}")
        self._end(cmd, Replay.type, ["incomplete"] if missing else [], told, now)

    def end_retry(self, cmd: str, queued: int, now: Timestamp) -> None:
        """What was in quarantine is queued again."""
        self._end(cmd, QuarantineRetry.type, [], [f"{_counted(queued, 'message')} queued again"], now)

    def _end(self, cmd: str, kind: str, codes: list[str], detail: list[str], now: Timestamp) -> None:
        if self._pending.pop(cmd, None) is not None:
            self._gateway.changed = True
            self._answers.end(cmd, kind, "done", codes, detail, Level.GATEWAY, now)

    def _objections(self, command: Replay, path: str | None) -> Iterator[Objection]:
        first, last = command.from_seq, command.to_seq
        if first > last:
            yield Objection("range", f"from_seq {first} is beyond to_seq {last}; write the smaller number first")
        if command.epoch not in (None, *self._epochs):
            yield Objection("unknown_epoch", f"{command.epoch} is not kept here; the record's epoch is {self._epoch}")
        if path not in self._recorders:
            known = ", ".join(sorted(self._paths))
            yield Objection("unknown_equipment", f"the record knows no {command.eq}; it knows {known}")
        elif command.epoch in (None, self._epoch) and max(first, last) > (given := self._recorders[path].last):
            yield Objection("beyond", f"{max(first, last)} was not given to any event yet; the last one is {given}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _shown(ranges: Ranges) -> str:
    names = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
