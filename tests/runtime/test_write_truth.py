"""Over real sockets: what may be written at all, and what a command ends in where replies get lost and devices balk."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Mosquitto, eventually
from tests.drivers.modbus_devices import Asked, liar
from tests.runtime.pressed import LONG, UNIT, Mes, gateway

FORCE, SPEED = 1, 3
OLD = {FORCE: 100, SPEED: 50}


class Press:
    """Registers 0 to 9 behind Modbus TCP; what goes wrong is decided by `fault` for each write, by its number.

    `lose` carries it out and says nothing, `drop` does neither, `refuse` answers with an exception, `clamp` takes 300
    at most.
    """

    def __init__(self, fault: Callable[[int, int], str] = lambda number, register: "") -> None:
        self.memory = dict.fromkeys(range(10), 0) | OLD | {0: 1}
        self.written: list[tuple[int, int]] = []
        self.asked = 0
        self._fault = fault

    def answer(self, asked: Asked) -> bytes | None:
        function, start, number = struct.unpack(">BHH", asked.pdu[:5])
        if function == 3:
            held = [self.memory.get(register, 0) for register in range(start, start + number)]
            return asked.frame(struct.pack(f">BB{number}H", 3, 2 * number, *held))
        self.asked += 1
        values = [number] if function == 6 else struct.unpack(f">{number}H", asked.pdu[6:])
        fault = self._fault(self.asked, start)
        if fault == "refuse":
            return asked.frame(bytes([function | 0x80, 2]))
        if fault != "drop":
            for register, value in enumerate(values, start):
                self.written.append((register, value))
                self.memory[register] = min(value, 300) if fault == "clamp" else value
        return None if fault in ("lose", "drop") else asked.frame(asked.pdu[:5])

    @property
    def held(self) -> dict[int, int]:
        return {register: self.memory[register] for register in OLD}


def first_of(register: int, fault: str) -> Callable[[int, int], str]:
    """The first write to that register goes wrong, and no other."""
    spent: list[int] = []

    def judge(number: int, start: int) -> str:
        if start == register and not spent:
            spent.append(number)
            return fault
        return ""

    return judge


CASES: dict[str, tuple[Callable[[int, int], str], str]] = {
    "the reply to the last write is lost": (first_of(SPEED, "lose"), "write_unanswered"),
    "the last write is lost": (first_of(SPEED, "drop"), "write_unanswered"),
    "the second of two is refused": (first_of(SPEED, "refuse"), "write_refused"),
    "the machine clamps": (first_of(FORCE, "clamp"), "readback"),
}


@pytest.mark.parametrize("name", CASES)
async def test_r24_a_write_that_goes_wrong_ends_in_the_truth_and_no_value_goes_out_twice(
    name: str, mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    fault, code = CASES[name]
    press = Press(fault)
    async with liar(press.answer) as served, gateway(tmp_path, mosquitto.port, served.port) as mes:
        answer = await mes.download("C1", force=450, speed=75)
        result = mes.told(f"{UNIT}/evt/param.result")[0]["data"]
        again = [a for a in mes.told(f"{UNIT}/res/") if a["cmd"] == "C1" and a["final"]]
    assert (answer["answer"], answer["codes"], len(again)) == ("failed", [code], 1)
    assert press.held == OLD
    assert result["rolled_back"] == {"force": 100, "speed": 50}
    assert len(set(press.written)) == len(press.written), press.written
    record_property("figure", f"{name}: {code}, each value written once at most")


async def test_r24_after_a_restart_the_id_is_answered_from_the_journal_and_nothing_is_written(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    press = Press()
    async with liar(press.answer) as served:
        async with gateway(tmp_path, mosquitto.port, served.port) as mes:
            assert (await mes.download("C1", force=450))["answer"] == "done"
        written = list(press.written)
        async with gateway(tmp_path, mosquitto.port, served.port) as mes:
            assert (await mes.download("C1", force=450))["answer"] == "done"
        assert press.written == written


BOUNDS: list[tuple[str, Any, str]] = [
    ("above the machine's limit", {"name": "force", "value": 901}, "limit"),
    ("below the machine's limit", {"name": "force", "value": -1}, "limit, type"),
    ("above the set's limit", {"name": "force", "value": 500, "max": 400}, "limit"),
    ("more than the type holds", {"name": "force", "value": 70_000}, "limit, type"),
    ("more digits than any type has", {"name": "force", "value": 10**400}, "malformed"),
    ("a text", {"name": "force", "value": "450"}, "type"),
    ("a bool", {"name": "force", "value": True}, "type"),
    ("nothing", {"name": "force", "value": None}, "type"),
    ("another unit", {"name": "force", "value": 450, "unit": "N"}, "unit"),
    ("a step too far", {"name": "speed", "value": 250}, "step"),
    ("a state that is not permitted", {"name": "speed", "value": 60}, "state"),
]


def bounded(text: str) -> str:
    """The press with a unit, a step, a state, and a rate."""
    state = (
        '    state: {rules: [{to: RUN, when: "force >= 700"}, {to: IDLE, when: "true"}], debounce: 0s}\n    download:'
    )
    return (
        text.replace("    download:", state)
        .replace("force: {register: 1, type: uint16}", "force: {register: 1, type: uint16, unit: kN}")
        .replace("speed: {tag: speed, min: 0", "speed: {tag: speed, step: 100, rate: 1/h, states: [IDLE], min: 0")
    )


async def move_to(mes: Mes, state: str, force: int) -> None:
    """Have the press show that state; it goes by its force."""
    assert (await mes.download(state, force=force))["answer"] == "done"

    def shown() -> str:
        return str(mes.told(f"{UNIT}/evt/equipment.state")[-1]["data"]["to"])

    await eventually(lambda: shown() == state, state, LONG)


async def test_s02_every_bound_of_a_listed_write_is_refused_by_name_and_the_device_is_left_alone(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    press = Press()
    async with liar(press.answer) as served, gateway(tmp_path, mosquitto.port, served.port, bounded) as mes:
        for number, (what, item, code) in enumerate(BOUNDS):
            if code == "state":
                await move_to(mes, "RUN", force=700)
            before = list(press.written)
            body = {"cmd": f"B{number}", "eq": "PRESS", "set": "S", "rev": "A", "items": [item]}
            mes.consumer.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode())
            answer = await mes.final(f"B{number}")
            assert (answer["answer"], ", ".join(answer["codes"])) == ("rejected", code), what
            assert press.written == before, what
        await move_to(mes, "IDLE", force=100)
        assert (await mes.download("once", speed=60))["answer"] == "done"
        assert (await mes.download("twice", speed=61))["codes"] == ["rate"]
        for number, value in enumerate((math.nan, math.inf)):
            body = {
                "cmd": f"N{number}",
                "eq": "PRESS",
                "set": "S",
                "rev": "A",
                "items": [{"name": "force", "value": value}],
            }
            mes.consumer.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode())
        assert (await mes.download("last", force=101))["answer"] == "done"
    assert press.held == {FORCE: 101, SPEED: 60}
    assert [value for _, value in press.written] == [700, 100, 60, 101]
    record_property("figure", f"{len(BOUNDS) + 3} bounds refused by name, 0 of their writes on the wire")


def test_the_press_of_these_tests_answers_as_modbus_has_it() -> None:
    asked = Asked(1, 1, struct.pack(">BHH", 3, 1, 3))
    assert Press().answer(asked) == asked.frame(struct.pack(">BB3H", 3, 6, 100, 0, 50))
