"""What a consumer subscribes to. Only what it reads: no retained `now/…`, no commands of others."""

from collections.abc import Iterable, Sequence
from typing import Final

DEEPEST: Final = 6
"""Levels that an equipment may lie below its site: area, line, unit and as many to spare."""

SITES: Final = ("+/+", "+/+/+")
"""Sites that are looked for where none is named: enterprise and site, with a region in between or without."""


def filters(root: str, sites: Sequence[str] = SITES, places: Iterable[str] | None = None) -> list[str]:
    """Events, run parameters and answers to replays, of all equipment of the sites or of these places alone."""
    found = [topic for site in sites for topic in (f"{root}/{site}/evt/+", f"{root}/{site}/_gw/+/res/replay")]
    if places is None:  # a gateway's own events have the depth of an equipment's; twice subscribed could come twice
        places = ["/".join([site, *"+" * depth]) for site in sites for depth in range(1, DEEPEST + 1)]
    else:
        found += [f"{root}/{site}/_gw/+/evt/+" for site in sites]
    found += [topic for place in places for topic in (f"{root}/{place}/evt/+", f"{root}/{place}/tel")]
    return list(dict.fromkeys(found))


def status_filters(root: str, sites: Sequence[str] = SITES) -> list[str]:
    """Where gateways say, retained, that they are there."""
    return [f"{root}/{site}/_gw/+/status" for site in sites]


def sites_of(places: Iterable[str]) -> list[str]:
    """Every site that an equipment with such a path may lie in."""
    levels = [place.split("/") for place in places]
    return list(dict.fromkeys("/".join(parts[:end]) for parts in levels for end in range(2, len(parts))))


def replay_command(root: str, site: str, gateway: str) -> str:
    """Where a gateway takes requests."""
    return f"{root}/{site}/_gw/{gateway}/cmd/replay"
