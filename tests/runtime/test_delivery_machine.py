"""Whatever happens on the way to the broker, in whatever order: the real `Delivery` loses and doubles nothing.

The real record, `Delivery`, `Sharing`, `Replay`, `Suspicion` and `MqttConnection`; behind it a broker that is a list.
"""

import asyncio
import os
import random
import shutil
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from gateway.domain.uplink import DroppedMessages, Notice
from gateway.runtime.replay import Replayed
from gateway.store.records import Transaction
from gateway.store.schema import StoreFull
from tests.runtime.journey import STREAMS, TOO_LARGE, Asked, Message, Road, Stream, event_of, name_of

FULL = bool(os.environ.get("FULL"))
BATCH = st.lists(st.tuples(st.sampled_from(STREAMS), st.sampled_from((0, 0, 0, 200, TOO_LARGE))), max_size=6)
SEED = st.integers(0, 1 << 32)
WINDOW = st.sampled_from((1, 7, 7, 200))
AGAIN = st.one_of(WINDOW, WINDOW, st.none())
"""Of the connection that follows at once; None: the broker is away for a while."""


class Journey(Road):
    """One record on its way to brokers that come and go. Rules take seeds: nothing drawn depends on timing."""

    @initialize(window=WINDOW)
    def start(self, window: int) -> None:
        self.run(self.open(self.folder / "record.db"))
        self.connect(window, limited=False)
        for equipment in ("M0", "M1", None):
            self.run(self._commit([(("evt", equipment), 0)] * 12, quiet=True))
        for _ in range(40 // window + 1):
            self.serve(250, 250, 0, odd=False)

    @rule(window=WINDOW, limited=st.booleans())
    def connect(self, window: int, limited: bool) -> None:
        if self.connection is None:
            self.run(self._connect(window, limited=limited))

    # --- what happens -------------------------------------------------------------------------------------------

    @rule(batch=BATCH, quiet=st.booleans())
    def commit(self, batch: Sequence[Message], quiet: bool) -> None:
        self.run(self._commit(batch, quiet=quiet))

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(20, 60), more=BATCH, served=st.integers(0, 20))
    def burst(self, stream: Stream, count: int, more: list[Message], served: int) -> None:
        """More than the broker takes, so streams fall behind; and while they do, more of the same."""
        self.free()
        self.run(self._commit([*more, *[(stream, 0)] * count], quiet=True))
        self.serve(served, served, 0, odd=False)
        self.run(self._commit([*more, (stream, 0)], quiet=True))
        self.serve(served, served, 0, odd=False)

    @rule(topics=st.sets(st.integers(0, 4), min_size=1), version=SEED)
    def change_retained(self, topics: set[int], version: int) -> None:
        changed = {f"r/{topic}": f"{version}".encode() for topic in topics}
        with suppress(StoreFull):
            self.run(self.store.commit(Transaction(retained=changed, at=self.clock)))
            self.retained |= changed
            self.wake()
        if self.connection is not None:
            self.delivery.tell("now/messages", str(version).encode())
        self.run(self.quiet())

    @rule(arriving=st.integers(0, 250), answering=st.integers(0, 250), seed=SEED, odd=st.booleans())
    def serve(self, arriving: int, answering: int, seed: int, odd: bool) -> None:
        """The broker takes some and answers some, in any order; `odd`: twice, and for ids that it never got."""
        self.run(self._serve(arriving, answering, random.Random(seed), odd=odd, refuses=0))

    @rule(seed=SEED)
    def refuse_some(self, seed: int) -> None:
        self.run(self._serve(250, 20, random.Random(seed), odd=False, refuses=0.5))

    @rule(seed=SEED, turns=st.integers(0, 12), again=AGAIN)
    def serve_and_cut(self, seed: int, turns: int, again: int | None) -> None:
        """It answers, and is gone while the gateway is at any place of any await."""
        self.run(self._serve(100, 100, random.Random(seed), odd=False, refuses=0, turns=turns))
        self.cut(again)

    @rule(again=AGAIN)
    def cut(self, again: int | None) -> None:
        self.run(self._cut())
        self.connect_again(again)

    def connect_again(self, window: int | None) -> None:
        if window is not None:
            self.connect(window, limited=False)

    @rule(turns=st.integers(0, 6), again=AGAIN)
    def leave(self, turns: int, again: int | None) -> None:
        """For a better broker: `send` is cancelled wherever it is, the rest is answered, and offline is said."""
        if self.connection is not None:
            self.run(self._leave(turns))
            self.connect_again(again)

    @rule(again=AGAIN)
    def crash(self, again: int | None) -> None:
        """The files as they are at this moment; what the old process does afterwards nobody sees."""
        self.run(self._crash())
        self.connect_again(again)

    @rule(spare=st.integers(0, 2))
    def fill(self, spare: int) -> None:
        ((pages,),) = self.run(self.ask("PRAGMA page_count"))
        self.run(self.ask(f"PRAGMA max_page_count = {pages + spare}"))

    def free(self) -> None:
        self.run(self._free())

    @rule(by=st.integers(-7_200_000, 7_200_000), age=st.integers(-1_000_000, 7_200_000))
    def set_the_clock_and_forget(self, by: int, age: int) -> None:
        self.clock += by
        with suppress(StoreFull):
            self.run(self.store.forget_published(self.clock - age))

    @rule(topic=st.sampled_from((None, "t/evt/M0", "t/tel/M1")))
    def send_the_refused_again(self, topic: str | None) -> None:
        self.every_message_is_accounted_for()
        with suppress(StoreFull):
            self.run(self.store.requeue(topic))
        self.wake()
        self.run(self.quiet())

    @rule(equipment=st.sampled_from(("M0", "M1", None)), first=st.integers(1, 30), length=st.integers(0, 40), seed=SEED)
    def ask_again(self, equipment: str | None, first: int, length: int, seed: int) -> None:
        """The broker takes some of it, and in one case of three refuses some; or it is gone in the middle."""
        self.run(self._ask_again(equipment, first, first + length))
        self.run(self._serve(50, seed % 11, random.Random(seed), odd=False, refuses=(0, 0, 0.5)[seed % 3]))
        if seed % 4 == 0:
            self.cut(7)

    @rule(messages=st.integers(1, 30), window=WINDOW)
    def run_over(self, messages: int, window: int) -> None:
        """Run parameters are under way and wait when the file is full; what was published is gone already."""
        self.connect(window, limited=False)
        self.run(self._commit([(("tel", "M0"), 0)] * messages, quiet=True))
        self.run(self._serve(100, 0, random.Random(0), odd=False, refuses=0))
        with suppress(StoreFull):
            self.run(self.store.forget_published(self.clock + 100_000_000))
        self.fill(0)
        self.run(self._commit([(("evt", "M0"), TOO_LARGE)] * 40, quiet=True))

    # --- what holds ---------------------------------------------------------------------------------------------

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        if not hasattr(self, "store"):
            return
        for task in (self.sending, self.settling) if self.connection is not None else ():
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise AssertionError("the delivery failed") from task.exception()
        self.run(self.store._run(self._look))
        self.see_what_came_of_replays()

    def _look(self) -> None:
        """In between two transactions: `statistics` against the file."""
        query = self.store._file._connection.execute
        counts = self.store.statistics
        rows = dict(query("SELECT condition, COUNT(*) FROM outbox GROUP BY condition").fetchall())
        events = "SELECT s.equipment, o.seq FROM outbox o JOIN stream s ON s.id = o.stream WHERE s.kind = 'evt'"
        waiting = query(f"{events} AND o.condition = 0").fetchall()
        self.queued = {(equipment or None, seq) for equipment, seq in waiting} - {
            event_of(n) for n in self.put_aside if n.startswith("evt")
        }
        there = {(equipment or None, seq) for equipment, seq in query(events).fetchall()}
        self.forgotten = {
            (equipment, number)
            for (kind, equipment), newest in self.numbers.items() if kind == "evt"
            for number in range(1, newest + 1)
        } - there  # fmt: skip
        assert counts.unaccounted == 0
        assert counts.ingested == len(self.committed)
        assert (counts.queued, counts.published, counts.quarantined) == tuple(rows.get(n, 0) for n in range(3))
        ((telemetry,),) = query("SELECT COUNT(*) FROM outbox WHERE condition = 0 AND NOT critical").fetchall()
        assert counts.queued_telemetry == telemetry
        aside = {name_of(payload) for (payload,) in query("SELECT payload FROM outbox WHERE condition = 2").fetchall()}
        self.out_of_turn |= aside - set(self.arrived)
        self.put_aside |= aside
        dropped = self._dropped(query("SELECT data FROM notice").fetchall())
        assert len(dropped) == len(set(dropped)) == counts.dropped, "told once, each of them"
        assert all(name.startswith("tel") for name in dropped), "only run parameters are dropped"
        new = set(dropped) - self.unknown_losses
        assert not new & self.arrived_in_this_life - self.put_aside, "what is on its way is not dropped"
        self.unknown_losses |= new
        if self.connection is not None:
            queued = {number for (number,) in query("SELECT id FROM outbox WHERE condition = 0").fetchall()}
            assert len(queued & self.connection.rows) <= self.connection.window, "a kill makes no more come twice"

    @staticmethod
    def _dropped(notices: list[tuple[bytes]]) -> list[str]:
        return [
            f"{one.stream}-{one.equipment}-{number}"
            for (data,) in notices
            if isinstance(one := msgspec.json.decode(data, type=Notice), DroppedMessages)
            for number in range(one.from_seq, one.to_seq + 1)
        ]

    @invariant()
    def within_a_stream_nothing_is_overtaken(self) -> None:
        last: dict[str, int] = {}
        for name in dict.fromkeys(self.arrived):
            stream, _, number = name.rpartition("-")
            if name not in self.out_of_turn:
                assert int(number) > last.get(stream, 0), f"{name} came behind {last[stream]}"
                last[stream] = int(number)

    def see_what_came_of_replays(self) -> None:
        for one in [one for one in self.asked if one.replay.ended.done()]:
            self.asked.remove(one)
            self.replays.remove(one.replay)
            result = one.replay.ended.result()
            self.replays_sent += result.sent
            self.check(one, result)
        if not self.asked:
            assert self.replays_sent == self.replays_accepted, "counted as often as the broker took it"

    def check(self, one: Asked, result: Replayed) -> None:
        """Sent, missing or still to come by itself: each number is one of them, as far as can be known from outside."""
        wanted = set(range(one.first, one.last + 1))
        missing = [number for first, last in result.missing for number in range(first, last + 1)]
        assert len(missing) == len(set(missing)), "no number is missing twice"
        assert set(missing) <= wanted
        assert result.sent >= len(one.published - set(missing)), "what was kept is sent, or told as missing"
        by_itself = len(wanted) - result.sent - len(missing)
        assert by_itself >= 0, "nothing is counted twice"
        lost = self.refused_again | self.forgotten
        assert not {(one.equipment, n) for n in one.published & set(missing)} - lost, "what was kept is to be had"
        waited = {(one.equipment, n) for n in one.queued & set(missing)}
        assert not waited & self.queued, "what is queued all the time is not missing"
        now = {n for n in wanted - one.published if n <= self.numbers["evt", one.equipment]}
        assert by_itself <= len(now), "what is neither sent nor missing was queued"

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.free()
                self.run(self._cut())
                self.run(self._finish())
                assert not self.asked, "every replay has come to its end"
                self.send_the_refused_again(None)
                self.crash(None)
                self.run(self._finish())
                self.check_the_end()
        finally:
            if hasattr(self, "store"):
                self.run(self.store.__aexit__(None, None, None))
            self.runner.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    async def _finish(self) -> None:
        """One connection more, to a broker that takes everything, and the goodbye."""
        few = self.store.statistics.queued < 40
        self.retained_at_broker.clear()  # it is another broker
        await self._connect((1 if few else 7, 200)[len(self.arrived) % 2], limited=False, quiet=False)
        for _ in range(len(self.arrived) % 13):
            await asyncio.sleep(0)
        self.delivery.tell("now/messages", b"to be replaced")
        self.delivery.tell("now/messages", b"the last word")
        self.delivery.finish()
        for _ in range(2_000):
            await self._serve(250, 250, random.Random(0), odd=False, refuses=0)
            if self.settling.done():
                break
        assert self.settling.done(), "it says goodbye when all is acknowledged"
        assert self.settling.result() is None
        assert self.delivery._open == 0
        assert self.told_at_broker == b"the last word"
        await self._end()
        self.see_what_came_of_replays()

    def check_the_end(self) -> None:
        self.every_message_is_accounted_for()
        self.within_a_stream_nothing_is_overtaken()
        assert self.store.statistics.queued == self.store.statistics.quarantined == 0
        dropped = self._dropped(self.run(self.ask("SELECT data FROM notice")))
        assert self.committed >= set(self.arrived), "nothing is sent that was not committed"
        assert self.committed == self.accepted | set(dropped), "nothing is missing that was not told"
        assert self.retained_at_broker == self.retained, "the newest of each topic stands at the broker"


TestJourney = Journey.TestCase
TestJourney.settings = settings(
    max_examples=1_000 if FULL else 25, stateful_step_count=60 if FULL else 30, deadline=None
)
