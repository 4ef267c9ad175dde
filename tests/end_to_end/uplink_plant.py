"""`gateway run` as a process in front of an OPC UA server that never tires: ten machines, fifty changes a second each."""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.store.records import Statistics
from gateway.store.store import Store
from tests.brokers import eventually
from tests.end_to_end.uplink_stage import LONG, Heard, Process

MACHINES: Final = 10
PER_SECOND: Final = 50
"""Changes of each machine; each is a message of its own."""
SITE: Final = "mfg/v1/ACME/HZ"

_PLANT: Final = """\
gateway: {{id: edge-01, site: ACME/HZ, store: "{record}"{more}}}
mqtt: {{client_id: edge-01, {mqtt}}}
devices:
  LOAD:
    driver: opcua
    url: opc.tcp://127.0.0.1:{source}
    namespace: urn:bench
    security: none
    publishing_interval: 20ms
    sampling_interval: 20ms
equipment:
"""
_MACHINE: Final = """\
  ACME/HZ/A/L1/M{number}:
    device: LOAD
    tags: {{x: {{node: s=tag{number}, type: float64, publish: true}}}}
    state: {{debounce: 0s, rules: [{{to: RUN, when: "x % 32 < 16"}}, {{to: IDLE, when: "true"}}]}}
"""


class Gateway(Process):
    """`gateway run`, which speaks in its log alone."""

    async def terminate(self) -> None:
        """SIGTERM; it must end in good order."""
        self._process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self._end) == 0, self.log


@asynccontextmanager
async def source(folder: Path) -> AsyncIterator[tuple[Process, int]]:
    """The server; `go 50` makes it send fifty changes of every machine. Its port."""
    with Process(["bench.load_source", str(MACHINES)], folder / "source.log") as server:
        await eventually(lambda: bool(server.said), f"the source; {server.log}", LONG)
        yield server, server.now["port"]


def gateway(folder: Path, source_port: int, *arguments: str, record: Path | None = None, more: str = "", **mqtt: object) -> Gateway:  # fmt: skip
    """The gateway in front of it. `more` is YAML of its own section, `mqtt` that of the broker's."""
    config = folder / "config"
    config.mkdir(exist_ok=True)
    broker = ", ".join(f"{key}: {json.dumps(value)}" for key, value in mqtt.items())
    head = _PLANT.format(record=record or folder / "gateway.db", more=more, mqtt=broker, source=source_port)
    text = head + "".join(_MACHINE.format(number=number) for number in range(MACHINES))
    (config / "plant.yaml").write_text(text, encoding="utf-8")
    return Gateway(["gateway", "run", "-c", str(config), *arguments], folder / "gateway.log")


def shown(heard: Iterable[Heard]) -> dict[str, list[int]]:
    """By machine, the numbers that it showed, each once; what the source sends rises by exactly one."""
    values: dict[str, dict[int, None]] = defaultdict(dict)
    for one in list(heard):
        if one.topic.startswith(SITE) and one.topic.endswith("/tel"):
            values[one.topic].update((int(row[2]), None) for row in one.body["rows"])
    return {topic: list(numbers) for topic, numbers in values.items()}


def newest(heard: list[Heard]) -> int:
    """The number that every machine has shown last, or has passed; -1 as long as there are some that showed none."""
    last: dict[str, int] = {}
    for one in reversed(heard[-500:]):
        if one.topic.startswith(SITE) and one.topic.endswith("/tel") and one.topic not in last:
            last[one.topic] = int(one.body["rows"][-1][2])
            if len(last) == MACHINES:
                return min(last.values())
    return -1


async def account(record: Path) -> Statistics:
    """What stands in the record of a gateway that has ended."""
    async with Store(record, new_epoch="unused") as store:
        assert not store.is_new
        return await store.account()
