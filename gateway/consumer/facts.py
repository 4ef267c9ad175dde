"""Which facts were told, by id, and in which revision."""

from enum import Enum, auto
from typing import Final

MOST_FACTS: Final = 10_000
"""Ids that are remembered, of all gateways together.

Numbers tell most repeats. The id is needed where a fact comes under two numbers: when a gateway with a new record says
once more what the lost end of the old one held (seconds of it, or what a salvage left out), and for revisions, which
follow their fact by hours: 10,000 are a shift of the events of some fifty machines. Of an older one the revision tells
by itself that it replaces; only an old fact that is told again after a newer revision cannot be told from news.
"""


class Verdict(Enum):
    """What a fact is to those that were told."""

    NEWS = auto()
    REPEATED = auto()
    OUTDATED = auto()


class Facts:
    """The newest revision of the last ids; those that were looked at least recently are forgotten first."""

    def __init__(self, known: dict[str, int] | None = None) -> None:
        self._known = known or {}

    @property
    def known(self) -> dict[str, int]:
        """Revisions by id, the next to be forgotten first."""
        return self._known

    def judge(self, name: str, revision: int) -> Verdict:
        """Whether it is to be told; remembers it."""
        known = self._known.pop(name, 0)
        self._known[name] = max(known, revision)
        if len(self._known) > MOST_FACTS:
            del self._known[next(iter(self._known))]
        if revision > known:
            return Verdict.NEWS
        return Verdict.REPEATED if revision == known else Verdict.OUTDATED
