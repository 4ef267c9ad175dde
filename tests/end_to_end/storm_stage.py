"""A line in a storm: everything that can be struck, how it is struck, and how it recovers."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from gateway.store.records import Transaction
from gateway.store.store import Store
from simulators.proxy import FaultProxy
from tests.brokers import Mosquitto, eventually
from tests.drivers.modbus_devices import Device, device
from tests.end_to_end.storm_floor import BEAT, MACHINES, Machine, Program, plant
from tests.end_to_end.storm_weather import Blow
from tests.end_to_end.test_clock_set import library
from tests.end_to_end.uplink_stage import LONG
from tests.shipped_mosquitto import ShippedMosquitto

RECOVERY: Final = 120.0
"""Seconds in which all has to be well again; it takes some ten."""


SMALLEST: Final = 16_000_000
"""The least `store_limit`, in bytes."""
ROOM: Final = 200_000
"""Bytes of it that are left to a tight record: what the line says in some seconds."""

OFFSETS: Final = (-7_200, -30, 30, 3_600, 2 * 86_400)
"""Seconds by which clocks are set wrong. With more than 72 h, set while no gateway runs, published events are too old."""
AS_WE_FAKE: Final = {
    "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
}  # fmt: skip


class Setting(NamedTuple):
    """What the dice decided of a storm before it begins."""

    shipped: bool
    """The broker has the shipped configuration; otherwise one without rights or limits."""
    second_broker: bool
    protocol: str
    tight: bool
    """The record has little room. Then no broker may lose anything, for it could not be had again."""
    lanes: frozenset[str]

    @classmethod
    def thrown(cls, dice: random.Random) -> "Setting":
        """Any. At least one lane of faults is open."""
        tight = dice.random() < 0.3
        lanes = ["gateway", "path", "consumer", "clock"] + ["broker"] * (not tight)
        return cls(
            shipped=dice.random() < 0.5, second_broker=dice.random() < 0.4 and not tight,
            protocol=dice.choice(["auto", "auto", "3.1.1"]), tight=tight,
            lanes=frozenset(dice.sample(lanes, dice.randint(1, len(lanes)))),
        )  # fmt: skip

    @property
    def keeps_all(self) -> bool:
        """The broker keeps what it acknowledged for the consumer, so not even run parameters may be missing."""
        return not self.second_broker and "broker" not in self.lanes


class Stage:
    """The line. The first broker is the one at which the consumer listens."""

    def __init__(self, folder: Path, setting: Setting, press: Device, dice: random.Random) -> None:
        self.setting = setting
        self.machines = [Machine(number, press, dice) for number in range(MACHINES)]
        self.brokers: list[Mosquitto] = []
        self.paths: list[FaultProxy] = []
        self.ways: list[FaultProxy] = []
        self.exit_codes: list[int] = []
        """Of the gateway, whenever it was ended by SIGTERM."""
        self.verdict: int | None = None
        """The consumer's exit code at the end."""
        self.record = folder / "gateway.db"
        self.state = folder / "consumer.state"
        self._folder = folder
        self._press = press
        self._life = 0
        self._dice = dice

    async def build(self, opened: AsyncExitStack) -> None:
        """Brokers, the proxies on the ways to them, the gateway's YAML."""
        for number in range(1 + self.setting.second_broker):
            folder = self._folder / f"broker{number}"
            folder.mkdir()
            broker = ShippedMosquitto(folder) if self.setting.shipped else Mosquitto(folder)
            opened.callback(broker.kill)
            self.brokers.append(broker.start())
            self.paths.append(await opened.enter_async_context(FaultProxy(broker.port)))
        self.ways.append(await opened.enter_async_context(FaultProxy(self.brokers[0].port)))
        limit = {}
        if self.setting.tight:
            limit = {"store_limit": SMALLEST}
            await fill(self.record)
        config = self._folder / "plant"
        config.mkdir()
        text = plant(self._press.port, self.record, self._mqtt(), **limit)
        (config / "plant.yaml").write_text(text, encoding="utf-8")
        clock = {}
        if "clock" in self.setting.lanes:
            clock = {"LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(self._folder / "clock"), **AS_WE_FAKE}
            self._set_clock(0)
        self.gateway = Program(["run", "-c", str(config)], self._folder, "gateway", **clock)
        opened.callback(self.gateway.kill)
        login = []
        if isinstance(first := self.brokers[0], ShippedMosquitto):
            login = ["--user", "mes", "--password-file", str(first.password_files["mes"])]
        address = f"mqtt://127.0.0.1:{self.ways[0].port}"
        self.consumer = Program(
            ["subscribe", "--broker", address, "--jsonl", "--state", str(self.state), *login], self._folder, "consumer"
        )
        opened.callback(self.consumer.kill)

    def _mqtt(self) -> dict[str, object]:
        ways = []
        for path, broker in zip(self.paths, self.brokers, strict=True):
            way: dict[str, object] = {"port": path.port, "protocol": self.setting.protocol}
            if isinstance(broker, ShippedMosquitto):
                way |= {"username": "edge-01", "password_file": str(broker.password_files["edge-01"])}
            ways.append(way)
        return ways[0] if len(ways) == 1 else {"brokers": ways, "return_after": "1s"}

    async def open(self) -> None:
        """Start consumer and gateway; returns when the consumer has something of every machine.

        Only the broker at which it listens is in reach: what another one hears first is no consumer's loss.
        """
        for path in self.paths[1:]:
            await path.refuse()
        await self.consumer.started("connected to")
        await self.start_gateway()
        paths = [f'"eq":"{machine.path}"'.encode() for machine in self.machines]
        await eventually(lambda: all(path in self.told for path in paths), f"the first; {self.gateway.log}", LONG)
        for path in self.paths[1:]:
            await path.accept()

    @property
    def told(self) -> bytes:
        """What the consumer wrote, over all its lives."""
        return self.consumer.out.read_bytes()

    async def start_gateway(self) -> None:
        """Start it, on the record that there is, and wait until it can be ended in good order."""
        self._life += 1
        await self.gateway.started("device connected")

    def kill_gateway(self) -> None:
        self._life += 1
        self.gateway.kill()

    async def work(self) -> None:
        """The machines, until cancelled."""
        while True:
            for machine in self.machines:
                await machine.beat(self._life)
            await asyncio.sleep(BEAT)

    # --- blows --------------------------------------------------------------------------------------------------

    def lanes(self) -> dict[str, Sequence[Blow]]:
        """Those that the setting opens; a broker and the way to it are struck independently of each other."""
        lanes: dict[str, Sequence[Blow]] = {
            "gateway": [self._gateway_killed, self._gateway_terminated, self._gateway_frozen],
            "consumer": [
                self._consumer_killed, self._consumer_terminated, self._consumer_frozen, *ways_struck(self.ways[0])
            ],
            "clock": [self._clock_set, self._clock_set_for_a_while],
        }  # fmt: skip
        for number, (broker, path) in enumerate(zip(self.brokers, self.paths, strict=True)):
            lanes[f"broker {number}"] = blows_on_broker(broker)
            lanes[f"path {number}"] = ways_struck(path)
        lanes["broker 0"] = [*lanes["broker 0"], self._told_to_nobody]
        return {name: blows for name, blows in lanes.items() if name.split()[0] in self.setting.lanes}

    async def forget(self) -> None:
        """A new first broker, if brokers are struck here at all; for a consumer that has seen nothing of the end."""
        if "broker" in self.setting.lanes:
            wipe(self.brokers[0])
            await asyncio.to_thread(self.brokers[0].start)

    async def _gateway_killed(self, seconds: float) -> None:
        self.kill_gateway()
        await asyncio.sleep(seconds)
        await self.start_gateway()

    async def _gateway_terminated(self, seconds: float) -> None:
        self._life += 1
        self.exit_codes.append(await self.gateway.terminate())
        await asyncio.sleep(seconds)
        await self.start_gateway()

    async def _gateway_frozen(self, seconds: float) -> None:
        self.gateway.freeze()
        await asyncio.sleep(seconds)
        self.gateway.thaw()

    async def _consumer_killed(self, seconds: float) -> None:
        self.consumer.kill()
        await asyncio.sleep(seconds)
        self.consumer.start()

    async def _consumer_terminated(self, seconds: float) -> None:
        await self.consumer.terminate()
        await asyncio.sleep(seconds)
        self.consumer.start()

    async def _consumer_frozen(self, seconds: float) -> None:
        self.consumer.freeze()
        await asyncio.sleep(seconds)
        self.consumer.thaw()

    async def _told_to_nobody(self, seconds: float) -> None:
        """The broker acknowledges what the consumer, which is cut off, has not heard, and then loses it."""
        await self.ways[0].refuse()
        await asyncio.sleep(seconds)
        wipe(self.brokers[0])
        await asyncio.to_thread(self.brokers[0].start)
        await self.ways[0].accept()

    async def _clock_set(self, seconds: float) -> None:
        self._set_clock(self._dice.choice(OFFSETS))
        await asyncio.sleep(seconds)

    async def _clock_set_for_a_while(self, seconds: float) -> None:
        await self._clock_set(seconds)
        self._set_clock(0)

    def _set_clock(self, offset: int) -> None:
        """The gateway's, so many seconds from the true time."""
        fresh = self._folder / "clock.new"
        fresh.write_text(f"{offset:+d}\n", encoding="ascii")
        fresh.replace(self._folder / "clock")


async def fill(record: Path) -> None:
    """A record in which something large is remembered that nobody asks for, so that little room is left."""
    async with Store(record, "storm", SMALLEST) as store:
        await store.commit(Transaction(checkpoints={"ballast": b'"' + b"x" * (SMALLEST - ROOM) + b'"'}))


def blows_on_broker(broker: Mosquitto) -> list[Blow]:
    """Killed, with its memory or without; ended in good order; frozen."""

    async def killed(seconds: float) -> None:
        broker.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(broker.start)

    async def wiped(seconds: float) -> None:
        wipe(broker)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(broker.start)

    async def restarted(seconds: float) -> None:
        await asyncio.to_thread(broker.stop)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(broker.start)

    async def frozen(seconds: float) -> None:
        broker.freeze()
        await asyncio.sleep(seconds)
        broker.thaw()

    return [killed, wiped, restarted, frozen]


def wipe(broker: Mosquitto) -> None:
    """End it, and let it have known nothing: no sessions, no queues, nothing retained."""
    broker.kill()
    broker.database.unlink(missing_ok=True)


def ways_struck(way: FaultProxy) -> list[Blow]:
    """Cut, closed for a while, half-open, half-open until what was on its way is lost, slow."""

    async def cut(seconds: float) -> None:
        way.cut()
        await asyncio.sleep(seconds)

    async def closed(seconds: float) -> None:
        await way.refuse()
        await asyncio.sleep(seconds)
        await way.accept()

    async def half_open(seconds: float) -> None:
        way.freeze()
        await asyncio.sleep(seconds)
        way.thaw()

    async def torn(seconds: float) -> None:
        way.freeze()
        await asyncio.sleep(seconds)
        way.cut()
        way.thaw()

    async def slow(seconds: float) -> None:
        way.delay(0.2)
        await asyncio.sleep(seconds)
        way.delay(0)

    return [cut, closed, half_open, torn, torn, slow]


@asynccontextmanager
async def staged(folder: Path, seed: int) -> AsyncIterator[Stage]:
    """A line by the dice of that seed. Whatever is left of it is killed at the end."""
    dice = random.Random(f"{seed} setting")
    async with AsyncExitStack() as opened:
        press = await opened.enter_async_context(device())
        stage = Stage(folder, Setting.thrown(dice), press, random.Random(f"{seed} machines"))
        await stage.build(opened)
        yield stage
