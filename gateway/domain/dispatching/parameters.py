"""Released parameter sets, their revisions, and the change notices that move them.

Which revision holds for an order is decided when it is loaded on a machine: of all that is effective then, the one
whose moment is latest, by its release or by a notice; of two at the same moment the one that arrived last. That is
what "highest" means here: names of revisions are no numbers, and PLM may well go back to an older one.
"""

from collections.abc import Iterator, Set

import msgspec
from msgspec import field

from gateway.domain.contract.requests import ParameterItem
from gateway.domain.values import Timestamp


class Notice(msgspec.Struct):
    """A change: from `effective` on these revisions hold, but not for orders that had `begun`.

    Without `effective` it waits for the first order of `lot`. `applied` are the orders that were told of. `settled`
    says that its moment has passed for every order and `ParameterLibrary.current` knows its revisions. `number`
    counts releases and notices in the order of their arrival.
    """

    cn: str
    effective: Timestamp | None
    revisions: dict[str, str]
    applied: list[str] = field(default_factory=list)
    settled: bool = False
    begun: list[str] = field(default_factory=list)
    lot: str | None = None
    number: int = 0

    def moment(self, now: Timestamp, order: str | None, lot: str | None) -> Timestamp | None:
        """Since when it holds for that order; None if it does not (yet)."""
        if self.effective is None:
            return now if lot is not None and lot == self.lot else None
        return self.effective if self.effective <= now and order not in self.begun else None

    def reach(self, now: Timestamp, begun: list[str]) -> None:
        """The first order of its lot is loaded: it holds from now on, for every order that has not begun before."""
        if self.effective is None:
            self.effective, self.begun = now, begun


class ParameterLibrary(msgspec.Struct):
    """What PLM released. It survives restarts, because a local download must work while the broker is away."""

    items: dict[str, dict[str, tuple[ParameterItem, ...]]] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    since: dict[str, tuple[Timestamp, int]] = field(default_factory=dict)
    """By set, since when its current revision is current, and the number of what made it so."""
    notices: list[Notice] = field(default_factory=list)
    replaced: dict[str, dict[str, Timestamp]] = field(default_factory=dict)
    """By set, the revisions that were current once, and since when they are not."""
    number: int = 0

    def release(self, name: str, rev: str, items: tuple[ParameterItem, ...], now: Timestamp, *, at_once: bool) -> None:
        """Take in one revision; one that belongs to a change becomes current by its notice."""
        self.items.setdefault(name, {})[rev] = items
        if at_once:
            self.number += 1
            self._settle(now)
            self._make_current(name, rev, (now, self.number))

    def accept(self, notice: Notice) -> None:
        """Take in a notice."""
        self.number += 1
        notice.number = self.number
        self.notices.append(notice)

    def notice(self, cn: str) -> Notice | None:
        """The notice of that name, while anything of it is known."""
        return next((notice for notice in self.notices if notice.cn == cn), None)

    def revision(self, name: str, now: Timestamp, order: str | None = None, lot: str | None = None) -> str | None:
        """The revision that a machine takes which loads this order now; None if none is released."""
        found = [(self.since.get(name, (0, 0)), self.current[name])] if name in self.current else []
        for notice in self.notices:
            if not notice.settled and name in notice.revisions:
                moment = notice.moment(now, order, lot)
                if moment is not None:
                    found.append(((moment, notice.number), notice.revisions[name]))
        return max(found, key=lambda entry: entry[0])[1] if found else None

    def notice_of(
        self, name: str, rev: str, now: Timestamp, order: str | None = None, lot: str | None = None
    ) -> Notice | None:
        """The notice, effective for that order, that brought this revision last."""
        matching = [
            ((moment, notice.number), notice)
            for notice in self.notices
            if notice.revisions.get(name) == rev and (moment := notice.moment(now, order, lot)) is not None
        ]
        return max(matching, key=lambda entry: entry[0])[1] if matching else None

    def forget(self, in_use: Set[tuple[str, str]], now: Timestamp, before: Timestamp) -> None:
        """Forget revisions that were replaced before that time, unless in use, and notices without any revision."""
        self._settle(now)
        needed = in_use | set(self._announced())
        for name, replaced in self.replaced.items():
            for rev, since in list(replaced.items()):
                if since < before and (name, rev) not in needed:
                    del replaced[rev]
                    self.items[name].pop(rev, None)
        self.notices = [notice for notice in self.notices if not notice.settled or self._has_any(notice)]

    def _announced(self) -> Iterator[tuple[str, str]]:
        """What a notice still waits to bring, perhaps a revision that was replaced once."""
        for notice in self.notices:
            if not notice.settled:
                yield from notice.revisions.items()

    def _settle(self, now: Timestamp) -> None:
        """Make current what notices say whose moment has passed for every order, in the order of their moments."""
        due = [
            ((notice.effective, notice.number), notice)
            for notice in self.notices
            if not notice.settled and notice.effective is not None and notice.effective <= now and not notice.begun
        ]
        for moment, notice in sorted(due, key=lambda entry: entry[0]):
            notice.settled = True
            for name, rev in notice.revisions.items():
                self._make_current(name, rev, moment)

    def _make_current(self, name: str, rev: str, at: tuple[Timestamp, int]) -> None:
        before, replaced = self.current.get(name), self.replaced.setdefault(name, {})
        if before is not None and at < self.since.get(name, (0, 0)):
            if rev != before:
                replaced[rev] = self.since[name][0]  # overtaken by a later one before it was settled
            return
        if before is not None:
            replaced[before] = at[0]
        replaced.pop(rev, None)
        self.current[name], self.since[name] = rev, at

    def _has_any(self, notice: Notice) -> bool:
        return any(rev in self.items.get(name, {}) for name, rev in notice.revisions.items())
