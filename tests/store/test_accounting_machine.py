"""Whatever happens, in whatever order: no message is lost count of. The real store, and a broker that is a list.

Hypothesis chooses what happens next: messages are published, sent, acknowledged in any order, refused; the connection
is cut, the process killed, the file full, the clock set, what is old forgotten, what was refused sent again.
"""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.domain.uplink import DroppedMessages, NumberedNotice, QuarantinedMessages
from gateway.runtime.sharing import Sharing
from gateway.store.records import OutboxMessage, OutboxRow, Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store

FULL = bool(os.environ.get("FULL"))
MESSAGES = st.lists(
    st.tuples(st.sampled_from(("evt", "tel", "res")), st.integers(0, 2), st.integers(0, 3_000)), max_size=8
)
SMALL = st.integers(1, 6)
Kind = Literal["evt", "tel", "res"]


class Uplink(RuleBasedStateMachine):
    """One record through everything that can befall it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="uplink-"))
        self.clock = 1_700_000_000_000
        self.lives = 0
        self.numbers: Counter[tuple[str, int]] = Counter()
        self.committed: dict[str, tuple[Kind, int, int]] = {}
        """By payload's name: kind, machine, number."""
        self.order: list[str] = []
        self.received: list[str] = []
        self.in_flight: list[OutboxRow] = []
        self.refused: set[str] = set()
        self.acknowledged = 0
        self.is_full = False
        self.told: list[NumberedNotice] = []

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.open(self.folder / "record.db")

    def open(self, path: Path) -> None:
        self.path = path
        self.store = self.run(Store(path, new_epoch="e").__aenter__())
        self.connect()

    def connect(self) -> None:
        self.in_flight = []
        self.sharing = Sharing(self.store)
        self.run(self.sharing.begin())

    def sql(self, statement: str) -> Any:
        return self.run(self.store._run(lambda: self.store._file._connection.execute(statement).fetchall()))

    # --- what happens -------------------------------------------------------------------------------------------

    @rule(messages=MESSAGES)
    def publish(self, messages: list[tuple[Kind, int, int]]) -> None:
        numbers = Counter(self.numbers)
        made: list[OutboxMessage] = []
        for kind, machine, size in messages:
            numbers[kind, machine] += 1
            number = numbers[kind, machine]
            name = f"{kind}-{machine}-{number}"
            made.append(OutboxMessage(f"t/{kind}/{machine}", name.encode() + bytes(size), kind, f"M{machine}", number))
        try:
            memory: dict[str, bytes | None] = {f"at {len(self.order)}": bytes(sum(size for _, _, size in messages))}
            self.run(self.store.commit(Transaction(messages=made, checkpoints=memory, at=self.clock)))
        except StoreFull:
            return
        self.numbers = numbers
        for message in made:
            name = name_of(message.payload)
            self.committed[name] = message.kind, int((message.equipment or "M0")[1:]), message.seq
            self.order.append(name)
        self.sharing.wake()

    @rule(room=st.integers(1, 30), data=st.data())
    def serve(self, room: int, data: st.DataObject) -> None:
        """Send, and acknowledge some of what is under way."""
        self.send(room)
        if self.in_flight:
            self.acknowledge(data.draw(st.integers(0, len(self.in_flight))), data)

    @rule(messages=MESSAGES, by=st.integers(-7_200_000, 7_200_000))
    def publish_after_the_clock_was_set(self, messages: list[tuple[Kind, int, int]], by: int) -> None:
        self.clock += by
        self.publish(messages)

    @rule(room=SMALL)
    def send(self, room: int) -> None:
        rows = self.run(self.sharing.take(room))
        self.in_flight += rows
        self.received += [name_of(row.payload) for row in rows]

    def acknowledge(self, count: int, data: st.DataObject) -> None:
        """In any order: a broker keeps to that of its receipts, but nothing may depend on it."""
        shuffled = data.draw(st.permutations(range(len(self.in_flight))))[:count]
        chosen = [self.in_flight[place] for place in shuffled]
        try:
            self.run(self.store.mark_published([row.id for row in chosen], self.clock))
        except StoreFull:
            return
        self.acknowledged += len(chosen)
        self.in_flight = [row for row in self.in_flight if row not in chosen]

    @precondition(lambda self: self.in_flight)
    @rule()
    def acknowledge_twice(self) -> None:
        self.acknowledge_first(times=2)

    def acknowledge_first(self, times: int) -> None:
        row = self.in_flight[0]
        for _ in range(times):
            try:
                self.run(self.store.mark_published([row.id], self.clock))
            except StoreFull:
                return
        self.in_flight.pop(0)
        self.acknowledged += 1

    @precondition(lambda self: self.in_flight)
    @rule()
    def refuse(self) -> None:
        row = self.in_flight[0]
        try:
            self.run(self.store.quarantine(row.id, "not authorized", self.clock))
        except StoreFull:
            return
        self.in_flight.pop(0)
        self.refused.add(name_of(row.payload))

    @precondition(lambda self: self.refused)
    @rule()
    def send_the_refused_again(self) -> None:
        try:
            self.run(self.store.requeue(None))
        except StoreFull:
            return
        self.sharing.wake()

    @precondition(lambda self: self.in_flight)
    @rule()
    def cut(self) -> None:
        self.connect()

    @precondition(lambda self: self.in_flight)
    @rule()
    def crash(self) -> None:
        """The files as they are at this moment; what the old process does afterwards nobody sees."""
        self.lives += 1
        folder = self.folder / f"life{self.lives}"
        folder.mkdir()
        for file in self.path.parent.glob("record.db*"):
            shutil.copy(file, folder / file.name)
        self.run(self.store.__aexit__(None, None, None))
        self.open(folder / "record.db")
        assert self.store.has_notices == bool(self.pending_notices()), "what was taken and not told is there again"

    @rule(spare=st.integers(0, 1))
    def fill(self, spare: int) -> None:
        self.is_full = True
        (pages,) = self.sql("PRAGMA page_count")[0]
        self.sql(f"PRAGMA max_page_count = {pages + spare}")

    @rule(messages=st.lists(st.tuples(st.sampled_from(("evt", "tel")), st.integers(0, 2), st.just(20_000)), min_size=1))
    def publish_more_than_there_is_room_for(self, messages: list[tuple[Kind, int, int]]) -> None:
        self.fill(0)
        self.publish(messages)

    @precondition(lambda self: self.is_full)
    @rule()
    def free(self) -> None:
        self.is_full = False
        self.sql("PRAGMA max_page_count = 1000000")

    @precondition(lambda self: self.acknowledged)
    @rule()
    def forget(self) -> None:
        try:
            self.run(self.store.forget_published(self.clock - 1_000_000))
        except StoreFull:
            return

    @precondition(lambda self: self.store.has_notices)
    @rule(tell=st.booleans())
    def take_notices(self, tell: bool) -> None:
        try:
            notices = self.run(self.store.take_notices())
            if tell:
                self.run(self.store.commit(Transaction(notices_told=[one.number for one in notices], at=self.clock)))
        except StoreFull:
            return
        if tell:
            self.told += notices

    # --- what holds ---------------------------------------------------------------------------------------------

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        if not hasattr(self, "store"):
            return
        counts = self.store.statistics
        assert counts.unaccounted == 0
        assert counts.ingested == len(self.committed)
        assert counts.acknowledged == self.acknowledged
        rows = dict(self.sql("SELECT condition, COUNT(*) FROM outbox GROUP BY condition"))
        assert (counts.queued, counts.published, counts.quarantined) == tuple(rows.get(n, 0) for n in range(3))
        assert (
            counts.queued_telemetry
            == self.sql("SELECT COUNT(*) FROM outbox WHERE condition = 0 AND NOT critical")[0][0]
        )
        assert counts.dropped == len(self.dropped())

    def dropped(self) -> list[str]:
        """Every dropped message by name: in exactly one notice, told or still in the file."""
        pending = self.run(
            self.store._run(lambda: self.store._file._connection.execute("SELECT id FROM notice").fetchall())
        )
        ids = {number for (number,) in pending}
        assert not ids & {one.number for one in self.told}
        notices = [one.notice for one in self.told] + self.pending_notices()
        return [
            f"{one.stream}-{(one.equipment or 'M0')[1:]}-{number}"
            for one in notices if isinstance(one, DroppedMessages)
            for number in range(one.from_seq, one.to_seq + 1)
        ]  # fmt: skip

    def pending_notices(self) -> list[Any]:
        import msgspec

        from gateway.domain.uplink import Notice

        return [msgspec.json.decode(data, type=Notice) for (data,) in self.sql("SELECT data FROM notice")]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.free()
            self.connect()
            self.drain()
            self.run(self.store.requeue(None))
            self.sharing.wake()
            self.drain()
            self.every_message_is_accounted_for()
            self.check_what_was_received()
            self.run(self.store.__aexit__(None, None, None))
        self.runner.close()
        shutil.rmtree(self.folder)

    def drain(self) -> None:
        while rows := self.run(self.sharing.take(50)):
            self.received += [name_of(row.payload) for row in rows]
            self.run(self.store.mark_published([row.id for row in rows], self.clock))
            self.acknowledged += len(rows)

    def check_what_was_received(self) -> None:
        assert self.store.statistics.queued == self.store.statistics.quarantined == 0
        dropped = self.dropped()
        assert len(set(dropped)) == len(dropped), "told once"
        assert all(name.startswith("tel") for name in dropped), "only run parameters are dropped"
        assert self.committed.keys() >= set(self.received), "nothing is sent that was not committed"
        assert self.committed.keys() == set(self.received) | set(dropped), "nothing is missing that was not told"
        first = [name for name in dict.fromkeys(self.received) if name not in self.refused]
        for stream in {name.rpartition("-")[0] for name in first}:
            numbers = [int(name.rpartition("-")[2]) for name in first if name.rpartition("-")[0] == stream]
            assert numbers == sorted(numbers), "within a stream nothing is overtaken"
        quarantined = sum(
            one.messages for one in [n.notice for n in self.told] + self.pending_notices()
            if isinstance(one, QuarantinedMessages)
        )  # fmt: skip
        assert quarantined >= len(self.refused)


def name_of(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode()


TestUplink = Uplink.TestCase
TestUplink.settings = settings(
    max_examples=1_500 if FULL else 25, stateful_step_count=60 if FULL else 35, deadline=None
)
