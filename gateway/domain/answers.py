"""The answers to commands: published, and kept, so that a command that comes again gets the one it got."""

from collections.abc import Mapping, Sequence

from gateway.domain.effects import Recorder
from gateway.domain.envelope import Answer
from gateway.domain.forgetting import KEPT
from gateway.domain.objections import Objection
from gateway.domain.values import Timestamp


class Answers:
    """What every command of the last seven days was answered. Exactly one answer to each is final."""

    def __init__(self, known: Mapping[str, Answer], site: Recorder) -> None:
        self._known = dict(known)
        self._site = site

    def find(self, cmd: str) -> Answer | None:
        """What that command was answered last."""
        return self._known.get(cmd)

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
        self.remember(_answer(cmd, kind, verdict, objections, now), path)

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
        self.remember(answer, path)

    def refuse(self, cmd: str, kind: str, objection: Objection, path: str | None, now: Timestamp) -> None:
        """Answer what could not be understood. Such an id is not remembered: nothing was done under it."""
        self.publish(_answer(cmd, kind, "rejected", [objection], now), path)

    def remember(self, answer: Answer, path: str | None) -> None:
        """Publish it, and keep it for those who ask again."""
        known = self._known
        known.pop(answer.cmd, None)  # so that they stand in the order of their times
        known[answer.cmd] = answer
        while (oldest := next(iter(known.values()))).at < answer.at - KEPT:
            del known[oldest.cmd]
        self.publish(answer, path)

    def publish(self, answer: Answer, path: str | None) -> None:
        """Send it to the equipment's `res` topic, without an equipment to the site's."""
        self._site.effects.answers.append((path, answer))


def _answer(cmd: str, kind: str, verdict: str, objections: Sequence[Objection], now: Timestamp) -> Answer:
    return Answer(
        cmd=cmd, type=kind, answer=verdict, at=now, final=verdict != "accepted",
        codes=tuple(dict.fromkeys(objection.code for objection in objections)),
        detail=tuple(objection.detail for objection in objections),
    )  # fmt: skip
