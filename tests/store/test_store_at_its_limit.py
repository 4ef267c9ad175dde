"""A record at its limit, full of what no broker has: it can still note that a broker has it now."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.store import record_file
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store

LIMIT = 600_000


async def fill(store: Store, kind: str = "evt", at: int = 0) -> int:
    """Messages until it takes no more, ten of each machine at once; returns how many."""
    written = 0
    while True:
        messages = [
            OutboxMessage(f"up/{n % 30}", bytes(100), kind, f"M{n % 30}", written + n)  # type: ignore[arg-type]
            for n in range(300)
        ]
        try:
            await store.commit(Transaction(messages=messages, at=at))
        except StoreFull:
            return written
        written += 300


async def test_a_record_full_of_events_takes_every_acknowledgement_and_forgets_the_oldest_published_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_file, "KEPT_BACK", 0)
    async with Store(tmp_path / "record.db", new_epoch="e", max_bytes=LIMIT) as store:
        written = await fill(store)
        account = await store.account()
        assert (account.queued_critical, account.dropped, account.unaccounted) == (written, 0, 0)
        for at in range(0, written, 10):
            await store.mark_published([*range(at + 1, at + 11)], at)
        assert store.statistics.acknowledged == written
        account = await store.account()
        assert (account.queued, account.unaccounted) == (0, 0)
        assert account.file_bytes <= LIMIT
        assert await fill(store) > 0, "what is published goes first"


async def test_a_record_full_of_events_puts_aside_what_the_broker_refuses(tmp_path: Path) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e", max_bytes=LIMIT) as store:
        written = await fill(store)
        for row in (await store.unpublished(0, written))[:300]:
            await store.quarantine(row.id, "as the broker says at length" * 20, 1)
        account = await store.account()
        assert (account.quarantined, account.queued, account.unaccounted) == (300, written - 300, 0)
        assert len(store._file.outbox._handed_out) == written - 300, "what is put aside is on its way to nobody"


async def test_what_is_on_its_way_to_the_broker_is_not_dropped(tmp_path: Path) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e", max_bytes=LIMIT) as store:
        await store.commit(Transaction(messages=[OutboxMessage("up", b"x", "tel", "M", n) for n in range(1, 101)]))
        sent = await store.unpublished(0, 40)
        await fill(store)
        account = await store.account()
        assert (account.dropped, account.queued_telemetry, account.unaccounted) == (60, 40, 0)
        await store.mark_published([row.id for row in sent], 1)
        assert (await store.account()).acknowledged == 40
        assert not store._file.outbox._handed_out, "or it would grow for ever"


async def test_what_must_be_remembered_may_fill_the_record_and_intake_goes_on(tmp_path: Path) -> None:
    """Nobody would ever make room: there is no message that could go."""
    path = tmp_path / "record.db"
    memory = {f"M{n}|window": b'"' + b"x" * 40_000 + b'"' for n in range(30)}
    async with Store(path, new_epoch="e", max_bytes=LIMIT) as store:
        with capture_logs() as said:
            for key, blob in memory.items():
                await store.commit(Transaction(checkpoints={key: blob}))
        assert store.statistics.file_bytes > sum(map(len, memory.values())) > LIMIT
        assert 1 <= len(said) <= 3, "said when the limit is raised, each time by what some messages need"
        assert (said[0]["store_limit"], said[0]["file"]) == (LIMIT, str(path))
        written = await fill(store)
        assert written > 0, "messages have room again"
        assert store.statistics.file_bytes <= said[-1]["file_bytes"] + record_file.KEPT_BACK
    async with Store(path, new_epoch="e", max_bytes=LIMIT) as store:
        assert await store.checkpoints() == memory
        with pytest.raises(StoreFull):
            await store.commit(Transaction(checkpoints={"more": bytes(1_000_000)}))
        await store.mark_published(range(1, written + 1), 0)
        await store.commit(Transaction(checkpoints={"more": bytes(1_000_000)}))
        assert (await store.account()).published == 0, "what was published went first"


async def test_what_is_in_quarantine_holds_the_limit(tmp_path: Path) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e", max_bytes=LIMIT) as store:
        await store.commit(Transaction(messages=[OutboxMessage("up", b"x", "evt", "M", 1)]))
        await store.quarantine(1, "refused", 0)
        with pytest.raises(StoreFull):
            await store.commit(Transaction(checkpoints={"more": bytes(LIMIT)}))
        assert store.statistics.file_bytes <= LIMIT
