"""Released parameter sets, their current revisions, and the change notices that move them."""

from collections.abc import Set

import msgspec
from msgspec import field

from gateway.domain.requests import ParameterItem
from gateway.domain.values import Timestamp


class Notice(msgspec.Struct):
    """A change: from `effective` on, these revisions are current. `applied` are the orders that were told of.

    `settled` says that its moment has passed and `ParameterLibrary.current` holds its revisions.
    """

    cn: str
    effective: Timestamp
    revisions: dict[str, str]
    applied: list[str] = field(default_factory=list)
    settled: bool = False


class ParameterLibrary(msgspec.Struct):
    """What PLM released. It survives restarts, because a local download must work while the broker is away."""

    items: dict[str, dict[str, tuple[ParameterItem, ...]]] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    replaced: dict[str, dict[str, Timestamp]] = field(default_factory=dict)
    """By set, the revisions that were current once, and since when they are not."""

    def release(self, name: str, rev: str, items: tuple[ParameterItem, ...], now: Timestamp, *, at_once: bool) -> None:
        """Take in one revision; one that belongs to a change becomes current by its notice."""
        self.items.setdefault(name, {})[rev] = items
        if at_once:
            self._settle(now)
            self._make_current(name, rev, now)

    def revision(self, name: str, now: Timestamp) -> str | None:
        """The revision that holds now: what became current last, by its release or by a notice."""
        due = [n for n in self.notices if not n.settled and n.effective <= now and name in n.revisions]
        if due:
            return max(due, key=lambda notice: notice.effective).revisions[name]
        return self.current.get(name)

    def notice_of(self, name: str, rev: str, now: Timestamp) -> Notice | None:
        """The effective notice that brought this revision."""
        matching = (n for n in self.notices if n.effective <= now and n.revisions.get(name) == rev)
        return next(matching, None)

    def forget(self, in_use: Set[tuple[str, str]], now: Timestamp, before: Timestamp) -> None:
        """Forget revisions that were replaced before that time, unless in use, and notices without any revision."""
        self._settle(now)
        for name, replaced in self.replaced.items():
            for rev, since in list(replaced.items()):
                if since < before and (name, rev) not in in_use:
                    del replaced[rev]
                    del self.items[name][rev]
        self.notices = [notice for notice in self.notices if not notice.settled or self._has_any(notice)]

    def _settle(self, now: Timestamp) -> None:
        """Make current what notices say whose moment has passed, in the order of their moments."""
        due = [notice for notice in self.notices if not notice.settled and notice.effective <= now]
        for notice in sorted(due, key=lambda notice: notice.effective):
            notice.settled = True
            for name, rev in notice.revisions.items():
                self._make_current(name, rev, notice.effective)

    def _make_current(self, name: str, rev: str, at: Timestamp) -> None:
        before = self.current.get(name)
        replaced = self.replaced.setdefault(name, {})
        if before is not None:
            replaced[before] = at
        replaced.pop(rev, None)
        self.current[name] = rev

    def _has_any(self, notice: Notice) -> bool:
        return any(rev in self.items.get(name, {}) for name, rev in notice.revisions.items())
