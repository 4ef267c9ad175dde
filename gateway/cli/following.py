"""Hearing what gateways publish, for as long as it takes: connect, hear, ask for what is missing; lose it, begin again.

Messages are acknowledged to the broker when they are in the record, so nothing is lost that a broker has for us.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from gateway.consumer.messages import GatewayStatus, read
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, LastAsked, Report
from gateway.consumer.topics import replay_command
from gateway.mqtt.client import BrokerLost, Incoming, MqttConnection
from gateway.mqtt.payloads import encode_json
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.broker_choice import BrokerChoice, Next
from gateway.runtime.supervisor import Backoff

TICK: Final = 0.25
"""Seconds between two looks at what is missing."""

AT_ONCE: Final = 200
"""Messages that are taken in one go: as many as a broker sends us before it waits for acknowledgements."""

GATHERED: Final = 10
"""Messages that are made safe together, if they come within a tick: mosquitto sends 20 before it waits, by default."""

SILENCE: Final = 5_000
"""Milliseconds without a message after which nothing more waits at the broker. Usually something says so sooner that
comes behind what it had kept for us: a gateway's retained status, sent at the subscription, or an answer to us."""

VAIN: Final = 2
"""Requests without a result after which `once` waits no longer."""


class Listener(Protocol):
    """Who is told what came."""

    def hear(self, report: Report) -> None:
        """Something for the record, or about it."""
        ...

    def keep(self) -> None:
        """Let what was heard be safe; only then is it acknowledged to the broker."""
        ...

    def link(self, state: str) -> None:
        """The broker is in reach or lost; said once."""
        ...


def milliseconds() -> int:
    """By a clock that does not jump."""
    return time.monotonic_ns() // 1_000_000


class Follower:
    """Hears what its filters bring into one reconciler, and asks for what is missing."""

    def __init__(
        self, settings: MqttSettings, root: str, reconciler: Reconciler, listener: Listener, *,
        filters: tuple[Sequence[str], Sequence[str]], keep: int,
    ) -> None:  # fmt: skip
        """`filters` are those of the messages, and those of the gateways' status.

        `keep` is for how many seconds the broker keeps what comes while we are away.
        """
        self._choice = BrokerChoice(settings)
        self._root = root
        self._reconciler = reconciler
        self._listener = listener
        self._filters, self._status_filters = filters
        self._keep = keep
        self._said = ""
        self._heard_at = milliseconds()
        self._reached_end = False
        self._unacknowledged: list[Incoming] = []
        self.met: dict[str, MqttSettings] = {}
        """The brokers that let us in, by where they are."""
        self.has_heard = False
        """Whether any gateway told us anything, be it that it is offline."""

    @property
    def caught_up(self) -> bool:
        """Whether all is here that the broker had for us, and what is missing has been asked for in vain."""
        reached_end = self._reached_end or self._reconciler.roll_call.was_answered
        if not reached_end and milliseconds() - self._heard_at < SILENCE:
            return False
        return self._reconciler.waits_in_vain(VAIN)

    async def run(self, stop: asyncio.Event, *, once: bool) -> None:
        """Until `stop` is set; with `once`, until all is here, or no broker lets us in."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                await self._connect(stop, backoff, once=once)
                return
            except BrokerLost as lost:
                self._say(str(lost))
                if self._choice.lost(lost) is Next.WAIT:
                    if once and not self.met:
                        return
                    await _either(stop.wait(), asyncio.sleep(backoff.next()))

    async def _connect(self, stop: asyncio.Event, backoff: Backoff, *, once: bool) -> None:
        settings, modern = self._choice.settings, self._choice.modern
        async with MqttConnection(settings, None, modern=modern, keep=self._keep) as connection:
            for filters in (self._filters, self._status_filters):
                for topic, reason in (await connection.subscribe(filters)).items():
                    self._say(f"{settings.place} does not let us hear {topic}: {reason}")
            self._reconciler.call_roll(milliseconds())
            self._choice.accepted()
            backoff.reset()
            self.met[settings.place], self._heard_at = settings, milliseconds()
            self._unacknowledged = []
            self._reached_end = False
            self._say(f"connected to {self._choice.name.broker}, {self._choice.name.protocol}")
            ways = (self._hear(connection), self._tick(connection, once=once), self._settle(connection))
            await _either(stop.wait(), *ways)
            self._make_safe(connection)

    async def _hear(self, connection: MqttConnection) -> None:
        async with aclosing(connection.messages()) as messages:
            async for first in messages:
                for message in [first, *connection.waiting(AT_ONCE - 1)]:
                    self._take(message)
                    self._unacknowledged.append(message)
                if len(self._unacknowledged) >= GATHERED:
                    self._make_safe(connection)
                await asyncio.sleep(0)  # the others have their turn, however much arrives

    def _make_safe(self, connection: MqttConnection) -> None:
        self._listener.keep()
        connection.acknowledge(*self._unacknowledged)
        self._unacknowledged = []

    def _take(self, incoming: Incoming) -> None:
        self._heard_at = milliseconds()
        message = read(self._root, incoming.topic, incoming.payload, incoming.historical)
        if message is None:
            return
        self.has_heard = True
        if isinstance(message, GatewayStatus) and incoming.retain:
            self._reached_end = True
        for report in self._reconciler.take(message, self._heard_at):
            self._listener.hear(report)

    async def _tick(self, connection: MqttConnection, *, once: bool) -> None:
        while not (once and self.caught_up):
            reports = list(self._reconciler.due(milliseconds()))
            for report in reports:
                self._listener.hear(report)
                if isinstance(report, (Asked, LastAsked)):
                    topic = replay_command(self._root, report.site, report.stream.gateway)
                    connection.publish(report.cmd, topic, encode_json(report.body))
            if reports or self._unacknowledged:
                self._make_safe(connection)
            await asyncio.sleep(TICK)

    async def _settle(self, connection: MqttConnection) -> None:
        """What the broker says of our commands: whoever may not write them has to know."""
        async with aclosing(connection.acknowledgements()) as bursts:
            async for burst in bursts:
                for cmd, refusal in burst:
                    if refusal is not None:
                        who = self._choice.settings.username
                        us = f"the user {who}" if who is not None else "us"
                        reason = f"the broker takes no cmd/replay from {us} ({refusal}); give a --user who may write it"
                        for report in self._reconciler.could_not_ask(str(cmd), reason, milliseconds()):
                            self._listener.hear(report)

    def _say(self, state: str) -> None:
        if state != self._said:
            self._said = state
            self._listener.link(state)


async def _either(*ways: Coroutine[Any, Any, Any]) -> None:
    """Until one of them ends; the others end with it, and an error of one is raised."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
