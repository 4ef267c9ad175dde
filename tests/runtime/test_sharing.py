"""Who gets the next place on the connection, with a real store: nothing twice, nothing left, nothing overtaken."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.runtime import sharing
from gateway.runtime.sharing import Sharing
from gateway.store.records import OutboxMessage, OutboxRow, Transaction
from gateway.store.store import Store

STREAMS = 5


def message(stream: int, seq: int) -> OutboxMessage:
    return OutboxMessage(f"t/{stream}", b"%d" % seq, "evt", f"M{stream}", seq)


class Bench:
    """A store that is written to, and what was handed out of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.handed: list[OutboxRow] = []
        self.sharing = Sharing(store)
        self._numbers = Counter[int]()
        self._settled = 0

    async def commit(self, streams: list[int]) -> None:
        messages = []
        for stream in streams:
            self._numbers[stream] += 1
            messages.append(message(stream, self._numbers[stream]))
        await self.store.commit(Transaction(messages=messages))
        self.sharing.wake()

    async def take(self, room: int) -> list[OutboxRow]:
        rows = await self.sharing.take(room)
        assert len(rows) <= room, "a broker that is sent more than its window hangs up"
        self.handed += rows
        return rows

    async def settle(self, count: int) -> None:
        """The broker acknowledges the next so many, in the order in which they were sent."""
        rows = self.handed[self._settled : self._settled + count]
        self._settled += len(rows)
        await self.store.mark_published([row.id for row in rows], at=1)

    def check(self) -> None:
        ids = [row.id for row in self.handed]
        assert len(set(ids)) == len(ids), "nothing twice"
        for stream in {row.topic for row in self.handed}:
            numbers = [int(row.payload) for row in self.handed if row.topic == stream]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no number left out, none overtaken"


ACTIONS = st.one_of(
    st.tuples(st.just("commit"), st.lists(st.integers(0, STREAMS - 1), min_size=1, max_size=12)),
    st.tuples(st.just("take"), st.integers(1, 9)),
    st.tuples(st.just("settle"), st.integers(1, 9)),
)


@settings(max_examples=150)
@given(st.lists(st.integers(0, STREAMS - 1), max_size=60), st.lists(ACTIONS, max_size=40))
def test_whatever_happens_every_row_is_handed_out_once_and_in_the_order_of_its_stream(
    before: list[int], actions: list[tuple[str, object]]
) -> None:
    async def play(folder: Path) -> None:
        async with Store(folder / "record.db", new_epoch="e") as store:
            bench = Bench(store)
            if before:
                await bench.commit(before)
            await bench.sharing.begin()
            for what, detail in actions:
                await getattr(bench, what)(detail)
                bench.check()
            while await bench.take(7):
                pass
            bench.check()
            assert len(bench.handed) == store.last_id, "nothing left"
            assert bench.sharing.is_empty

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in {"BEHIND": 6, "LITTLE": 3, "LIVE_CHUNK": 4, "BACKLOG_CHUNK": 2}.items():
            patch.setattr(sharing, name, value)
        asyncio.run(play(Path(folder)))


async def test_a_machine_without_a_backlog_waits_for_no_other_and_one_with_little_has_soon_caught_up(
    tmp_path: Path,
) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        bench = Bench(store)
        await bench.commit([0] * 20_000 + [1] * 20_000 + [2] * 300)
        await bench.sharing.begin()
        first = await bench.take(200)
        assert {row.topic for row in first} == {"t/2"}
        await bench.commit([3, 0, 3])
        second = await bench.take(200)
        assert [row.topic for row in second[:2]] == ["t/3", "t/3"], "at once"
        assert bench.handed[-1].topic == "t/0", "those with much go by age, and nothing new of theirs before the old"
        for _ in range(150):
            assert len(await bench.take(200)) == 200, "a backlog keeps the window full"
        await bench.commit([2, 1, 3])
        assert [row.topic for row in (await bench.take(200))[:2]] == ["t/2", "t/3"]
        while await bench.take(200):
            pass
        bench.check()
        assert len(bench.handed) == 40_306


async def test_who_has_a_tenth_of_what_the_others_have_does_not_wait_for_them(tmp_path: Path) -> None:
    """Ten minutes without a broker leave no machine without a backlog, but one may have hundreds of times another's."""
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        bench = Bench(store)
        await bench.commit([0] * 20_000 + [1] * 20_000 + [2] * 1_500 + [3] * 2_000 + [4] * 1_000)
        await bench.sharing.begin()
        while len(bench.handed) < 4_500:
            await bench.take(200)
        told = Counter(row.topic for row in bench.handed)
        assert (told["t/2"], told["t/4"]) == (1_500, 1_000), "together less than a tenth of it all"
        assert told["t/3"] == 0, "with this one they would be more"
        while await bench.take(200):
            pass
        bench.check()
        assert len(bench.handed) == 44_500


async def test_who_makes_more_than_the_broker_takes_falls_behind_and_holds_nobody_up(tmp_path: Path) -> None:
    """Also where nothing waited when the connection began."""
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        bench = Bench(store)
        await bench.sharing.begin()
        await bench.commit([0] * 10 + [1])
        assert len(await bench.take(200)) == 11
        await bench.commit([0] * 3_000)
        assert {row.topic for row in await bench.take(200)} == {"t/0"}
        await bench.commit([1, 2])
        assert [row.topic for row in (await bench.take(100))[:2]] == ["t/1", "t/2"]
        while await bench.take(200):
            pass
        bench.check()
        assert len(bench.handed) == 3_013


async def test_where_a_backlog_ends_what_happens_now_takes_its_places_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "BEHIND", 50)
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        bench = Bench(store)
        await bench.commit([0] * 60)
        await bench.sharing.begin()
        assert len(await bench.take(58)) == 58
        await bench.commit([1] * 30)
        assert [row.topic for row in await bench.take(20)] == ["t/1"] * 15 + ["t/0"] * 2 + ["t/1"] * 3
        while await bench.take(20):
            pass
        bench.check()
        assert len(bench.handed) == 90


async def test_however_much_happens_now_a_backlog_gets_its_share(tmp_path: Path) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        bench = Bench(store)
        await bench.commit([0] * 3_000)
        await bench.sharing.begin()
        old = 0
        for _ in range(40):
            await bench.commit([1] * 300)
            old += sum(row.topic == "t/0" for row in await bench.take(200))
        assert old >= 40 * 50
        bench.check()
