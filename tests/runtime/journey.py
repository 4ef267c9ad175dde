"""One record on its way to a model broker, for `test_delivery_machine`: what is done, and what is noted of it.

Chunks and backlogs are made small, so that a few dozen messages fall behind as thousands do.
"""

import asyncio
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pytest
from hypothesis.stateful import RuleBasedStateMachine

from gateway.mqtt.client import BrokerLost
from gateway.runtime import delivery, replay, sharing
from gateway.runtime.delivery import OFFLINE, ONLINE, Delivery
from gateway.runtime.replay import Replay
from gateway.runtime.suspicion import Suspicion
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.schema import PUBLISHED, StoreFull
from gateway.store.store import Store
from tests.runtime.model_broker import ModelConnection, Published

SMALL: Final = (
    (delivery, "GATHER", 0), (delivery, "DISK_FULL_PAUSE", 0.001), (delivery, "RETAINED_AT_ONCE", 2),
    (sharing, "LIVE_CHUNK", 5), (sharing, "BACKLOG_CHUNK", 3), (sharing, "BEHIND", 20), (sharing, "LITTLE", 6),
    (replay, "CHUNK", 4),
)  # fmt: skip
"""A fortieth to a hundredth of what they are; no time passes while acknowledgements gather."""

TOO_LARGE = 900
Kind = Literal["evt", "tel", "res"]
STREAMS: Final[tuple[tuple[Kind, str | None], ...]] = (
    ("evt", "M0"), ("evt", "M1"), ("evt", None), ("tel", "M0"), ("tel", "M1"), ("res", None),
)  # fmt: skip
Stream = tuple[Kind, str | None]
Message = tuple[Stream, int]
"""Stream, and bytes to fill it up."""


class Asked(NamedTuple):
    """One replay, and what was there when it was asked for: which events were published, which queued."""

    replay: Replay
    equipment: str | None
    first: int
    last: int
    published: set[int]
    queued: set[int]


