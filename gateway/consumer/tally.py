"""How many of what came, per equipment."""

import msgspec


class Tally(msgspec.Struct):
    """Of one equipment, or of the events of no equipment of a site.

    `events` are facts that were told, revisions among them; `repeats` came more than once. `lost_before` are messages
    that are missing of streams which are not looked at any more.
    """

    events: int = 0
    revisions: int = 0
    repeats: int = 0
    telemetry: int = 0
    values: int = 0
    lost_before: int = 0


class Tallies:
    """All of them, by place."""

    def __init__(self, known: dict[str, Tally] | None = None) -> None:
        self.by_place = known or {}
        self.unreadable = 0

    def of(self, place: str) -> Tally:
        """That of one place."""
        return self.by_place.setdefault(place, Tally())
