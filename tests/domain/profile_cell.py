"""A gateway core and one machine that takes its parameters by a handshake profile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.load import load_plant
from gateway.domain.operations import OperationResult
from gateway.domain.times import format_timestamp
from tests.domain.profile_machines import NEW, OLD, ProfileMachine, yaml_of
from tests.stage import Stage


class Cell:
    """A gateway core and one machine; time passes in steps of 100 ms."""

    def __init__(
        self,
        folder: Path,
        profile: str,
        *faults: str,
        extra: str = "",
        edits: tuple[tuple[str, str], ...] = (),
        behaves: Callable[[ProfileMachine], None] | None = None,
        **held: Any,
    ) -> None:
        """`edits` replace texts of the YAML; the machine `behaves` otherwise than the profile has it."""
        text = yaml_of(profile, extra)
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new)
        (folder / "plant.yaml").write_text(text, encoding="utf-8")
        self.stage = Stage(load_plant(folder))
        self.stage.beating = False
        self.machine = ProfileMachine(profile, frozenset(faults))
        self.machine.memory |= held
        self.machine.behaves = behaves
        self.carried_out = 0
        self.stage.connect("M1", "06:00:00")
        self.show()

    def show(self) -> None:
        """What the gateway's subscription tells it."""
        clock = format_timestamp(self.stage.now)[11:23]
        self.stage.show("M1", clock, unit="M1", **self.machine.memory)

    def download(self, cmd: str = "C1", values: dict[str, int] = NEW, **more: Any) -> None:
        items = [{"name": name, "value": value} for name, value in values.items()]
        self.stage.command("params.download", cmd=cmd, eq="M1", set="S", rev="A", items=items, **more)

    def perform(self, *, lost: bool = False) -> None:
        """The machine carries out the oldest operation; with `lost` nobody hears of it."""
        operation = self.stage.operations.pop(0)
        result = self.machine.answer(operation)
        self.carried_out += 1
        if not lost:
            self.stage.core.handle_operation(result, self.stage.now)
            self.stage.commit()

    def play(self, seconds: float = 120, until: int | None = None) -> None:
        """Let both go on until the download has ended, or `until` operations have been carried out."""
        for _ in range(round(seconds * 10)):
            while self.stage.operations:
                if until is not None and self.carried_out >= until:
                    return
                self.perform()
            if self.outcomes:
                return
            self.stage.now += 100
            self.machine.scan()
            self.stage.core.handle_deadline(self.stage.now)
            self.stage.commit()

    def break_link(self, seconds: float = 2.0) -> None:
        """The link is away for a while; what was under way is lost, carried out or not."""
        while self.stage.operations:
            token = self.stage.operations.pop(0).token
            self.stage.core.handle_operation(OperationResult(token, lost=True), self.stage.now)
        self.stage.core.handle_link("M1", False, self.stage.now, self.stage.now)
        self.stage.now += round(seconds * 1000)
        self.machine.scan()
        self.stage.connect("M1")
        self.show()

    def die(self, *, performed: bool) -> None:
        """Kill the gateway; the operation it was at is carried out or not. It starts again and finds the machine."""
        if performed and self.stage.operations:
            self.perform(lost=True)
        self.stage.operations.clear()
        minutes = self.stage.now // 60_000 % 60
        self.stage.kill_and_restart(f"06:{minutes + 1:02}:00")
        self.machine.scan()
        self.stage.connect("M1")
        self.show()

    @property
    def outcomes(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(data["result"], tuple(data["codes"])) for _, data in self.stage.told("param.result")]

    def check_truth(self) -> tuple[str, tuple[str, ...]]:
        """One outcome, one final answer; both say what the machine works with, and no value was written twice."""
        ((result, codes),) = self.outcomes
        finals = [answer.answer for answer in self.stage.answers if answer.cmd == "C1" and answer.final]
        assert finals == [{"ACTIVE": "done", "REJECTED": "rejected", "FAILED": "failed"}[result]]
        (_, told) = self.stage.told("param.result")[0]
        if result == "ACTIVE":
            assert self.machine.active == NEW
        elif told["rolled_back"] is not None:
            assert told["rolled_back"] == OLD == self.machine.active
        elif result == "REJECTED":
            assert self.machine.active == OLD
        else:
            assert {"rollback_failed", "in_doubt"} & set(codes)
        if "in_doubt" not in codes:
            assert self.machine.raised == [], "what the gateway raised it takes back"
        for name in OLD:
            values = self.machine.writes_of(f"{name}_set")
            assert len(set(values)) == len(values), f"{name} was written {values}"
        return result, codes
