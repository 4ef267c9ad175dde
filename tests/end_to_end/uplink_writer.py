"""The gateway's uplink as a process that can be killed: record, link to the broker, and a writer that never tires.

    python -m tests.end_to_end.uplink_writer '{"store": "…/record.db", "mqtt": {…}, "limit": null}'

What comes next is decided by a counter in the checkpoint, committed with the messages (trap D8): after a kill it goes on
behind what it has promised. Words on standard input: `rate 500` messages a second from now on, `burst 30000` at once,
`fresh 50` a second of a machine of its own, `stop` in good order. JSON lines on standard output, some ten a second, say
how it is.
"""

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from gateway.domain.uplink import BrokerName
from gateway.mqtt.client import Incoming
from gateway.mqtt.settings import MqttSettings
from gateway.runtime.broker_link import BrokerLink
from gateway.runtime.clock import PlayClock
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store

STREAMS: Final = 8
"""Machines M0 to M3, each with events and run parameters; message n belongs to stream n modulo 8."""
PADDING: Final = "x" * 300
TICK: Final = 0.02
FULL_PAUSE: Final = 0.1
MOST_AT_ONCE: Final = 500


def message(machine: str, kind: Any, seq: int) -> OutboxMessage:
    """It names its stream, its number and its moment, so no two are alike."""
    body = {"machine": machine, "kind": kind, "seq": seq, "t": time.time(), "padding": PADDING}
    return OutboxMessage(f"up/{machine}/{kind}", json.dumps(body).encode(), kind, machine, seq)


class Writer:
    """Commits at the rate that it is told; holds back, as the gateway does, while the record is full."""

    def __init__(self, store: Store, link: BrokerLink) -> None:
        self.rates = {"many": 0.0, "fresh": 0.0}
        self.owed = {"many": 0.0, "fresh": 0.0}
        self.written = {"many": 0, "fresh": 0}
        self.waits = 0
        self._store = store
        self._link = link

    async def run(self) -> None:
        """Until cancelled."""
        checkpoints = await self._store.checkpoints()
        self.written = {name: int(checkpoints.get(name, b"0")) for name in self.written}
        last = time.monotonic()
        while True:
            now = time.monotonic()
            for name, rate in self.rates.items():
                self.owed[name] += rate * (now - last)
            last = now
            due = {name: min(int(owed), MOST_AT_ONCE) for name, owed in self.owed.items()}
            if any(due.values()):
                await self._commit(due)
            if all(owed < 1 for owed in self.owed.values()):
                await asyncio.sleep(TICK)

    async def _commit(self, due: dict[str, int]) -> None:
        first = self.written["many"]
        messages = [
            message(f"M{n % 4}", "evt" if n % STREAMS < 4 else "tel", n // STREAMS + 1)
            for n in range(first, first + due["many"])
        ]
        fresh = self.written["fresh"]
        messages += [message("FRESH", "evt", n + 1) for n in range(fresh, fresh + due["fresh"])]
        reached = {name: self.written[name] + count for name, count in due.items()}
        checkpoints: dict[str, bytes | None] = {name: b"%d" % count for name, count in reached.items()}
        transaction = Transaction(messages=messages, checkpoints=checkpoints, at=round(time.time() * 1000))
        while True:
            try:
                await self._store.commit(transaction)
            except StoreFull:
                self.waits += 1
                await asyncio.sleep(FULL_PAUSE)
            else:
                break
        self.written = reached
        for name, count in due.items():
            self.owed[name] -= count
        self._link.wake()


class Listener:
    """Takes no commands."""

    def broker_connected(self, broker: BrokerName) -> None: ...

    def broker_lost(self, reason: str) -> None: ...

    async def handle_message(self, incoming: Incoming) -> None: ...


async def report(store: Store, link: BrokerLink, writer: Writer) -> None:
    """Once: how it is. The account is drawn up last, so what is written by then is in it."""
    written, waits = writer.written, writer.waits
    account = await store.account()
    told = {
        "connected": link.connected,
        "written": written,
        "waits": waits,
        "unaccounted": account.unaccounted,
        "fds": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        **msgspec.structs.asdict(account),
    }
    os.write(1, json.dumps(told).encode() + b"\n")


async def obey(writer: Writer) -> None:
    """Standard input, word by word, until it says stop or ends."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).split():
        if line[0] == b"stop":
            break
        if line[0] == b"burst":
            writer.owed["many"] += int(line[1])
        else:
            writer.rates[{b"rate": "many", b"fresh": "fresh"}[line[0]]] = float(line[1])
    transport.close()


async def main(given: dict[str, Any]) -> None:
    settings = MqttSettings.model_validate(given["mqtt"])
    async with Store(Path(given["store"]), new_epoch="first", max_bytes=given.get("limit")) as store:
        link = BrokerLink(
            settings, store, PlayClock(0, 0, given.get("pace", 1)), Listener(),
            filters=["cmd/+"], status=("up/status", b"online", b"offline"),
        )  # fmt: skip
        writer = Writer(store, link)
        writer.rates["many"] = given.get("rate", 0.0)
        tasks = [asyncio.create_task(link.run()), asyncio.create_task(writer.run())]

        async def tell() -> None:
            while True:
                await report(store, link, writer)
                await asyncio.sleep(0.1)

        tasks.append(asyncio.create_task(tell()))
        obeying = asyncio.create_task(obey(writer))
        done, _ = await asyncio.wait([*tasks, obeying], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks[1:], return_exceptions=True)
        for task in done:
            task.result()
        await link.drain(20)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await report(store, link, writer)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(json.loads(sys.argv[1])))
