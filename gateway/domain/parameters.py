"""Released parameter sets, their current revisions, and the change notices that move them."""

import msgspec
from msgspec import field

from gateway.domain.requests import ParameterItem
from gateway.domain.values import Timestamp


class Notice(msgspec.Struct):
    """A change: from `effective` on, these revisions are current. `applied` are the orders that were told of."""

    cn: str
    effective: Timestamp
    revisions: dict[str, str]
    applied: list[str] = field(default_factory=list)


class ParameterLibrary(msgspec.Struct):
    """What PLM released. It survives restarts, because a local download must work while the broker is away."""

    items: dict[str, dict[str, tuple[ParameterItem, ...]]] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    def release(self, name: str, rev: str, items: tuple[ParameterItem, ...], *, at_once: bool) -> None:
        """Take in one revision; one that belongs to a change becomes current by its notice."""
        self.items.setdefault(name, {})[rev] = items
        if at_once:
            self.current[name] = rev

    def revision(self, name: str, now: Timestamp) -> str | None:
        """The revision that holds now: of the newest effective notice, else the released one."""
        effective = [notice for notice in self.notices if notice.effective <= now and name in notice.revisions]
        if effective:
            return max(effective, key=lambda notice: notice.effective).revisions[name]
        return self.current.get(name)

    def notice_of(self, name: str, rev: str, now: Timestamp) -> Notice | None:
        """The effective notice that brought this revision."""
        matching = (n for n in self.notices if n.effective <= now and n.revisions.get(name) == rev)
        return next(matching, None)
