"""What the keys of checkpoints say: which equipment the record knows, and what it keeps of each one's past.

The checkpoint of an equipment has its path as key, its records of the past have `{path}|{name}`. Those of equipment
that the configuration no longer has stay: its numbers go on if it comes back, and its events may be asked for until
then.
"""

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import field

from gateway.domain.effects import Recorder, SequenceMemory


def past_records(checkpoints: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """The records of the past by equipment and name; there may be thousands, so they are looked through once."""
    records: dict[str, dict[str, bytes]] = {}
    for key, blob in checkpoints.items():
        path, bar, name = key.partition("|")
        if bar:
            records.setdefault(path, {})[name] = blob
    return records


def with_departed(
    recorders: Mapping[str | None, Recorder], checkpoints: Mapping[str, bytes]
) -> dict[str | None, Recorder]:
    """The recorders of every stream that the record has, by path: these ones last, before them those of equipment and
    lanes that only the checkpoints know."""
    known = {
        one.path: one
        for key, blob in checkpoints.items()
        if "/" in key and "|" not in key
        for one in _recorders(recorders[None], key, blob)
    }
    return {path: one for path, one in known.items() if path not in recorders} | dict(recorders)


class _Lane(msgspec.Struct):
    sequence: SequenceMemory = field(default_factory=SequenceMemory)


class _Numbers(msgspec.Struct):
    """The part of an equipment's checkpoint that numbers its events."""

    sequence: SequenceMemory = field(default_factory=SequenceMemory)
    lanes: dict[str, _Lane] = field(default_factory=dict)


def _recorders(site: Recorder, path: str, blob: bytes) -> Iterator[Recorder]:
    numbers = msgspec.json.decode(blob, type=_Numbers)
    whole = site.of_equipment(path, numbers.sequence)
    yield whole
    for name, lane in numbers.lanes.items():
        yield whole.of_lane(name, lane.sequence)
