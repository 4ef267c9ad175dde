"""A press that takes parameters of every class, without a handshake, and a MES that says what it likes."""

import hashlib
import json
from pathlib import Path
from typing import Any

from gateway.domain.contract.envelope import Answer
from gateway.domain.values import Value
from tests.domain.one_machine import machine, tags
from tests.stage import Stage, writes_of

MODES = {"IDLE": 0, "RUN": 1, "MAINT": 2, "SETUP": 3}
BODY = """\
    state:
      debounce: 0s
      rules: [{to: RUN, when: "mode==1"}, {to: MAINT, when: "mode==2"}, {to: SETUP, when: "mode==3"},
              {to: IDLE, when: "true"}]
    hold: hold
    order: {from: download}
    download:
      parameters:
        oven: {tag: oven, min: 100, max: 200, class: trim}
        belt: {tag: belt, min: 50, max: 400}
        gain: {tag: gain, min: 0, max: 9, class: constant}
        best: {tag: best, min: 0, max: 9999, class: order}
"""
DEVICE = {"oven": 150, "belt": 240, "gain": 4, "best": 1}
UNITS = ("oven", "belt", "gain", "best", "mode", "job", "format", "heartbeat")


def press(folder: Path, more: str = "", orders: str = "download") -> Stage:
    """A press that is idle; `more` are further keys of its download section, `orders` says where those come from."""
    text = tags(**dict.fromkeys(UNITS, "uint16"), hold="bool").replace(
        "heartbeat: {register: 70, type: uint16", "heartbeat: {register: 70, type: uint16, heartbeat: 2s"
    )
    stage = machine(folder, text + BODY.replace("from: download", f"from: {orders}") + more)
    stage.beating = True
    show(stage, "06:00:01", mode="IDLE", job=0, format=0, hold=False, **DEVICE)
    return stage


def show(stage: Stage, clock: str, mode: str | None = None, **values: Value) -> None:
    """The press shows these values."""
    stage.show("M1", clock, **values, **({"mode": MODES[mode]} if mode is not None else {}))


def item(name: str, value: Value, **more: Any) -> dict[str, Any]:
    """One item of a set."""
    return {"name": name, "value": value, **more}


def digest(items: list[dict[str, Any]]) -> str:
    """Reckoned by another library than the gateway's: SHA-256 of canonical JSON."""
    return hashlib.sha256(json.dumps(items, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def release(stage: Stage, rev: str, *items: dict[str, Any], change: str | None = None, name: str = "PS") -> Answer:
    """PLM releases a revision."""
    cmd = f"R-{name}-{rev}-{len(stage.answers)}"
    return stage.command(
        "params.release", cmd=cmd, change=change, sets=[{"set": name, "rev": rev, "items": list(items)}]
    )[0]


def download(stage: Stage, rev: str, *items: dict[str, Any], **more: Any) -> Answer:
    """The MES brings a revision down; the first answer."""
    body = {"cmd": f"C-{len(stage.answers)}", "eq": "M1", "set": "PS", "rev": rev, "items": list(items), **more}
    return stage.command("params.download", **body)[0]


def play(stage: Stage, device: dict[str, Value]) -> list[dict[str, Value]]:
    """The device takes what is written and answers; what was written, in order."""
    written = []
    while stage.operations:
        if writes := writes_of(stage.operations[0]):
            device.update(writes)
            written.append(writes)
        stage.answer_operation(reads=device)
    return written


def codes(answer: Answer) -> tuple[str, ...]:
    """Why it was rejected; nothing if it was not."""
    assert (answer.answer == "rejected") is bool(answer.codes), answer
    return answer.codes


def last(stage: Stage) -> tuple[str, tuple[str, ...]]:
    """How the last download ended."""
    _, data = stage.told("param.result")[-1]
    return data["result"], tuple(data["codes"])
