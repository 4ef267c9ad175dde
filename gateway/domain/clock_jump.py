"""What is measured on the gateway's clock goes with it when it is set forward, so that nothing is late by that."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

TIMERS: Final = frozenset({"deadline", "next_look", "give_up"})
"""Fields that say when something is to be done; every struct with timers names them so."""


def move_timers(memory: Any, by: int) -> None:
    """Add milliseconds to every timer in a struct, and in the structs within it, where one is set."""
    for part in _parts(memory):
        for name in TIMERS.intersection(part.__struct_fields__):
            at = getattr(part, name)
            if isinstance(at, int):
                setattr(part, name, at + by)


def _parts(value: Any) -> Iterable[msgspec.Struct]:
    """The struct and those within it that can be changed; frozen ones have no timers."""
    if isinstance(value, msgspec.Struct):
        if value.__struct_config__.frozen:
            return
        yield value
        for name in value.__struct_fields__:
            yield from _parts(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)
