"""LBL01: labels the filler's good bottles after transit, meters its energy, takes parameters by handshake."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from simulators.models.alarms import AlarmWords, occurrences
from simulators.models.flow import Flow, Run, order_windows, sort_out, within
from simulators.models.handshake import Handshake, Refusal
from simulators.models.line_time import LineTime
from simulators.models.states import Interval, debounced
from simulators.scenario import Scenario, ScenarioError


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter register: its name, engineering units per raw count, unit, and the raw value at the start."""

    name: str
    scale: float
    unit: str
    initial: int


PARAMETERS: Final = (
    Parameter("oven_sp", 0.1, "Cel", 1500),
    Parameter("belt_speed", 1.0, "mm/s", 200),
    Parameter("label_offset", 0.1, "mm", 125),
    Parameter("label_pitch", 0.1, "mm", 1080),
    Parameter("glue_temperature", 0.1, "Cel", 1600),
    Parameter("glue_pressure", 0.01, "bar", 250),
    Parameter("applicator_delay", 1.0, "ms", 40),
    Parameter("vacuum", 1.0, "mbar", 450),
    Parameter("format_number", 1.0, "1", 7),
)
"""Registers 110 to 118; 112 to 118 are machine constants that a download sends along unchanged."""
_LAST_SEQUENCE: Final = 0xFFFF
_ROOM_TEMPERATURE: Final = 200


def crc16(registers: Sequence[int]) -> int:
    """CRC-16/MODBUS over registers as big-endian bytes."""
    return crc16_bytes(b"".join(register.to_bytes(2, "big") for register in registers))


def crc16_bytes(content: bytes) -> int:
    """CRC-16/MODBUS: reflected polynomial 0xA001, start 0xFFFF."""
    crc = 0xFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


class Labeller:
    """Everything LBL01 shows, as a function of the line's time and of what was written to it."""

    name: Final = "LBL01"

    def __init__(self, scenario: Scenario, time: LineTime, upstream: Flow) -> None:
        self._part = part = scenario.labeller
        self._time = time
        self._length = scenario.length
        shift = part.transit_s
        arrivals = [Run(run.start + shift, run.end + shift, run.order) for run in upstream.runs]
        self.total_in = Flow(sort_out(arrivals, part.reject_windows), upstream.rate)
        self.reject = self.total_in.only(lambda run: run.rejected)
        self.good = self.total_in.only(lambda run: not run.rejected)
        self.orders = order_windows(arrivals)
        self._alarms = AlarmWords(occurrences(scenario, self.name), self.name)
        self.limits = _raw_limits(part.device_max)
        """The most that the machine takes of each parameter, raw."""
        self.written = [parameter.initial for parameter in PARAMETERS]
        self.crc = crc16(self.written)
        self._active = list(self.written)
        self.handshake = Handshake(part.handshake_s, _LAST_SEQUENCE, self._check, self._take)

    def states(self, debounce_s: float) -> list[Interval]:
        """The canonical states of the whole scenario."""
        edges = {0, self._length, *self._part.warm_up, *(edge for window in self.orders.values() for edge in window)}
        edges |= {edge for run in self.total_in.runs for edge in (run.start, run.end)}
        cuts = sorted(edge for edge in edges if edge <= self._length)
        return debounced((Interval(a, b, self._state(a)) for a, b in pairwise(cuts)), debounce_s)

    def kwh(self, start: int, end: int) -> float:
        """What the meter shows to have been used between two seconds, in whole raw counts."""
        return round((self._raw_energy(end) - self._raw_energy(start)) * self._part.energy.kwh_per_raw, 3)

    def write_parameters(self, first: int, values: Sequence[int]) -> None:
        """A client writes parameter registers from the `first` on; the one after the last parameter is the CRC."""
        image = [*self.written, self.crc]
        image[first : first + len(values)] = values
        *self.written, self.crc = image

    def tags(self) -> dict[str, object]:
        """One scan: point name → value, numbers as the registers hold them."""
        now, part = self._time, self._part
        second = now.second
        alarm_word, acknowledged_word = self._alarms.words(min(now.ms, now.until_s * 1000))
        order = self._order(second)
        return {
            **self._state_bits(second),
            "heartbeat": now.heartbeat,
            "alarm_word": alarm_word,
            "acknowledged_word": acknowledged_word,
            "total_in": part.total_in.shown(self.total_in.made, second),
            "good": part.good.shown(self.good.made, second),
            "reject": part.reject.shown(self.reject.made, second),
            "oven_actual": self._oven_actual(second),
            "oven_setpoint": self._active[0],
            "batch_id": order or "",
            "energy": (part.energy.start_raw + self._raw_energy(second)) % 2**32,
            "job": int(order[-4:]) if order and order[-4:].isdigit() else 0,
            "reel": 1 + sum(splice <= second for splice in part.reels.splices) if part.reels else 0,
            "cmd_seq": self.handshake.command,
            "ack_seq": self.handshake.acknowledged,
            "status": int(self.handshake.status),
            "error": int(self.handshake.error),
            "parameters": list(self.written),
            "crc": self.crc,
        }

    def _state_bits(self, second: int) -> dict[str, object]:
        state = self._state(second)
        return {
            "run": state == "RUN",
            "ready": state != "SETUP",
            "fault": False,
            "starved": state == "STARVED",
            "remote": second >= self._part.remote_from,
            "warm_up": state == "SETUP",
            "permit": within(second, self._part.permit),
        }

    def _state(self, second: int) -> str:
        if self.total_in.at(second) is not None:
            return "RUN"
        if within(second, [self._part.warm_up]):
            return "SETUP"
        return "STARVED" if self._order(second) else "IDLE"

    def _order(self, second: int) -> str | None:
        return next((order for order, (start, end) in self.orders.items() if start <= second < end), None)

    def _oven_actual(self, second: int) -> int:
        """The oven heats up in a straight line while warming up and keeps its set-point afterwards."""
        start, end = self._part.warm_up
        heated = min(max(second - start, 0) / (end - start), 1.0) if end > start else 1.0
        return round(_ROOM_TEMPERATURE + (self._active[0] - _ROOM_TEMPERATURE) * heated)

    def _raw_energy(self, second: int) -> int:
        energy = self._part.energy
        return int(round(second * energy.kw / 3600 / energy.kwh_per_raw, 9))

    def _check(self) -> Refusal:
        if crc16(self.written) != self.crc:
            return Refusal.BAD_DATA
        return Refusal.NONE if self._time.second >= self._part.remote_from else Refusal.NOT_REMOTE

    def _take(self, _at_ms: int) -> None:
        """The machine takes the set and clamps it silently; what the registers show follows."""
        self.written = [min(value, limit) for value, limit in zip(self.written, self.limits, strict=True)]
        self.crc = crc16(self.written)
        self._active = list(self.written)


def _raw_limits(device_max: dict[str, float]) -> list[int]:
    unknown = device_max.keys() - {parameter.name for parameter in PARAMETERS}
    if unknown:
        names = ", ".join(parameter.name for parameter in PARAMETERS)
        raise ScenarioError(f"labeller.device_max: no parameter {', '.join(sorted(unknown))}; LBL01 has {names}")
    return [round(device_max[p.name] / p.scale) if p.name in device_max else 0xFFFF for p in PARAMETERS]
