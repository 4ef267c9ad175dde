"""A broker slower than the machines, until the record is full: run parameters that only wait make room as ever."""

from pathlib import Path

import pytest

from gateway.runtime import sharing
from gateway.runtime.sharing import Sharing
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.store import Store
from tests.store.test_store_at_its_limit import LIMIT

AT_ONCE = 10


async def test_run_parameters_that_were_only_looked_at_are_dropped_when_the_record_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes live of a stream that is behind is read to see whose it is; it is on its way to nobody."""
    for name, value in {"BEHIND": 20, "LITTLE": 5, "LIVE_CHUNK": 20, "BACKLOG_CHUNK": 10}.items():
        monkeypatch.setattr(sharing, name, value)
    handed: list[int] = []
    async with Store(tmp_path / "record.db", new_epoch="e", max_bytes=LIMIT) as store:
        share = Sharing(store)
        for first in range(1, 8_000, AT_ONCE):
            messages = [OutboxMessage("up", bytes(100), "tel", "M", n) for n in range(first, first + AT_ONCE)]
            await store.commit(Transaction(messages=messages, at=first))
            if first == 41:
                await share.begin()
            share.wake()
            if first > 41:
                rows = await share.take(1)
                handed += [row.id for row in rows]
                await store.mark_published([row.id for row in rows], first)
        account = await store.account()
        assert account.dropped > 3_000, "and intake went on"
        assert account.unaccounted == 0
        while rows := await share.take(200):
            handed += [row.id for row in rows]
            await store.mark_published([row.id for row in rows], 1)
        account = await store.account()
        assert (account.queued, account.unaccounted) == (0, 0)
        assert (len(handed), len(set(handed))) == (account.acknowledged, account.acknowledged)
        assert handed == sorted(handed)
        assert not store._file.outbox._handed_out, "or it would grow for ever"
