"""The answers to commands: published, and kept, so that a command that comes again gets the one it got."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.domain.contract.envelope import NOBODY, Answer, Kept, Sender
from gateway.domain.contract.objections import Objection
from gateway.domain.dispatching.forgetting import KEPT
from gateway.domain.effects import Recorder
from gateway.domain.values import Timestamp

MOST: Final = 100_000
"""Answers kept at most: with more commands than that in a week the oldest ids are protected no longer."""

BURST: Final = 2_000
"""Commands that are taken at once; what comes faster is told `busy`."""
PER_SECOND: Final = 50
"""Commands that are taken in the long run."""


class Answers:
    """What every command of the last seven days was answered. Exactly one answer to each is final."""

    def __init__(self, known: Mapping[str, Kept], site: Recorder) -> None:
        self._known = dict(known)
        self._site = site
        self._asking: dict[str, Sender] = {}
        self._room = float(BURST)
        self._filled: Timestamp = 0

    def find(self, cmd: str) -> Kept | None:
        """What that command was answered last."""
        return self._known.get(cmd)

    def expect(self, cmd: str, sender: Sender) -> None:
        """A new command is being taken: its answers go to that sender."""
        self._asking = {cmd: sender}

    def is_busy(self, now: Timestamp) -> bool:
        """True if more commands came than are taken; each call counts as one that is."""
        if now > self._filled:
            self._room = min(BURST, self._room + (now - self._filled) / 1000 * PER_SECOND)
        self._filled = now
        if self._room < 1:
            return True
        self._room -= 1
        return False

    def give(
        self,
        cmd: str,
        kind: str,
        verdict: str,
        path: str | None,
        now: Timestamp,
        *,
        objections: Sequence[Objection] = (),
    ) -> None:
        """Answer, and remember it. Every verdict but `accepted` is final."""
        self._remember(_answer(cmd, kind, verdict, objections, now), path)

    def end(
        self,
        cmd: str,
        kind: str,
        verdict: str,
        codes: Sequence[str],
        detail: Sequence[str],
        path: str | None,
        now: Timestamp,
    ) -> None:
        """The final answer to what was accepted before."""
        answer = Answer(
            cmd=cmd, type=kind, answer=verdict, codes=tuple(codes), detail=tuple(detail), final=True, at=now
        )  # fmt: skip
        self._remember(answer, path)

    def refuse(
        self, cmd: str, kind: str, objection: Objection, path: str | None, now: Timestamp, sender: Sender = NOBODY
    ) -> None:
        """Answer what was not taken. Such an id is not remembered: nothing was done under it."""
        self._publish(_answer(cmd, kind, "rejected", [objection], now), path, sender)

    def repeat(self, kept: Kept, path: str | None, sender: Sender) -> None:
        """The command came again: the same answer once more, to whoever asked now, who gets the next one too."""
        self._keep(Kept(kept.answer, sender))
        self._publish(kept.answer, path, sender)

    def _remember(self, answer: Answer, path: str | None) -> None:
        known = self._known
        before = known.pop(answer.cmd, None)  # so that they stand in the order of their times
        sender = before.sender if before is not None else self._asking.pop(answer.cmd, NOBODY)
        self._keep(Kept(answer, sender))
        while len(known) > MOST or (next(iter(known.values()))).answer.at < answer.at - KEPT:
            del known[next(iter(known))]
        self._publish(answer, path, sender)

    def _keep(self, kept: Kept) -> None:
        self._known[kept.answer.cmd] = self._site.effects.kept[kept.answer.cmd] = kept

    def _publish(self, answer: Answer, path: str | None, sender: Sender) -> None:
        """Send it to the `res` topic of the equipment, the site (None) or the gateway, and to whom the sender names."""
        told = msgspec.structs.replace(answer, corr=sender.corr)
        self._site.effects.answers.append((path, told, sender))


def _answer(cmd: str, kind: str, verdict: str, objections: Sequence[Objection], now: Timestamp) -> Answer:
    return Answer(
        cmd=cmd, type=kind, answer=verdict, at=now, final=verdict != "accepted",
        codes=tuple(dict.fromkeys(objection.code for objection in objections)),
        detail=tuple(objection.detail for objection in objections),
    )  # fmt: skip
