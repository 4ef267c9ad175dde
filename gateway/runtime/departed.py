"""Machines that the YAML no longer has: what is retained of them is cleared, or it would hold for ever."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import structlog

from gateway.mqtt.topics import Topics
from gateway.store.records import Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store

log = structlog.get_logger()

READ_AT_ONCE: Final = 200
"""Retained topics read from the store at once."""


async def clear_departed(store: Store, topics: Topics, equipment: Iterable[str]) -> None:
    """Take back `now/…` of every equipment but these: an empty message clears it at the broker.

    A record that is full takes no note of it; then the next start does it.
    """
    ours = tuple(topics.retained(path, "") for path in equipment)
    departed: dict[str, bytes] = {}
    last = ""
    while rows := await store.retained(last, READ_AT_ONCE):
        departed |= {row.topic: b"" for row in rows if row.payload and not row.topic.startswith(ours)}
        last = rows[-1].topic
    if departed:
        log.info("what is retained of equipment that the YAML no longer has is cleared", topics=sorted(departed))
        with suppress(StoreFull):
            await store.commit(Transaction(retained=departed))
