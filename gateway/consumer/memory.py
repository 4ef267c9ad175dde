"""What a consumer knows, in a file, so that the next run goes on where this one ended."""

import os
from pathlib import Path
from typing import Final

import msgspec

from gateway.consumer.course import Telemetry
from gateway.consumer.facts import Facts
from gateway.consumer.numbers import Numbers
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import StreamName
from gateway.consumer.tally import Tally

VERSION: Final = 1


class SavedTelemetry(msgspec.Struct):
    """The run parameters of one equipment."""

    epoch: str
    numbers: Numbers


class Memory(msgspec.Struct):
    """Everything that is known between two runs. Times in it are of a clock that is gone.

    `client_id` is the name under which the broker keeps what comes meanwhile; `root` is that of the topics.
    """

    client_id: str
    root: str
    streams: list[tuple[StreamName, Numbers]] = []
    telemetry: dict[str, SavedTelemetry] = {}
    facts: dict[str, int] = {}
    tallies: dict[str, Tally] = {}
    version: int = VERSION


def remember(reconciler: Reconciler, client_id: str, root: str) -> Memory:
    """What `reconciler` knows. Events that are held back count as missing: nobody has been told of them yet.

    So they are asked for once more after a restart, and the file stays small.
    """
    streams = reconciler.streams
    return Memory(
        client_id, root,
        [(name, course.numbers.without(course.held)) for name, course in streams.courses.items()],
        {place: SavedTelemetry(one.epoch, one.numbers) for place, one in streams.telemetry.items()},
        reconciler.facts.known, reconciler.tallies.by_place,
    )  # fmt: skip


def recall(memory: Memory, reconciler: Reconciler, now: int) -> None:
    """Let a fresh reconciler go on from there."""
    for name, numbers in memory.streams:
        reconciler.streams.restore(name, _as_of(numbers, now))
    for place, saved in memory.telemetry.items():
        reconciler.streams.telemetry[place] = Telemetry(_as_of(saved.numbers, now), saved.epoch)
    reconciler.facts = Facts(memory.facts)
    reconciler.tallies.by_place |= memory.tallies


def load(file: Path) -> Memory | None:
    """What the file holds, None if there is none yet. Raises `ValueError` with what to do."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        memory = msgspec.json.decode(content, type=Memory)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} is no state of `gateway subscribe` ({error}); give another file") from None
    if memory.version != VERSION:
        raise ValueError(f"{file} is of version {memory.version}, this program reads {VERSION}; give another file")
    return memory


def save(file: Path, memory: Memory) -> None:
    """Replace the file by one rename: after a crash it is as it was before, or whole."""
    fresh = file.with_name(f"{file.name}.new")
    with fresh.open("wb") as stream:
        stream.write(msgspec.json.encode(memory))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def _as_of(numbers: Numbers, now: int) -> Numbers:
    numbers.told_at = now
    for hole in numbers.holes:
        hole.found = now
    return numbers
