"""Rejected commands in the audit: whoever floods the gateway with them must not fill a disk that is never emptied.

The first of a minute have a line each. Those beyond are counted, and told when the minute is over by one line for each
kind of command, device and first code. Pure: time is an argument, milliseconds UTC.
"""

from typing import Final

import msgspec

from gateway.audit.lines import Entry

BURST: Final = 60
"""Rejected commands of one minute with a line of their own."""
INTERVAL: Final = 60_000
MOST_REASONS: Final = 20
"""Reasons that one line tells; a set of a thousand wrong items has a thousand."""
LONGEST_REASON: Final = 500


class Rejections:
    """What was told in this minute, and what is yet to be told of it."""

    def __init__(self) -> None:
        self._began = 0
        self._alone = 0
        self._gathered: dict[tuple[str | None, str | None, tuple[str, ...]], Entry] = {}

    def due(self, now: int) -> list[Entry]:
        """What was gathered, if its minute is over; the next one begins then."""
        if now - self._began < INTERVAL:
            return []
        self._began, self._alone = now, 0
        return self.take_gathered()

    def take_gathered(self) -> list[Entry]:
        """What was gathered, once."""
        gathered, self._gathered = self._gathered, {}
        return list(gathered.values())

    def is_told_alone(self, entry: Entry) -> bool:
        """True if this verdict has a line of its own; else it is gathered."""
        self._alone += 1
        if self._alone <= BURST:
            return True
        key = entry.type, entry.device, entry.codes[:1]
        before = self._gathered.get(key)
        count = 1 + (before.count or 0 if before is not None else 0)
        first = before.since if before is not None else entry.t
        text = "rejected commands of this kind were answered, and have no line of their own"
        self._gathered[key] = Entry(
            kind="gathered", t=entry.t, since=first, count=count, type=entry.type, device=entry.device,
            result="rejected", codes=entry.codes[:1], detail=(f"{count} {text}",),
        )  # fmt: skip
        return False


def shortened(verdict: Entry) -> Entry:
    """The same with the first reasons only; all of them are in the answer."""
    detail = [text[:LONGEST_REASON] for text in verdict.detail[:MOST_REASONS]]
    if (left_out := len(verdict.detail) - MOST_REASONS) > 0:
        detail.append(f"{left_out} more reasons are in the answer")
    return msgspec.structs.replace(verdict, detail=tuple(detail))
