"""A gateway that keeps its events, as far as a consumer can tell: it numbers, publishes, and answers replays."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

ROOT = "mfg/v1"
SITE = "ACME/HZ"


class Sent(NamedTuple):
    """One message on its way."""

    topic: str
    payload: bytes
    historical: str | None = None


class FakeGateway:
    """Events by stream (`eq` or None), newest epoch `epoch`. What is in `forgotten` is no longer kept.

    `places` are told at every birth, also before anything happened there.
    """

    def __init__(self, name: str = "edge-01", epoch: str = "e1", places: Iterable[str] = ()) -> None:
        self.name = name
        self.places = set(places)
        self.epoch = epoch
        self.epochs = [epoch]
        self.kept: dict[tuple[str, str | None], list[Sent]] = {}
        self.telemetry: dict[str, int] = {}
        self.forgotten: set[tuple[str | None, int]] = set()
        self.asked: list[dict[str, Any]] = []

    @property
    def base(self) -> str:
        return f"{ROOT}/{SITE}/_gw/{self.name}"

    def renew(self, epoch: str) -> None:
        """A new record: all numbers begin anew."""
        self.epoch = epoch
        self.epochs.append(epoch)
        self.telemetry.clear()

    def event(self, eq: str | None, kind: str = "equipment.state", rev: int = 1, **data: Any) -> Sent:
        """The next event of a stream. The same `fact` in the data is the same id."""
        stream = self.kept.setdefault((self.epoch, eq), [])
        seq = len(stream) + 1
        name = data.pop("fact", f"{self.epoch}-{eq}-{seq}")
        message = {
            "id": name, "type": kind, "v": 1, "rev": rev, "gw": self.name, "cfg": "c", "epoch": self.epoch, "eq": eq,
            "seq": seq, "t_src": "2026-03-02T06:00:00.000Z", "t_gw": "2026-03-02T06:00:00.000Z", "t_q": "source",
            "order": None, "corr": None, "data": data,
        }  # fmt: skip
        level = f"{ROOT}/{eq}" if eq is not None else self.base if kind.startswith("gateway.") else f"{ROOT}/{SITE}"
        stream.append(Sent(f"{level}/evt/{kind}", json.dumps(message).encode()))
        return stream[-1]

    def tel(self, eq: str, values: int = 1) -> Sent:
        """The next run parameters."""
        self.telemetry[eq] = seq = self.telemetry.get(eq, 0) + 1
        rows = [[number, 0, seq] for number in range(values)]
        body = {"v": 1, "eq": eq, "seq": seq, "order": None, "t0": f"{self.epoch}", "names": ["speed"], "rows": rows}
        return Sent(f"{ROOT}/{eq}/tel", json.dumps(body).encode())

    def birth(self) -> Sent:
        """What is told at a connect."""
        told = {eq for epoch, eq in self.kept if epoch == self.epoch and eq} | self.telemetry.keys()
        equipment = [
            {"eq": eq, "seq": len(self.kept.get((self.epoch, eq), [])), "tel": self.telemetry.get(eq, 0)}
            for eq in sorted(self.places | told)
        ]
        return self.event(None, "gateway.birth", equipment=equipment)

    def status(self) -> Sent:
        return Sent(f"{self.base}/status", b'{"state":"online"}')

    def answer(self, cmd: str, verdict: str, codes: Iterable[str] = (), detail: Iterable[str] = ()) -> Sent:
        body = {
            "cmd": cmd, "type": "replay", "answer": verdict, "codes": list(codes), "detail": list(detail),
            "final": verdict != "accepted", "corr": None, "t": "2026-03-02T06:00:00.000Z",
        }  # fmt: skip
        return Sent(f"{self.base}/res/replay", json.dumps(body).encode())

    def replay(self, command: dict[str, Any]) -> list[Sent]:
        """What comes of a command `replay`: the answers, and between them the events."""
        self.asked.append(command)
        cmd, eq, first, last = command["cmd"], command["eq"], command["from_seq"], command["to_seq"]
        stream = self.kept.get((command["epoch"], eq), [])
        if last > len(stream):
            return [
                self.answer(
                    cmd,
                    "rejected",
                    ["beyond"],
                    [f"{last} was not given to any event yet; the last one is {len(stream)}"],
                )
            ]
        numbers = range(first, last + 1)
        gone = [number for number in numbers if (eq, number) in self.forgotten]
        events = [stream[number - 1]._replace(historical="replay") for number in numbers if number not in gone]
        words = [f"{len(events)} events sent again"]
        if gone:
            words.append(f"no longer kept: {ranges(gone)}")
        return [
            self.answer(cmd, "accepted"), *events, self.answer(cmd, "done", ["incomplete"] if gone else [], words),
        ]  # fmt: skip


def ranges(numbers: list[int]) -> str:
    """`3, 10-12` as an answer has it."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
