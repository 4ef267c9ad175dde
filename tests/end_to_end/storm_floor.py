"""What stands on the floor in a storm: machines whose truth is known, the gateway, brokers, and the reference consumer.

The machines are in the process of the test, behind one Modbus device. All else are processes that may be killed.
"""

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.brokers import eventually
from tests.drivers.modbus_devices import Device
from tests.end_to_end.uplink_stage import LONG, ROOT

LINE: Final = "ACME/HZ/PACK/L1"
TOPICS: Final = "mfg/v1"
STATES: Final = ("RUN", "IDLE", "STARVED", "BLOCKED", "HELD", "DOWN", "SETUP", "MAINT")
MACHINES: Final = 4
BEAT: Final = 0.02
"""Seconds between two moments at which a machine may do something."""
ENOUGH_POLLS: Final = 4
"""A poll is asked for when the batch of the one before is committed; so a state that was read so often, by one life of
the gateway, is in its record. Two would do on a quiet day; one may have been on its way before, one after a kill."""

_REGISTERS: Final = 6
"""Of each machine: its state, how often that changed, its pieces (2), the order that it runs (2, four letters)."""

_MACHINE: Final = """\
  {line}/M{number}:
    device: PLC
    count_window: 1s
    tags:
      state: {{register: {at[0]}, type: uint16}}
      steps: {{register: {at[1]}, type: uint16, publish: true}}
      pieces: {{register: {at[2]}-{at[3]}, type: uint32}}
      order: {{register: {at[4]}-{at[5]}, type: string, encoding: ascii}}
    state: {{debounce: 0s, rules: [{rules}, {{to: "OFF", when: "true"}}]}}
    counters: {{good: {{tag: pieces, max: 4294967295, max_rate: 100000/s}}}}
    order: {{from: tag, tag: order, operation: "0010"}}
"""


def plant(device: int, record: Path, mqtt: Mapping[str, object], **gateway: object) -> str:
    """The YAML of the line: `mqtt` as its section has it, `gateway` beside id, site and store."""
    rules = ", ".join(f'{{to: "{state}", when: "state == {value}"}}' for value, state in enumerate(STATES))
    head = {
        "gateway": {"id": "edge-01", "site": "ACME/HZ", "store": str(record), **gateway},
        "mqtt": {"client_id": "edge-01", "keepalive": "1s", "connect_timeout": "1s", **mqtt},
        "devices": {"PLC": {"driver": "modbus", "host": "127.0.0.1", "port": device, "poll_interval": "20ms"}},
    }
    machines = [
        _MACHINE.format(line=LINE, number=number, at=range(base, base + _REGISTERS), rules=rules)
        for number, base in enumerate(range(0, _REGISTERS * MACHINES, _REGISTERS))
    ]
    sections = [f"{name}: {json.dumps(section)}\n" for name, section in head.items()]
    return "".join([*sections, "equipment:\n", *machines])


class Machine:
    """Counts pieces whenever it likes. It changes its state, or its order, when the gateway has seen what was before.

    So whatever happens to the gateway, nothing of this can be lost by right. Pieces belong to the order under which
    they were made: none are made from before a change until it was seen.
    """

    def __init__(self, number: int, device: Device, dice: random.Random) -> None:
        self.path = f"{LINE}/M{number}"
        self.pieces = 0
        self.states = [STATES[0]]
        self.orders: dict[str, int] = {}
        """What was made of each, in the order in which they ran."""
        self.running = ""
        """The order that the machine shows; empty between two."""
        self._base = _REGISTERS * number
        self._number = number
        self._device = device
        self._dice = dice
        self._seen_from = (0, 0)
        self._is_changing = False
        self._is_still = False

    async def beat(self, life: int) -> None:
        """Do something or nothing; `life` counts the gateway's processes."""
        if self._dice.random() < 0.5 and not self._is_still:
            await self._make(self._dice.randint(1, 9))
        asked = len(self._device.requests)
        since, of_life = self._seen_from
        if of_life != life:
            self._seen_from = (asked, life)
        elif asked - since >= ENOUGH_POLLS and self._dice.random() < 0.5:
            self._seen_from = (asked, life)
            await self._change()

    async def _make(self, pieces: int) -> None:
        self.pieces += pieces
        if self.running:
            self.orders[self.running] += pieces
        await self._device.set(self._base + 2, *divmod(self.pieces, 65_536))

    async def _change(self) -> None:
        """All that the machine shows was seen: show something else."""
        if self._is_changing:
            self._is_changing = False
            self.running = f"{self._number}{len(self.orders):03}" if self._dice.random() < 0.8 else ""
            if self.running:
                self.orders[self.running] = 0
            letters = self.running.encode().ljust(4, b"\0")
            await self._device.set(self._base + 4, *struct.unpack(">HH", letters))
        elif not self._is_still and self._dice.random() < 0.1:
            self._is_changing = self._is_still = True
        else:
            self._is_still = False
            self.states.append(self._dice.choice([one for one in STATES if one != self.states[-1]]))
            await self._device.set(self._base, STATES.index(self.states[-1]), len(self.states))


class Program:
    """A process that is ended, killed, stopped and started again; what it says goes to files of its own."""

    def __init__(self, command: Sequence[str], folder: Path, name: str, **environment: str) -> None:
        """Its standard output is appended to `<name>.out`, over all its lives; each life has a log of its own."""
        self.lives = 0
        self.out = folder / f"{name}.out"
        self._command = [sys.executable, "-m", "gateway", *command]
        self._folder, self._name = folder, name
        self._environment = os.environ | environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the last life said on standard error."""
        return (self._folder / f"{self._name}{self.lives}.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        self.lives += 1
        with self.out.open("ab") as out, (self._folder / f"{self._name}{self.lives}.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )

    async def started(self, word: str) -> None:
        """Start it, and wait until it has said that."""
        self.start()

        def has_said() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            return word in self.log

        await eventually(has_said, f"{self._name} says {word!r}", LONG)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def terminate(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, LONG)

    def freeze(self) -> None:
        """SIGSTOP: it is there and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