class Road(RuleBasedStateMachine):
    """The gateway's way to the broker. Nothing here decides what happens next."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for module, name, value in SMALL:
            self.patch.setattr(module, name, value)
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="journey-"))
        self.clock = 1_700_000_000_000
        self.lives = 0
        self.numbers: Counter[tuple[Kind, str | None]] = Counter()
        self.committed: set[str] = set()
        self.arrived: list[str] = []
        self.accepted: set[str] = set()
        self.out_of_turn: set[str] = set()
        """Put aside before they ever arrived: they come at the end, when they are queued again."""
        self.put_aside: set[str] = set()
        self.arrived_in_this_life: set[str] = set()
        self.retained: dict[str, bytes] = {}
        self.told_at_broker: bytes | None = None
        self.retained_at_broker: dict[str, bytes] = {}
        self.unknown_losses: set[str] = set()
        self.queued: set[tuple[str | None, int]] = set()
        self.forgotten: set[tuple[str | None, int]] = set()
        self.refused_again: set[tuple[str | None, int]] = set()
        """Equipment and number of events that no replay can bring any more, or that the broker did not want again."""
        self.asked: list[Asked] = []
        self.replays: list[Replay] = []
        self.replays_sent = self.replays_accepted = 0
        self.connection: ModelConnection | None = None

    def now(self) -> int:
        """The clock that `Delivery` gets is this machine."""
        return self.clock

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def ask(self, statement: str) -> list[Any]:
        return await self.store._run(lambda: self.store._file._connection.execute(statement).fetchall())

    async def open(self, path: Path) -> None:
        self.path = path
        self.suspicion = Suspicion()
        self.store = await Store(path, new_epoch="e").__aenter__()

    async def _connect(self, window: int, *, limited: bool, quiet: bool = True) -> None:
        self.connection = ModelConnection(window, TOO_LARGE if limited else None)
        self.delivery = Delivery(self.connection, self.store, self, self.suspicion, self.replays)
        self.delivery.publish_status(ONLINE, "status", b"online")
        self.sending = asyncio.create_task(self._send(self.delivery))
        self.settling = asyncio.create_task(self.delivery.settle())
        if quiet:
            await self.quiet()

    @staticmethod
    async def _send(way: Delivery) -> None:
        with suppress(BrokerLost):
            await way.send()
            way.publish_status(OFFLINE, "status", b"offline")

    async def quiet(self) -> None:
        """Until nothing moves any more by itself; the store does one thing after the other, so it can be waited for."""
        before: object = None
        same = 0
        while same < 3:
            for _ in range(8):
                await asyncio.sleep(0)
            await self.store._run(lambda: None)
            link, counts = self.connection, self.store.statistics
            now = link and (len(link.rows), link.in_flight, link.answered, counts.queued, counts.quarantined)
            same = same + 1 if now == before else 0
            before = now

    async def _commit(self, batch: Sequence[Message], *, quiet: bool) -> None:
        numbers = Counter(self.numbers)
        made: list[OutboxMessage] = []
        for (kind, equipment), size in batch:
            numbers[kind, equipment] += 1
            number = numbers[kind, equipment]
            body = {"epoch": "e", "name": f"{kind}-{equipment}-{number}", "pad": "x" * size}
            seq = 0 if kind == "res" else number
            made.append(OutboxMessage(f"t/{kind}/{equipment}", json.dumps(body).encode(), kind, equipment, seq))
        try:
            await self.store.commit(Transaction(made, at=self.clock))
        except StoreFull:
            return
        self.numbers = numbers
        self.committed |= {name_of(message.payload) for message in made}
        self.wake()
        if quiet:
            await self.quiet()

    def wake(self) -> None:
        if self.connection is not None:
            self.delivery.wake()

    async def _serve(
        self,
        arriving: int,
        answering: int,
        chance: random.Random,
        *,
        odd: bool,
        refuses: float,
        turns: int | None = None,
    ) -> None:
        if (link := self.connection) is None:
            return
        for one in link.arrive(arriving):
            self.take(one)
        mids = list(link.unanswered)
        if odd:
            chance.shuffle(mids)
        answers: list[tuple[int, str | None]] = []
        for mid in mids[:answering]:
            refused = chance.random() < refuses and link.unanswered[mid].topic not in ("status", "now/messages")
            answers.append((mid, "not authorized" if refused else None))
            self.note(link.unanswered[mid], refused=refused)
        if odd:
            answers += [*answers, (64_000, None)]
        link.answer(answers)
        if turns is None:
            await self.quiet()
        for _ in range(turns or 0):
            await asyncio.sleep(0)

    def take(self, one: Published) -> None:
        """The broker has it."""
        if one.topic.startswith("t/") and one.historical != "replay":
            self.arrived.append(name_of(one.payload))
            self.arrived_in_this_life.add(name_of(one.payload))
        elif one.topic.startswith("r/"):
            self.retained_at_broker[one.topic] = one.payload
        elif one.topic == "now/messages":
            self.told_at_broker = one.payload

    def note(self, one: Published, *, refused: bool) -> None:
        """What it says of it."""
        if not one.topic.startswith("t/"):
            return
        if one.historical == "replay":
            self.replays_accepted += not refused
            if refused:
                self.refused_again.add(event_of(name_of(one.payload)))
        elif not refused:
            self.accepted.add(name_of(one.payload))

    async def _cut(self) -> None:
        """As the link does it: `settle` ends last of all, then the next connection may begin."""
        if (link := self.connection) is None:
            return
        link.cut()
        await self.quiet()
        if not self.settling.done():  # it waits for room on the disk
            await self._free()
        assert isinstance(await asyncio.wait_for(self.settling, 20), BrokerLost)
        await self._end()
        self.suspicion.connection_lost(link.unacknowledged)

    async def _end(self) -> None:
        self.sending.cancel()
        await asyncio.gather(self.sending, self.settling, return_exceptions=True)
        self.connection = None
        await self.quiet()

    async def _leave(self, turns: int) -> None:
        link = self.connection
        assert link is not None
        for _ in range(turns):
            await asyncio.sleep(0)
        self.sending.cancel()
        await self._free()
        await self._serve(250, 250, random.Random(0), odd=False, refuses=0)
        link.publish(OFFLINE, "status", b"offline", retain=True)
        await self._serve(250, 250, random.Random(0), odd=False, refuses=0)
        assert await asyncio.wait_for(self.settling, 20) is None
        await self._end()

    async def _crash(self) -> None:
        self.lives += 1
        folder = self.folder / f"life{self.lives}"
        folder.mkdir()
        for file in self.path.parent.glob("record.db*"):
            await self.store._run(lambda file=file: shutil.copy(file, folder / file.name))
        if self.connection is not None:
            self.settling.cancel()
            await self._end()
        await self.store.__aexit__(None, None, None)
        self.arrived_in_this_life.clear()
        self.asked, self.replays_sent, self.replays_accepted = [], 0, 0
        self.replays.clear()
        await self.open(folder / "record.db")

    async def _free(self) -> None:
        await self.ask("PRAGMA max_page_count = 1000000")

    async def _ask_again(self, equipment: str | None, first: int, last: int) -> None:
        events = await self.store.events(equipment, first, last, 1_000)
        published = {event.seq for event in events if event.condition == PUBLISHED}
        queued = {event.seq for event in events if event.condition == 0}
        again = Replay(self.store, equipment, "e", first, last)
        self.replays.append(again)
        self.asked.append(Asked(again, equipment, first, last, published, queued))
        self.wake()
        await self.quiet()


def name_of(payload: bytes) -> str:
    return str(json.loads(payload)["name"])


def event_of(name: str) -> tuple[str | None, int]:
    _, equipment, number = name.split("-")
    return (None if equipment == "None" else equipment), int(number)
