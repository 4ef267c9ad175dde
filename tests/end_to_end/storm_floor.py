"""What stands on the floor in a storm: machines whose truth is known, the gateway, brokers, and the reference consumer.

The machines are in the process of the test, behind one Modbus device. All else are processes that may be killed.
"""

import asyncio
import json
import os
import random
import signal
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

_MACHINE: Final = """\
  {line}/M{number}:
    device: PLC
    count_window: 1s
    tags:
      state: {{register: {base}, type: uint16}}
      steps: {{register: {steps}, type: uint16, publish: true}}
      pieces: {{register: {pieces}-{end}, type: uint32}}
    state: {{debounce: 0s, rules: [{rules}, {{to: "OFF", when: "true"}}]}}
    counters: {{good: {{tag: pieces, max: 4294967295, max_rate: 100000/s}}}}
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
        _MACHINE.format(line=LINE, number=number, base=at, steps=at + 1, pieces=at + 2, end=at + 3, rules=rules)
        for number, at in enumerate(range(0, 4 * MACHINES, 4))
    ]
    sections = [f"{name}: {json.dumps(section)}\n" for name, section in head.items()]
    return "".join([*sections, "equipment:\n", *machines])


class Machine:
    """Counts pieces whenever it likes, and changes its state when the gateway has seen the one before."""

    def __init__(self, number: int, device: Device, dice: random.Random) -> None:
        self.path = f"{LINE}/M{number}"
        self.pieces = 0
        self.states = [STATES[0]]
        self._base = 4 * number
        self._device = device
        self._dice = dice
        self._seen_from = (0, 0)

    async def beat(self, life: int) -> None:
        """Do something or nothing; `life` counts the gateway's processes."""
        if self._dice.random() < 0.5:
            self.pieces += self._dice.randint(1, 9)
            await self._device.set(self._base + 2, *divmod(self.pieces, 65_536))
        asked = len(self._device.requests)
        since, of_life = self._seen_from
        if of_life != life:
            self._seen_from = (asked, life)
        elif asked - since >= ENOUGH_POLLS and self._dice.random() < 0.5:
            self._seen_from = (asked, life)
            state = self._dice.choice([one for one in STATES if one != self.states[-1]])
            self.states.append(state)
            await self._device.set(self._base, STATES.index(state), len(self.states))


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
        await eventually(lambda: word in self.log, f"{self._name} says {word!r}; {self.log[-3000:]}", LONG)

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
