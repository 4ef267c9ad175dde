"""Exactly one answer is final, whatever comes twice, late, or over a restart; and a flood is told `busy`."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from gateway.domain.commands.answers import BURST, PER_SECOND
from gateway.domain.contract.envelope import Sender
from gateway.domain.contract.requests import ParameterItem, ParamsDownload
from gateway.domain.operations import OperationResult
from gateway.mqtt.payloads import digest_of
from tests.stage import LBL01, Stage, writes_of

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.integers(0, 1)),
        st.tuples(st.sampled_from(["perform", "lose", "restart", "wait", "hold", "permit"])),
    ),
    max_size=40,
)


def command(number: int, content: int) -> ParamsDownload:
    item = ParameterItem(name="oven_sp", value=170.0 + content)
    return ParamsDownload(cmd=f"C{number}", eq="LBL01", set="S", rev="A", items=(item,), corr=f"corr-{number}")


class Line:
    """The demo's labeller, which takes what it is given at once."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.stage.start_line()
        self.device: dict[str, Any] = {**LBL01, "cmd_seq": 7, "ack_seq": 7}
        self.stage.show("LBL01", "06:06:30", word=0b10100000)
        self.second = 31

    def clock(self) -> str:
        self.second += 2
        return f"06:{6 + self.second // 60:02}:{self.second % 60:02}"

    def perform(self, *, lost: bool) -> None:
        if not self.stage.operations:
            return
        operation = self.stage.operations[0]
        self.device |= writes_of(operation)
        if "cmd_seq" in writes_of(operation):
            self.device |= {"ack_seq": self.device["cmd_seq"], "cmd_status": 2}
        if lost:
            self.stage.operations.pop(0)
            self.stage.core.handle_operation(OperationResult(operation.token, lost=True), self.stage.now)
            self.stage.commit()
        else:
            self.stage.answer_operation(reads=self.device)

    def restart(self) -> None:
        self.stage.operations.clear()
        self.stage.kill_and_restart(self.clock())
        self.stage.connect("LBL01", self.clock())
        self.stage.show("LBL01", self.clock(), **{**LBL01, "word": 0b10100000})

    def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("ask", number, content):
                asked = command(number, content)
                sender = Sender(asked.corr, digest_of(asked))
                self.stage.core.handle_command(asked, self.stage.now, sender)
                self.stage.commit()
            case ("perform",) | ("lose",):
                self.perform(lost=step == ("lose",))
            case ("restart",):
                self.restart()
            case ("wait",):
                self.stage.pass_time(self.clock())
            case ("hold",) | ("permit",):
                self.stage.show("LBL01", self.clock(), word=0b00100000 if step == ("hold",) else 0b10100000)

    def finish(self) -> None:
        self.restart()
        for _ in range(40):
            while self.stage.operations:
                self.perform(lost=False)
            self.stage.show("LBL01", self.clock(), word=0b10100000)
            self.stage.pass_time(self.clock())


@settings(max_examples=150)
@given(STEPS)
def test_every_command_ends_in_one_answer_and_every_repeat_is_told_the_same(steps: list[tuple[Any, ...]]) -> None:
    line = Line()
    for step in steps:
        line.take(step)
    line.finish()
    asked = {f"C{step[1]}" for step in steps if step[0] == "ask"}
    for cmd in asked:
        own = [answer for answer in line.stage.answers if answer.cmd == cmd and answer.codes != ("id_reused",)]
        finals = [(answer.answer, answer.codes, answer.at) for answer in own if answer.final]
        assert len(set(finals)) == 1, (cmd, finals)
        verdicts = [answer.final for answer in own]
        assert verdicts == sorted(verdicts), "nothing but the final answer after it"
        assert {answer.corr for answer in own} == {f"corr-{cmd[1:]}"}
    results = [data["cmd"] for _, data in line.stage.told("param.result")]
    assert len(results) == len(set(results)), "each id has at most one result"


def test_what_comes_faster_than_it_is_taken_is_told_busy_and_may_come_again() -> None:
    stage = Stage()
    stage.start_line()
    verdicts = [
        stage.command("material.arrival", cmd=f"M{n}", material="L", eta="2026-03-02T08:00:00Z")[0].codes
        for n in range(BURST + 100)
    ]
    assert verdicts == [()] * BURST + [("busy",)] * 100
    stage.pass_time("06:00:01")
    again = [
        stage.command("material.arrival", cmd=f"M{BURST + n}", material="L", eta="2026-03-02T08:00:00Z")[0].codes
        for n in range(60)
    ]
    assert again == [()] * PER_SECOND + [("busy",)] * 10
    (stored,) = stage.command("material.arrival", cmd="M0", material="L", eta="2026-03-02T08:00:00Z")
    assert stored.answer == "done", "a known id is answered however busy it is"
