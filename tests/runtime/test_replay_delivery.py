"""Replays at the link, with a real record and a real broker: several at once, and each comes to an end."""

import asyncio
import json
from pathlib import Path

from gateway.runtime.replay import Replayed
from gateway.store.records import OutboxMessage, Transaction
from tests.brokers import Consumer, Gate, Mosquitto, eventually
from tests.runtime.test_broker_link import Uplink, uplink

LONG = 20.0


async def keep(up: Uplink, first: int, last: int, equipment: str = "M1") -> None:
    """Commit events with these numbers."""
    events = [
        OutboxMessage(f"evt/{equipment}", body(equipment, n), "evt", equipment, n) for n in range(first, last + 1)
    ]
    await up.store.commit(Transaction(events))
    up.link.wake()


def body(equipment: str, number: int) -> bytes:
    return json.dumps({"epoch": "e", "eq": equipment, "seq": number}).encode()


def numbers(consumer: Consumer, equipment: str = "M1") -> list[int]:
    return [json.loads(payload)["seq"] for payload in consumer.payloads(f"evt/{equipment}")]


async def test_replays_of_which_nothing_is_kept_end_all_even_if_nothing_is_committed_meanwhile(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with uplink(tmp_path, mosquitto.port) as up:
        await up.is_told("connected")
        ranges = [(1, 10), (11, 20), (5, 2**53), (7, 7), (1, 2)]
        wanted = [up.link.replay("M1", "e", first, last) for first, last in ranges]
        assert await asyncio.wait_for(asyncio.gather(*wanted), LONG) == [Replayed(0, [one]) for one in ranges]


async def test_several_replays_at_once_bring_each_its_own(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, mosquitto.port, window=4) as up:
            for equipment in ("M1", "M2"):
                await keep(up, 1, 60, equipment)
            await up.is_empty()
            wanted = [
                up.link.replay("M1", "e", 1, 50),
                up.link.replay("M1", "e", 41, 99),
                up.link.replay("M2", "e", 60, 60),
                up.link.replay("M3", "e", 1, 1),
                up.link.replay("M2", "another", 1, 60),
            ]
            ended = await asyncio.wait_for(asyncio.gather(*wanted), LONG)
            await eventually(lambda: len(numbers(consumer)) == 130, "all of M1", LONG)
    assert ended == [
        Replayed(50, []), Replayed(20, [(61, 99)]), Replayed(1, []), Replayed(0, [(1, 1)]), Replayed(0, [(1, 60)])
    ]  # fmt: skip
    assert sorted(numbers(consumer)[60:]) == sorted([*range(1, 51), *range(41, 61)])
    assert numbers(consumer, "M2") == [*range(1, 61), 60]


async def test_what_is_queued_or_put_aside_in_the_range_is_not_sent_twice(mosquitto: Mosquitto, tmp_path: Path) -> None:
    gate = Gate(mosquitto.port)
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, gate.port) as up:
            await keep(up, 1, 9)
            rows = await up.store.unpublished(0, 9)
            await up.store.mark_published([row.id for row in rows[:3]], 0)
            await up.store.quarantine(rows[4].id, "refused", 0)
            wanted = asyncio.create_task(up.link.replay("M1", "e", 1, 9))
            await gate.open()
            assert await asyncio.wait_for(wanted, LONG) == Replayed(3, [(5, 5)])
            await up.is_empty()
            assert await up.link.retry("evt/M1") == 1
            await eventually(lambda: len(numbers(consumer)) == 9, "all of them", LONG)
    assert sorted(numbers(consumer)) == list(range(1, 10))
    await gate.close()


async def test_a_replay_goes_on_over_a_cut_with_what_was_forgotten_meanwhile_named(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gate = Gate(mosquitto.port)
    await gate.open()
    with Consumer(mosquitto.port) as consumer:
        async with uplink(tmp_path, gate.port, window=4) as up:
            await keep(up, 1, 400)
            await up.is_empty()
            wanted = asyncio.create_task(up.link.replay("M1", "e", 1, 400))
            await eventually(lambda: len(numbers(consumer)) > 420, "some of it", LONG)
            await gate.close()
            await eventually(lambda: not up.link.connected, "the loss", LONG)
            assert not wanted.done()
            await up.store.forget_published(1 << 62)
            await keep(up, 401, 405)
            await gate.open()
            ended = await asyncio.wait_for(wanted, LONG)
            await up.is_empty()
            await eventually(lambda: 405 in numbers(consumer), "what happened meanwhile", LONG)
        again = numbers(consumer)[400:]
    await gate.close()
    ((first, last),) = ended.missing
    assert last == 400
    assert ended.sent == first - 1, "what the broker acknowledged counts, once"
    assert {n for n in again if n <= 400} >= set(range(1, first))
