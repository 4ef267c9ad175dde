"""How a backlog and what is happening now share one connection.

Rows come live, in the order of their commits, as long as the broker keeps up. Streams that are behind (after an outage,
or when more is produced than it takes) wait for their turn, and what comes live of such a stream waits behind them. So
nothing is overtaken within a stream, and a stream without a backlog waits for nobody's.

Of those that are behind, the ones with little go first, a few rows of each in turns, and have soon caught up. The
others go together, oldest first: neighbours in the file are struck off together, which writes a tenth of the pages.
"""

from collections import deque
from typing import Final

import msgspec

from gateway.store.records import Backlog, OutboxRow
from gateway.store.store import Store

LIVE_CHUNK: Final = 200
"""Rows read at once of what happens now: a window's worth."""

BACKLOG_CHUNK: Final = 100
"""Rows read at once of one stream that is behind, before the next one has its turn."""

BEHIND: Final = 2_000
"""Rows that may wait before their streams count as behind: a tenth of a second of a broker's time."""

BACKLOG_SHARE: Final = 4
"""One in so many places goes to streams that are behind, however much happens now."""


LITTLE: Final = 500
"""Rows of a stream that is behind, up to which it goes before those with more."""

SMALL_PART: Final = 10
"""Streams that together have less than one in so many rows of a backlog go first, too: what each row of theirs costs
more is then little in all."""


class _Behind(msgspec.Struct):
    """Rows behind `after`, up to `up_to`, are still to be read."""

    after: int
    up_to: int


class Sharing:
    """Hands out the rows of the outbox, each once. Made for one connection; begin with `begin`."""

    def __init__(self, store: Store) -> None:
        self.connected_at = 0
        """The last row that was there when the connection began."""
        self._store = store
        self._live: deque[OutboxRow] = deque()
        self._live_after = 0
        self._more_live = True
        self._little: dict[int, _Behind] = {}
        self._much: dict[int, int] = {}
        """Per stream, the row up to which it came live."""
        self._of_much = _Behind(0, 0)
        self._old: deque[OutboxRow] = deque()
        self._turn: int | None = None
        """The stream of `_old`, None where it holds rows of those with much."""

    async def begin(self) -> None:
        """See what waits."""
        backlog = await self._store.backlog()
        self.connected_at = backlog.last_id
        self._live_after = min((waiting.first for waiting in backlog.streams.values()), default=backlog.last_id + 1) - 1
        if backlog.messages > BEHIND:
            self._fall_behind(backlog)

    def wake(self) -> None:
        """Something was committed."""
        self._more_live = True

    @property
    def is_empty(self) -> bool:
        """Whether everything known of was handed out."""
        return not (self._live or self._is_behind or self._more_live)

    @property
    def _is_behind(self) -> bool:
        return bool(self._old or self._little or self._much)

    async def take(self, room: int) -> list[OutboxRow]:
        """Up to so many rows, to be sent in this order. None say that there are no more just now."""
        if not self._live and self._more_live:
            await self._read_live()
        kept = max(1, room // BACKLOG_SHARE) if self._is_behind else 0
        rows = [self._live.popleft() for _ in range(min(len(self._live), room - kept))]
        while len(rows) < room and self._is_behind:
            if not self._old:
                await self._read_backlog()
            rows += [self._old.popleft() for _ in range(min(len(self._old), room - len(rows)))]
            if not self._old:
                self._end_turn()
        if len(rows) < room:
            rows += [self._live.popleft() for _ in range(min(len(self._live), room - len(rows)))]
        return rows

    async def _read_live(self) -> None:
        if self._store.last_id - self._live_after > BEHIND:
            backlog = await self._store.backlog()
            if backlog.last_id - self._live_after > BEHIND:
                self._fall_behind(backlog)
                return
        rows = await self._store.unpublished(self._live_after, LIVE_CHUNK)
        self._more_live = len(rows) == LIVE_CHUNK
        later: list[int] = []
        for row in rows:
            behind = self._of_much if row.stream in self._much else self._little.get(row.stream)
            if behind is None:
                self._live.append(row)
            else:
                behind.up_to = row.id
                later.append(row.id)
        if rows:
            self._live_after = rows[-1].id
        await self._store.let_go(later)  # last: what is committed meanwhile is woken for, and nothing forgets that

    def _fall_behind(self, backlog: Backlog) -> None:
        """Whatever waits behind the last live row is a backlog from here on. No live row is left."""
        if not self._much:
            self._of_much = _Behind(self._live_after, self._live_after)
        little = _with_little(backlog)
        for stream, waiting in backlog.streams.items():
            if waiting.last <= self._live_after:
                continue
            if stream in self._little:
                self._little[stream].up_to = waiting.last
            elif stream in self._much or stream not in little:
                self._much.setdefault(stream, self._live_after)
                self._of_much.up_to = max(self._of_much.up_to, waiting.last)
            else:
                self._little[stream] = _Behind(max(self._live_after, waiting.first - 1), waiting.last)
        self._live_after, self._more_live = backlog.last_id, False

    async def _read_backlog(self) -> None:
        """The next rows of the stream whose turn it is, or of those with much."""
        if not self._little:
            self._turn, behind = None, self._of_much
            rows = await self._store.unpublished(behind.after, BACKLOG_CHUNK)
            much, up_to = self._much, behind.up_to
            self._old.extend(row for row in rows if much.get(row.stream, up_to) < row.id <= up_to)
        else:
            self._turn, behind = next(iter(self._little.items()))
            rows = await self._store.unpublished_of(self._turn, behind.after, behind.up_to, BACKLOG_CHUNK)
            self._old.extend(rows)
        behind.after = rows[-1].id if len(rows) == BACKLOG_CHUNK else behind.up_to

    def _end_turn(self) -> None:
        """All that was read is handed out: a stream goes to the end of the row, or has caught up."""
        if self._turn is None:
            if self._of_much.after >= self._of_much.up_to:
                self._much.clear()
            return
        behind = self._little.pop(self._turn)
        if behind.after < behind.up_to:
            self._little[self._turn] = behind


def _with_little(backlog: Backlog) -> set[int]:
    """The streams that go before the others."""
    little: set[int] = set()
    rows, most = 0, backlog.messages // SMALL_PART
    for stream, waiting in sorted(backlog.streams.items(), key=lambda item: item[1].messages):
        rows += waiting.messages
        if waiting.messages > LITTLE and rows > most:
            break
        little.add(stream)
    return little
